//! Who a client is, and what it may do as such.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::caps::Caps;
use crate::hub::Peer;
use crate::time::Stamp;

/// How often it is looked at whether the wall clock, set back, has come to a session's end.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// One thing that a client can be allowed to do on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Receive publications as they come, and those asked for by position.
    Subscribe,
    /// Send publications.
    Publish,
    /// Read what is kept.
    History,
    /// See who is subscribed.
    Presence,
}

impl Right {
    /// Every right.
    pub const ALL: [Self; 4] = [Self::Subscribe, Self::Publish, Self::History, Self::Presence];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The word in a token's capabilities.
    pub fn word(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::History => "history",
            Self::Presence => "presence",
        }
    }

    /// The right of that word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.word() == word)
    }

    pub(super) fn denied(self) -> &'static str {
        match self {
            Self::Subscribe => "this client may not subscribe to this topic",
            Self::Publish => "this client may not publish to this topic",
            Self::History => "this client may not read the history of this topic",
            Self::Presence => "this client may not see the presence of this topic",
        }
    }
}

/// A set of rights; one byte, as each session keeps it for its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u8);

impl Rights {
    /// Every right.
    pub const ALL: Self = Self((1 << Right::ALL.len()) - 1);
    /// No right.
    pub const NONE: Self = Self(0);

    /// Whether the right is among them.
    pub fn has(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }

    /// These and those.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those of them that `keep` lets pass.
    pub(super) fn only(self, keep: impl Fn(Right) -> bool) -> Self {
        Right::ALL.into_iter().filter(|right| self.has(*right) && keep(*right)).collect()
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<T: IntoIterator<Item = Right>>(rights: T) -> Self {
        Self(rights.into_iter().fold(0, |bits, right| bits | right.bit()))
    }
}

/// When a session ends because its token does, on both clocks.
///
/// Only here does the wall clock decide about a connection. It may be set wrong, and be set right
/// while the connection is open: so a session is over only when the time that was left at the start
/// has passed *and* the wall clock says so, too. A clock that jumps ends nobody early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Milliseconds since 1970.
    wall: u64,
    /// The same moment as it looked at the start.
    instant: Instant,
}

impl Expiry {
    /// The end at `seconds` since 1970, seen from `now`, put off by `grace`. `None` = too far away
    /// to ever come.
    pub fn new(seconds: u64, grace: Duration, now: Stamp) -> Option<Self> {
        let grace = u64::try_from(grace.as_millis()).ok()?;
        let wall = seconds.checked_mul(1000)?.checked_add(grace)?;
        let left = Duration::from_millis(wall.saturating_sub(now.wall));
        let instant = now.instant.checked_add(left)?;
        Some(Self { wall, instant })
    }

    /// When to look next at whether it is over.
    pub fn look_at(self, now: Stamp) -> Instant {
        // What the wall clock says is left may change; it is not waited for all at once.
        let left = Duration::from_millis(self.wall.saturating_sub(now.wall)).min(LOOK_EVERY);
        now.instant.checked_add(left).map_or(self.instant, |at| at.max(self.instant))
    }

    /// Whether it is over.
    pub fn is_over(self, now: Stamp) -> bool {
        now.instant >= self.instant && now.wall >= self.wall
    }
}

/// What a token gave to the session that it let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The user, as publications name it; `None` where the token names nobody.
    pub publisher: Option<Arc<Peer>>,
    /// What it allows by topic; `None` = everything, as far as the topics' rules go.
    pub caps: Option<Caps>,
    /// When the session ends.
    pub expiry: Option<Expiry>,
}

impl Grant {
    /// The user, where one is known.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.publisher.as_ref().map(|publisher| &publisher.user)
    }

    /// Bytes that it holds.
    pub fn held_len(&self) -> usize {
        let user = self.publisher.as_ref().map_or(0, |publisher| publisher.held_len());
        let caps = self.caps.as_ref().map_or(0, Caps::held_len);
        size_of::<Self>().saturating_add(user).saturating_add(caps)
    }
}

/// Who a client is: nobody in particular, the holder of an API key, or of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Anonymous(Rights),
    Server,
    Token(Arc<Grant>),
}

impl Identity {
    /// The holder of an API key: may do everything, whatever the topics' rules say.
    pub const SERVER: Self = Self(Kind::Server);

