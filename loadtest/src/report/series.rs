//! A run over time: what each interval of the measured window delivered, and what that cost.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::watch::Look;
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
    /// Open connections at its end.
    #[serde(default)]
    pub(crate) connections: usize,
    /// 1 = one whole core. The kernel counts in steps of 10 ms.
    pub(crate) server_busy: Option<f64>,
    pub(crate) server_rss_bytes: Option<u64>,
}

impl Sample {
    /// The same in a longer run, whose window began `seconds` earlier.
    pub(crate) fn later(self, seconds: f64) -> Self {
        Self { seconds: self.seconds + seconds, ..self }
    }
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
    pub(crate) look: Look<'a>,
    pub(crate) server: Option<Usage>,
}

impl Recorder {
    /// Begins at `books`, for a window of `duration` if that is known.
    pub(crate) fn new(books: Books<'_>, duration: Option<Duration>) -> Self {
        let (tick, begun) = (nanos(TICK), books.look.time);
        let ticks = duration.map_or(1, |duration| nanos(duration).div_ceil(tick * SAMPLES_MAX));
        let period = tick * ticks.max(1);
        Self {
            begun,
            until: duration.map_or(u64::MAX, |duration| begun + nanos(duration)),
            period,
            next: begun + period,
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
        let Books { look, server } = books;
        let seconds = float(look.time - self.last.time) / 1e9;
        let mut latency = look.latency.clone();
        // The earlier state of one histogram can always be subtracted from the later one.
        latency.subtract(&self.last.latency).expect("a later state of the same histogram");
        let used = server.zip(self.last.server);
        self.samples.push(Sample {
            seconds: float(look.time - self.begun) / 1e9,
            deliveries_per_second: per(float(look.received - self.last.received), seconds),
            p99_ms: (!latency.is_empty()).then(|| float(latency.value_at_quantile(0.99)) / 1e6),
            connections: look.connected,
            server_busy: used.map(|(now, then)| per((now - then).cpu.as_secs_f64(), seconds)),
            server_rss_bytes: server.map(|usage| usage.rss_bytes),
        });
        if self.samples.len() as u64 > 2 * SAMPLES_MAX {
            self.join();
        }
        self.skip(books);
    }

    /// Leaves out what has happened since the last interval.
    pub(crate) fn skip(&mut self, books: Books<'_>) {
        let time = books.look.time;
        self.next = time + self.period - (time - self.begun) % self.period;
        self.last = Mark::of(books);
    }

    /// Ends the last interval, and the window.
    pub(crate) fn finish(mut self, books: Books<'_>) -> Vec<Sample> {
        self.sample(books);
        self.samples
    }

    /// Ends the window with the last interval.
    pub(crate) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }

    /// A window longer than was known gets intervals twice as long.
    fn join(&mut self) {
        self.period *= 2;
        let mut begun = 0.0;
        let join = |pair: &[Sample]| {
            let [first, second] = pair else { return pair[0] };
            let parts = [first.seconds - begun, second.seconds - first.seconds];
            begun = second.seconds;
            let mean = |a: f64, b: f64| per(a * parts[0] + b * parts[1], parts[0] + parts[1]);
            Sample {
                deliveries_per_second: mean(
                    first.deliveries_per_second,
                    second.deliveries_per_second,
                ),
                // No better than the worse of the two.
                p99_ms: first.p99_ms.into_iter().chain(second.p99_ms).reduce(f64::max),
                server_busy: first.server_busy.zip(second.server_busy).map(|(a, b)| mean(a, b)),
                ..*second
            }
        };
        self.samples = self.samples.chunks(2).map(join).collect();
    }
}

impl Mark {
    fn of(Books { look, server }: Books<'_>) -> Self {
        Self { time: look.time, received: look.received, latency: look.latency.clone(), server }
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
        let look = Look { time, connected: 9, received, latency, errors: 0 };
        Books { look, server: Some(server) }
    }

    #[test]
    fn each_interval_has_its_own_figures() {
        let mut latency = histogram();
        let mut recorder =
            Recorder::new(books(1_000 * MS, 7, &latency), Some(Duration::from_millis(750)));
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
            let recorder = Recorder::new(books(0, 0, &latency), Some(Duration::from_secs(seconds)));
            assert_eq!(recorder.period, period * MS, "{seconds} s");
        }
    }

    #[test]
    fn a_window_of_unknown_length_keeps_its_figures_in_longer_intervals() {
        let mut latency = histogram();
        let mut recorder = Recorder::new(books(0, 0, &latency), None);
        let (mut time, mut received) = (0, 0);
        for index in 0..1_000 {
            while !recorder.is_due(time) {
                time += 250 * MS;
                received += 10 * (index % 7);
            }
            latency.record(MS).expect("in bounds");
            recorder.sample(books(time, received, &latency));
        }
        let (seconds, samples) =
            (float(time) / 1e9, recorder.finish(books(time, received, &latency)));
        assert!((240..=482).contains(&samples.len()), "{}", samples.len());
        let mut begun = 0.0;
        let sum: f64 = samples
            .iter()
            .map(|sample| {
                let share = sample.deliveries_per_second * (sample.seconds - begun);
                begun = sample.seconds;
                share
            })
            .sum();
        assert!((sum - float(received)).abs() < 0.5, "{sum} of {received}");
        assert!((begun - seconds).abs() < 1e-6);
        let whole = &samples[..samples.len() - 1];
        assert!(whole.iter().all(|sample| sample.server_busy == Some(0.5)));
        assert!(whole.iter().all(|sample| sample.p99_ms.is_some_and(|p99| p99 < 1.01)));
    }

    #[test]
    fn what_is_skipped_is_in_no_interval() {
        let mut latency = histogram();
        let mut recorder = Recorder::new(books(0, 0, &latency), None);
        latency.record(80 * MS).expect("in bounds");
        recorder.sample(books(250 * MS, 10, &latency));
        latency.reset();
        recorder.skip(books(2_000 * MS, 500, &latency));
        latency.record(2 * MS).expect("in bounds");
        let samples = recorder.finish(books(2_250 * MS, 520, &latency));
        assert_eq!(samples.len(), 2);
        assert!((samples[1].deliveries_per_second - 80.0).abs() < 1e-9, "{samples:?}");
        assert_eq!(samples[1].p99_ms.map(f64::round), Some(2.0));
    }
}
