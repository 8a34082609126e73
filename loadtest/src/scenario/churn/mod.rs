//! `churn`: connections come and go around a constant population; who is there gets everything.

mod member;

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::{Samples, Verdict, conclude, topic_name};
use crate::{
    cli::{Server, duration, payload_len},
    clock::{Clock, nanos},
    door::{Door as _, Plain, Role, Topic},
    fault::Faults,
    figure::{Table, float, grouped, per, rounded},
    load::pool::{Pool, Seen, Wait},
    pace::Schedule,
    process::Usage,
    report::{
        self, Latency, Origin,
        live::Phase,
        mebibytes,
        series::Sample,
        watch::{Look, Watch},
    },
    stamp::{Filler, Stamp},
};
use member::{Member, Stage};

const TOPIC: u32 = 0;
/// The publisher is the pool's first connection, members follow.
const PUBLISHER: usize = 0;
/// Looks at the clock at least this often.
const NAP: Duration = Duration::from_millis(1);
/// A member that is to leave waits so long for what was published before.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are joining or leaving; at so many, joins wait.
const JOINS_PENDING_MAX: usize = 1_024;

/// Options of `churn`.
#[derive(Debug, Args)]
#[command(after_help = "\
Fills the population, rests for --rest with nobody joining, then lets one join and the oldest \
leave, --rate times a second, while one publisher publishes. Each member must get every \
publication from the first after its handshake to the last before it leaves, once and in order. \
CPU per join is what the churn took above the rest's share, for one join and one leave.")]
pub(crate) struct Options {
    #[command(flatten)]
    server: Server,
    /// Members at any time
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    population: u32,
    /// Joins per second, and as many leaves
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    rate: u64,
    /// Publications per second
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    publish_rate: u64,
    /// Bytes of each payload
    #[arg(long, default_value_t = 128, value_parser = payload_len)]
    payload: usize,
    /// How long to churn
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// How long to rest before, for comparison
    #[arg(long, default_value = "3s", value_parser = duration)]
    rest: Duration,
}

/// Runs the scenario and reports it.
///
/// # Errors
/// It could not be run at all.
pub(crate) fn run(options: &Options) -> anyhow::Result<Verdict> {
    options.server.require_plain()?;
    let origin = Origin::here();
    let clock = Clock::new();
    let count = options.population as usize + JOINS_PENDING_MAX + 1;
    let pool = Pool::new(Plain, options.server.target()?, clock, count)?;
    let mut watch = Watch::new(clock.now(), &options.server.pid);
    let mut churn = Churn::fill(pool, options, (clock, &mut watch))?;
    let usage = || Usage::of(&options.server.pid).context("the server is gone");
    let filled = usage()?;
    watch.record(churn.look(), Some(options.rest + options.duration));
    watch.enter(Phase::Resting);
    churn.run_for(options.rest, None, &mut watch)?;
    let rested = usage()?;
    let begun = clock.now();
    watch.enter(Phase::Measuring);
    churn.run_for(options.duration, Some(Schedule::new(begun, options.rate)), &mut watch)?;
    let (joined, seconds) = (churn.joined, float(clock.now() - begun) / 1e9);
    let ended = usage()?;
    let series = watch.finish(churn.look());
    // Its line goes before the report comes.
    drop(watch);
    churn.settle()?;
    let server = filled.zip(rested).zip(ended).map(|((filled, rested), ended)| {
        let rest = per((rested - filled).cpu.as_secs_f64(), options.rest.as_secs_f64());
        let churned = (ended - rested).cpu.as_secs_f64();
        Cost {
            cpu_us_per_join: per((churned - rest * seconds).max(0.0) * 1e6, float(joined)),
            busy_at_rest: rest,
            busy: per(churned, seconds),
            rss_start_bytes: rested.rss_bytes,
            rss_end_bytes: ended.rss_bytes,
        }
    });
    let report = Report {
        origin,
        shape: options.shape(),
        joined,
        joins_per_second: per(float(joined), seconds),
        left: churn.left,
        publications: u64::from(churn.published),
        deliveries: churn.received,
        latency_ms: Latency::of(&churn.latency),
        server,
        faults: churn.faults,
        fault_samples: churn.samples.0,
        series,
    };
    conclude((&report.table(), &report), &report.faults, &options.server)
}

