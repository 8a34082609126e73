//! `idle`: connections that only wait, and what each of them costs.

use std::time::{Duration, Instant};

use super::{Samples, Verdict, conclude, topic_name};
use crate::{
    cli,
    clock::Clock,
    door::{Door, Role, Topic, through},
    fault::Faults,
    figure::{float, per},
    load::pool::{Pool, Seen, Wait},
    process::Usage,
    report::{self, IdleCost, Origin},
};

/// How long the tester sleeps at a time while it holds; pings are answered on waking.
const NAP: Duration = Duration::from_millis(100);
/// A server that has not delivered one message by then has lost it.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
const MESSAGE: &[u8] = b"hello";

/// Runs the scenario and reports it.
///
/// # Errors
/// It could not be run at all.
pub(crate) fn run(options: &cli::Idle) -> anyhow::Result<Verdict> {
    through!(options.server.door, door => run_through(door, options))
}

fn run_through<D: Door>(door: D, options: &cli::Idle) -> anyhow::Result<Verdict> {
    let origin = Origin::here();
    let count = options.connections as usize;
    let pids = &options.server.pid;
    // Opened before anything is weighed.
    let publisher_count = if options.message && !D::SUBSCRIBERS_PUBLISH {
        options.topics.min(options.connections)
    } else {
        0
    };
    let publishers = publisher_count as usize;
    let clock = Clock::new();
    let mut hold = Hold {
        pool: Pool::new(door, options.server.target()?, clock, publishers + count + 1)?,
        publishers,
        received: vec![0; count],
        faults: Faults::default(),
        samples: Samples::default(),
    };
    let names = (0..publisher_count).map(topic_name);
    hold.pool.open(names.collect::<Vec<_>>().into_iter(), Role::Publisher)?;
    let before = Usage::of(pids)?;
    let names = (0..options.connections).map(|index| topic_name(index % options.topics));
    let opening = hold.pool.open(names.collect::<Vec<_>>().into_iter(), Role::Subscriber)?;
    let opened = Usage::of(pids)?;
    hold.turns_for(options.hold)?;
    let rested = Usage::of(pids)?;
    let messaged = options.message.then(|| hold.message(options)).transpose()?;
    let after = Usage::of(pids)?;
    let connections = f64::from(options.connections);
    let per_connection = |bytes: u64| per(float(bytes), connections);
    let cost = |((before, opened), (rested, after)): ((Usage, Usage), (Usage, Usage))| IdleCost {
        cpu_us_per_handshake: per((opened - before).cpu.as_secs_f64() * 1e6, connections),
        rss_before_bytes: before.rss_bytes,
        rss_after_bytes: rested.rss_bytes,
        rss_per_connection: per_connection((rested - before).rss_bytes),
        anonymous_per_connection: per_connection((rested - before).anonymous_bytes),
        rss_per_connection_after_message: options
            .message
            .then(|| per_connection((after - before).rss_bytes)),
        busy_while_held: per((rested - opened).cpu.as_secs_f64(), options.hold.as_secs_f64()),
    };
    let report = report::Idle {
        origin,
        shape: format!(
            "{} connections on {} topics{}, held {}",
            options.connections,
            options.topics,
            options.server.door.note(),
            humantime::format_duration(options.hold)
        ),
        connections_per_second: per(connections, opening.as_secs_f64()),
        server: before.zip(opened).zip(rested.zip(after)).map(cost),
        messaged,
        faults: hold.faults,
        fault_samples: hold.samples.0,
    };
    conclude((&report.table(), &report), &report.faults, &options.server)
}

struct Hold<D> {
    pool: Pool<D>,
    /// The first connections of the pool, where subscribers cannot publish.
    publishers: usize,
    /// Messages by subscriber.
    received: Vec<u32>,
    faults: Faults,
    samples: Samples,
}

impl<D: Door> Hold<D> {
    fn turns_for(&mut self, duration: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        while let Some(left) = duration.checked_sub(begun.elapsed()).filter(|left| !left.is_zero())
        {
            self.turn(left.min(NAP))?;
        }
        Ok(())
    }

    fn turn(&mut self, nap: Duration) -> anyhow::Result<()> {
        let Self { pool, publishers, received, faults, samples } = self;
        pool.turn(Wait::Sleep(nap), |index, _, seen| match seen {
            Seen::Publication(payload) if payload == MESSAGE => {
                match index.checked_sub(*publishers) {
                    Some(subscriber) => received[subscriber] += 1,
                    // A publisher that asked for no echo.
                    None => faults.misrouted += 1,
                }
            }
            Seen::Publication(_) => faults.corrupted += 1,
            Seen::Ended(reason) => {
                faults.closed += 1;
                samples.add(reason);
            }
            Seen::Opened(_) => {}
        })?;
        Ok(())
    }

    /// Publishes once on each topic, from connections that are subscribed there, and counts who
    /// got it.
    fn message(&mut self, options: &cli::Idle) -> anyhow::Result<u64> {
        let mut out = Vec::new();
        for topic in 0..options.topics.min(options.connections) {
            self.pool.door().encode(&mut out, Topic(topic), MESSAGE.len(), |out| {
                out.extend_from_slice(MESSAGE);
            });
            self.pool.send(topic as usize, &out);
            out.clear();
        }
        let begun = Instant::now();
        while self.received.contains(&0) && begun.elapsed() < MESSAGE_TIMEOUT {
            self.turn(NAP)?;
        }
        for count in &self.received {
            match count {
                0 => self.faults.lost += 1,
                more => self.faults.duplicated += u64::from(more - 1),
            }
        }
        Ok(self.received.iter().filter(|count| **count > 0).count() as u64)
    }
}
