//! The way out: asked once, seen by every worker, forced by a second signal.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

/// How long HTTP connections are kept to be told of the drain, when nobody else is left.
const REQUESTS_LEAVE: Duration = Duration::from_secs(1);

/// Whether and since when the server drains.
#[derive(Debug, Default)]
pub struct Drain(OnceLock<Window>);

/// The time over which sessions are asked to leave, evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    start: Instant,
    length: Duration,
}

impl Drain {
    /// Begins to drain over `length`. Only the first call counts.
    pub fn begin(&self, now: Instant, length: Duration) {
        self.0.get_or_init(|| Window { start: now, length });
    }

    /// The window, once the server drains.
    pub fn window(&self) -> Option<Window> {
        self.0.get().copied()
    }

    /// Whether the server drains.
    pub fn is_draining(&self) -> bool {
        self.0.get().is_some()
    }
}

impl Window {
    /// How many of `count` sessions may still be there at `now`.
    pub fn remaining(self, count: usize, now: Instant) -> usize {
        let elapsed = now.saturating_duration_since(self.start);
        let Some(left) = self.length.checked_sub(elapsed).filter(|left| !left.is_zero()) else {
            return 0;
        };
        let left = left.as_nanos() * count as u128;
        usize::try_from(left / self.length.as_nanos()).unwrap_or(count)
    }

    /// When the last session is asked to leave.
    pub fn end(self) -> Instant {
        self.start + self.length
    }

    /// When requests on open connections need no longer be told that we are leaving, if no session
    /// is left.
    pub fn end_of_requests(self) -> Instant {
        self.start + self.length.min(REQUESTS_LEAVE)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Drain;

    #[test]
    fn sessions_leave_evenly_over_the_window() {
        let (drain, start) = (Drain::default(), Instant::now());
        assert!(!drain.is_draining());
        drain.begin(start, Duration::from_secs(10));
        drain.begin(start, Duration::from_secs(99));
        let window = drain.window().expect("it drains");
        let at = |millis| window.remaining(1, start + Duration::from_millis(millis));
        assert_eq!(at(1), 0, "a single session need not wait");
        for (elapsed, expected) in [(0, 1000), (1, 900), (5, 500), (9, 100), (10, 0), (11, 0)] {
            assert_eq!(window.remaining(1000, start + Duration::from_secs(elapsed)), expected);
        }
        let none = Drain::default();
        none.begin(start, Duration::ZERO);
        assert_eq!(none.window().expect("it drains").remaining(5, start), 0);
    }
}
