//! `idle`: connections that only wait, what each of them costs, and what a message to all does.
//!
//! They are held by shares, one thread each: as many as there are descriptor tables (`--tables`).
//! This thread only conducts and weighs.

mod course;
mod share;

use std::{
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;

use super::{Samples, Verdict, conclude};
use crate::{
    cli,
    clock::Clock,
    door::{Door, through},
    fault::Faults,
    figure::{float, per},
    machine,
    process::{self, Usage},
    report::{
        self, IdleCost, Latency, Origin,
        live::Phase,
        series::Sample,
        watch::{Look, Watch},
    },
};
use course::{Course, Step};
use share::{Found, Share};

/// How often this thread looks how far the shares are.
const LOOK: Duration = Duration::from_millis(20);
/// With less memory available the run ends before the system ends something else.
const AVAILABLE_LEN_MIN: u64 = 512 << 20;

/// Runs the scenario and reports it.
///
/// # Errors
/// It could not be run at all.
pub(crate) fn run(options: &cli::Idle) -> anyhow::Result<Verdict> {
    through!(options.server.door, door => run_through(&door, options))
}

type Handle<'scope> = ScopedJoinHandle<'scope, anyhow::Result<Found>>;

fn run_through<D: Door + Clone + Send>(door: &D, options: &cli::Idle) -> anyhow::Result<Verdict> {
    let origin = Origin::here();
    let target = options.server.target()?;
    let (clock, course) = (Clock::new(), Course::new(options.tables));
    let (weighed, found) = thread::scope(|scope| {
        let start = |table| {
            let (door, target, course) = (door.clone(), target.clone(), &course);
            scope.spawn(move || Share::begin(door, target, clock, (options, table))?.run(course))
        };
        let shares: Vec<Handle<'_>> = (0..options.tables).map(start).collect();
        let weighed = conduct(&course, &shares, options);
        course.begin(Step::End);
        let found = shares.into_iter().map(|share| share.join().expect("shares do not panic"));
        // Why a share failed says more than that it did.
        let found = found.collect::<anyhow::Result<Vec<Found>>>()?;
        Ok::<_, anyhow::Error>((weighed?, found))
    })?;
    let report = report(options, origin, weighed, found);
    conclude((&report.table(), &report), &report.faults, &options.server)
}

/// The server at one time.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    usage: Usage,
    /// Memory by the share of each page that is the server's own.
    pss_bytes: u64,
}

impl Weight {
    /// `None` without a server's process to look at.
    fn of(options: &cli::Idle) -> anyhow::Result<Option<Self>> {
        let pids = &options.server.pid;
        let usage = Usage::of(pids).context("the server is gone")?;
        Ok(usage.map(|usage| Self { usage, pss_bytes: process::pss_bytes(pids) }))
    }
}

/// What was weighed when, and how long it took in between.
#[derive(Debug, Default)]
struct Weighed {
    before: Option<Weight>,
    opened: Option<Weight>,
    rested: Option<Weight>,
    after: Option<Weight>,
    opening: Duration,
    messaging: Duration,
    series: Vec<Sample>,
}

