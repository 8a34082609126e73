//! `ramp`: the highest open-loop rate that the server keeps up with.
//!
//! Every step is a `fanout` run of its own, on fresh connections: what one step overloaded does
//! not burden the next.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;
use serde::Serialize;

use super::{Verdict, fanout};
use crate::{
    cli::{Fanout, Server, Shape, duration},
    clock::Clock,
    figure::{Table, float, grouped, per, rounded},
    report::{self, Origin, mebibytes, series::Sample},
};

/// The search ends when the highest rate that passed and the lowest that failed are so close.
const PRECISION_PERCENT: u64 = 4;
/// A step that fails is run again: one hiccup of the machine is not the server's limit.
const TRIES: usize = 3;
/// Less of the offered deliveries within the window means that the rate was not reached.
const REACHED_SHARE: f64 = 0.97;
const RATE_MAX: u64 = 10_000_000;

/// Options of `ramp`.
#[derive(Debug, Args)]
#[command(after_help = "\
Doubles the rate until a step fails, then halves the interval between the highest rate that \
passed and the lowest that failed until they are 4 % apart. A step fails when a publication is \
lost or a connection closed, when p99 is over the bound, or when less than 97 % of the offered \
deliveries come in time; a rate counts as failed after three failed steps. If the tester \
had no time left in the last failed step, the result says that the tester is the limit.")]
pub(crate) struct Options {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    shape: Shape,
    /// Latency that 99 % of the deliveries must keep, from the time their publication was due
    #[arg(long, default_value = "50ms", value_parser = duration)]
    p99: Duration,
    /// How long to measure each rate
    #[arg(long, default_value = "2s", value_parser = duration)]
    step: Duration,
    /// The first rate, in publications per second over all topics
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    start: u64,
    /// No higher rate is tried
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    rate_max: u64,
}

/// Runs the scenario and reports it.
///
/// # Errors
/// It could not be run at all.
pub(crate) fn run(options: &Options) -> anyhow::Result<Verdict> {
    let origin = Origin::here();
    let mut search = Search::new(options.start, options.rate_max);
    let (clock, mut series) = (Clock::new(), Vec::new());
    let mut steps = Vec::new();
    while let Some(rate) = search.next() {
        let mut passed = false;
        for _ in 0..TRIES {
            let begun = clock.now();
            let (step, samples) = step(options, rate)?;
            let offset = float(begun) / 1e9;
            series.extend(samples.into_iter().map(|sample| sample.later(offset)));
            writeln!(io::stderr(), "{}", step.line())?;
            passed = step.failure.is_none();
            steps.push(step);
            if passed {
                break;
            }
        }
        search.note(rate, if passed { Outcome::Passed } else { Outcome::Failed });
    }
    let report = Report { series, ..Report::new(options, origin, &search, steps) };
    let kept = report::publish(&report.table(), &report, &options.server)?;
    let is_good = report.rate.is_some() && kept == report::Kept::All;
    Ok(if is_good { Verdict::Good } else { Verdict::Faulty })
}

fn step(options: &Options, rate: u64) -> anyhow::Result<(Step, Vec<Sample>)> {
    let run = Fanout {
        // What is still to come after that counts with the latency it has by then.
        drain: options.step,
        ..Fanout::open_loop(&options.server, &options.shape, rate, options.step)
    };
    let fanout = fanout::measured(&run)?;
    let offered = float(rate * u64::from(options.shape.subscribers));
    let failure = judge(&Found {
        faults: fanout.faults.total(),
        p99: fanout.latency_ms.p99,
        p99_max: options.p99.as_secs_f64() * 1e3,
        reached: per(fanout.deliveries_per_second, offered),
    });
    let step = Step {
        rate,
        deliveries_per_second: fanout.deliveries_per_second,
        p99_ms: fanout.latency_ms.p99,
        faults: fanout.faults.total(),
        failure,
        tester_full: fanout.tester_was_full(),
        disturbed: fanout.tester_was_disturbed() || fanout.server_was_disturbed(),
        server: fanout.server,
    };
    Ok((step, fanout.series))
}

/// What a step is judged by.
struct Found {
    faults: u64,
    p99: f64,
    p99_max: f64,
    /// Share of the offered deliveries that came within the window.
    reached: f64,
}

/// Why a rate is too high.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Failure {
    Fault,
    Latency,
    Rate,
}

impl Failure {
    fn text(self) -> &'static str {
        match self {
            Self::Fault => "a fault",
            Self::Latency => "p99 over the bound",
            Self::Rate => "the offered rate not reached",
        }
    }
}

