//! `fanout`: publishers send, every subscriber must get all of it; what did it cost?

use std::{ops::Range, thread, time::Duration};

use anyhow::Context as _;

use super::{Samples, Verdict, conclude, topic_name};
use crate::{
    cli,
    clock::{Clock, nanos},
    door::{Door, Role, through},
    fault::Faults,
    figure::{float, grouped, per},
    load::{
        ledger::Ledger,
        pool::{Pool, Seen, Sink, Wait},
    },
    pace::Schedule,
    process::Usage,
    report::{
        self, Latency, Origin, ServerCost, Tester, live::Phase, series::Sample, watch::Watch,
    },
};

/// A closed loop that gets nothing for so long has lost something, and would wait for ever.
const STALL: Duration = Duration::from_secs(5);
/// After the last delivery: time for one too many to show up.
const AFTERMATH: Duration = Duration::from_millis(100);
/// A last delivery as fresh as this, or a quarter of the patience, is one of a stream that flows.
const FLOWING: Duration = Duration::from_secs(1);
/// Publications that are late go out in portions of this, or reading would starve.
const BURST_MAX: usize = 256;
/// An open loop holds back, with its due times unchanged, while a publisher's socket is full.
const UNSENT_LEN_MAX: usize = 4 << 20;

/// A closed loop with so much in flight is not slowed by naps.
const UNHURRIED_WINDOW: u32 = 16;
/// One connection in so many, but not more than that, must have something to be worth a look.
const FEW_SHARE: usize = 16;
const FEW_MAX: usize = 16;
/// The kernel adds its slack, 50 us. No server notices: a timer ends it, not a `send`.
const NAP: Duration = Duration::from_micros(30);

/// Runs the scenario and reports it.
///
/// # Errors
/// It could not be run at all.
pub(crate) fn run(options: &cli::Fanout) -> anyhow::Result<Verdict> {
    let report = measured(options)?;
    conclude((&report.table(), &report), &report.faults, &options.server)
}

/// Runs the scenario on connections of its own.
///
/// # Errors
/// It could not be run at all.
pub(super) fn measured(options: &cli::Fanout) -> anyhow::Result<report::Fanout> {
    through!(options.server.door, door => measured_through(door, options))
}

fn measured_through<D: Door>(door: D, options: &cli::Fanout) -> anyhow::Result<report::Fanout> {
    let origin = Origin::here();
    let target = options.server.target()?;
    Usage::of(&options.server.pid)?;
    let clock = Clock::new();
    let pool = Pool::new(door, target, clock, options.connection_count()?)?;
    let mut run = Run::new(pool, clock, options)?;
    let (edges, series) = run.measure(options)?;
    let backlog = run.ledger.outstanding();
    run.drain(options.drain)?;
    run.finish();
    let report = report::Fanout { series, ..report(&run, options, origin, edges, backlog) };
    // Its line goes before the report comes.
    drop(run);
    Ok(report)
}

/// Publishers are the first connections of the pool, one per topic; subscribers follow.
pub(super) struct Run<D> {
    pool: Pool<D>,
    clock: Clock,
    ledger: Ledger,
    /// Under an open loop; the ledger paces a closed one.
    schedule: Option<Schedule>,
    topics: u32,
    out: Vec<u8>,
    spare: Spare,
    /// Naps after a look that finds fewer ready connections than this.
    few: usize,
    stalled: bool,
    /// Whether deliveries were still coming when patience ended.
    flowing: bool,
    samples: Samples,
    watch: Watch,
    connection_count: usize,
}

/// Nanoseconds in which there was nothing to do.
#[derive(Debug, Clone, Copy, Default)]
struct Spare {
    /// Looking in vain.
    spun: u64,
    napped: u64,
}

/// Of what is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    First,
    Other,
}

/// The state at an edge of the measured window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) time: u64,
    published: u64,
    pub(super) received: u64,
    spare: Spare,
    pub(super) server: Option<Usage>,
    own: Usage,
}

/// What a turn writes into. Connections of publishers come first.
struct Books<'a> {
    ledger: &'a mut Ledger,
    samples: &'a mut Samples,
    topics: u32,
}

impl Books<'_> {
    /// The subscriber's number; `None` = a publisher.
    #[inline]
    fn subscriber(&self, index: usize) -> Option<u32> {
        let index = u32::try_from(index).expect("connections are counted in u32");
        index.checked_sub(self.topics)
    }
}

