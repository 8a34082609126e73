//! The table of keys: the one place that knows a key's name, range, meaning and field.

use std::time::Duration;

use toml::de::DeValue;

use super::Config;
use super::value::{
    ANONYMOUS, AUDIENCE, DELIVERY, JOIN_LEAVE, LOG_FORMAT, LOG_LEVEL, Refused, Show as _, address,
    address_or_off, boolean, duration, duration_or_none, integer, key_file, keys_url, networks,
    origins, path, pattern, secret, secrets, string, word,
};
use crate::limits::TopicRule;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const COUNT_MAX: u64 = 1_000_000_000;
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(24 * 365);

/// One key of a `T`, which is the configuration or a topic rule.
pub(super) struct Key<T: 'static> {
    /// Name with its section: `limits.message_bytes_max`.
    pub(super) path: &'static str,
    /// Its meaning, for the default file.
    pub(super) doc: &'static str,
    /// Reads a value into its field.
    pub(super) read: fn(&mut T, &DeValue<'_>) -> Result<(), Refused>,
    /// The field as TOML; `None` for a key that is known only to be refused.
    pub(super) show: Option<fn(&T) -> String>,
}

impl<T> Key<T> {
    /// The section, empty at the top, and the name in it.
    pub(super) fn split(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }
}

/// A key with its field: `key!("path", field, reader(arguments), "meaning")`.
macro_rules! key {
    ($path:literal, $($field:ident).+, $reader:ident($($argument:expr),*), $doc:literal) => {
        Key {
            path: $path,
            doc: $doc,
            read: |target, value| {
                target.$($field).+ = $reader(value, $($argument),*)?;
                Ok(())
            },
            show: Some(|target| target.$($field).+.show()),
        }
    };
}

/// A key of a feature that this build lacks: `lacking!("path", reader(feature), shown, "meaning")`.
macro_rules! lacking {
    ($path:literal, $reader:ident($feature:literal), $show:expr, $doc:literal) => {
        Key { path: $path, doc: $doc, read: |_, value| $reader(value, $feature), show: $show }
    };
}