impl Options {
    fn shape(&self) -> String {
        format!(
            "{} members, {} joins/s, {} publications/s x {} B, {} after {} of rest",
            self.population,
            self.rate,
            self.publish_rate,
            self.payload,
            humantime::format_duration(self.duration),
            humantime::format_duration(self.rest),
        )
    }
}

struct Churn {
    pool: Pool<Plain>,
    clock: Clock,
    filler: Filler,
    /// By connection, without the publisher.
    members: Vec<Member>,
    /// Open members, the oldest first.
    present: std::collections::VecDeque<usize>,
    /// Members that wait for what was published before they were told to leave.
    leaving: Vec<usize>,
    /// Connections that have ended, to be used again.
    free: Vec<usize>,
    publishing: Schedule,
    published: u32,
    received: u64,
    joined: u64,
    left: u64,
    latency: Histogram<u64>,
    faults: Faults,
    samples: Samples,
    out: Vec<u8>,
}

impl Churn {
    fn fill(
        mut pool: Pool<Plain>,
        options: &Options,
        (clock, watch): (Clock, &mut Watch),
    ) -> anyhow::Result<Self> {
        let count = options.population as usize;
        pool.open(std::iter::once(topic_name(TOPIC)), Role::Publisher)?;
        let names = vec![topic_name(TOPIC); count].into_iter();
        pool.open_watched(names, Role::Subscriber, |open| watch.connecting(open))?;
        Ok(Self {
            pool,
            clock,
            filler: Filler::new(options.payload),
            members: (0..count).map(|_| Member::open(0)).collect(),
            present: (0..count).collect(),
            leaving: Vec::new(),
            free: Vec::new(),
            publishing: Schedule::new(clock.now(), options.publish_rate),
            published: 0,
            received: 0,
            joined: 0,
            left: 0,
            latency: Latency::histogram(),
            faults: Faults::default(),
            samples: Samples::default(),
            out: Vec::new(),
        })
    }

    fn run_for(
        &mut self,
        duration: Duration,
        mut joins: Option<Schedule>,
        watch: &mut Watch,
    ) -> anyhow::Result<()> {
        let until = self.clock.now() + nanos(duration);
        loop {
            let now = self.clock.now();
            if now >= until {
                return Ok(());
            }
            if watch.is_due(now) {
                watch.look(self.look());
            }
            while let Some((_, due)) = self.publishing.next(now) {
                self.publish(due);
            }
            while let Some(joins) = &mut joins
                && self.pending_count() < JOINS_PENDING_MAX
                && joins.next(now).is_some()
            {
                self.join()?;
            }
            self.turn()?;
            self.part(now);
        }
    }

    /// Lets what was published arrive everywhere, and counts what does not.
    fn settle(&mut self) -> anyhow::Result<()> {
        let until = self.clock.now() + nanos(LEAVE_TIMEOUT);
        let whole = |churn: &Self| {
            let published = churn.published;
            churn
                .members
                .iter()
                .all(|member| member.stage() != Stage::Joining && member.has_all(published))
        };
        while !whole(self) && self.clock.now() < until {
            self.turn()?;
        }
        for member in &self.members {
            if member.stage() == Stage::Joining {
                self.faults.closed += 1;
                self.samples.add("a joining connection got no answer".to_owned());
            }
            member.finish(self.published, &mut self.faults);
        }
        Ok(())
    }

