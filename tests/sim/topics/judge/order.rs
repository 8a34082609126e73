//! The order of each topic's publications, as all clients together saw it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Judge;
use crate::client::Event;
use crate::invariant::Position;
use crate::record::{By, Tick, number};
use crate::topics::record::{Record, Session};
use crate::wire;

/// One publication in its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) number: usize,
    /// When it was sent: it was accepted no earlier.
    pub(super) sent: Tick,
    /// When somebody first saw it: it was accepted no later.
    pub(super) seen: Tick,
}

/// The publications of one epoch, by offset. Without history, an offset is a place in the order
/// that the topic's witness saw.
#[derive(Debug, Default)]
pub(super) struct Order(pub(super) BTreeMap<u64, Entry>);

#[derive(Debug, Default)]
pub(super) struct Orders {
    epochs: BTreeMap<(usize, String), Order>,
    places: BTreeMap<usize, Position>,
    /// Publications with all that is known of them: topic, position, payload, when it was seen.
    observed: Vec<(usize, Position, Vec<u8>, Tick)>,
    /// Topics whose order nobody can tell.
    blind: BTreeSet<usize>,
}

/// What surely and what possibly was accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) sure: u64,
    pub(super) possible: u64,
}

impl Order {
    /// The oldest offset that `record`'s rule for `topic` keeps at `now` when `top` is the newest;
    /// `None` where not enough is known.
    pub(super) fn oldest(
        &self,
        record: &Record,
        (topic, top): (usize, u64),
        now: Duration,
        accepted: impl Fn(&Entry) -> Tick,
    ) -> Option<u64> {
        let rule = &record.setup.topics[topic].rule;
        let (mut oldest, mut len) = (top + 1, 0);
        while oldest > 1 && top + 1 - oldest < rule.history_size as u64 {
            let Some(entry) = self.0.get(&(oldest - 1)) else {
                // Before the first that anybody saw, something may or may not have been.
                return None;
            };
            len += record.payloads[entry.number].len;
            let age = now.saturating_sub(record.clock[accepted(entry)]);
            if len > rule.history_bytes_max || age >= rule.history_ttl {
                break;
            }
            oldest -= 1;
        }
        Some(oldest)
    }
}

impl Orders {
    pub(super) fn of(record: &Record) -> Self {
        let mut orders = Self::default();
        for post in &record.posts {
            if let Some((tick, answer)) = &post.answer
                && answer.status == 200
                && answer.body.get("duplicate").is_none()
                && let (Some(position), Some(payload)) =
                    (wire::place(&answer.body), record.payload(post.payload))
            {
                let topic = record.payloads[post.payload].topic;
                orders.observed.push((topic, position, payload.into_bytes(), *tick));
            }
        }
        for page in &record.seen.pages {
            let Some((tick, answer)) = &page.answer else { continue };
            for one in answer.body["publications"].as_array().into_iter().flatten() {
                if let (Some(position), Some(data)) = (wire::place(one), one["data"].as_str()) {
                    orders.observed.push((page.topic, position, data.into(), *tick));
                }
            }
        }
        for session in &record.seen.sessions {
            let topic = session.opening.topic;
            for (tick, event) in &session.events {
                if let Event::Publication { position: Some(position), payload } = event {
                    orders.observed.push((topic, position.clone(), payload.clone(), *tick));
                }
            }
        }
        orders.add_witnessed(record);
        for (topic, position, payload, tick) in &orders.observed {
            let Some(number) = number(payload).filter(|one| *one < record.payloads.len()) else {
                continue; // Whoever got it is told.
            };
            let order = orders.epochs.entry((*topic, position.epoch.clone())).or_default();
            let sent = record.payloads[number].sent;
            let entry = Entry { number, sent, seen: *tick };
            let entry = order.0.entry(position.offset).or_insert(entry);
            entry.seen = entry.seen.min(*tick);
            orders.places.insert(number, position.clone());
        }
        orders
    }

    /// The first session on a topic is its witness.
    fn add_witnessed(&mut self, record: &Record) {
        for (topic, setup) in record.setup.topics.iter().enumerate() {
            let witness =
                record.seen.sessions.iter().find(|session| session.opening.topic == topic);
            let has_seen_all = witness.is_some_and(|one| !has_lost(one, record.healed));
            if !setup.is_witnessed || !has_seen_all {
                self.blind.insert(topic);
            }
            if setup.rule.history_size > 0 {
                continue;
            }
            let mut offset = 0;
            for (tick, event) in witness.into_iter().flat_map(|session| &session.events) {
                if let Event::Publication { payload, .. } = event {
                    offset += 1;
                    let position = Position { epoch: String::new(), offset };
                    self.observed.push((topic, position, payload.clone(), *tick));
                }
            }
        }
    }

