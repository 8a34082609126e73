//! What clients of the doors of `/topics` did and saw in one run.

use std::fmt;

use super::setup::Opening;
use crate::client::{End, Event, Offence};
use crate::invariant::Position;
use crate::record::{self, Answer, Tick, short};
use crate::setup::Pace;

pub(crate) type Record = record::Record<Seen>;

/// What only these clients note.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) sessions: Vec<Session>,
    pub(crate) pages: Vec<Page>,
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

/// A page of history.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) topic: usize,
    pub(crate) asked: Asked,
    pub(crate) limit: usize,
    pub(crate) sent: Tick,
    pub(crate) answer: Option<(Tick, Answer)>,
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

impl Asked {
    /// The query that asks for it.
    pub(crate) fn query(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Since { epoch: Some(epoch), offset } => format!("since={epoch}:{offset}"),
            Self::Since { epoch: None, offset } => format!("since={offset}"),
            Self::Last(count) => format!("last={count}"),
        }
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

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, session) in self.seen.sessions.iter().enumerate() {
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
        for (index, page) in self.seen.pages.iter().enumerate() {
            writeln!(f, "page {index} at {} {:?}", page.sent, page.asked)?;
        }
        Ok(())
    }
}
