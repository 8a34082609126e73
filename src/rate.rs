//! How often something may happen: a bucket that refills over time.

use tokio::time::Instant;

/// The allowance of one connection. It holds one second's worth.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket(Option<(Instant, f64)>);

impl Bucket {
    /// Takes one out, of `rate` per second (0 = no limit). Returns whether there was one.
    #[must_use]
    pub fn take(&mut self, rate: u32, now: Instant) -> bool {
        if rate == 0 {
            return true;
        }
        let full = f64::from(rate);
        let (at, left) = self.0.unwrap_or((now, full));
        let refilled = left + now.saturating_duration_since(at).as_secs_f64() * full;
        let left = refilled.min(full);
        // Whoever asks too often still gets what comes in meanwhile.
        let is_there = left >= 1.0;
        self.0 = Some((now, if is_there { left - 1.0 } else { left }));
        is_there
    }

    /// Whether nothing is missing from it, so that it is as good as new.
    pub fn is_full(&self, rate: u32, now: Instant) -> bool {
        let full = f64::from(rate);
        self.0.is_none_or(|(at, left)| {
            left + now.saturating_duration_since(at).as_secs_f64() * full >= full
        })
    }

    /// Whether it was ever used.
    pub fn is_used(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Bucket;

    #[test]
    fn a_bucket_gives_a_burst_of_one_second_and_refills() {
        let (mut bucket, start) = (Bucket::default(), Instant::now());
        let mut take = |millis, count: usize| {
            let now = start + Duration::from_millis(millis);
            (0..count).filter(|_| bucket.take(10, now)).count()
        };
        assert_eq!(take(0, 20), 10);
        assert_eq!(take(1000, 20), 10);
        assert_eq!(take(1550, 20), 5);
        assert_eq!(take(99_000, 20), 10);
        let patient: usize = (0..100).map(|step| take(100_000 + 10 * step, 1)).sum();
        assert_eq!(patient, 19, "a burst, and one each tenth of a second, however often it asks");
        assert_eq!((0..99).filter(|_| Bucket::default().take(0, start)).count(), 99);
    }
}
