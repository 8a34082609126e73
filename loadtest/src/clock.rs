//! The run's clock: nanoseconds since it was made, monotonic.

use std::time::{Duration, Instant};

/// Counts nanoseconds from its own beginning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    #[inline]
    pub(crate) fn now(self) -> u64 {
        nanos(self.0.elapsed())
    }
}

/// Whole nanoseconds; 584 years and more are all the same to a load test.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