    fn look(&self) -> Look<'_> {
        Look {
            time: self.clock.now(),
            connected: self.present.len(),
            received: self.received,
            latency: &self.latency,
            errors: self.faults.total(),
        }
    }

    fn publish(&mut self, due: u64) {
        self.published += 1;
        let stamp = Stamp { topic: TOPIC, seq: self.published, time: due };
        let Self { pool, filler, out, .. } = self;
        out.clear();
        pool.door().encode(out, Topic(TOPIC), filler.payload_len(), |out| filler.push(stamp, out));
        pool.send(PUBLISHER, out);
    }

    /// Connections that are neither members nor free.
    fn pending_count(&self) -> usize {
        self.members.len() - self.present.len() - self.free.len()
    }

    fn join(&mut self) -> anyhow::Result<()> {
        let index = self.free.pop().unwrap_or(self.members.len());
        self.pool.start_at(index + 1, &topic_name(TOPIC), Role::Subscriber)?;
        if index == self.members.len() {
            self.members.push(Member::joining());
        } else {
            self.members[index] = Member::joining();
        }
        Ok(())
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        let Self { pool, filler, members, present, leaving, free, .. } = self;
        let Self { latency, faults, samples, .. } = self;
        let (published, received, joined) = (self.published, &mut self.received, &mut self.joined);
        pool.turn(Wait::Sleep(NAP), |index, now, seen| {
            let Some(index) = index.checked_sub(1) else {
                match seen {
                    Seen::Publication(payload) => {
                        // A server may send a publisher its own.
                        let is_own = Stamp::read(payload).is_some_and(|stamp| stamp.topic == TOPIC);
                        faults.misrouted += u64::from(!is_own);
                    }
                    Seen::Ended(reason) => {
                        faults.closed += 1;
                        samples.add(format!("the publisher: {reason}"));
                    }
                    Seen::Opened(_) => {}
                }
                return;
            };
            let member = &mut members[index];
            match seen {
                Seen::Publication(payload) => {
                    *received += 1;
                    if let Some(time) = member.receive(payload, filler, published, faults) {
                        latency.saturating_record(now.saturating_sub(time));
                    }
                }
                Seen::Opened(_) => {
                    *member = Member::open(published);
                    *joined += 1;
                    present.push_back(index);
                    if let Some(oldest) = present.pop_front() {
                        members[oldest].leave(published, now);
                        leaving.push(oldest);
                    }
                }
                Seen::Ended(reason) => {
                    if member.stage() != Stage::Left {
                        faults.closed += 1;
                        samples.add(reason);
                        member.finish(published, faults);
                        present.retain(|present| *present != index);
                        leaving.retain(|leaving| *leaving != index);
                    }
                    member.end();
                    free.push(index);
                }
            }
        })?;
        Ok(())
    }

    /// Closes members that were told to leave and have what they wait for, or never get it.
    fn part(&mut self, now: u64) {
        let Self { pool, members, leaving, faults, left, .. } = self;
        leaving.retain(|index| {
            let member = &mut members[*index];
            let stays = !member.may_go(now, nanos(LEAVE_TIMEOUT));
            if !stays {
                member.go(faults);
                pool.send(*index + 1, &member::CLOSE_FRAME);
                *left += 1;
            }
            stays
        });
    }
}

/// What the churn cost the server.
#[derive(Debug, Serialize)]
struct Cost {
    cpu_us_per_join: f64,
    /// Shares of a core.
    busy_at_rest: f64,
    busy: f64,
    rss_start_bytes: u64,
    rss_end_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    origin: Origin,
    shape: String,
    joined: u64,
    joins_per_second: f64,
    left: u64,
    publications: u64,
    deliveries: u64,
    /// From the time that each publication was due.
    latency_ms: Latency,
    server: Option<Cost>,
    faults: Faults,
    fault_samples: Vec<String>,
    /// The rest, then the churn.
    series: Vec<Sample>,
}

impl Report {
    fn table(&self) -> Table {
        let mut table = report::begin(&self.origin, &self.shape);
        table.row("joined", grouped(self.joined));
        table.row("joins/s", rounded(self.joins_per_second));
        table.row("left", grouped(self.left));
        table.row("publications", grouped(self.publications));
        table.row("deliveries", grouped(self.deliveries));
        table.row("latency, ms", self.latency_ms.text());
        if let Some(server) = &self.server {
            table.row("server CPU/join", format!("{:.1} us", server.cpu_us_per_join));
            table.row(
                "server busy",
                format!(
                    "{:.1} % of a core, at rest {:.1} %",
                    server.busy * 100.0,
                    server.busy_at_rest * 100.0
                ),
            );
            table.row("server RSS, start", mebibytes(server.rss_start_bytes));
            table.row("server RSS, end", mebibytes(server.rss_end_bytes));
        }
        report::end(&mut table, &self.faults, &self.fault_samples);
        table
    }
}
