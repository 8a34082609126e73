//! Counters of the hot path: one block per worker, summed when somebody asks; the memory account.
//!
//! Each block has one writer, its worker's thread, so that counting costs no locked instruction.

mod counter;
mod memory;

pub use counter::{Counter, Counters, Histogram};
pub use memory::{Charge, Memory, MemoryKind, Shed};

use crate::id::Door;
use crate::limits::Delivery;
use crate::reason::{CloseReason, ProtocolFault, Refusal};

/// Upper bounds of `fanwire_fanout_seconds`, in seconds.
pub const FANOUT_BOUNDS: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
    5.0,
];

/// What one worker counts. Gauges go up and down, the rest only up.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each field is the metric of its name (README, \"Metrics\")")]
pub struct WorkerMetrics {
    pub connections: [Counter; Door::COUNT],
    pub connections_total: [Counter; Door::COUNT],
    pub refused: [Counter; Refusal::ALL.len()],
    pub closes: Counters<{ CloseReason::ALL.len() }>,
    pub subscriptions: Counter,
    pub publications: [Counter; Door::COUNT],
    pub publication_bytes: [Counter; Door::COUNT],
    pub deliveries: [Counter; Door::COUNT],
    pub delivery_bytes: [Counter; Door::COUNT],
    pub writes: Counter,
    pub outbox_bytes: Counter,
    pub overflows: [Counter; Delivery::ALL.len()],
    pub recovered: Counter,
    pub not_recovered: Counter,
    /// TLS handshakes that succeeded.
    pub tls_done: Counter,
    /// TLS handshakes that failed or took too long.
    pub tls_failed: Counter,
    pub protocol_errors: [Counter; ProtocolFault::ALL.len()],
    pub fanout: Histogram,
    /// Times the accept loop paused because the process had no descriptor left.
    pub accept_pauses: Counter,
}

impl WorkerMetrics {
    /// Counts a refused request.
    pub fn count_refused(&self, refusal: Refusal) {
        self.refused[refusal as usize].add(1);
    }

    /// Counts what a client was told that asked to recover; `None` = it did not ask.
    pub fn count_recovery(&self, recovered: Option<bool>) {
        match recovered {
            Some(true) => self.recovered.add(1),
            Some(false) => self.not_recovered.add(1),
            None => {}
        }
    }

    /// Counts an accepted publication of `len` payload bytes.
    pub fn count_publication(&self, door: Door, len: u64) {
        self.publications[door.index()].add(1);
        self.publication_bytes[door.index()].add(len);
    }
}
