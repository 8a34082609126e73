//! What clients of the Centrifugo door did and saw in one run.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::setup::{Transport, Wish};
use crate::invariant::{Baseline, Position};
use crate::record::{By, Tick, payload};
use crate::setup::Setup;

#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) setup: Setup,
    pub(crate) clock: Vec<Duration>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) stays: Vec<Stay>,
    pub(crate) payloads: Vec<Payload>,
    pub(crate) looks: Vec<Look>,
    pub(crate) healed: Tick,
    pub(crate) left_behind: Baseline,
    pub(crate) faults: Vec<String>,
}

/// A connection of a client.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) transport: Transport,
    /// Publications that came as what changed.
    pub(crate) delta_count: usize,
    /// The id that others know it by, once it is connected.
    pub(crate) client: Option<String>,
    /// Whether it has always read all there was, and its answers got through.
    pub(crate) is_prompt: bool,
    pub(crate) vanished: Option<Tick>,
    /// When and how the server ended it.
    pub(crate) ended: Option<(Tick, String)>,
}

/// A subscription, from the command to its end.
#[derive(Debug, Clone)]
pub(crate) struct Stay {
    pub(crate) session: usize,
    pub(crate) wish: Wish,
    pub(crate) asked: Option<Position>,
    pub(crate) sent: Tick,
    pub(crate) answer: Option<(Tick, Answer)>,
    pub(crate) heard: Vec<(Tick, Heard)>,
    /// When the client asked to leave.
    pub(crate) left: Option<Tick>,
    /// When the client knew that it was over.
    pub(crate) over: Option<Tick>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Subscribed { start: Position, recovered: Option<bool> },
    Refused(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Publication {
        position: Position,
        payload: Vec<u8>,
    },
    Join(String),
    Leave(String),
    /// The server ended the subscription.
    Unsubscribed(u64),
}

#[derive(Debug, Clone)]
pub(crate) struct Payload {
    pub(crate) topic: usize,
    pub(crate) len: usize,
    pub(crate) by: By,
    pub(crate) sent: Tick,
    /// When it was acknowledged, and by a request also where it is.
    pub(crate) acknowledged: Option<(Tick, Option<Position>)>,
}

/// Who was on a topic, as a client was told.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) topic: usize,
    pub(crate) sent: Tick,
    pub(crate) answer: Option<(Tick, BTreeSet<String>)>,
}

impl Record {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self {
            setup: setup.clone(),
            clock: Vec::new(),
            sessions: Vec::new(),
            stays: Vec::new(),
            payloads: Vec::new(),
            looks: Vec::new(),
            healed: 0,
            left_behind: Baseline::from_counts([]),
            faults: Vec::new(),
        }
    }

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

    /// When a session was over, as far as its client knows.
    pub(crate) fn end_of(&self, session: usize) -> Option<Tick> {
        let Session { vanished, ended, .. } = &self.sessions[session];
        ended.as_ref().map(|(tick, _)| *tick).or(*vanished)
    }
}

impl Session {
    pub(crate) fn new(transport: Transport, is_prompt: bool) -> Self {
        Self { transport, delta_count: 0, client: None, is_prompt, vanished: None, ended: None }
    }
}

impl Stay {
    /// Where it goes on after, and when that was told.
    pub(crate) fn start(&self) -> Option<(Tick, &Position, Option<bool>)> {
        match &self.answer {
            Some((tick, Answer::Subscribed { start, recovered })) => {
                Some((*tick, start, *recovered))
            }
            _ => None,
        }
    }

    /// The last position that its client was told.
    pub(crate) fn position(&self) -> Option<Position> {
        let last = self.heard.iter().rev().find_map(|(_, heard)| match heard {
            Heard::Publication { position, .. } => Some(position.clone()),
            _ => None,
        });
        last.or_else(|| self.start().map(|(_, start, _)| start.clone()))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, session) in self.sessions.iter().enumerate() {
            writeln!(f, "session {index}: {session:?}")?;
        }
        for (index, stay) in self.stays.iter().enumerate() {
            let Stay { session, wish, asked, sent, answer, heard, left, over } = stay;
            let name = self.name_of(wish.topic);
            writeln!(f, "stay {index} of session {session} on {name}, {wish:?} {asked:?}")?;
            writeln!(f, "  {sent:4} asked, left {left:?}, over {over:?}; {answer:?}")?;
            for (tick, heard) in heard {
                match heard {
                    Heard::Publication { position, payload } => {
                        let payload = String::from_utf8_lossy(&payload[..payload.len().min(20)]);
                        writeln!(f, "  {tick:4} <- {position} {payload}")?;
                    }
                    other => writeln!(f, "  {tick:4} <- {other:?}")?,
                }
            }
        }
        for (index, payload) in self.payloads.iter().enumerate() {
            writeln!(f, "payload {index}: {payload:?}")?;
        }
        for look in &self.looks {
            writeln!(f, "{look:?}")?;
        }
        Ok(())
    }
}
