//! Everything that clients did and saw in one run, with the time of each.

use std::fmt;
use std::time::Duration;

use crate::invariant::{Baseline, Closes, Position};
use crate::setup::{Offence, Opening, Pace, Setup};

/// A moment between two steps; `Record::clock` tells the time of each.
pub(crate) type Tick = usize;

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) setup: Setup,
    /// Virtual time since the start, by tick.
    pub(crate) clock: Vec<Duration>,
    pub(crate) sessions: Vec<Session>,
    /// By their number, which is in the payload.
    pub(crate) payloads: Vec<Payload>,
    pub(crate) posts: Vec<Post>,
    pub(crate) pages: Vec<Page>,
    /// When the server began to drain.
    pub(crate) drained: Option<Tick>,
    /// When a worker gave up those who would not leave.
    pub(crate) forced: Option<Tick>,
    /// When every client had read all there was, with nothing in its way.
    pub(crate) healed: Tick,
    /// What was still held when everybody had left.
    pub(crate) left_behind: Baseline,
    pub(crate) counted: Closes,
    /// A worker that found no rest, or did not end.
    pub(crate) faults: Vec<String>,
}

/// A session: what its client asked, did and saw.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) opening: Opening,
    /// The position that `opening.start` meant at that time.
    pub(crate) asked: Asked,
    pub(crate) sent: Tick,
    pub(crate) deeds: Vec<(Tick, Deed)>,
    pub(crate) events: Vec<(Tick, Event)>,
}

/// A position in a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    Since { epoch: Option<String>, offset: u64 },
    Last(u64),
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

/// A page of history.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) topic: usize,
    pub(crate) asked: Asked,
    pub(crate) limit: usize,
    pub(crate) sent: Tick,
    pub(crate) answer: Option<(Tick, Answer)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: serde_json::Value,
}

/// What a client did to its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    Send(usize),
    Pace(Pace),
    Close(u16),
    Vanish,
    Shut,
    Offend(Offence),
}

/// What a client saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Head {
        status: u16,
        position: Option<Position>,
        recovered: Option<bool>,
    },
    Subscribed {
        position: Option<Position>,
        recovered: Option<bool>,
    },
    Publication {
        position: Option<Position>,
        payload: Vec<u8>,
    },
    Skipped(u64),
    Close(u16, String),
    /// The server's side ended; a stream's body as it should, or cut.
    End(End),
    /// Bytes that mean nothing.
    Garbled(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    Cut,
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

impl Record {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self {
            setup: setup.clone(),
            clock: Vec::new(),
            sessions: Vec::new(),
            payloads: Vec::new(),
            posts: Vec::new(),
            pages: Vec::new(),
            drained: None,
            forced: None,
            healed: 0,
            left_behind: Baseline::from_counts([]),
            counted: Closes::default(),
            faults: Vec::new(),
        }
    }

    /// The tick that is going on.
    pub(crate) fn now(&self) -> Tick {
        self.clock.len()
    }

    /// The whole payload of that number.
    pub(crate) fn payload(&self, number: usize) -> Option<String> {
        let one = self.payloads.get(number)?;
        Some(payload(&self.setup.topics[one.topic].name, number, one.len))
    }

    /// Time between two ticks.
    pub(crate) fn between(&self, from: Tick, to: Tick) -> Duration {
        let at = |tick: Tick| self.clock[tick.min(self.clock.len() - 1)];
        at(to).saturating_sub(at(from))
    }
}

impl Session {
    /// When its client did something of that kind.
    pub(crate) fn did(&self, is_it: impl Fn(&Deed) -> bool) -> Option<Tick> {
        self.deeds.iter().find(|(_, deed)| is_it(deed)).map(|(tick, _)| *tick)
    }

    /// How it was answered: when, and with what.
    pub(crate) fn head(&self) -> Option<(Tick, u16, Option<&Position>, Option<bool>)> {
        self.events.iter().find_map(|(tick, event)| match event {
            Event::Head { status, position, recovered } => {
                Some((*tick, *status, position.as_ref(), *recovered))
            }
            _ => None,
        })
    }

    /// The close that it was told.
    pub(crate) fn close(&self) -> Option<(Tick, u16, &str)> {
        self.events.iter().find_map(|(tick, event)| match event {
            Event::Close(code, reason) => Some((*tick, *code, reason.as_str())),
            _ => None,
        })
    }

    /// How the server's side ended.
    pub(crate) fn end(&self) -> Option<(Tick, End)> {
        self.events.iter().find_map(|(tick, event)| match event {
            Event::End(end) => Some((*tick, *end)),
            _ => None,
        })
    }

    /// Whether it goes on at `tick`, as far as its client knows.
    pub(crate) fn is_live_at(&self, tick: Tick) -> bool {
        let is_end =
            |event: &Event| matches!(event, Event::Close(..) | Event::End(_) | Event::Garbled(_));
        let ended = self.events.iter().find(|(_, event)| is_end(event));
        let is_last_word = |deed: &Deed| {
            matches!(deed, Deed::Vanish | Deed::Shut | Deed::Close(_) | Deed::Offend(_))
        };
        self.head().is_some_and(|(_, status, ..)| status < 300)
            && ended.is_none_or(|(ended, _)| *ended > tick)
            && self.did(is_last_word).is_none_or(|left| left > tick)
    }

    /// Whether its client has always read all there was.
    pub(crate) fn is_prompt(&self) -> bool {
        let slowed = self.did(|deed| matches!(deed, Deed::Pace(pace) if *pace != Pace::Prompt));
        self.opening.pace == Pace::Prompt && slowed.is_none()
    }
}

/// Shows steps so that a reader can follow them.
pub(crate) fn show_steps(steps: &[impl fmt::Debug]) -> String {
    let lines = steps.iter().enumerate().map(|(index, step)| format!("{index:4} {step:?}"));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |payload: &[u8]| {
            String::from_utf8_lossy(&payload[..payload.len().min(20)]).into_owned()
        };
        for (index, session) in self.sessions.iter().enumerate() {
            let Session { opening, asked, sent, deeds, events } = session;
            writeln!(f, "session {index} at {sent}: {opening:?} {asked:?}")?;
            let mut lines: Vec<(Tick, String)> =
                deeds.iter().map(|(tick, deed)| (*tick, format!("-> {deed:?}"))).collect();
            lines.extend(events.iter().map(|(tick, event)| match event {
                Event::Publication { position, payload } => {
                    let place = position.as_ref().map(ToString::to_string).unwrap_or_default();
                    (*tick, format!("<- {place} {}", short(payload)))
                }
                other => (*tick, format!("<- {other:?}")),
            }));
            lines.sort_by_key(|(tick, _)| *tick);
            for (tick, line) in lines {
                writeln!(f, "  {tick:4} {:?} {line}", self.between(0, tick))?;
            }
        }
        for (index, post) in self.posts.iter().enumerate() {
            let text = self.payload(post.payload).unwrap_or_default();
            let (key, answer) = (post.key, &post.answer);
            writeln!(f, "post {index} {} key {key:?}: {answer:?}", short(text.as_bytes()))?;
        }
        for (index, page) in self.pages.iter().enumerate() {
            writeln!(f, "page {index} at {} {:?}", page.sent, page.asked)?;
        }
        Ok(())
    }
}