fn judge(found: &Found) -> Option<Failure> {
    if found.faults > 0 {
        Some(Failure::Fault)
    } else if found.reached < REACHED_SHARE {
        Some(Failure::Rate)
    } else if found.p99 > found.p99_max {
        Some(Failure::Latency)
    } else {
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
}

/// Doubling (or halving, if the first rate fails), then bisection.
#[derive(Debug)]
struct Search {
    start: u64,
    rate_max: u64,
    /// The highest.
    passed: Option<u64>,
    /// The lowest.
    failed: Option<u64>,
}

impl Search {
    fn new(start: u64, rate_max: u64) -> Self {
        Self { start: start.min(rate_max), rate_max, passed: None, failed: None }
    }

    /// The rate to try next; `None` when the limit is known.
    fn next(&self) -> Option<u64> {
        match (self.passed, self.failed) {
            (None, None) => Some(self.start),
            (Some(passed), None) => {
                (passed < self.rate_max).then(|| (passed * 2).min(self.rate_max))
            }
            (None, Some(failed)) => (failed > 1).then_some(failed / 2),
            (Some(passed), Some(failed)) => {
                let near = (passed * PRECISION_PERCENT / 100).max(1);
                (failed - passed > near).then(|| u64::midpoint(passed, failed))
            }
        }
    }

    fn note(&mut self, rate: u64, outcome: Outcome) {
        match outcome {
            Outcome::Passed => self.passed = self.passed.max(Some(rate)),
            Outcome::Failed => {
                self.failed = Some(self.failed.map_or(rate, |failed| failed.min(rate)));
            }
        }
    }
}

/// One rate, tried once.
#[derive(Debug, Serialize)]
struct Step {
    rate: u64,
    deliveries_per_second: f64,
    p99_ms: f64,
    faults: u64,
    failure: Option<Failure>,
    tester_full: bool,
    /// Whether other processes ran on the tester's or the server's core.
    disturbed: bool,
    server: Option<report::ServerCost>,
}

impl Step {
    fn line(&self) -> String {
        let outcome = self.failure.map_or("passed".to_owned(), |failure| {
            let tester = if self.tester_full { ", and the tester had no time left" } else { "" };
            format!("failed: {}{tester}", failure.text())
        });
        format!(
            "{:>10}/s  {:>12} deliveries/s  p99 {:>9.3} ms  {outcome}",
            grouped(self.rate),
            rounded(self.deliveries_per_second),
            self.p99_ms
        )
    }
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    origin: Origin,
    shape: String,
    /// Publications per second; none if even the lowest failed.
    rate: Option<u64>,
    deliveries_per_second: f64,
    p99_ms: f64,
    server: Option<report::ServerCost>,
    /// What stopped the search; none if the highest rate allowed passed.
    limit: Option<Failure>,
    /// Whether the tester, and not the server, may be what was measured.
    tester_is_limit: bool,
    /// Whether other processes may have stopped the search.
    disturbed: bool,
    steps: Vec<Step>,
    /// All steps, one after the other.
    series: Vec<Sample>,
}

impl Report {
    fn new(options: &Options, origin: Origin, search: &Search, steps: Vec<Step>) -> Self {
        let best =
            steps.iter().rfind(|step| step.failure.is_none() && Some(step.rate) == search.passed);
        let stop =
            steps.iter().rfind(|step| step.failure.is_some() && Some(step.rate) == search.failed);
        let Shape { topics, subscribers, payload } = options.shape;
        Self {
            origin,
            shape: format!(
                "{topics} x {subscribers} subscribers x {payload} B, steps of {}, p99 within {}",
                humantime::format_duration(options.step),
                humantime::format_duration(options.p99),
            ),
            rate: search.passed,
            deliveries_per_second: best.map_or(0.0, |step| step.deliveries_per_second),
            p99_ms: best.map_or(0.0, |step| step.p99_ms),
            server: best.and_then(|step| step.server),
            limit: stop.and_then(|step| step.failure),
            tester_is_limit: stop.is_some_and(|step| step.tester_full),
            disturbed: stop.is_some_and(|step| step.disturbed),
            steps,
            series: Vec::new(),
        }
    }

    fn table(&self) -> Table {
        let mut table = report::begin(&self.origin, &self.shape);
        let rate =
            self.rate.map_or("none passed".to_owned(), |rate| format!("{}/s", grouped(rate)));
        table.row("highest rate", rate);
        table.row("deliveries/s", rounded(self.deliveries_per_second));
        table.row("latency p99", format!("{:.3} ms", self.p99_ms));
        if let Some(server) = &self.server {
            table.row("deliveries/server-CPU s", rounded(server.deliveries_per_cpu_second));
            table.row("server busy", format!("{:.1} % of a core", server.busy * 100.0));
            table.row("server RSS", mebibytes(server.rss_bytes));
        }
        table.row("stopped by", self.limit.map_or("--rate-max", Failure::text));
        if self.tester_is_limit {
            table.row(
                "note",
                "the tester is the limit: it had no time left, the server may do more",
            );
        }
        if self.disturbed {
            table.row(
                "note",
                "other processes took the cores of the step that failed: run it again",
            );
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate found and the steps it took, of a server that can do `capacity`.
    fn found(start: u64, rate_max: u64, capacity: u64) -> (Option<u64>, usize) {
        let mut search = Search::new(start, rate_max);
        let mut count = 0;
        while let Some(rate) = search.next() {
            search.note(rate, if rate <= capacity { Outcome::Passed } else { Outcome::Failed });
            count += 1;
            assert!(count < 60, "the search ends");
        }
        (search.passed, count)
    }

    #[test]
    fn the_limit_is_found_within_the_precision_from_below() {
        for capacity in [1, 2, 3, 99, 100, 101, 777, 12_345, 999_999] {
            let (rate, count) = found(100, 1_000_000, capacity);
            let rate = rate.expect("one passes");
            assert!(
                rate <= capacity && capacity - rate <= (rate / 25).max(1),
                "{capacity}: {rate}"
            );
            assert!(count <= 24, "{capacity}: {count} steps");
        }
    }

    #[test]
    fn the_search_keeps_to_its_bounds() {
        assert_eq!(found(100, 1_000, u64::MAX).0, Some(1_000));
        assert_eq!(found(5_000, 1_000, u64::MAX), (Some(1_000), 1));
        assert_eq!(found(100, 1_000, 0).0, None);
    }

    #[test]
    fn a_step_fails_for_each_of_its_reasons() {
        let good = || Found { faults: 0, p99: 50.0, p99_max: 50.0, reached: 0.97 };
        assert_eq!(judge(&good()), None);
        assert_eq!(judge(&Found { faults: 1, ..good() }), Some(Failure::Fault));
        assert_eq!(judge(&Found { p99: 50.1, ..good() }), Some(Failure::Latency));
        assert_eq!(judge(&Found { reached: 0.96, p99: 99.0, ..good() }), Some(Failure::Rate));
    }
}
