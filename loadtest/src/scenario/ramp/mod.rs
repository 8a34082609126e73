//! `ramp`: the highest open-loop rate that the server keeps up with.
//!
//! Every step is a `fanout` run of its own, on fresh connections: what one step overloaded does
//! not burden the next. A machine has moods, so nothing is decided by a single step that was
//! close, and the limit is looked for several times.

mod search;

use std::{
    io::{self, Write as _},
    time::Duration,
};

use clap::Args;
use serde::Serialize;

use self::search::{Search, Try, Vote, is_agreed, is_settled, middle};
use super::{Verdict, fanout};
use crate::{
    cli::{Fanout, Server, Shape, duration},
    clock::Clock,
    figure::{Table, float, grouped, per, rounded},
    report::{self, Origin, mebibytes, series::Sample},
};

/// Before a step is measured: time for the server to have its buffers.
const WARMUP: Duration = Duration::from_secs(1);
/// What a step begins with is no more than what this takes to come about.
const STALL_MAX: Duration = Duration::from_millis(100);
/// A step whose p99 is under this share of the bound has passed clearly.
const CLEAR_SHARE: f64 = 0.25;
/// Less of the offered deliveries within the window means that the rate was not reached.
const REACHED_SHARE: f64 = 0.97;
const RATE_MAX: u64 = 10_000_000;

/// Options of `ramp`.
#[derive(Debug, Args)]
#[command(after_help = "\
Takes four times the rate until one fails, then halves the interval between the highest rate that \
passed and the lowest that failed until they are 4 % apart. Then it looks for the limit again \
around there, until it was found --repeat times and most finds, the last of them too, are within \
5 % of their median (or three times as often, if they are not: that is told), and tells the median \
of them all. A step fails when a publication is lost or a connection closed, when p99 is over the \
bound, or when less than 97 % of the offered deliveries come in time. Two failed steps fail a rate, \
two passed ones pass it; one that keeps a quarter of the bound is enough. Each step begins as after \
a stall, with the publications of the bound's time at once (100 ms at most): a rate from which a \
server does not recover is none that it keeps up with. If the tester had no time left in the last \
failed step, the result says that the tester is the limit.")]
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
    /// How often the limit is looked for, at least
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=25))]
    repeat: u32,
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
    let mut ramp = Ramp { options, clock: Clock::new(), steps: Vec::new(), series: Vec::new() };
    let mut search = ramp.search(Search::new(options.start, options.rate_max))?;
    let mut rates: Vec<u64> = search.passed.into_iter().collect();
    while let Some(rate) = rates.last()
        && !is_settled(&rates, options.repeat as usize)
    {
        let again = ramp.search(Search::around(*rate, options.rate_max))?;
        let Some(rate) = again.passed else { break };
        rates.push(rate);
        search = again;
    }
    let report = Report::new(ramp, origin, &search, rates);
    let kept = report::publish(&report.table(), &report, &options.server)?;
    let is_good = report.rate.is_some() && kept == report::Kept::All;
    Ok(if is_good { Verdict::Good } else { Verdict::Faulty })
}

/// All steps so far.
struct Ramp<'a> {
    options: &'a Options,
    clock: Clock,
    steps: Vec<Step>,
    series: Vec<Sample>,
}

impl Ramp<'_> {
    /// Takes steps until `search` has found its limit.
    fn search(&mut self, mut search: Search) -> anyhow::Result<Search> {
        while let Some(rate) = search.next() {
            let mut vote = Vote::default();
            let outcome = loop {
                let tried = self.step(rate)?;
                if let Some(outcome) = vote.add(tried) {
                    break outcome;
                }
            };
            search.note(rate, outcome);
        }
        Ok(search)
    }

    fn step(&mut self, rate: u64) -> anyhow::Result<Try> {
        let begun = float(self.clock.now()) / 1e9;
        let (step, samples) = step(self.options, rate)?;
        writeln!(io::stderr(), "{}", step.line())?;
        self.series.extend(samples.into_iter().map(|sample| sample.later(begun)));
        let bound = self.options.p99.as_secs_f64() * 1e3;
        let tried = match step.failure {
            Some(_) if step.disturbed => Try::Disturbed,
            Some(_) => Try::Failed,
            None if step.p99_ms < bound * CLEAR_SHARE => Try::Clear,
            None => Try::Passed,
        };
        self.steps.push(step);
        Ok(tried)
    }
}