/// Every key outside `[[topic]]`, in the order of the default file.
pub(super) const KEYS: &[Key<Config>] = &[
    key!(
        "listen",
        listen,
        address(),
        "Client port: IP:PORT or localhost:PORT; port 0 takes a free one."
    ),
    key!(
        "admin_listen",
        admin_listen,
        address_or_off(),
        "Metrics, health, stats and console; \"\" = off."
    ),
    key!(
        "admin_password",
        admin_password,
        secret(),
        "Password of the admin port (Basic, any user). Needed beyond loopback; /health/* is exempt."
    ),
    key!(
        "workers",
        workers,
        integer(0..=1024),
        "Threads that serve connections; 0 = one per core."
    ),
    key!(
        "private_fd_tables",
        private_fd_tables,
        boolean(),
        "One descriptor table per worker, where the hard descriptor limit is too low."
    ),
    key!(
        "log.format",
        log.format,
        word(LOG_FORMAT),
        "\"text\" or \"json\", one line per event on standard error."
    ),
    key!(
        "log.level",
        log.level,
        word(LOG_LEVEL),
        "\"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\"."
    ),
    key!(
        "limits.message_bytes_max",
        limits.message_bytes_max,
        integer(1..=GIB),
        "Longest message, whole, after reassembly and inflation."
    ),
    key!(
        "limits.fragments_max",
        limits.fragments_max,
        integer(1..=16 * MIB),
        "Frames that one message may come in."
    ),
    key!(
        "limits.outbox_bytes_max",
        limits.outbox_bytes_max,
        integer(1..=4 * GIB),
        "Bytes queued for one connection. Must exceed message_bytes_max + 65536."
    ),
    key!(
        "limits.request_head_bytes_max",
        limits.request_head_bytes_max,
        integer(8192..=MIB),
        "Longest request line with headers; at least 8192."
    ),
    key!(
        "limits.handshake_timeout",
        limits.handshake_timeout,
        duration(10 * MINUTE),
        "Time to the end of the request head."
    ),
    key!(
        "limits.http_idle_timeout",
        limits.http_idle_timeout,
        duration(DAY),
        "Time between requests on a kept connection."
    ),
    key!(
        "limits.write_timeout",
        limits.write_timeout,
        duration(HOUR),
        "A connection that takes nothing for that long is closed."
    ),
    key!(
        "limits.ping_interval",
        limits.ping_interval,
        duration(DAY),
        "Time since the last byte received after which a client is pinged."
    ),
    key!("limits.pong_timeout", limits.pong_timeout, duration(HOUR), "Time to answer a ping."),
    key!(
        "limits.topics_per_session_max",
        limits.topics_per_session_max,
        integer(1..=COUNT_MAX),
        "Topics that one session may subscribe to."
    ),
    key!(
        "limits.topic_name_bytes_max",
        limits.topic_name_bytes_max,
        integer(1..=255),
        "Longest topic name, at most 255."
    ),
    key!(
        "limits.publish_rate_max",
        limits.publish_rate_max,
        integer(0..=COUNT_MAX),
        "Publications per second and connection; 0 = no limit."
    ),
    key!(
        "limits.connections_max",
        limits.connections_max,
        integer(0..=COUNT_MAX),
        "Connections in all; 0 = from the descriptor limit."
    ),
    key!(
        "limits.connections_per_address_max",
        limits.connections_per_address_max,
        integer(0..=COUNT_MAX),
        "Connections per client address; 0 = no cap."
    ),
    key!(
        "limits.handshake_rate_per_address_max",
        limits.handshake_rate_per_address_max,
        integer(0..=COUNT_MAX),
        "WebSocket handshakes and streams per second and client address; 0 = no limit."
    ),
    key!(
        "limits.trusted_proxies",
        trusted_proxies,
        networks(),
        "Proxies that set X-Forwarded-For or Forwarded, as networks: [\"10.0.0.0/8\", \"::1\"]."
    ),
    key!(
        "limits.memory_bytes_max",
        limits.memory_bytes_max,
        integer(0..=1 << 50),
        "Memory for connections and history; 0 = 80 % of the machine or cgroup."
    ),
    key!(
        "websocket.compression",
        websocket.compression,
        boolean(),
        "permessage-deflate for clients that offer it; each publication is deflated once."
    ),
    key!(
        "websocket.compression_min_bytes",
        websocket.compression_min_bytes,
        integer(0..=GIB),
        "Shorter publications are not deflated, nor those that it would not shorten; 0 = deflate all."
    ),
    key!(
        "websocket.allowed_origins",
        websocket.allowed_origins,
        origins(),
        "Web pages that may connect: empty = same host, \"*\" = any, else exact origins."
    ),
    key!(
        "auth.anonymous",
        auth.anonymous,
        word(ANONYMOUS),
        "Without a credential: \"loopback\" = all while on loopback, \"subscribe\", \"all\" or \"none\"."
    ),
    key!(
        "auth.api_keys",
        auth.api_keys,
        secrets(),
        "Keys that may do everything (header X-API-Key)."
    ),
    key!(
        "auth.jwt_hmac_secret",
        auth.jwt_hmac_secret,
        secret(),
        "Secret of HS256, HS384 and HS512 tokens (32 random characters or more); \"\" = none taken."
    ),
    key!(
        "auth.jwt_public_key_file",
        auth.jwt_public_key_file,
        key_file(),
        "Public keys (PEM) of RS256..512, ES256, ES384 and EdDSA tokens; \"\" = none."
    ),
    key!(
        "auth.jwks_url",
        auth.jwks_url,
        keys_url(),
        "Where such keys are fetched in place of a file (JWK set, https://); \"\" = nowhere."
    ),
    key!(
        "auth.jwt_private_key_file",
        auth.jwt_private_key_file,
        string(),
        "What `fanwire token` signs with in place of the secret; the server does not read it."
    ),
    key!(
        "auth.jwt_audience",
        auth.jwt_audience,
        string(),
        "What a token's `aud` must be or contain; \"\" = anything."
    ),
    key!(
        "auth.jwt_issuer",
        auth.jwt_issuer,
        string(),
        "What a token's `iss` must be; \"\" = anything."
    ),
    key!(
        "auth.jwt_expiry_required",
        auth.jwt_expiry_required,
        boolean(),
        "Whether a token without `exp` is refused; otherwise its session never ends by itself."
    ),
    key!(
        "auth.expiry_grace",
        auth.expiry_grace,
        duration(DAY),
        "How long a session goes on after its token has expired."
    ),
    key!(
        "auth.user_limited_topics",
        auth.user_limited_topics,
        boolean(),
        "Whether `chat#alice,bob` is for these users only, and `#alice` for her alone."
    ),
    key!(
        "auth.personal_topics",
        auth.personal_topics,
        boolean(),
        "Whether Centrifugo clients of alice are subscribed to `#alice`, which is for her alone."
    ),
    key!(
        "history.meta_ttl",
        history_meta_ttl,
        duration(YEAR),
        "A forgotten topic keeps its position this long, 1,000,000 topics at most."
    ),
    key!(
        "tls.cert_file",
        tls.cert_file,
        path(),
        "Certificate chain in PEM: with it and its key, `listen` speaks https and wss."
    ),
    key!("tls.key_file", tls.key_file, path(), "Private key in PEM."),
    lacking!(
        "engine.kind",
        lacks_unless_memory("an engine other than \"memory\""),
        Some(|_| "memory".to_owned().show()),
        "Where topics live; this build has \"memory\" only."
    ),
    lacking!("engine.url", lacks("the Redis engine"), None, ""),
    lacking!("engine.prefix", lacks("the Redis engine"), None, ""),
    key!(
        "drain.window",
        drain_window,
        duration(HOUR),
        "On SIGTERM, sessions are asked to leave evenly over this time."
    ),
];

