//! The limits that a configuration sets, as plain values that lower layers can hold.
//!
//! Defaults are the documented ones (README, "Configuration"); `config` parses into these types.

use std::time::Duration;

/// `[limits]` of the configuration. Lengths are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "names are those of the configuration, explained in its default file"
)]
pub struct Limits {
    pub message_bytes_max: usize,
    pub fragments_max: u32,
    pub outbox_bytes_max: usize,
    pub request_head_bytes_max: usize,
    pub handshake_timeout: Duration,
    pub http_idle_timeout: Duration,
    pub write_timeout: Duration,
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    pub topics_per_session_max: usize,
    pub topic_name_bytes_max: usize,
    /// Publications per second and connection; 0 = no limit.
    pub publish_rate_max: u32,
    /// 0 = from the descriptor limit.
    pub connections_max: usize,
    /// 0 = no cap.
    pub connections_per_address_max: usize,
    /// WebSocket handshakes and streams per second and client address; 0 = no limit.
    pub handshake_rate_per_address_max: u32,
    /// 0 = 80 % of the machine or cgroup.
    pub memory_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 65_536,
            fragments_max: 65_536,
            outbox_bytes_max: 1_048_576,
            request_head_bytes_max: 16_384,
            handshake_timeout: Duration::from_secs(5),
            http_idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            topics_per_session_max: 128,
            topic_name_bytes_max: 255,
            publish_rate_max: 0,
            connections_max: 0,
            connections_per_address_max: 0,
            handshake_rate_per_address_max: 0,
            memory_bytes_max: 0,
        }
    }
}

/// What happens when a subscriber's outbox is full (README, "Slow subscribers").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// Close with 1013; the client recovers from history.
    #[default]
    Reliable,
    /// Keep only the newest queued publication of the topic.
    Latest,
    /// Drop the oldest queued publications until the newest fits.
    Lossy,
}

impl Delivery {
    /// Every class, in the order of the metric's labels.
    pub const ALL: [Self; 3] = [Self::Reliable, Self::Latest, Self::Lossy];

    /// The word in configuration and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reliable => "reliable",
            Self::Latest => "latest",
            Self::Lossy => "lossy",
        }
    }
}

/// Who may use a topic in some way, as far as the client's own rights go: a rule only tightens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Audience {
    /// Whoever has the right.
    #[default]
    Anyone,
    /// Users, by a token that names them, and API keys.
    Authenticated,
    /// Tokens with a capability for the topic, users that its name lists, and API keys.
    Token,
    /// API keys.
    Server,
}

/// Which clients, of protocols that can tell, hear who comes and goes on a topic with presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JoinLeave {
    /// All that may see presence.
    #[default]
    All,
    /// Those of them that ask for it.
    Asked,
    /// None.
    Off,
}

/// Options of a topic: one `[[topic]]` rule of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRule {
    /// Pattern over the whole name; `*` stands for any run of characters.
    pub pattern: String,
    /// Publications kept; 0 = no history.
    pub history_size: usize,
    /// Payload bytes kept.
    pub history_bytes_max: usize,
    /// How long a publication is kept.
    pub history_ttl: Duration,
    /// Whether it is known who is subscribed.
    pub presence: bool,
    /// Who hears of members that come and go.
    pub join_leave: JoinLeave,
    /// How long a member whose connection ended is waited for before others hear of it.
    pub presence_grace: Duration,
    /// What happens to subscribers that fall behind.
    pub delivery: Delivery,
    /// Who may subscribe, read history and see presence.
    pub subscribe: Audience,
    /// Who may publish.
    pub publish: Audience,
}

impl Default for TopicRule {
    fn default() -> Self {
        Self {
            pattern: "*".to_owned(),
            history_size: 100,
            history_bytes_max: 1_048_576,
            history_ttl: Duration::from_mins(5),
            presence: false,
            join_leave: JoinLeave::All,
            presence_grace: Duration::ZERO,
            delivery: Delivery::Reliable,
            subscribe: Audience::Anyone,
            publish: Audience::Anyone,
        }
    }
}

impl TopicRule {
    /// Whether the rule's pattern covers `name`; see [`covers`].
    pub fn matches(&self, name: &str) -> bool {
        covers(&self.pattern, name)
    }
}

/// Whether `pattern` covers the whole of `name`: `*` stands for any run of characters, nothing else
/// is special. Linear in `name` for one `*`, at worst the product.
pub fn covers(pattern: &str, name: &str) -> bool {
    glob(pattern.as_bytes(), name.as_bytes())
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while at_text < text.len() {
        if pattern.get(at_pattern) == Some(&b'*') {
            retry = Some((at_pattern + 1, at_text));
            at_pattern += 1;
        } else if pattern.get(at_pattern) == text.get(at_text) {
            at_pattern += 1;
            at_text += 1;
        } else if let Some((after_star, from)) = retry {
            at_pattern = after_star;
            at_text = from + 1;
            retry = Some((after_star, from + 1));
        } else {
            return false;
        }
    }
    pattern[at_pattern..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn star_stands_for_any_run_and_nothing_else_is_special() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "a/b:c", true),
            ("chat:*", "chat:", true),
            ("chat:*", "chat:room/1", true),
            ("chat:*", "chats", false),
            ("*:1", "chat:1:1", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("a?c", "abc", false),
            ("a?c", "a?c", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(covers(pattern, text), expected, "{pattern} {text}");
        }
    }
}
