//! Where a reader of several topics is in each of them, and the ids that tell it.
//!
//! The ids are of one connection, so they are made when it takes its events, not when these are
//! fanned out: what waits is shared, and what is dropped needs no thought, since the next id says
//! how far the reader really got.

use std::sync::Arc;

use crate::hub::{Joined, Position};
use crate::metrics::Memory;
use crate::outbox::{Outbox, Piece};
use crate::protocol::sse;

/// Bytes of events that get their ids at a time; a longer one gets its alone.
const PIECE_LEN_MAX: usize = 16 * 1024;

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

    /// Takes the next events out, each behind the id that its reader is at when it has it.
    pub(super) fn pop(&mut self, outbox: &mut Outbox, memory: &Arc<Memory>) -> Option<Piece> {
        outbox.pop_rewritten(PIECE_LEN_MAX, memory, |out, topic, (offset, event)| {
            self.advance(topic, offset);
            sse::push_id(out, &self.positions);
            out.extend_from_slice(event);
        })
    }

    fn advance(&mut self, topic: u32, offset: u64) {
        let place = self.topics.iter().position(|its| *its == topic);
        if let Some(Some(position)) = place.and_then(|place| self.positions.get_mut(place)) {
            position.offset = offset;
        }
    }
}