/// Every key of a `[[topic]]` rule, in the order of the default file.
pub(super) const TOPIC_KEYS: &[Key<TopicRule>] = &[
    key!(
        "match",
        pattern,
        pattern(),
        "Pattern over the whole name; \"*\" = any run of characters, nothing else is special."
    ),
    key!(
        "history_size",
        history_size,
        integer(0..=COUNT_MAX),
        "Publications kept; 0 = no history."
    ),
    key!(
        "history_bytes_max",
        history_bytes_max,
        integer(1..=1 << 40),
        "Bytes of publications kept."
    ),
    key!("history_ttl", history_ttl, duration(YEAR), "How long a publication is kept."),
    key!(
        "presence",
        presence,
        boolean(),
        "Whether it is known who is subscribed (members, their number, join and leave)."
    ),
    key!(
        "join_leave",
        join_leave,
        word(JOIN_LEAVE),
        "Who hears of joins and leaves: \"all\" that may see presence, those that \"asked\", or \"off\"."
    ),
    key!(
        "presence_grace",
        presence_grace,
        duration_or_none(DAY),
        "How long a user whose connection ended is waited for before others hear of it; \"0s\" = not."
    ),
    key!(
        "delivery",
        delivery,
        word(DELIVERY),
        "At a full outbox: \"reliable\" = close, \"latest\" = newest only, \"lossy\" = drop oldest."
    ),
    key!(
        "subscribe",
        subscribe,
        word(AUDIENCE),
        "Who may subscribe and read: \"anyone\" with the right, \"authenticated\" users, \"token\" = by its caps only, \"server\" = API keys."
    ),
    key!("publish", publish, word(AUDIENCE), "Who may publish, in the same words."),
];

fn lacks(_: &DeValue<'_>, feature: &str) -> Result<(), Refused> {
    Err(format!("this build lacks {feature}: remove the key"))
}

fn lacks_unless_memory(value: &DeValue<'_>, feature: &str) -> Result<(), Refused> {
    match value.as_str() {
        Some("memory") => Ok(()),
        _ => Err(format!("this build lacks {feature}: set it to \"memory\"")),
    }
}
