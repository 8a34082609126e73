//! Subscribers that read history on their own until they meet the top.
//!
//! History is their queue: nothing is pushed into an outbox but what the socket is about to take.

use std::rc::Rc;

use super::Worker;
use super::connection::{ConnectionKey, Phase, Transport};
use super::member::{Pick, Replay, Seat};
use super::output::Share;
use crate::hub::CatchUp;
use crate::limits::Delivery;
use crate::reason::CloseReason;

/// Sessions that are served in one turn, each once.
const REPLAYS_PER_TURN: usize = 64;

impl Worker {
    /// Serves those who catch up and are not waiting for their client.
    pub(super) fn catch_up(&mut self) {
        for _ in 0..self.catching.len().min(REPLAYS_PER_TURN) {
            let Some(key) = self.catching.pop_front() else { return };
            if self.catch_up_one(key) {
                self.catching.push_back(key);
            }
        }
    }

    /// Serves one session its next piece. Returns whether it can take another at once.
    fn catch_up_one(&mut self, key: ConnectionKey) -> bool {
        let Some(connection) = self.get(key) else { return false };
        let is_waiting = connection.outbox.is_some()
            || matches!(connection.transport, Transport::Pending)
            || !matches!(connection.phase, Phase::Open | Phase::Closing);
        let extra = connection.extra.as_ref();
        let Some(Replay { slot, next }) = extra.and_then(|extra| extra.replays.first().copied())
        else {
            return false;
        };
        if is_waiting {
            return false;
        }
        let member = *connection.members.at(slot);
        let topic = &mut self.topics[member.topic as usize];
        match topic.topic.catch_up(next, self.portions.replay_len) {
            CatchUp::Live => {
                let connection = &mut self.connections[key.index as usize];
                connection.extra().replays.remove(0);
                connection.shed_extra();
                topic.join(Seat { index: key.index, slot }, connection.members.at(slot), next);
                connection.is_catching_up()
            }
            CatchUp::Trimmed { oldest } => {
                if topic.topic.rule().delivery == Delivery::Reliable {
                    self.metrics.overflows[Delivery::Reliable as usize].add(1);
                    self.end(key, CloseReason::OutboxOverflow);
                    return false;
                }
                let Self { connections, output, .. } = self;
                let connection = &mut connections[key.index as usize];
                connection.extra().replays[0].next = oldest;
                output.metrics.overflows[topic.topic.rule().delivery as usize].add(1);
                output.tell_skipped(key.index, connection, member.variant, oldest - next);
                output.drain(key.index, connection);
                connection.outbox.is_none()
            }
            CatchUp::Behind(publications) => {
                let Self { connections, topics, output, variants, .. } = self;
                let (connection, topic) =
                    (&mut connections[key.index as usize], &topics[member.topic as usize].topic);
                let last = publications.last().map_or(next, |last| last.sequence);
                connection.extra().replays[0].next = last + 1;
                let own = Some(key.session(output.worker));
                let publications: Vec<_> = publications
                    .into_iter()
                    .filter(|one| member.pick == Pick::All || one.draft.session != own)
                    .collect();
                if publications.is_empty() {
                    return true;
                }
                let batch = output
                    .encoding(topic, member.topic, variants)
                    .batch(&publications, member.variant);
                let batch = Rc::new(batch);
                let share = Share::all(&batch, topic, member.variant);
                output.replay(key.index, connection, &share);
                connection.outbox.is_none()
            }
        }
    }
}
