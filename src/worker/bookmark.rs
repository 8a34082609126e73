//! Where a reader of several topics is in each of them, and the ids that tell it.
//!
//! The ids are of one connection, so they are made when it takes its events, not when these are
//! fanned out: what waits is shared, and what is dropped needs no thought, since the next id says
//! how far the reader really got.

use crate::hub::{Joined, Position};
use crate::outbox::Slice;
use crate::protocol::sse;

/// Positions of a reader, in the order in which it asked for its topics.
#[derive(Debug)]
pub struct Bookmark {
    /// The worker's numbers for the topics.
    topics: Box<[u32]>,
    positions: Box<[Option<Position>]>,
}

impl Bookmark {
    /// That of a reader whose subscriptions begin so.
    pub fn new(joined: &[Joined]) -> Self {
        Self {
            topics: joined.iter().map(|joined| joined.local).collect(),
            positions: joined.iter().map(|joined| joined.position).collect(),
        }
    }

    /// The next events, each behind the id that its reader is at when it has it.
    pub(super) fn advance(&mut self, events: &Slice) -> Vec<u8> {
        let place = self.topics.iter().position(|its| *its == events.topic());
        let mut out = Vec::new();
        for (offset, event) in events.publications() {
            if let Some(Some(position)) = place.and_then(|place| self.positions.get_mut(place)) {
                position.offset = offset;
            }
            sse::push_id(&mut out, &self.positions);
            out.extend_from_slice(event);
        }
        out
    }
}
