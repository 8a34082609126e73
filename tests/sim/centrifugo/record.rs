//! What clients of the Centrifugo door did and saw in one run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::setup::{Guise, Order, Wish};
use crate::invariant::Position;
use crate::record::{self, By, Tick, short};
use crate::wire;

pub(crate) type Record = record::Record<Seen>;

/// What only these clients note.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) sessions: Vec<Session>,
    pub(crate) stays: Vec<Stay>,
    pub(crate) looks: Vec<Look>,
    pub(crate) calls: Vec<Call>,
    /// When a session was told that its payload of that number was accepted.
    pub(crate) accepted: BTreeMap<usize, Tick>,
}

/// A connection of a client.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) guise: Guise,
    pub(crate) sent: Tick,
    pub(crate) connected: Option<Tick>,
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

/// Who was on a topic, as a client was told.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) topic: usize,
    pub(crate) sent: Tick,
    pub(crate) answer: Option<(Tick, BTreeSet<String>)>,
}

/// What the application wanted done.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) user: u8,
    pub(crate) order: Order,
    pub(crate) sent: Tick,
    pub(crate) outcome: Option<Outcome>,
}

/// What the application was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// A worker did not answer in time; it may do it later.
    NotYet,
}

impl Record {
    /// When its publisher was told that the payload of that number was accepted, and by a request
    /// also where it is.
    pub(crate) fn acknowledged(&self, number: usize) -> Option<(Tick, Option<Position>)> {
        match self.payloads[number].by {
            By::Session(_) => self.seen.accepted.get(&number).map(|tick| (*tick, None)),
            By::Post(post) => {
                let (tick, answer) = self.posts[post].answer.as_ref()?;
                (answer.status == 200).then(|| (*tick, wire::place(&answer.body)))
            }
        }
    }

    /// When a session was over, as far as its client knows.
    pub(crate) fn end_of(&self, session: usize) -> Option<Tick> {
        self.ended(session).or(self.vanished(session))
    }

    /// When the server ended a session that was to go on.
    pub(crate) fn ended(&self, session: usize) -> Option<Tick> {
        let ended = self.seen.sessions[session].ended.as_ref();
        ended.map(|(tick, _)| *tick).filter(|tick| *tick <= self.healed)
    }

    /// When the client of a session that was to go on was gone.
    pub(crate) fn vanished(&self, session: usize) -> Option<Tick> {
        self.seen.sessions[session].vanished.filter(|tick| *tick <= self.healed)
    }
}

impl Session {
    pub(crate) fn new(guise: Guise, sent: Tick, is_prompt: bool) -> Self {
        Self {
            guise,
            sent,
            connected: None,
            delta_count: 0,
            client: None,
            is_prompt,
            vanished: None,
            ended: None,
        }
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
        for (index, session) in self.seen.sessions.iter().enumerate() {
            writeln!(f, "session {index}: {session:?}")?;
        }
        for (index, stay) in self.seen.stays.iter().enumerate() {
            let Stay { session, wish, asked, sent, answer, heard, left, over } = stay;
            let name = self.name_of(wish.topic);
            writeln!(f, "stay {index} of session {session} on {name}, {wish:?} {asked:?}")?;
            writeln!(f, "  {sent:4} asked, left {left:?}, over {over:?}; {answer:?}")?;
            for (tick, heard) in heard {
                match heard {
                    Heard::Publication { position, payload } => {
                        let payload = short(payload);
                        writeln!(f, "  {tick:4} <- {position} {payload}")?;
                    }
                    other => writeln!(f, "  {tick:4} <- {other:?}")?,
                }
            }
        }
        for (index, payload) in self.payloads.iter().enumerate() {
            writeln!(f, "payload {index}: {payload:?}")?;
        }
        for call in &self.seen.calls {
            writeln!(f, "{call:?}")?;
        }
        for look in &self.seen.looks {
            writeln!(f, "{look:?}")?;
        }
        Ok(())
    }
}
