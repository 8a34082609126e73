//! A run over time: what each interval of the measured window delivered, and what that cost.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    clock::nanos,
    figure::{float, per},
    process::Usage,
};

/// The shortest interval; the runs look at their progress as often.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// Longer runs have longer intervals, of whole ticks.
const SAMPLES_MAX: u64 = 240;

/// One interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Its end, in seconds from the beginning of the measured window.
    pub(crate) seconds: f64,
    pub(crate) deliveries_per_second: f64,
    /// Of what arrived in it; `None` if that was nothing.
    pub(crate) p99_ms: Option<f64>,
    /// 1 = one whole core. The kernel counts in steps of 10 ms.
    pub(crate) server_busy: Option<f64>,
    pub(crate) server_rss_bytes: Option<u64>,
}

/// Makes the samples of one measured window. All times are the run's, in nanoseconds.
#[derive(Debug)]
pub(crate) struct Recorder {
    begun: u64,
    until: u64,
    period: u64,
    next: u64,
    last: Mark,
    samples: Vec<Sample>,
}

/// The books at the end of an interval.
#[derive(Debug)]
struct Mark {
    time: u64,
    received: u64,
    latency: Histogram<u64>,
    server: Option<Usage>,
}

/// The books as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Books<'a> {
    pub(crate) time: u64,
    pub(crate) received: u64,
    pub(crate) latency: &'a Histogram<u64>,
    pub(crate) server: Option<Usage>,
}

impl Recorder {
    /// Begins at `books`, for a window of `duration`.
    pub(crate) fn new(books: Books<'_>, duration: Duration) -> Self {
        let tick = nanos(TICK);
        let period = tick * nanos(duration).div_ceil(tick * SAMPLES_MAX).max(1);
        Self {
            begun: books.time,
            until: books.time + nanos(duration),
            period,
            next: books.time + period,
            last: Mark::of(books),
            samples: Vec::new(),
        }
    }

    /// Whether an interval is over at `now`; what would remain as a splinter joins the last one.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        now >= self.next && self.until.saturating_sub(now) >= self.period / 2
    }

    /// Ends an interval at `books`.
    pub(crate) fn sample(&mut self, books: Books<'_>) {
        let seconds = float(books.time - self.last.time) / 1e9;
        let mut latency = books.latency.clone();
        // The earlier state of one histogram can always be subtracted from the later one.
        latency.subtract(&self.last.latency).expect("a later state of the same histogram");
        let server = books.server.zip(self.last.server);
        self.samples.push(Sample {
            seconds: float(books.time - self.begun) / 1e9,
            deliveries_per_second: per(float(books.received - self.last.received), seconds),
            p99_ms: (!latency.is_empty()).then(|| float(latency.value_at_quantile(0.99)) / 1e6),
            server_busy: server.map(|(now, then)| per((now - then).cpu.as_secs_f64(), seconds)),
            server_rss_bytes: books.server.map(|usage| usage.rss_bytes),
        });
        self.next = books.time + self.period - (books.time - self.begun) % self.period;
        self.last = Mark::of(books);
    }

    /// Ends the last interval, and the window.
    pub(crate) fn finish(mut self, books: Books<'_>) -> Vec<Sample> {
        self.sample(books);
        self.samples
    }
}

impl Mark {
    fn of(Books { time, received, latency, server }: Books<'_>) -> Self {
        Self { time, received, latency: latency.clone(), server }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn histogram() -> Histogram<u64> {
        Histogram::new_with_bounds(1_000, 1_000_000_000, 3).expect("good bounds")
    }

    fn books(time: u64, received: u64, latency: &Histogram<u64>) -> Books<'_> {
        let server = Usage { cpu: Duration::from_nanos(time / 2), ..Usage::default() };
        Books { time, received, latency, server: Some(server) }
    }

    #[test]
    fn each_interval_has_its_own_figures() {
        let mut latency = histogram();
        let mut recorder =
            Recorder::new(books(1_000 * MS, 7, &latency), Duration::from_millis(750));
        latency.record_n(2 * MS, 100).expect("in bounds");
        assert!(!recorder.is_due(1_249 * MS));
        assert!(recorder.is_due(1_250 * MS));
        recorder.sample(books(1_250 * MS, 107, &latency));
        latency.record_n(80 * MS, 50).expect("in bounds");
        recorder.sample(books(1_500 * MS, 157, &latency));
        assert!(!recorder.is_due(1_740 * MS), "a splinter would remain");
        let samples = recorder.finish(books(1_750 * MS, 157, &latency));
        let rates: Vec<f64> = samples.iter().map(|sample| sample.deliveries_per_second).collect();
        assert_eq!(rates, [400.0, 200.0, 0.0]);
        let p99: Vec<_> = samples.iter().map(|s| s.p99_ms.map(f64::round)).collect();
        assert_eq!(p99, [Some(2.0), Some(80.0), None]);
        assert!(samples.iter().all(|sample| sample.server_busy == Some(0.5)), "{samples:?}");
        assert!((samples[2].seconds - 0.75).abs() < 1e-9);
    }

    #[test]
    fn long_runs_have_longer_intervals() {
        let latency = histogram();
        for (seconds, period) in [(1, 250), (60, 250), (61, 500), (3_600, 15_000)] {
            let recorder = Recorder::new(books(0, 0, &latency), Duration::from_secs(seconds));
            assert_eq!(recorder.period, period * MS, "{seconds} s");
        }
    }
}
