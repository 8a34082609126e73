//! The clock that everything reads: monotonic for deadlines, wall time for what clients see.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// One reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// Milliseconds since 1970, shown to clients.
    pub wall: u64,
    /// The monotonic clock, for deadlines and durations.
    pub instant: Instant,
}

impl Stamp {
    /// Reads both clocks.
    pub fn now() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let wall = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Self { wall, instant: Instant::now() }
    }
}