impl Sink for Books<'_> {
    #[inline]
    fn see(&mut self, index: usize, now: u64, seen: Seen<'_>) {
        match seen {
            Seen::Publication(payload) => match self.subscriber(index) {
                Some(subscriber) => self.ledger.receive(subscriber, now, payload),
                None => self.ledger.hear(index, payload),
            },
            Seen::Ended(reason) => {
                self.ledger.faults.closed += 1;
                self.samples.add(reason);
            }
            Seen::Opened(_) => {}
        }
    }

    #[inline]
    fn recall(&mut self, index: usize, now: u64, bytes: &[u8]) -> usize {
        let subscriber = self.subscriber(index);
        subscriber.map_or(0, |subscriber| self.ledger.recall(subscriber, now, bytes))
    }

    #[inline]
    fn learn(&mut self, index: usize, message: Option<&[u8]>) {
        if let Some(subscriber) = self.subscriber(index) {
            self.ledger.learn(subscriber, message);
        }
    }
}

impl<D: Door> Run<D> {
    pub(super) fn new(
        mut pool: Pool<D>,
        clock: Clock,
        options: &cli::Fanout,
    ) -> anyhow::Result<Self> {
        let topics = options.topics;
        let mut watch = Watch::new(clock.now(), &options.server.pid);
        let publishers = (0..topics as usize).map(|index| name(index, topics));
        pool.open_watched(publishers, Role::Publisher, |open| watch.connecting(open))?;
        let subscriber_count = topics as usize * options.subscribers as usize;
        let subscribers = (0..subscriber_count).map(|index| name(index, topics));
        pool.open_watched(subscribers, Role::Subscriber, |open| watch.connecting(open))?;
        watch.enter(Phase::WarmingUp);
        let mut ledger = Ledger::new(topics, options.subscribers, options.payload);
        if options.rate.is_none() {
            ledger.close_loop(options.window);
        }
        Ok(Self {
            pool,
            clock,
            ledger,
            schedule: options
                .rate
                .map(|rate| Schedule::new(clock.now(), rate).stalled(options.stall)),
            topics,
            out: Vec::new(),
            spare: Spare::default(),
            few: few(options),
            stalled: false,
            flowing: false,
            samples: Samples::default(),
            watch,
            connection_count: options.connection_count()?,
        })
    }

    /// Warms up, then measures; returns the two edges, and what was between them.
    fn measure(&mut self, options: &cli::Fanout) -> anyhow::Result<((Edge, Edge), Vec<Sample>)> {
        self.publish_until(self.clock.now() + nanos(options.warmup))?;
        let begun = self.edge(options)?;
        let until = begun.time + nanos(options.duration);
        self.ledger.measured = begun.time..until;
        let look = self.ledger.look(begun.time, self.connection_count);
        self.watch.record(look, Some(options.duration));
        self.watch.enter(Phase::Measuring);
        self.publish_until(until)?;
        let ended = self.edge(options)?;
        self.watch.enter(Phase::Draining);
        let series = self.watch.finish(self.ledger.look(ended.time, self.connection_count));
        Ok(((begun, ended), series))
    }

