//! `slow`: what readers that cannot keep up cost those that can, and what the server does to them.
//!
//! The fast ones are a `fanout` run whose losses are faults. The slow ones stand beside it, with
//! sockets of their own, and whatever becomes of them is a finding.

mod laggard;

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::{
    Verdict, conclude,
    fanout::{Edge, Part, Run},
    topic_name,
};
use crate::{
    cli::{Fanout, Server, Shape, duration, payload_len},
    clock::{Clock, nanos},
    door::Plain,
    fault::Faults,
    figure::{Table, float, grouped, median, per, rounded},
    load::pool::Pool,
    report::{self, Latency, Origin, mebibytes, series::Sample},
};
use laggard::{Ending, Laggards, Reading};

/// How long the fast ones are served between two looks at the slow ones.
const SLICE: Duration = Duration::from_millis(100);
/// A percentage is kept in hundredths.
const WHOLE: u64 = 10_000;

/// Options of `slow`.
#[derive(Debug, Args)]
#[command(after_help = "\
Runs two phases of --duration: one without slow subscribers, one with them. A share of the \
subscribers is slow in the second phase: reads --slow-rate, or nothing at all with --stopped. \
What the server does to them is reported (closed or not, after how long, with which code) and is \
no fault; whatever the others lose is one. The slow ones read all that is left at the end, to \
learn the code. `p99 delta` is the second phase's p99 of the fast ones minus the first's.")]
pub(crate) struct Options {
    #[command(flatten)]
    server: Server,
    /// Topics, each with a publisher of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    topics: u32,
    /// Subscribers of each topic
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    subscribers: u32,
    /// Bytes of each payload; large ones fill the server's queues for the slow soon
    #[arg(long, default_value_t = 2_048, value_parser = payload_len)]
    payload: usize,
    /// Publications per second over all topics
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// How long each of the two phases is
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Share of the subscribers that is slow in the second phase; at least one is
    #[arg(long, default_value = "1%", value_parser = share)]
    slow: u64,
    /// What each slow one reads per second
    #[arg(long, default_value = "1KB/s", value_parser = byte_rate)]
    slow_rate: u64,
    /// The slow ones read nothing at all
    #[arg(long, conflicts_with = "slow_rate")]
    stopped: bool,
}

impl Options {
    fn shape(&self) -> Shape {
        Shape { topics: self.topics, subscribers: self.subscribers, payload: self.payload }
    }

    fn slow_count(&self) -> u32 {
        let subscribers = u64::from(self.topics) * u64::from(self.subscribers);
        u32::try_from((subscribers * self.slow / WHOLE).max(1)).unwrap_or(u32::MAX)
    }

    fn reading(&self) -> Reading {
        if self.stopped { Reading::Stopped } else { Reading::PerSecond(self.slow_rate) }
    }
}

/// `1%` or `0.5%`, in hundredths of a percent.
fn share(text: &str) -> Result<u64, String> {
    let bad = || "a percentage over 0 such as 1% or 0.5%, 100% at most".to_owned();
    let (whole, fraction) = {
        let number = text.strip_suffix('%').ok_or_else(bad)?;
        number.split_once('.').unwrap_or((number, ""))
    };
    if fraction.len() > 2 {
        return Err(bad());
    }
    match format!("{whole}{fraction:0<2}").parse() {
        Ok(share @ 1..=WHOLE) => Ok(share),
        _ => Err(bad()),
    }
}

/// `500B/s`, `1KB/s` or `2MB/s`, in bytes per second.
fn byte_rate(text: &str) -> Result<u64, String> {
    let bad = || "a rate such as 500B/s, 1KB/s or 2MB/s".to_owned();
    let number = text.strip_suffix("B/s").ok_or_else(bad)?;
    let (number, unit) = match number.as_bytes().last() {
        Some(b'K') => (&number[..number.len() - 1], 1_000),
        Some(b'M') => (&number[..number.len() - 1], 1_000_000),
        _ => (number, 1),
    };
    match number.parse::<u32>() {
        Ok(count @ 1..=1_000_000) => Ok(u64::from(count) * unit),
        _ => Err(bad()),
    }
}

