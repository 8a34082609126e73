//! What must never happen, as a program that every system test can hold a server against.
//!
//! | | invariant | where |
//! | --- | --- | --- |
//! | I1 | per session, topic and epoch, offsets go up by one: nothing twice, no gap untold | [`Checker`] |
//! | I2 | what was acknowledged reaches every positioned subscriber, or it is told otherwise | [`Checker`] |
//! | I3 | nothing comes on a topic that the session may not read at that time | [`Checker`] |
//! | I4 | all observers, on all nodes, agree on the payload of an offset | [`Checker`] |
//! | I5 | when all sessions have left, everything is back where it was | [`Baseline`] |
//! | I6 | when faults have healed, every live subscriber is at the top | [`Checker`] |
//! | I7 | the close that a client is told is the one that the metrics count | [`Closes`] |
//!
//! Nothing here knows the server's code: positions and numbers are what clients see.

#![allow(dead_code, reason = "shared by several test binaries; each uses a part")]

mod baseline;
mod checker;
mod closes;

use std::fmt;

pub(crate) use baseline::Baseline;
pub(crate) use checker::{Checker, Telling};
pub(crate) use closes::Closes;

/// A point in a topic's stream as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

impl Position {
    /// The position `count` publications later.
    pub(crate) fn plus(&self, count: u64) -> Self {
        let (epoch, offset) = (self.epoch.clone(), self.offset + count);
        Self { epoch, offset }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

/// How an invariant was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    /// I1: a publication for a subscription that was never told where it starts.
    NotSubscribed,
    /// I1: a publication of an epoch that the subscriber was not told of.
    EpochChanged,
    /// I1: not the offset after the last one, and no notice explains it.
    Offset { expected: u64, got: u64 },
    /// I1: a notice of lost publications without a loss.
    Skipped { told: u64 },
    /// I2: acknowledged, never delivered, and the subscriber was not told.
    Lost { subscription: String, offset: u64 },
    /// I3: the session may not read the topic.
    NotAllowed,
    /// I4: two payloads for one offset.
    Payload { offset: u64 },
    /// I5: more is held than before.
    NotBack { what: &'static str, before: u64, now: u64 },
    /// I6: a live subscriber that is not where the topic is.
    NotAtTop { subscription: String, top: u64, has: u64 },
    /// I7: clients were told of so many closes, and another number is counted.
    Closes { close: String, told: u64, counted: u64 },
}
