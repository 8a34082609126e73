//! Faults that are planted into a record, to prove that the judge sees them.

use fastrand::Rng;

use super::record::{Asked, Deed, Record, Session};
use super::setup::Echo;
use crate::client::{Door, Event};
use crate::record::Tick;

/// What a server could do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A publication does not come.
    Dropped,
    /// The last ones before the end do not come.
    LostAtTheEnd,
    /// The last ones before a close by the drain do not come.
    LostBeforeTheClose,
    Twice,
    Swapped,
    /// Another payload of the topic comes in its place.
    Payload,
    /// A publication of another topic comes.
    Misrouted,
    /// `recovered` says the contrary.
    Recovered,
    /// A stream begins somewhere else than it says.
    Position,
    /// A notice of lost publications has the wrong count.
    Miscounted,
    /// A session is closed without a cause.
    Closed,
    /// The word of a close is another one.
    Word,
    /// A close is not counted.
    Uncounted,
    /// A repeat is not noticed, or a new publication called a repeat.
    Key,
    /// A page of history has a hole.
    Hole,
    /// Something stays when all have left.
    Leaked,
}

impl Fault {
    pub(crate) const ALL: [Self; 16] = [
        Self::Dropped,
        Self::LostAtTheEnd,
        Self::LostBeforeTheClose,
        Self::Twice,
        Self::Swapped,
        Self::Payload,
        Self::Misrouted,
        Self::Recovered,
        Self::Position,
        Self::Miscounted,
        Self::Closed,
        Self::Word,
        Self::Uncounted,
        Self::Key,
        Self::Hole,
        Self::Leaked,
    ];

    /// Plants the fault somewhere. Returns whether there was a place for it.
    pub(crate) fn plant(self, record: &mut Record, random: &mut Rng) -> bool {
        match self {
            Self::Uncounted => {
                let is_seen = record.seen.sessions.iter().all(|session| session.close().is_some());
                is_seen && record.counted.remove_one()
            }
            Self::Leaked => record.forced.is_none() && record.left_behind.add_one(),
            Self::Key => plant_key(record),
            Self::Hole => plant_hole(record),
            Self::Recovered => plant_recovered(record),
            Self::Misrouted => {
                let topic_count = record.setup.topics.len();
                let foreign = |topic: usize| (topic + 1) % topic_count;
                let payload = |topic: usize| {
                    (0..record.payloads.len())
                        .find(|number| record.payloads[*number].topic == foreign(topic))
                        .and_then(|number| record.payload(number))
                };
                let payloads: Vec<_> = (0..topic_count).map(payload).collect();
                let session = pick(record, random, is_exact);
                session.is_some_and(|session| plant_payload(session, &payloads))
            }
            _ => {
                let (healed, drained) = (record.healed, record.drained.unwrap_or(0));
                let session = pick(record, random, |session| {
                    is_exact(session) && self.is_felt_by(session, (healed, drained))
                });
                session.is_some_and(|session| self.plant_events(session, random))
            }
        }
    }

    /// Whether the fault makes a difference to the session.
    fn is_felt_by(self, session: &Session, (healed, drained): (Tick, Tick)) -> bool {
        let closed = session.close();
        match self {
            Self::LostBeforeTheClose => {
                let mut got = session.events.iter();
                let last = got.rfind(|(_, event)| matches!(event, Event::Publication { .. }));
                closed.is_some_and(|(_, code, _)| code == 1012)
                    && last.is_some_and(|(tick, _)| *tick < drained)
            }
            Self::LostAtTheEnd => {
                let is_silent = |deed: &Deed| !matches!(deed, Deed::Send(_) | Deed::Pace(_));
                let has_left = session.did(is_silent).is_some_and(|tick| tick <= healed);
                let ended = closed.map(|(tick, ..)| tick).or(session.end().map(|(tick, _)| tick));
                !has_left && ended.is_none_or(|tick| tick > healed)
            }
            Self::Closed => closed.is_none() && session.end().is_none(),
            _ => true,
        }
    }