    fn look(&mut self, now: u64) {
        self.watch.look(self.ledger.look(now, self.connection_count));
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Begins a phase of an open loop: nothing is overdue, no latency taken.
    pub(super) fn restart(&mut self, options: &cli::Fanout) {
        self.schedule = options.rate.map(|rate| Schedule::new(self.clock.now(), rate));
        self.ledger.latency.reset();
    }

    /// Takes the latency of publications stamped within `window`.
    pub(super) fn measure_within(&mut self, window: Range<u64>) {
        self.ledger.measured = window;
    }

    /// Records from now on, for the first time or again.
    pub(super) fn record(&mut self, part: Part) {
        let now = self.clock.now();
        let look = self.ledger.look(now, self.connection_count);
        match part {
            Part::First => self.watch.record(look, None),
            Part::Other => self.watch.go_on(look),
        }
        self.watch.enter(Phase::Measuring);
    }

    /// Leaves out what happens until [`record`](Self::record).
    pub(super) fn pause(&mut self) {
        self.watch.pause(self.ledger.look(self.clock.now(), self.connection_count));
        self.watch.enter(Phase::Draining);
    }

    /// What was recorded before the last [`pause`](Self::pause).
    pub(super) fn series(&mut self) -> Vec<Sample> {
        self.watch.recorded()
    }

    /// Closes the books of a run with phases: what has not come by now is lost.
    pub(super) fn finish_phases(&mut self) {
        self.ledger.finish();
    }

    pub(super) fn latency(&self) -> Latency {
        Latency::of(&self.ledger.latency)
    }

    /// The faults, and examples of lost connections.
    pub(super) fn found(&self) -> (Faults, &[String]) {
        (self.ledger.faults, &self.samples.0)
    }

    pub(super) fn edge(&self, options: &cli::Fanout) -> anyhow::Result<Edge> {
        let server = Usage::of(&options.server.pid).context("the server is gone")?;
        Ok(Edge {
            time: self.clock.now(),
            published: self.ledger.published,
            received: self.ledger.received,
            spare: self.spare,
            server,
            own: Usage::own()?,
        })
    }

    pub(super) fn publish_until(&mut self, until: u64) -> anyhow::Result<()> {
        let mut now = self.clock.now();
        let (mut progress, mut received) = (now, self.ledger.received);
        while now < until && !self.stalled {
            if self.watch.is_due(now) {
                self.look(now);
            }
            let published = self.publish(now);
            let count = self.turn()?;
            let before = std::mem::replace(&mut now, self.clock.now());
            if count == 0 && !published {
                self.spare.spun += now - before;
            }
            if count < self.few {
                thread::sleep(NAP);
                let asleep = std::mem::replace(&mut now, self.clock.now());
                self.spare.napped += now - asleep;
            }
            if self.ledger.received > received {
                (progress, received) = (now, self.ledger.received);
            } else if self.schedule.is_none() && now - progress > nanos(STALL) {
                self.stalled = true;
            }
        }
        Ok(())
    }

    /// Sends what may go out; whether there was anything.
    fn publish(&mut self, now: u64) -> bool {
        if self.schedule.is_some() { self.publish_due(now) } else { self.publish_credit() }
    }

    fn publish_credit(&mut self) -> bool {
        let mut any = false;
        while let Some((topic, credit)) = self.ledger.take_credit() {
            // Thousands of topics take milliseconds: each gets its own time.
            let now = self.clock.now();
            for _ in 0..credit {
                self.ledger.publish(self.pool.door(), topic, now, &mut self.out);
            }
            self.send(topic);
            any = true;
        }
        any
    }

    fn publish_due(&mut self, now: u64) -> bool {
        let mut last = None;
        for _ in 0..BURST_MAX {
            if last.is_some_and(|topic| self.pool.unsent_len(topic as usize) > UNSENT_LEN_MAX) {
                break;
            }
            let next = self.schedule.as_mut().and_then(|schedule| schedule.next(now));
            let Some((number, due)) = next else {
                break;
            };
            let topic = number % u64::from(self.topics);
            let topic = u32::try_from(topic).expect("less than a u32");
            self.ledger.publish(self.pool.door(), topic, due, &mut self.out);
            // With one topic, all that is due leaves in one write.
            if self.topics > 1 {
                self.send(topic);
            }
            last = Some(topic);
        }
        if self.topics == 1 && last.is_some() {
            self.send(0);
        }
        last.is_some()
    }

    fn send(&mut self, topic: u32) {
        self.pool.send(topic as usize, &self.out);
        self.out.clear();
    }

    /// Closes the books: what has not come is lost, unless it was only cut off.
    fn finish(&mut self) {
        if !self.flowing {
            if D::ACKNOWLEDGES {
                let unanswered = self.ledger.published.saturating_sub(self.pool.acknowledged());
                self.ledger.faults.unacknowledged = unanswered;
            }
            self.ledger.finish();
        } else if let Some(schedule) = &self.schedule {
            let topics = self.topics;
            self.ledger.cut_off(self.clock.now(), |topic, seq| {
                schedule.due(u64::from(seq - 1) * u64::from(topics) + u64::from(topic))
            });
        }
    }

    fn turn(&mut self) -> anyhow::Result<usize> {
        let Self { pool, ledger, samples, topics, .. } = self;
        Ok(pool.turn_to(Wait::Spin, &mut Books { ledger, samples, topics: *topics })?)
    }

    /// Waits for what is still to come, and a little longer for what should not come.
    pub(super) fn drain(&mut self, patience: Duration) -> anyhow::Result<()> {
        let deadline = self.clock.now() + nanos(patience);
        let mut last = self.clock.now();
        let (mut progress, mut received) = (last, self.ledger.received);
        while !self.stalled && self.ledger.outstanding() > 0 && last < deadline {
            self.turn()?;
            last = self.clock.now();
            if self.watch.is_due(last) {
                self.look(last);
            }
            if self.ledger.received > received {
                (progress, received) = (last, self.ledger.received);
            }
        }
        if self.ledger.outstanding() > 0 && last >= deadline {
            self.flowing = last - progress < nanos(FLOWING.min(patience / 4));
            return Ok(());
        }
        while self.clock.now() < last + nanos(AFTERMATH) {
            self.turn()?;
        }
        Ok(())
    }
}

/// So few ready connections are not worth a look; 0 = the loop is in a hurry.
fn few(options: &cli::Fanout) -> usize {
    let is_unhurried = options.rate.is_none() && options.window >= UNHURRIED_WINDOW;
    let connections = options.topics as usize * options.subscribers as usize;
    if is_unhurried { (connections / FEW_SHARE).min(FEW_MAX) } else { 0 }
}

fn name(index: usize, topics: u32) -> String {
    topic_name(u32::try_from(index % topics as usize).expect("less than a u32"))
}

/// How much of the tester's CPU went into work. Idle turns are timed by the wall: others that run
/// on its core take of them as of all turns, so only the share of idle turns says something.
fn working(own_seconds: f64, idle: f64) -> f64 {
    own_seconds * (1.0 - idle).max(0.0)
}

fn report<D>(
    run: &Run<D>,
    options: &cli::Fanout,
    origin: Origin,
    (begun, ended): (Edge, Edge),
    backlog: u64,
) -> report::Fanout {
    let seconds = float(ended.time - begun.time) / 1e9;
    let deliveries = ended.received - begun.received;
    let server = begun.server.zip(ended.server).map(|(begun, ended)| {
        let cpu_seconds = (ended - begun).cpu.as_secs_f64();
        ServerCost {
            cpu_seconds,
            deliveries_per_cpu_second: per(float(deliveries), cpu_seconds),
            cpu_us_per_delivery: per(cpu_seconds * 1e6, float(deliveries)),
            busy: per(cpu_seconds, seconds),
            waited: per((ended - begun).waited.as_secs_f64(), seconds),
            rss_bytes: ended.rss_bytes,
        }
    });
    let spun = float(ended.spare.spun - begun.spare.spun) / 1e9;
    let napped = float(ended.spare.napped - begun.spare.napped) / 1e9;
    let own = ended.own - begun.own;
    let worked = working(own.cpu.as_secs_f64(), per(spun, seconds - napped));
    let tester = Tester {
        idle: per(spun + napped, seconds),
        cpu: per(own.cpu.as_secs_f64(), seconds),
        waited: per(own.waited.as_secs_f64(), seconds),
        cpu_us_per_delivery: per(worked * 1e6, float(deliveries)),
    };
    let mut report = report::Fanout {
        origin,
        shape: shape(options),
        seconds,
        publications: ended.published - begun.published,
        deliveries,
        deliveries_per_second: per(float(deliveries), seconds),
        server,
        tester,
        latency_ms: Latency::of(&run.ledger.latency),
        backlog,
        faults: run.ledger.faults,
        fault_samples: run.samples.0.clone(),
        notes: Vec::new(),
        series: Vec::new(),
    };
    report.notes = notes(&report, options);
    if run.ledger.heard > 0 {
        let count = grouped(run.ledger.heard);
        report.notes.push(format!(
            "the server sends publishers what is their own: {count} more deliveries, not counted"
        ));
    }
    if run.stalled {
        report.notes.push("stalled: nothing came for 5 s, so the run ended early".to_owned());
    }
    if run.flowing {
        let count = grouped(run.ledger.outstanding());
        report.notes.push(format!(
            "cut off: {count} deliveries were still to come, not lost; their latency counts as \
             what it was by then"
        ));
    }
    report
}

fn shape(options: &cli::Fanout) -> String {
    let pace = match options.rate {
        Some(rate) => format!("open loop {rate}/s"),
        None => format!("window {}", options.window),
    };
    format!(
        "{} x {} subscribers x {} B{}, {pace}, {} after {}",
        options.topics,
        options.subscribers,
        options.payload,
        options.server.door.note(),
        humantime::format_duration(options.duration),
        humantime::format_duration(options.warmup),
    )
}

/// What a reader must know before quoting the figures.
fn notes(report: &report::Fanout, options: &cli::Fanout) -> Vec<String> {
    let mut notes = Vec::new();
    if report.tester_was_full() {
        notes.push(
            "the tester had no time left: it may be the bottleneck, the wall-clock figures and \
             latencies are its own"
                .to_owned(),
        );
    }
    if report.tester_was_disturbed() {
        notes.push("other processes took the tester's core: latencies are theirs too".to_owned());
    }
    if report.server_was_disturbed() {
        notes.push("other processes took the server's core: latencies are theirs too".to_owned());
    }
    if let Some(rate) = options.rate {
        let offered = float(rate * u64::from(options.subscribers));
        if report.deliveries_per_second < 0.97 * offered {
            notes.push(format!(
                "saturated: {:.0} % of the offered deliveries arrived in time",
                100.0 * report.deliveries_per_second / offered
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::working;

    #[test]
    fn what_others_take_of_the_core_counts_for_idle_and_busy_turns_alike() {
        for (own_seconds, idle, expected) in [(4.0, 0.0, 4.0), (4.0, 0.25, 3.0), (2.0, 0.5, 1.0)] {
            let worked = working(own_seconds, idle);
            assert!((worked - expected).abs() < 1e-9, "{own_seconds} {idle}: {worked}");
        }
        assert!(working(1.0, 1.1).abs() < 1e-9, "clocks differ, but nobody works less than not");
    }
}
