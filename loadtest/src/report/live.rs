//! What a run tells while it runs, on standard error: a line that changes on a terminal, or a new
//! line now and then for a log.
//!
//! It never runs by itself: a run calls it from its own loop, a few times a second.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::series::TICK;
use crate::figure::{float, grouped, per, rounded};

/// Between two lines of a log.
const LINE_PERIOD: Duration = Duration::from_secs(5);

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Holding,
    Resting,
    WarmingUp,
    Measuring,
    Draining,
}

impl Phase {
    fn label(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Holding => "holding",
            Self::Resting => "resting",
            Self::WarmingUp => "warming up",
            Self::Measuring => "measuring",
            Self::Draining => "draining",
        }
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) phase: Phase,
    pub(crate) connected: usize,
    pub(crate) received: u64,
    /// Nanoseconds; 0 of nothing.
    pub(crate) p99: u64,
    pub(crate) errors: u64,
}

/// The line, cleared when this is dropped.
#[derive(Debug)]
pub(crate) struct Live {
    begun: Instant,
    shown: Instant,
    received: u64,
    period: Duration,
    /// On a terminal.
    bar: Option<ProgressBar>,
}

impl Live {
    pub(crate) fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{wide_msg}").expect("a good template");
            ProgressBar::new_spinner().with_style(style)
        });
        let period = if bar.is_some() { TICK } else { LINE_PERIOD };
        let now = Instant::now();
        Self { begun: now, shown: now, received: 0, period, bar }
    }

    /// Whether it is time to [`show`](Self::show) again.
    pub(crate) fn is_due(&self) -> bool {
        // The caller's ticks are as long as the period: one that comes early still counts.
        self.shown.elapsed() + TICK / 8 >= self.period
    }

    pub(crate) fn show(&mut self, progress: Progress) {
        let since = self.shown.elapsed();
        let received = progress.received - self.received;
        let text = line(progress, per(float(received), since.as_secs_f64()), self.begun.elapsed());
        (self.shown, self.received) = (Instant::now(), progress.received);
        match &self.bar {
            Some(bar) => bar.set_message(text),
            // Nobody to tell if this fails.
            None => drop(writeln!(io::stderr(), "{text}")),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(progress: Progress, rate: f64, elapsed: Duration) -> String {
    let Progress { phase, connected, p99, errors, .. } = progress;
    let connecting = phase == Phase::Connecting;
    let parts = [
        Some(format!("{:>3} s", elapsed.as_secs())),
        Some(phase.label().to_owned()),
        Some(format!("{} connected", grouped(connected as u64))),
        (!connecting).then(|| format!("{} deliveries/s", rounded(rate))),
        (p99 > 0).then(|| format!("p99 {:.1} ms", float(p99) / 1e6)),
        Some(format!("{} errors", grouped(errors))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_there_is_to_tell() {
        let progress =
            Progress { phase: Phase::Connecting, connected: 12, received: 0, p99: 0, errors: 0 };
        let text = line(progress, 0.0, Duration::from_millis(1_500));
        assert_eq!(text, "  1 s  connecting  12 connected  0 errors");
        let progress = Progress {
            phase: Phase::Measuring,
            connected: 1_001,
            p99: 12_345_678,
            errors: 2,
            ..progress
        };
        assert_eq!(
            line(progress, 123_456.7, Duration::from_secs(61)),
            " 61 s  measuring  1,001 connected  123,457 deliveries/s  p99 12.3 ms  2 errors"
        );
    }
}