    /// The order of `topic` in `epoch`; empty where nobody saw a publication.
    pub(super) fn get(&self, topic: usize, epoch: &str) -> &Order {
        const NONE: &Order = &Order(BTreeMap::new());
        self.epochs.get(&(topic, epoch.to_owned())).unwrap_or(NONE)
    }

    pub(super) fn epochs(&self, topic: usize) -> impl Iterator<Item = (&str, &Order)> {
        let of_topic = self.epochs.iter().filter(move |((its, _), _)| *its == topic);
        of_topic.map(|((_, epoch), order)| (epoch.as_str(), order))
    }

    /// Whether anybody can tell the order of the topic.
    pub(super) fn is_known(&self, topic: usize) -> bool {
        !self.blind.contains(&topic)
    }

    /// Where the payload of that number was published.
    pub(super) fn place(&self, number: usize) -> Option<&Position> {
        self.places.get(&number)
    }

    /// The newest position that somebody had seen by `tick`.
    pub(super) fn top_at(&self, topic: usize, tick: Tick) -> Option<Position> {
        let newest = |order: &Order| {
            order.0.iter().filter(|(_, entry)| entry.seen <= tick).map(|(offset, _)| *offset).max()
        };
        let epochs = self.epochs(topic).filter_map(|(epoch, order)| {
            let first = order.0.values().map(|entry| entry.sent).min()?;
            Some((first, Position { epoch: epoch.to_owned(), offset: newest(order)? }))
        });
        epochs.max_by_key(|(first, _)| *first).map(|(_, position)| position)
    }
}

/// Whether a session did not get everything up to `tick`.
fn has_lost(session: &Session, tick: Tick) -> bool {
    session.events.iter().any(|(its, event)| match event {
        Event::Skipped(_) => true,
        Event::Close(..) | Event::End(_) => *its <= tick,
        _ => false,
    })
}

impl Judge<'_> {
    /// The newest offset when a request that was sent and answered at these times was handled.
    pub(super) fn top(&self, topic: usize, epoch: &str, (sent, answered): (Tick, Tick)) -> Range {
        let order = self.orders.get(topic, epoch);
        let newest = |is_in: &dyn Fn(&Entry) -> bool| {
            let mut offsets = order.0.iter().rev().filter(|(_, entry)| is_in(entry));
            offsets.next().map_or(0, |(offset, _)| *offset)
        };
        let unseen =
            if self.orders.is_known(topic) { 0 } else { self.unseen(topic, answered).count() };
        Range {
            sure: newest(&|entry| entry.seen < sent),
            possible: newest(&|entry| entry.sent <= answered) + unseen as u64,
        }
    }

    /// Lengths of the payloads that were sent by then and that nobody saw.
    pub(super) fn unseen(&self, topic: usize, until: Tick) -> impl Iterator<Item = usize> {
        let payloads = self.record.payloads.iter().enumerate();
        let unseen = payloads.filter(move |(number, payload)| {
            payload.topic == topic && payload.sent <= until && self.orders.place(*number).is_none()
        });
        unseen.map(|(_, payload)| payload.len)
    }

    /// I4: one payload per offset, and one offset per payload.
    pub(super) fn orders_agree(&mut self) {
        let observed = std::mem::take(&mut self.orders.observed);
        for (topic, position, payload, _) in &observed {
            let name = &self.record.setup.topics[*topic].name;
            let result = self.checker.observed(name, position, payload);
            self.expect(format!("{name} {position}"), result);
            let place = number(payload).and_then(|number| self.orders.place(number));
            if place.is_some_and(|place| place != position) {
                let text = String::from_utf8_lossy(payload);
                self.find(format!("{name}: {text:.24} is at {position}, and at {place:?}"));
            }
        }
    }

    /// What a session sends is accepted in its order, without a hole, and all of it if the session
    /// lives on.
    pub(super) fn publishers_are_served(&mut self) {
        for (index, session) in self.record.seen.sessions.iter().enumerate() {
            let sent: Vec<(usize, Option<&Position>)> = (0..self.record.payloads.len())
                .filter(|number| self.record.payloads[*number].by == By::Session(index))
                .map(|number| (number, self.orders.place(number)))
                .collect();
            let accepted: Vec<&Position> = sent.iter().filter_map(|(_, place)| *place).collect();
            let is_ordered = accepted.windows(2).all(|pair| pair[0].offset < pair[1].offset);
            let has_hole = sent.iter().skip(accepted.len()).any(|(_, place)| place.is_some());
            let topic = session.opening.topic;
            let is_known = self.orders.is_known(topic);
            let lives = session.is_live_at(self.record.healed);
            let is_heard = self.record.drained.is_none_or(|drained| drained > self.record.healed);
            let has_all = accepted.len() == sent.len() || !lives || !is_heard;
            if !is_ordered || (is_known && is_heard && (has_hole || !has_all)) {
                self.find(format!("what session {index} sent is at {accepted:?} of {sent:?}"));
            }
        }
    }
}
