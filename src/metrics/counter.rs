//! A counter and a histogram with one writer and many readers.

use std::ops::Index;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::FANOUT_BOUNDS;

/// A number that one thread changes and any thread reads; also a gauge.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only the owning thread may call it.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Takes `count` away. Only the owning thread may call it.
    pub fn sub(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(count), Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters side by side, for more kinds than the 32 up to which plain arrays have a default.
#[derive(Debug)]
pub struct Counters<const COUNT: usize>([Counter; COUNT]);

impl<const COUNT: usize> Default for Counters<COUNT> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const COUNT: usize> Index<usize> for Counters<COUNT> {
    type Output = Counter;

    fn index(&self, index: usize) -> &Counter {
        &self.0[index]
    }
}

/// Durations counted by upper bound ([`FANOUT_BOUNDS`]), with their sum.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; FANOUT_BOUNDS.len() + 1],
    nanos: Counter,
}

impl Histogram {
    /// Counts `duration` `count` times. Only the owning thread may call it.
    pub fn observe(&self, duration: Duration, count: u64) {
        let seconds = duration.as_secs_f64();
        let bucket = FANOUT_BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].add(count);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.add(nanos.saturating_mul(count));
    }

    /// Observations per bucket, not cumulated; the last is over every bound.
    pub fn buckets(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().map(Counter::get)
    }

    /// Sum of all observations.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos.get())
    }
}
