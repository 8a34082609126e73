//! Gives memory back to the system after a storm of handshakes.
#![expect(unsafe_code, reason = "the allocator's own call is not in the standard library")]

use std::time::Duration;

use tokio::time::Instant;

/// Requests for connections after which it is worth it.
const STORM_COUNT: u64 = 1000;

/// Time without a storm before memory is given back.
const CALM: Duration = Duration::from_secs(1);

/// Notices when a storm is over.
///
/// Each handshake needs some 20 KB for a moment. What stays between the small things that live on
/// is free, but glibc returns only the end of its heap by itself.
#[derive(Debug)]
pub(super) struct Heap {
    /// Connections accepted when memory was given back last.
    settled: u64,
    /// Connections accepted at the last look, and when that was.
    seen: (u64, Instant),
}

impl Heap {
    pub(super) fn new(now: Instant) -> Self {
        Self { settled: 0, seen: (0, now) }
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

/// Returns free pages inside the heap to the system.
#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: `malloc_trim` takes the allocator's own locks and touches free memory only.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}
