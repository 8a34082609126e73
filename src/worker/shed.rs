//! Short of memory: the sessions that hold the most are closed.
//!
//! Only when asked (`hub`, when history is used up), and then at the price of one look at every
//! connection; on the way of a publication it costs nothing.

use super::Worker;
use super::connection::{Connection, Phase};
use crate::metrics::{MemoryKind, Shed};
use crate::reason::CloseReason;

impl Worker {
    /// Whether sessions have been asked for since this worker last closed some.
    pub(super) fn is_asked_for_sessions(&self) -> bool {
        self.output.memory.asked_sessions().0 != self.shed_round
    }

    /// Closes those that hold what was asked or more, the largest first, until there is enough.
    pub(super) fn shed(&mut self) {
        let (round, floor) = self.output.memory.asked_sessions();
        if std::mem::replace(&mut self.shed_round, round) == round {
            return;
        }
        let held = self.connections.iter().map(|(index, one)| (held_len(one), index));
        let mut large: Vec<_> = held.filter(|(len, _)| *len >= floor.max(1)).collect();
        large.sort_unstable();
        while self.output.memory.rest() > 0
            && let Some((len, index)) = large.pop()
        {
            self.let_go(index, len);
        }
    }

    /// Drops the `len` bytes that a connection holds, but for a frame that is begun, and ends its session.
    fn let_go(&mut self, index: usize, len: usize) {
        let Self { connections, output, .. } = self;
        let connection = &mut connections[index];
        let reading = std::mem::take(&mut connection.reading);
        output.memory.release(MemoryKind::Reading, reading.held_len());
        let index = u32::try_from(index).expect("indices are u32");
        if output.cut(index, connection, CloseReason::MemoryLimit) {
            output.memory.count_shed(Shed::Sessions, 1, len);
        }
    }
}

/// Bytes that are only there for this connection, or that it keeps others from letting go.
fn held_len(connection: &Connection) -> usize {
    let waiting = connection.outbox.as_ref().map_or(0, |outbox| outbox.held_len());
    let reading = connection.reading.held_len();
    match connection.phase {
        Phase::Lingering => 0,
        Phase::Open | Phase::Closing | Phase::Cut | Phase::Leaving => waiting + reading,
    }
}