    /// Changes what a session saw.
    fn plant_events(self, session: &mut Session, random: &mut Rng) -> bool {
        let is_publication =
            |(_, event): &(usize, Event)| matches!(event, Event::Publication { .. });
        let events = &mut session.events;
        let places: Vec<usize> =
            (0..events.len()).filter(|index| is_publication(&events[*index])).collect();
        let Some((last, others)) = places.split_last() else { return false };
        let any = others.get(random.usize(..others.len().max(1))).copied();
        match (self, any) {
            (Self::LostAtTheEnd | Self::LostBeforeTheClose, _) => drop(events.remove(*last)),
            (Self::Dropped, Some(any)) => drop(events.remove(any)),
            (Self::Twice, Some(any)) => events.insert(any + 1, events[any].clone()),
            (Self::Swapped, Some(any)) if is_publication(&events[any + 1]) => {
                let (tick, next) = (events[any].0, events[any + 1].0);
                events.swap(any, any + 1);
                (events[any].0, events[any + 1].0) = (tick, next);
            }
            (Self::Payload, Some(any)) => {
                let Event::Publication { payload: other, .. } = events[*last].1.clone() else {
                    return false;
                };
                if let Event::Publication { payload, .. } = &mut events[any].1 {
                    *payload = other;
                }
            }
            (Self::Position, _) => {
                let Some((_, Event::Head { position: Some(position), .. })) = events.first_mut()
                else {
                    return false;
                };
                position.offset += 1;
            }
            (Self::Miscounted, _) => {
                let notice = events.iter_mut().find_map(|(_, event)| match event {
                    Event::Skipped(count) => Some(count),
                    _ => None,
                });
                return notice.map(|count| *count += 1).is_some();
            }
            (Self::Closed, _) => {
                let close = Event::Close(1008, "permission_denied".to_owned());
                let tick = events[*last].0;
                events.push((tick, close));
            }
            (Self::Word, _) => {
                let word = events.iter_mut().find_map(|(_, event)| match event {
                    Event::Close(_, word) if !word.is_empty() => Some(word),
                    _ => None,
                });
                return word.map(|word| "internal".clone_into(word)).is_some();
            }
            _ => return false,
        }
        true
    }
}

/// Whether what the session is to get is known to the last one, whatever else happens.
fn is_exact(session: &Session) -> bool {
    session.opening.door != Door::Plain
        && session.opening.echo == Echo::On
        && session.head().is_some_and(|(_, status, position, _)| status < 300 && position.is_some())
}

fn pick<'a>(
    record: &'a mut Record,
    random: &mut Rng,
    is_it: impl Fn(&Session) -> bool,
) -> Option<&'a mut Session> {
    let found: Vec<usize> = (0..record.seen.sessions.len())
        .filter(|index| is_it(&record.seen.sessions[*index]))
        .collect();
    let index = *found.get(random.usize(..found.len().max(1)))?;
    Some(&mut record.seen.sessions[index])
}

fn plant_payload(session: &mut Session, payloads: &[Option<String>]) -> bool {
    let Some(foreign) = &payloads[session.opening.topic] else { return false };
    let place = session.events.iter_mut().find_map(|(_, event)| match event {
        Event::Publication { payload, .. } => Some(payload),
        _ => None,
    });
    place.map(|payload| *payload = foreign.clone().into_bytes()).is_some()
}

fn plant_recovered(record: &mut Record) -> bool {
    let session =
        record.seen.sessions.iter_mut().find(|session| {
            matches!(session.asked, Asked::Since { .. }) && session.head().is_some()
        });
    let events = session.into_iter().flat_map(|session| &mut session.events);
    let mut has_planted = false;
    for (_, event) in events {
        if let Event::Head { recovered: Some(recovered), .. }
        | Event::Subscribed { recovered: Some(recovered), .. } = event
        {
            *recovered = !*recovered;
            has_planted = true;
        }
    }
    has_planted
}

fn plant_key(record: &mut Record) -> bool {
    let post = record.posts.iter_mut().find(|post| post.key.is_some());
    let Some((_, answer)) = post.and_then(|post| post.answer.as_mut()) else { return false };
    let Some(body) = answer.body.as_object_mut().filter(|_| answer.status == 200) else {
        return false;
    };
    if body.remove("duplicate").is_none() {
        body.insert("duplicate".to_owned(), true.into());
    }
    true
}

fn plant_hole(record: &mut Record) -> bool {
    let answers = record.seen.pages.iter_mut().filter_map(|page| page.answer.as_mut());
    let mut pages =
        answers.filter_map(|(_, answer)| answer.body.get_mut("publications")?.as_array_mut());
    let page = pages.find(|publications| publications.len() > 2);
    page.map(|publications| publications.remove(1)).is_some()
}
