//! Sums over the workers, with the words that `/metrics` and `/stats` give them.

use super::State;
use crate::auth::FetchResult;
use crate::id::Door;
use crate::limits::Delivery;
use crate::metrics::{Counter, MemoryKind, Shed, WorkerMetrics};
use crate::reason::{CloseReason, ProtocolFault, Refusal};

/// A count under its word.
pub(super) type Count = (&'static str, u64);

impl State {
    /// Sums one counter.
    pub(super) fn total(&self, pick: impl Fn(&WorkerMetrics) -> &Counter) -> u64 {
        // A gauge may go up on one worker and down on another; only the wrapped sum is true.
        self.workers.iter().map(|worker| pick(worker).get()).fold(0, u64::wrapping_add)
    }

    pub(super) fn by_door(
        &self,
        pick: impl Fn(&WorkerMetrics) -> &[Counter; Door::COUNT],
    ) -> [Count; Door::COUNT] {
        Door::ALL.map(|door| (door.word(), self.total(|worker| &pick(worker)[door.index()])))
    }

    pub(super) fn refused(&self) -> [Count; Refusal::ALL.len()] {
        Refusal::ALL.map(|refusal| {
            let count = self.total(|worker| &worker.refused[refusal as usize]);
            (refusal.code(), count)
        })
    }

    /// By close code and reason.
    pub(super) fn closes(&self) -> [((&'static str, &'static str), u64); CloseReason::ALL.len()] {
        CloseReason::ALL.map(|close| {
            let count = self.total(|worker| &worker.closes[close.index()]);
            (close.labels(), count)
        })
    }

    pub(super) fn protocol_errors(&self) -> [Count; ProtocolFault::ALL.len()] {
        ProtocolFault::ALL.map(|fault| {
            let count = self.total(|worker| &worker.protocol_errors[fault.index()]);
            (fault.word(), count)
        })
    }

    pub(super) fn overflows(&self) -> [Count; Delivery::ALL.len()] {
        Delivery::ALL.map(|delivery| {
            let count = self.total(|worker| &worker.overflows[delivery as usize]);
            (delivery.word(), count)
        })
    }

    /// Fetches of the key set, zeros where there is none.
    pub(super) fn key_fetches(&self) -> [Count; FetchResult::ALL.len()] {
        FetchResult::ALL.map(|result| {
            let count = self.keys.as_ref().map_or(0, |keys| keys.result_count(result));
            (result.word(), count)
        })
    }

    pub(super) fn key_count(&self) -> usize {
        self.keys.as_ref().map_or(0, |keys| keys.count())
    }

    pub(super) fn recoveries(&self) -> [Count; 2] {
        [
            ("recovered", self.total(|worker| &worker.recovered)),
            ("not_recovered", self.total(|worker| &worker.not_recovered)),
        ]
    }

    pub(super) fn tls_handshakes(&self) -> [Count; 2] {
        [
            ("ok", self.total(|worker| &worker.tls_done)),
            ("failed", self.total(|worker| &worker.tls_failed)),
        ]
    }

    pub(super) fn memory_shed(&self) -> [Count; Shed::ALL.len()] {
        Shed::ALL.map(|what| (what.word(), self.memory.shed(what)))
    }

    pub(super) fn memory_held(&self) -> [Count; MemoryKind::ALL.len()] {
        MemoryKind::ALL.map(|kind| (kind.word(), self.memory.held(kind)))
    }
}