    /// Nobody in particular, with every right.
    pub const ALL: Self = Self(Kind::Anonymous(Rights::ALL));

    /// Nobody in particular, with these rights.
    pub fn anonymous(rights: Rights) -> Self {
        Self(Kind::Anonymous(rights))
    }

    /// As [`Identity::anonymous`].
    pub fn with(rights: &[Right]) -> Self {
        Self::anonymous(rights.iter().copied().collect())
    }

    /// The holder of a token.
    pub fn token(grant: Grant) -> Self {
        Self(Kind::Token(Arc::new(grant)))
    }

    /// What its token gave it, where it has one.
    pub fn grant(&self) -> Option<&Arc<Grant>> {
        match &self.0 {
            Kind::Token(grant) => Some(grant),
            Kind::Anonymous(_) | Kind::Server => None,
        }
    }

    /// The user, where one is known.
    pub fn user(&self) -> Option<&Arc<str>> {
        self.grant()?.user()
    }

    /// Who its publications are by, where that is known.
    pub fn publisher(&self) -> Option<Arc<Peer>> {
        self.grant()?.publisher.clone()
    }

    /// Whether it holds an API key.
    pub fn is_server(&self) -> bool {
        matches!(self.0, Kind::Server)
    }

    /// Its own rights on the topic called `name`, before the topic's rule is asked.
    pub(crate) fn own_rights(&self, name: &str) -> Rights {
        match &self.0 {
            Kind::Anonymous(rights) => *rights,
            Kind::Server => Rights::ALL,
            Kind::Token(grant) => grant.caps.as_ref().map_or(Rights::ALL, |caps| caps.rights(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Expiry, Right, Rights};
    use crate::time::Stamp;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        for given in Right::ALL {
            let rights: Rights = [given].into_iter().collect();
            for asked in Right::ALL {
                assert_eq!(rights.has(asked), asked == given);
                assert!(Rights::ALL.has(asked) && !Rights::NONE.has(asked));
            }
            assert_eq!(Right::of_word(given.word()), Some(given));
        }
        assert_eq!(Right::ALL.into_iter().collect::<Rights>(), Rights::ALL);
        assert_eq!(Right::of_word("Publish"), None);
    }

    #[test]
    fn a_session_is_over_when_both_clocks_say_so() {
        const HOUR: u64 = 3_600_000;
        let start = Stamp { wall: 10 * HOUR, instant: Instant::now() };
        let at = |millis: u64, jump: i64| Stamp {
            wall: (start.wall + millis).saturating_add_signed(jump),
            instant: start.instant + Duration::from_millis(millis),
        };
        let hour = i64::try_from(HOUR).expect("it is small");
        let seconds = (start.wall + HOUR / 2) / 1000;
        let expiry = Expiry::new(seconds, Duration::from_secs(10), start).expect("it will come");
        let due = HOUR / 2 + 10_000;
        for (millis, jump, expected) in [
            (due - 1, 0, false),
            (due, 0, true),
            // The clock was set forward: half an hour is left all the same.
            (1, hour, false),
            (due - 1, hour, false),
            (due, hour, true),
            // It was set back: the token is good again, for others and so for this one.
            (due, -hour, false),
            (due + HOUR, -hour, true),
        ] {
            assert_eq!(expiry.is_over(at(millis, jump)), expected, "{millis} {jump}");
        }
        for (millis, jump, expected) in [
            (0, 0, due),
            (due - 1, hour, due),
            (due + 5, -hour, due + 5 + 15_000),
            (due + HOUR - 7, -hour, due + HOUR),
            (due + HOUR + 9, -hour, due + HOUR + 9),
        ] {
            let look_at = start.instant + Duration::from_millis(expected);
            assert_eq!(expiry.look_at(at(millis, jump)), look_at, "{millis} {jump}");
        }
    }

    #[test]
    fn an_end_that_never_comes_is_none() {
        let now = Stamp { wall: 0, instant: Instant::now() };
        for seconds in [u64::MAX, u64::MAX / 1000, u64::MAX / 1000 - 1] {
            assert_eq!(Expiry::new(seconds, Duration::from_secs(10), now), None);
        }
        let past = Expiry::new(0, Duration::ZERO, now).expect("it came");
        assert!(past.is_over(now));
    }
}
