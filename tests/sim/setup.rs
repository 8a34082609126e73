//! What a seed stands for: how the server is set up, and the steps that clients of every kind take.
//!
//! Steps name sessions, topics and workers by any number, so that a run without some of them still
//! means something: that is what makes a failing run smaller.

use std::time::Duration;

use fanwire::limits::{Limits, TopicRule};
use fanwire::worker::Portions;

/// A server and its topics.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) workers: usize,
    pub(crate) topics: Vec<Topic>,
    pub(crate) limits: Limits,
    pub(crate) meta_ttl: Duration,
    pub(crate) drain_window: Duration,
    /// Small ones, and passes pause in the middle of their members, replays in that of history.
    pub(crate) portions: Portions,
}

/// One topic, with a rule of its own.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) rule: TopicRule,
    /// Somebody reads it from the beginning to the end, and keeps it alive.
    pub(crate) is_witnessed: bool,
}

/// How a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// All there is, at once; pings are answered.
    Prompt,
    /// So many bytes between two steps.
    Slow(usize),
    Stopped,
}

/// What happens next. Numbers are taken modulo what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<Act> {
    /// What only clients of one kind do.
    Act(Act),
    Post {
        topic: usize,
        worker: usize,
        len: usize,
        key: Option<u8>,
    },
    Pace {
        session: usize,
        pace: Pace,
    },
    Vanish {
        session: usize,
    },
    Advance {
        millis: u64,
    },
    /// The worker's thread does not run until it thaws.
    Freeze {
        worker: usize,
    },
    Thaw {
        worker: usize,
    },
    Drain,
    /// The step after this one does not wait until the one before it has had its effect.
    AtOnce,
}

/// Bytes of a payload at least: it names itself.
pub(crate) const PAYLOAD_LEN_MIN: usize = 16;
