//! What is written down of every run, with the time of each; what clients saw depends on what they
//! speak.

use std::time::Duration;

use serde_json::Value;

use crate::invariant::{Baseline, Closes};
use crate::setup::Setup;

/// A moment between two steps; `Record::clock` tells the time of each.
pub(crate) type Tick = usize;

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Record<Seen> {
    pub(crate) setup: Setup,
    /// Virtual time since the start, by tick.
    pub(crate) clock: Vec<Duration>,
    /// By their number, which is in the payload.
    pub(crate) payloads: Vec<Payload>,
    pub(crate) posts: Vec<Post>,
    /// When the server began to drain.
    pub(crate) drained: Option<Tick>,
    /// When a worker gave up those who would not leave.
    pub(crate) forced: Option<Tick>,
    /// When every client had read all there was, with nothing in its way. All that comes later is
    /// the end of the run.
    pub(crate) healed: Tick,
    /// What was still held when everybody had left.
    pub(crate) left_behind: Baseline,
    pub(crate) counted: Closes,
    /// Publications that the kernel took, as the server counts them.
    pub(crate) delivered: u64,
    /// A worker that found no rest, or did not end; an answer that makes no sense.
    pub(crate) faults: Vec<String>,
    /// What clients asked, did and saw.
    pub(crate) seen: Seen,
}

/// A payload, by whom and when it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    pub(crate) topic: usize,
    pub(crate) len: usize,
    pub(crate) by: By,
    pub(crate) sent: Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Session(usize),
    Post(usize),
}

/// A publication by POST.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) payload: usize,
    pub(crate) key: Option<u8>,
    pub(crate) answer: Option<(Tick, Answer)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// The payload of that number.
pub(crate) fn payload(topic: &str, number: usize, len: usize) -> String {
    format!("{:x<len$}", format!("{topic}:{number}:"))
}

/// The number in a payload.
pub(crate) fn number(payload: &[u8]) -> Option<usize> {
    let text = str::from_utf8(payload).ok()?;
    text.split(':').nth(1)?.parse().ok()
}

/// As much of a payload as says which it is.
pub(crate) fn short(payload: &[u8]) -> String {
    String::from_utf8_lossy(&payload[..payload.len().min(20)]).into_owned()
}

impl<Seen: Default> Record<Seen> {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self {
            setup: setup.clone(),
            clock: Vec::new(),
            payloads: Vec::new(),
            posts: Vec::new(),
            drained: None,
            forced: None,
            healed: Tick::MAX,
            left_behind: Baseline::from_counts([]),
            counted: Closes::default(),
            delivered: 0,
            faults: Vec::new(),
            seen: Seen::default(),
        }
    }
}

impl<Seen> Record<Seen> {
    /// The tick that is going on.
    pub(crate) fn now(&self) -> Tick {
        self.clock.len()
    }

    pub(crate) fn name_of(&self, topic: usize) -> &str {
        &self.setup.topics[topic].name
    }

    /// The whole payload of that number.
    pub(crate) fn payload(&self, number: usize) -> Option<String> {
        let one = self.payloads.get(number)?;
        Some(payload(self.name_of(one.topic), number, one.len))
    }

    /// Time between two ticks.
    pub(crate) fn between(&self, from: Tick, to: Tick) -> Duration {
        let at = |tick: Tick| self.clock[tick.min(self.clock.len() - 1)];
        at(to).saturating_sub(at(from))
    }
}
