//! What a session got: I1 to I4, by way of the shared checker.

use super::Judge;
use crate::client::{Door, Event};
use crate::invariant::{Position, Telling};
use crate::record::{By, Tick, number};
use crate::topics::record::Session;
use crate::topics::setup::Echo;
use fanwire::limits::Delivery;

impl Judge<'_> {
    pub(super) fn is_fed(&mut self, index: usize, session: &Session) {
        let topic = &self.record.setup.topics[session.opening.topic];
        let (name, who) = (topic.name.clone(), format!("session {index}"));
        let subscription = (who.as_str(), name.as_str());
        let start = self.start(session);
        self.checker.starts(subscription, &start);
        if session.opening.door == Door::Plain && topic.rule.delivery != Delivery::Reliable {
            self.checker.tells(subscription, Telling::Untold);
        }
        if session.opening.echo == Echo::Off
            && matches!(session.opening.door, Door::Plain | Door::Json)
        {
            for offset in self.own(index, session, &start.epoch) {
                self.checker.leaves_out(subscription, offset);
            }
        }
        for (tick, event) in &session.events {
            match event {
                Event::Publication { position, payload } => {
                    let Some(place) = self.place_of(session, position.as_ref(), payload) else {
                        if *tick <= self.record.healed {
                            let text = String::from_utf8_lossy(payload);
                            self.find(format!("{who} got {text:.24}, which nobody published"));
                        }
                        continue;
                    };
                    let result = self.checker.delivered(subscription, &place, payload);
                    self.expect(format!("{who} at {tick}"), result);
                }
                Event::Skipped(count) => self.checker.skipped(subscription, *count),
                Event::Garbled(why) => self.find(format!("{who}: {why}")),
                _ => {}
            }
        }
        if !session.is_live_at(self.record.healed) {
            self.checker.ends(subscription);
        }
    }

    /// The position of a publication; `None` if it is not what it says.
    pub(super) fn place_of(
        &self,
        session: &Session,
        position: Option<&Position>,
        payload: &[u8],
    ) -> Option<Position> {
        let number = number(payload)?;
        let sent = self.record.payloads.get(number)?;
        let is_whole = self.record.payload(number)?.as_bytes() == payload;
        if !is_whole || sent.topic != session.opening.topic {
            return None;
        }
        position.or_else(|| self.orders.place(number)).cloned()
    }

    /// The position that a session's stream goes on after. Where none is shown it is inferred from
    /// the first publication, within what can be.
    fn start(&mut self, session: &Session) -> Position {
        let Some((answered, _, position, _)) = session.head() else {
            return Position { epoch: String::new(), offset: 0 };
        };
        if let Some(position) = position {
            return position.clone();
        }
        let topic = session.opening.topic;
        let top = self.top(topic, "", (session.sent, answered));
        let mut skipped = 0;
        let first = session.events.iter().find_map(|(_, event)| match event {
            Event::Skipped(count) => {
                skipped += count;
                None
            }
            Event::Publication { position, payload } => {
                self.place_of(session, position.as_ref(), payload)
            }
            _ => None,
        });
        let inferred = first.map_or(top.possible, |first| first.offset.saturating_sub(1 + skipped));
        // What it left out or lost untold came before the first that it got.
        Position { epoch: String::new(), offset: inferred.clamp(top.sure, top.possible) }
    }

    /// Offsets of the session's own publications.
    fn own(&self, index: usize, session: &Session, epoch: &str) -> Vec<u64> {
        let order = self.orders.get(session.opening.topic, epoch);
        let own = order
            .0
            .iter()
            .filter(|(_, entry)| self.record.payloads[entry.number].by == By::Session(index));
        own.map(|(offset, _)| *offset).collect()
    }

    /// The newest offset that the session had got by `tick`.
    pub(super) fn reached(&self, session: &Session, tick: Tick) -> u64 {
        let got = session.events.iter().filter(|(its, _)| *its <= tick);
        let mut got = got.filter_map(|(_, event)| match event {
            Event::Publication { position, payload } => {
                self.place_of(session, position.as_ref(), payload).map(|place| place.offset)
            }
            _ => None,
        });
        let start = session.head().and_then(|(_, _, position, _)| Some(position?.offset));
        got.next_back().or(start).unwrap_or(0)
    }
}