/// Leads the shares through the steps.
fn conduct(course: &Course, shares: &[Handle<'_>], options: &cli::Idle) -> anyhow::Result<Weighed> {
    let mut view = View::new(options);
    // Publishers of their own are opened before anything is weighed.
    take(Step::Prepare, course, shares, &mut view)?;
    let mut weighed = Weighed { before: Weight::of(options)?, ..Weighed::default() };
    view.record(course);
    weighed.opening = take(Step::Open, course, shares, &mut view)?;
    weighed.opened = Weight::of(options)?;
    let held = Instant::now();
    while held.elapsed() < options.hold {
        look(Phase::Holding, course, shares, &mut view)?;
    }
    weighed.rested = Weight::of(options)?;
    if options.messages > 0 {
        weighed.messaging = take(Step::Message, course, shares, &mut view)?;
    }
    weighed.after = Weight::of(options)?;
    weighed.series = view.finish(course);
    Ok(weighed)
}

/// Has all shares take `step`, and returns how long they took.
fn take(
    step: Step,
    course: &Course,
    shares: &[Handle<'_>],
    view: &mut View,
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    course.begin(step);
    let phase = if step == Step::Message { Phase::Measuring } else { Phase::Connecting };
    while !course.is_done() {
        look(phase, course, shares, view)?;
    }
    Ok(begun.elapsed())
}

/// Waits a little, tells how far the run is, and sees that it can go on.
fn look(
    phase: Phase,
    course: &Course,
    shares: &[Handle<'_>],
    view: &mut View,
) -> anyhow::Result<()> {
    thread::sleep(LOOK);
    if shares.iter().any(ScopedJoinHandle::is_finished) {
        bail!("a share of the connections ended early");
    }
    let available = machine::available_bytes();
    if available < AVAILABLE_LEN_MIN {
        bail!("{} MiB of memory left: the machine is too small for this", available >> 20);
    }
    view.look(phase, course);
    Ok(())
}

/// What looks at the run from beside it. No latency is taken: it stays empty.
struct View {
    clock: Clock,
    watch: Watch,
    latency: Histogram<u64>,
}

impl View {
    fn new(options: &cli::Idle) -> Self {
        let clock = Clock::new();
        let watch = Watch::new(clock.now(), &options.server.pid);
        Self { clock, watch, latency: Latency::histogram() }
    }

    fn record(&mut self, course: &Course) {
        self.watch.record(seen(self.clock.now(), course, &self.latency), None);
    }

    fn look(&mut self, phase: Phase, course: &Course) {
        let now = self.clock.now();
        self.watch.enter(phase);
        if self.watch.is_due(now) {
            self.watch.look(seen(now, course, &self.latency));
        }
    }

    fn finish(mut self, course: &Course) -> Vec<Sample> {
        self.watch.finish(seen(self.clock.now(), course, &self.latency))
    }
}

fn seen<'a>(time: u64, course: &Course, latency: &'a Histogram<u64>) -> Look<'a> {
    let (connected, received, errors) = course.counts();
    Look { time, connected, received, latency, errors }
}

fn report(
    options: &cli::Idle,
    origin: Origin,
    weighed: Weighed,
    found: Vec<Found>,
) -> report::Idle {
    let connections = f64::from(options.connections);
    let (mut faults, mut samples) = (Faults::default(), Samples::default());
    let (mut complete, mut received, mut replies) = (0, 0, 0);
    for share in found {
        faults += share.faults;
        complete += share.complete;
        received += share.received;
        replies += share.replies;
        share.samples.0.into_iter().for_each(|sample| samples.add(sample));
    }
    report::Idle {
        origin,
        shape: shape(options),
        connections_per_second: per(connections, weighed.opening.as_secs_f64()),
        opening_seconds: weighed.opening.as_secs_f64(),
        server: cost(options, &weighed, received),
        replies,
        messaged: (options.messages > 0).then_some(complete),
        deliveries_per_second: per(float(received), weighed.messaging.as_secs_f64()),
        faults,
        fault_samples: samples.0,
        series: weighed.series,
    }
}

fn shape(options: &cli::Idle) -> String {
    let tables = match options.tables {
        1 => String::new(),
        tables => format!(" in {tables} descriptor tables"),
    };
    format!(
        "{} connections on {} topics{}{tables}, held {}",
        options.connections,
        options.topics,
        options.server.door.note(),
        humantime::format_duration(options.hold)
    )
}

fn cost(options: &cli::Idle, weighed: &Weighed, received: u64) -> Option<IdleCost> {
    let Weighed { before, opened, rested, after, .. } = weighed;
    let (before, opened, rested, after) = ((*before)?, (*opened)?, (*rested)?, (*after)?);
    let connections = f64::from(options.connections);
    let per_connection = |bytes: u64| per(float(bytes), connections);
    let grown = rested.usage - before.usage;
    let messaging = (after.usage - rested.usage).cpu;
    Some(IdleCost {
        cpu_us_per_handshake: per(
            (opened.usage - before.usage).cpu.as_secs_f64() * 1e6,
            connections,
        ),
        rss_before_bytes: before.usage.rss_bytes,
        rss_after_bytes: rested.usage.rss_bytes,
        rss_per_connection: per_connection(grown.rss_bytes),
        anonymous_per_connection: per_connection(grown.anonymous_bytes),
        pss_per_connection: per_connection(rested.pss_bytes.saturating_sub(before.pss_bytes)),
        rss_per_connection_after_message: (options.messages > 0)
            .then(|| per_connection((after.usage - before.usage).rss_bytes)),
        cpu_us_per_delivery: (received > 0)
            .then(|| per(messaging.as_secs_f64() * 1e6, float(received))),
        busy_while_held: per(
            (rested.usage - opened.usage).cpu.as_secs_f64(),
            options.hold.as_secs_f64(),
        ),
    })
}