/// Runs the scenario and reports it.
///
/// # Errors
/// It could not be run at all.
pub(crate) fn run(options: &Options) -> anyhow::Result<Verdict> {
    options.server.require_plain()?;
    let origin = Origin::here();
    let target = options.server.target()?;
    if target.security.is_some() {
        bail!("the slow ones of this scenario speak no TLS: measure http:// or ws://");
    }
    let fanout =
        Fanout::open_loop(&options.server, &options.shape(), options.rate, options.duration);
    let clock = Clock::new();
    let count = fanout.connection_count()? + options.slow_count() as usize;
    let mut run = Run::new(Pool::new(Plain, target.clone(), clock, count)?, clock, &fanout)?;
    let without = phase(&mut run, &fanout, None)?;
    let topics = options.topics;
    let names = (0..options.slow_count()).map(|index| topic_name(index % topics));
    let mut laggards = Laggards::open(&target, names, options.reading())?;
    let with = phase(&mut run, &fanout, Some(&mut laggards))?;
    let ended = laggards.end();
    run.finish_phases();
    let mut report = Report::new(options, origin, [without, with], &ended, &run);
    report.series = run.series();
    // Its line goes before the report comes.
    drop(run);
    conclude((&report.table(), &report), &report.faults, &options.server)
}

/// Measures the fast ones once, until they have everything.
fn phase(
    run: &mut Run<Plain>,
    fanout: &Fanout,
    mut laggards: Option<&mut Laggards>,
) -> anyhow::Result<Phase> {
    run.restart(fanout);
    run.publish_until(run.now() + nanos(fanout.warmup))?;
    let begun = run.edge(fanout)?;
    let until = begun.time + nanos(fanout.duration);
    run.measure_within(begun.time..until);
    run.record(if laggards.is_some() { Part::Other } else { Part::First });
    while run.now() < until {
        if let Some(laggards) = &mut laggards {
            laggards.look();
        }
        run.publish_until(until.min(run.now() + nanos(SLICE)))?;
    }
    let ended = run.edge(fanout)?;
    run.pause();
    run.drain(fanout.drain)?;
    Ok(Phase::new(&begun, &ended, run.latency()))
}

/// The fast ones in one phase.
#[derive(Debug, Serialize)]
struct Phase {
    deliveries_per_second: f64,
    latency_ms: Latency,
    /// Share of a core.
    server_busy: Option<f64>,
    server_rss_bytes: Option<u64>,
}

impl Phase {
    fn new(begun: &Edge, ended: &Edge, latency_ms: Latency) -> Self {
        let seconds = float(ended.time - begun.time) / 1e9;
        let usage = begun.server.zip(ended.server);
        Self {
            deliveries_per_second: per(float(ended.received - begun.received), seconds),
            latency_ms,
            server_busy: usage
                .map(|(begun, ended)| per((ended - begun).cpu.as_secs_f64(), seconds)),
            server_rss_bytes: ended.server.map(|usage| usage.rss_bytes),
        }
    }

    fn text(&self) -> String {
        let mut parts = vec![
            format!("p99 {:.3} ms", self.latency_ms.p99),
            format!("max {:.3} ms", self.latency_ms.max),
            format!("{} deliveries/s", rounded(self.deliveries_per_second)),
        ];
        if let Some((busy, rss)) = self.server_busy.zip(self.server_rss_bytes) {
            parts.push(format!("server busy {:.1} %, RSS {}", busy * 100.0, mebibytes(rss)));
        }
        parts.join(", ")
    }
}

/// What became of the slow ones.
#[derive(Debug, Serialize)]
struct Slow {
    count: u64,
    closed: u64,
    /// How each way of ending was told, and how often.
    endings: Vec<(String, u64)>,
    /// From their opening to the server's end of the connection; only those whose time is known.
    closed_after_seconds_median: Option<f64>,
    /// Closed ones that were connected, as the kernel sees it, until they read what was left.
    closed_at_last: u64,
    closed_after_seconds_max: Option<f64>,
}

