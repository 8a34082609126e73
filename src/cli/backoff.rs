//! When to try again: exponential, jittered, bounded.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use fastrand::Rng;

const DELAY_MIN: Duration = Duration::from_millis(250);

/// The longest delay of our own choice.
pub(super) const DELAY_MAX: Duration = Duration::from_secs(10);

/// The longest delay that a server can ask for.
const ASKED_MAX: Duration = Duration::from_mins(1);

/// A generator that no other process shares, unlike one seeded from the clock.
pub(super) fn random() -> Rng {
    Rng::with_seed(RandomState::new().hash_one(std::process::id()))
}

/// The delays before the next attempts.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    random: Rng,
}

impl Backoff {
    pub(super) fn new(random: Rng) -> Self {
        let next = DELAY_MIN;
        Self { next, random }
    }

    /// Begins again with the shortest delay.
    pub(super) fn reset(&mut self) {
        self.next = DELAY_MIN;
    }

    /// The next delay: half to all of the current step, after what the server asked for.
    pub(super) fn delay(&mut self, asked: Option<Duration>) -> Duration {
        let jittered = self.next.mul_f64(self.random.f64().midpoint(1.0));
        self.next = (self.next * 2).min(DELAY_MAX);
        asked.unwrap_or_default().min(ASKED_MAX) + jittered
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn delays_double_to_ten_seconds_with_jitter() {
        let mut backoff = Backoff::new(fastrand::Rng::with_seed(1));
        for step in [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            let delay = backoff.delay(None).as_millis();
            assert!((step / 2..=step).contains(&delay), "{delay} of {step}");
        }
        backoff.reset();
        assert!(backoff.delay(None) <= Duration::from_millis(250));
    }

    #[test]
    fn the_server_is_given_the_time_it_asks_for_within_reason() {
        let mut backoff = Backoff::new(fastrand::Rng::with_seed(1));
        let delay = backoff.delay(Some(Duration::from_secs(3)));
        assert!(delay > Duration::from_secs(3));
        let delay = backoff.delay(Some(Duration::from_hours(1)));
        assert!(delay < Duration::from_secs(61));
    }
}