fn step(options: &Options, rate: u64) -> anyhow::Result<(Step, Vec<Sample>)> {
    let run = Fanout {
        warmup: WARMUP,
        stall: options.p99.min(STALL_MAX),
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
    /// Publications per second, the median of `rates`; none if even the lowest failed.
    rate: Option<u64>,
    /// What each search found.
    rates: Vec<u64>,
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
    /// `search` is the last one.
    fn new(ramp: Ramp<'_>, origin: Origin, search: &Search, rates: Vec<u64>) -> Self {
        let Ramp { options, steps, series, .. } = ramp;
        let rate = middle(&rates);
        let best = steps.iter().rfind(|step| step.failure.is_none() && Some(step.rate) == rate);
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
            rate,
            rates,
            deliveries_per_second: best.map_or(0.0, |step| step.deliveries_per_second),
            p99_ms: best.map_or(0.0, |step| step.p99_ms),
            server: best.and_then(|step| step.server),
            limit: stop.and_then(|step| step.failure),
            tester_is_limit: stop.is_some_and(|step| step.tester_full),
            disturbed: stop.is_some_and(|step| step.disturbed),
            steps,
            series,
        }
    }

    fn table(&self) -> Table {
        let mut table = report::begin(&self.origin, &self.shape);
        let rate =
            self.rate.map_or("none passed".to_owned(), |rate| format!("{}/s", grouped(rate)));
        table.row("highest rate", rate);
        let rates: Vec<String> = self.rates.iter().copied().map(grouped).collect();
        table.row("found", rates.join(", "));
        table.row("deliveries/s", rounded(self.deliveries_per_second));
        table.row("latency p99", format!("{:.3} ms", self.p99_ms));
        if let Some(server) = &self.server {
            table.row("deliveries/server-CPU s", rounded(server.deliveries_per_cpu_second));
            table.row("server busy", format!("{:.1} % of a core", server.busy * 100.0));
            table.row("server RSS", mebibytes(server.rss_bytes));
        }
        table.row("stopped by", self.limit.map_or("--rate-max", Failure::text));
        if !self.rates.is_empty() && !is_agreed(&self.rates) {
            let note =
                "the limit moved while it was looked for: the machine's speed, or the server's";
            table.row("note", note);
        }
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

    #[test]
    fn a_step_fails_for_each_of_its_reasons() {
        let good = || Found { faults: 0, p99: 50.0, p99_max: 50.0, reached: 0.97 };
        assert_eq!(judge(&good()), None);
        assert_eq!(judge(&Found { faults: 1, ..good() }), Some(Failure::Fault));
        assert_eq!(judge(&Found { p99: 50.1, ..good() }), Some(Failure::Latency));
        assert_eq!(judge(&Found { reached: 0.96, p99: 99.0, ..good() }), Some(Failure::Rate));
    }

    #[test]
    fn finds_that_do_not_agree_are_told() {
        let told = |rates: &[u64]| {
            let report = Report {
                origin: Origin::here(),
                shape: String::new(),
                rate: middle(rates),
                rates: rates.to_vec(),
                deliveries_per_second: 0.0,
                p99_ms: 0.0,
                server: None,
                limit: None,
                tester_is_limit: false,
                disturbed: false,
                steps: Vec::new(),
                series: Vec::new(),
            };
            report.table().text().contains("the limit moved")
        };
        assert!(told(&[76_000, 76_000, 54_532]) && told(&[100, 120, 140]));
        assert!(!told(&[53_200, 51_365, 53_419]) && !told(&[]));
    }
}
