//! Gives memory back to the system: after a storm of handshakes, and when it is short.
#![expect(unsafe_code, reason = "the allocator's own calls are not in the standard library")]

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::host;
use crate::metrics::{Charge, Memory, MemoryKind};

/// Requests for connections after which it is worth it.
const STORM_COUNT: u64 = 1000;

/// Time without a storm before memory is given back.
const CALM: Duration = Duration::from_secs(1);

/// Notices when a storm is over, and when memory was let go because it was short.
///
/// Each handshake needs some 20 KB for a moment. What stays between the small things that live on
/// is free, but glibc returns only the end of its heap by itself. Nor does one thread's heap use what
/// is free in another's: what was let go must leave it before the other grows.
#[derive(Debug)]
pub(super) struct Heap {
    /// Connections accepted when memory was given back last.
    settled: u64,
    /// Connections accepted at the last look, and when that was.
    seen: (u64, Instant),
    /// Bytes that had been let go when they were given back last.
    shed: u64,
    /// What the process may take before the rest is on the account.
    enough: u64,
    slack: Charge,
}

impl Heap {
    pub(super) fn new(now: Instant, memory: &Arc<Memory>) -> Self {
        let enough = host::memory().unwrap_or(u64::MAX) / 5 * 4;
        let slack = Charge::new(memory, MemoryKind::Slack, 0);
        Self { settled: 0, seen: (0, now), shed: 0, enough, slack }
    }

    /// Puts on the account what the process takes above four fifths of what there is: an allocator
    /// holds more than was asked of it, and how much depends on what came in which order. Looked at
    /// only when the account itself is half full.
    pub(super) fn look_at_resident(&mut self, memory: &Memory) {
        let is_half_full = memory.held_in_all() >= memory.limit() / 2;
        let taken = if is_half_full { host::resident().unwrap_or(0) } else { 0 };
        self.slack.set(usize::try_from(taken.saturating_sub(self.enough)).unwrap_or(usize::MAX));
    }

    /// Gives back what was let go because memory was short, once it is a sixteenth of the budget. At
    /// a millisecond per hundred megabytes that takes much less time than letting go of it.
    pub(super) fn look_at_shed(&mut self, memory: &Memory) {
        let shed = memory.shed_len();
        if shed - self.shed >= (memory.limit() / 16).max(1) {
            self.shed = shed;
            give_back();
        }
    }

    /// Looks, at most once per second, whether many connections came and now few do.
    pub(super) fn look(&mut self, accepted: u64, now: Instant) {
        let (before, at) = self.seen;
        if now.saturating_duration_since(at) < CALM {
            return;
        }
        self.seen = (accepted, now);
        let is_calm = accepted - before < STORM_COUNT / 10;
        if is_calm && accepted - self.settled >= STORM_COUNT {
            self.settled = accepted;
            give_back();
        }
    }
}

/// Blocks from this length on are mapped one by one, and leave when they are freed.
///
/// That is glibc's own beginning; but it raises the bound with the largest block that was freed, and
/// large blocks then leave holes among small ones.
#[cfg(target_env = "gnu")]
const MAPPED_LEN: libc::c_int = 128 * 1024;

/// Sets the allocator up; to be called once, before there are threads.
#[cfg(target_env = "gnu")]
pub(super) fn set_up() {
    // SAFETY: `mallopt` takes plain numbers, and no other thread allocates yet.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_LEN) };
}

#[cfg(not(target_env = "gnu"))]
pub(super) fn set_up() {}

/// Returns free pages inside the heap to the system.
#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: `malloc_trim` takes the allocator's own locks and touches free memory only.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}