impl Slow {
    fn new(ended: &[Ending]) -> Self {
        let mut endings: Vec<(String, u64)> = Vec::new();
        for reason in ended.iter().filter_map(|ending| ending.reason.as_ref()) {
            match endings.iter_mut().find(|(known, _)| known == reason) {
                Some((_, count)) => *count += 1,
                None => endings.push((reason.clone(), 1)),
            }
        }
        let times: Vec<f64> = ended
            .iter()
            .filter_map(|ending| ending.after)
            .map(|after| after.as_secs_f64())
            .collect();
        Self {
            count: ended.len() as u64,
            closed: endings.iter().map(|(_, count)| count).sum(),
            closed_at_last: ended
                .iter()
                .filter(|ending| ending.reason.is_some() && ending.after.is_none())
                .count() as u64,
            endings,
            closed_after_seconds_max: times.iter().copied().reduce(f64::max),
            closed_after_seconds_median: (!times.is_empty()).then(|| median(times)),
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    origin: Origin,
    shape: String,
    without_slow: Phase,
    with_slow: Phase,
    p99_delta_ms: f64,
    slow: Slow,
    /// Of the fast ones.
    faults: Faults,
    fault_samples: Vec<String>,
    /// Both phases, and nothing of what is between them.
    series: Vec<Sample>,
}

impl Report {
    fn new(
        options: &Options,
        origin: Origin,
        [without_slow, with_slow]: [Phase; 2],
        ended: &[Ending],
        run: &Run<Plain>,
    ) -> Self {
        let Shape { topics, subscribers, payload } = options.shape();
        let (faults, samples) = run.found();
        Self {
            origin,
            shape: format!(
                "{topics} x {subscribers} subscribers x {payload} B, open loop {}/s, {} more {}, \
                 two phases of {}",
                options.rate,
                options.slow_count(),
                options.reading().text(),
                humantime::format_duration(options.duration),
            ),
            p99_delta_ms: with_slow.latency_ms.p99 - without_slow.latency_ms.p99,
            without_slow,
            with_slow,
            slow: Slow::new(ended),
            faults,
            fault_samples: samples.to_vec(),
            series: Vec::new(),
        }
    }

    fn table(&self) -> Table {
        let mut table = report::begin(&self.origin, &self.shape);
        for (name, phase) in [("without slow", &self.without_slow), ("with slow", &self.with_slow)]
        {
            table.row(name, phase.text());
        }
        table.row("p99 delta", format!("{:+.3} ms", self.p99_delta_ms));
        let Slow { count, closed, endings, .. } = &self.slow;
        table.row("slow ones closed", format!("{} of {}", grouped(*closed), grouped(*count)));
        for (reason, count) in endings {
            table.row("", format!("{}: {reason}", grouped(*count)));
        }
        if let Some((median, max)) =
            self.slow.closed_after_seconds_median.zip(self.slow.closed_after_seconds_max)
        {
            table.row("closed after", format!("{median:.1} s median, {max:.1} s at most"));
        }
        if self.slow.closed_at_last > 0 {
            let count = grouped(self.slow.closed_at_last);
            table.row("", format!("{count} connected until they read what was left"));
        }
        report::end(&mut table, &self.faults, &self.fault_samples);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_rates_read_as_written() {
        for (text, expected) in [("1%", 100), ("0.5%", 50), ("0.25%", 25), ("100%", WHOLE)] {
            assert_eq!(share(text), Ok(expected), "{text}");
        }
        for bad in ["1", "0%", "101%", "0.001%", "-1%", "%", "x%"] {
            assert!(share(bad).is_err(), "{bad}");
        }
        for (text, expected) in [("500B/s", 500), ("1KB/s", 1_000), ("2MB/s", 2_000_000)] {
            assert_eq!(byte_rate(text), Ok(expected), "{text}");
        }
        for bad in ["1KB", "0B/s", "B/s", "1.5KB/s", "1GB/s", "é/s"] {
            assert!(byte_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn endings_are_counted_by_what_the_server_said() {
        let ending = |reason: Option<&str>, after: Option<u64>| Ending {
            reason: reason.map(str::to_owned),
            after: after.map(Duration::from_secs),
        };
        let slow = Slow::new(&[
            ending(Some("closed with 1013 outbox_overflow"), Some(2)),
            ending(None, None),
            ending(Some("reset"), None),
            ending(Some("closed with 1013 outbox_overflow"), Some(4)),
        ]);
        assert_eq!((slow.count, slow.closed), (4, 3));
        assert_eq!(slow.endings[0], ("closed with 1013 outbox_overflow".to_owned(), 2));
        assert_eq!(slow.closed_after_seconds_median, Some(3.0));
        assert_eq!(slow.closed_after_seconds_max, Some(4.0));
        assert_eq!(Slow::new(&[]).closed_after_seconds_median, None);
    }
}
