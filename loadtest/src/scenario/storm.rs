//! `storm`: all connect at once, all are cut at once, and all come back for what they missed.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::{Samples, Verdict, conclude, topic_name};
use crate::{
    cli::{Server, duration, payload_len},
    clock::Clock,
    door::{Plain, Role},
    fault::Faults,
    figure::{Table, float, grouped, per, rounded},
    http,
    load::{
        ledger::Ledger,
        pool::{Pool, Seen, Wait},
    },
    process::Usage,
    report::{self, Origin, live::Phase, mebibytes, series::Sample, watch::Watch},
};

/// After the cut, and after the last delivery: time for the server to notice, or to send one too
/// many.
const PAUSE: Duration = Duration::from_millis(200);

/// Options of `storm`.
#[derive(Debug, Args)]
#[command(after_help = "\
Connects all as fast as the server takes them, lets each topic publish --messages, cuts all \
connections at once (with resets), publishes --missed on each topic, and reconnects all with \
`?since=` of the position each had: the epoch and offset that its handshake told, and the frames \
it got since. Then each topic publishes once more. Whatever does not come exactly once and in \
order is a fault. A server that tells no positions is not asked to recover: --missed counts as 0.")]
pub(crate) struct Options {
    #[command(flatten)]
    server: Server,
    /// Topics that the connections are spread over
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    topics: u32,
    /// Subscribers of each topic
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    subscribers: u32,
    /// Publications on each topic before the cut
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    messages: u32,
    /// Publications on each topic while all are away; keep it under the server's history
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    missed: u32,
    /// Bytes of each payload
    #[arg(long, default_value_t = 128, value_parser = payload_len)]
    payload: usize,
    /// How long to wait for what is still to come
    #[arg(long, default_value = "10s", value_parser = duration)]
    drain: Duration,
}

/// Runs the scenario and reports it.
///
/// # Errors
/// It could not be run at all.
pub(crate) fn run(options: &Options) -> anyhow::Result<Verdict> {
    options.server.require_plain()?;
    let origin = Origin::here();
    let mut books = Books::new(options)?;
    books.watch.record(books.ledger.look(books.clock.now(), 0), None);
    let (mut pool, connect) = wave(options, &mut books, Wave::First)?;
    publish(options, &mut pool, &mut books, options.messages);
    wait(options, &mut pool, &mut books)?;
    drop(pool);
    books.connected = 0;
    let positioned = books.positions.iter().all(Option::is_some);
    let missed = if positioned { options.missed } else { 0 };
    books.asked = positioned;
    let begun = Instant::now();
    let (mut pool, reconnect) = wave(options, &mut books, Wave::Second { missed })?;
    wait(options, &mut pool, &mut books)?;
    let whole = books.ledger.outstanding() == 0;
    let recovery = whole.then(|| begun.elapsed().saturating_sub(PAUSE).as_secs_f64());
    publish(options, &mut pool, &mut books, 1);
    wait(options, &mut pool, &mut books)?;
    turn_for(&mut pool, &mut books, PAUSE)?;
    let series = books.watch.finish(books.ledger.look(books.clock.now(), books.connected));
    // Its line goes before the report comes.
    drop(books.watch);
    books.ledger.finish();
    let report = Report {
        origin,
        shape: format!(
            "{} topics x {} subscribers, {} publications each, cut, {missed} more",
            options.topics, options.subscribers, options.messages
        ),
        connect,
        reconnect,
        recovery_seconds: recovery,
        recovered: books.recovered,
        not_recovered: books.not_recovered,
        deliveries: books.ledger.received,
        faults: books.ledger.faults,
        fault_samples: books.samples.0,
        series,
        note: (!positioned).then_some("the server tells no positions: nothing was to recover"),
    };
    conclude((&report.table(), &report), &report.faults, &options.server)
}

/// Which connections are opened.
#[derive(Debug, Clone, Copy)]
enum Wave {
    First,
    Second { missed: u32 },
}

/// Opens publishers and then, measured, all subscribers.
fn wave(
    options: &Options,
    books: &mut Books,
    wave: Wave,
) -> anyhow::Result<(Pool<Plain>, Opening)> {
    let publishers = options.topics as usize;
    let total = publishers + books.positions.len();
    let mut pool = Pool::new(Plain, options.server.target()?, books.clock, total)?;
    books.watch.enter(Phase::Connecting);
    pool.open(
        (0..options.topics).map(topic_name).collect::<Vec<_>>().into_iter(),
        Role::Publisher,
    )?;
    if let Wave::Second { missed } = wave {
        publish(options, &mut pool, books, missed);
        turn_for(&mut pool, books, PAUSE)?;
    }
    let names: Vec<String> = (0..books.positions.len()).map(|index| books.name(index)).collect();
    let usage = || Usage::of(&options.server.pid).context("the server is gone");
    let begun = usage()?;
    let time = pool.open_with(names.into_iter(), Role::Subscriber, |index, now, seen| {
        books.see(index, now, seen);
    })?;
    let ended = usage()?;
    books.watch.enter(Phase::Measuring);
    let count = float(books.positions.len() as u64);
    let opening = Opening {
        seconds: time.as_secs_f64(),
        connections_per_second: per(count, time.as_secs_f64()),
        server: begun.zip(ended).map(|(begun, ended)| Cost {
            cpu_us_per_handshake: per((ended - begun).cpu.as_secs_f64() * 1e6, count),
            rss_bytes: ended.rss_bytes,
        }),
    };
    Ok((pool, opening))
}

fn publish(options: &Options, pool: &mut Pool<Plain>, books: &mut Books, count: u32) {
    let mut out = Vec::new();
    for topic in 0..options.topics {
        let now = books.clock.now();
        for _ in 0..count {
            books.ledger.publish(pool.door(), topic, now, &mut out);
        }
        pool.send(topic as usize, &out);
        out.clear();
    }
}

/// Until all have everything, or patience ends.
fn wait(options: &Options, pool: &mut Pool<Plain>, books: &mut Books) -> anyhow::Result<()> {
    let begun = Instant::now();
    while books.ledger.outstanding() > 0 && begun.elapsed() < options.drain {
        books.look(books.clock.now());
        pool.turn(Wait::Spin, |index, now, seen| books.see(index, now, seen))?;
    }
    Ok(())
}

fn turn_for(pool: &mut Pool<Plain>, books: &mut Books, time: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        books.look(books.clock.now());
        pool.turn(Wait::Spin, |index, now, seen| books.see(index, now, seen))?;
    }
    Ok(())
}

/// Where a subscriber stands in its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    epoch: String,
    offset: u64,
}

impl Position {
    /// What the head of a handshake's answer tells.
    fn read(head: &[u8]) -> Option<Self> {
        let epoch = http::field(head, "fanwire-epoch")?.to_owned();
        let offset = http::field(head, "fanwire-offset")?.parse().ok()?;
        Some(Self { epoch, offset })
    }
}

/// What each subscriber got, over both of its connections.
struct Books {
    clock: Clock,
    topics: u32,
    ledger: Ledger,
    /// By subscriber; the offset moves on with each frame.
    positions: Vec<Option<Position>>,
    /// Whether the handshakes ask for what was missed.
    asked: bool,
    recovered: u64,
    not_recovered: u64,
    connected: usize,
    samples: Samples,
    watch: Watch,
}

impl Books {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let count = u64::from(options.topics) * u64::from(options.subscribers);
        let count = u32::try_from(count).context("too many connections")?;
        let clock = Clock::new();
        Ok(Self {
            clock,
            topics: options.topics,
            ledger: Ledger::new(options.topics, options.subscribers, options.payload),
            positions: vec![None; count as usize],
            asked: false,
            recovered: 0,
            not_recovered: 0,
            connected: 0,
            samples: Samples::default(),
            watch: Watch::new(clock.now(), &options.server.pid),
        })
    }

    /// The topic of subscriber `index`, with the position to go on from.
    fn name(&self, index: usize) -> String {
        let topic = u32::try_from(index % self.topics as usize).expect("less than a u32");
        let name = topic_name(topic);
        match &self.positions[index] {
            Some(Position { epoch, offset }) if self.asked => {
                format!("{name}?since={epoch}:{offset}")
            }
            _ => name,
        }
    }

    /// Tells how far the run is, if it is time to.
    fn look(&mut self, now: u64) {
        if self.watch.is_due(now) {
            self.watch.look(self.ledger.look(now, self.connected));
        }
    }

    fn see(&mut self, index: usize, now: u64, seen: Seen<'_>) {
        self.connected += usize::from(matches!(seen, Seen::Opened(_)));
        self.look(now);
        let subscriber = index.checked_sub(self.topics as usize);
        match (seen, subscriber) {
            (Seen::Publication(payload), Some(subscriber)) => {
                if let Some(position) = &mut self.positions[subscriber] {
                    position.offset += 1;
                }
                let subscriber = u32::try_from(subscriber).expect("counted in u32");
                self.ledger.receive(subscriber, now, payload);
            }
            (Seen::Publication(_), None) => self.ledger.faults.misrouted += 1,
            (Seen::Opened(head), Some(_)) if self.asked => {
                match http::field(head, "fanwire-recovered") {
                    Some("true") => self.recovered += 1,
                    _ => self.not_recovered += 1,
                }
            }
            (Seen::Opened(head), Some(subscriber)) => {
                self.positions[subscriber] = Position::read(head);
            }
            (Seen::Opened(_), None) => {}
            (Seen::Ended(reason), _) => {
                self.ledger.faults.closed += 1;
                self.samples.add(reason);
            }
        }
    }
}

#[derive(Debug, Serialize)]
struct Cost {
    cpu_us_per_handshake: f64,
    rss_bytes: u64,
}

/// How all were opened.
#[derive(Debug, Serialize)]
struct Opening {
    seconds: f64,
    connections_per_second: f64,
    server: Option<Cost>,
}

impl Opening {
    fn text(&self) -> String {
        let all =
            format!("all in {:.3} s, {}/s", self.seconds, rounded(self.connections_per_second));
        match &self.server {
            Some(server) => format!(
                "{all}, server CPU/handshake {:.1} us, RSS {}",
                server.cpu_us_per_handshake,
                mebibytes(server.rss_bytes)
            ),
            None => all,
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    origin: Origin,
    shape: String,
    connect: Opening,
    reconnect: Opening,
    /// From the cut until all had all that they missed; none if they never had.
    recovery_seconds: Option<f64>,
    recovered: u64,
    /// Asked, and told that it cannot be.
    not_recovered: u64,
    deliveries: u64,
    faults: Faults,
    fault_samples: Vec<String>,
    /// From the first connection to the last delivery.
    series: Vec<Sample>,
    note: Option<&'static str>,
}

impl Report {
    fn table(&self) -> Table {
        let mut table = report::begin(&self.origin, &self.shape);
        table.row("connect", self.connect.text());
        table.row("reconnect", self.reconnect.text());
        let recovery = self.recovery_seconds.map(|time| format!("{time:.3} s after the cut"));
        table.row("all had all again", recovery.unwrap_or_else(|| "never".to_owned()));
        table.row("recovered: true", grouped(self.recovered));
        table.row("recovered: false", grouped(self.not_recovered));
        table.row("deliveries", grouped(self.deliveries));
        report::end(&mut table, &self.faults, &self.fault_samples);
        if let Some(note) = self.note {
            table.row("note", note);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(arguments: &str) -> Books {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        let line = format!("storm {arguments}");
        let Line { options } = clap::Parser::try_parse_from(line.split(' ')).expect("parses");
        Books::new(&options).expect("fits")
    }

    #[test]
    fn the_position_is_the_handshakes_plus_the_frames_since() {
        let mut books = books("--topics 2 --subscribers 1");
        let head = b"HTTP/1.1 101 OK\r\nFanwire-Epoch: a1\r\nfanwire-offset: 7\r\n\r\n";
        for index in 0..4 {
            books.see(index, 0, Seen::Opened(head));
        }
        assert_eq!(books.name(1), "bench-1", "nothing is asked at first");
        let mut out = Vec::new();
        books.ledger.publish(&Plain, 1, 0, &mut out);
        let payload = out.split_off(out.len() - 128);
        books.see(3, 0, Seen::Publication(&payload));
        books.asked = true;
        assert_eq!(books.name(0), "bench-0?since=a1:7");
        assert_eq!(books.name(1), "bench-1?since=a1:8");
        // Replayed although it was asked for what came after.
        books.see(3, 0, Seen::Publication(&payload));
        assert_eq!(books.ledger.faults.duplicated, 1);
    }

    #[test]
    fn answers_are_counted_by_what_they_say_of_recovery() {
        let mut books = books("--topics 1 --subscribers 3");
        books.asked = true;
        books.see(1, 0, Seen::Opened(b"HTTP/1.1 101 OK\r\nFanwire-Recovered: true\r\n\r\n"));
        books.see(2, 0, Seen::Opened(b"HTTP/1.1 101 OK\r\nFanwire-Recovered: false\r\n\r\n"));
        books.see(3, 0, Seen::Opened(b"HTTP/1.1 101 OK\r\n\r\n"));
        assert_eq!((books.recovered, books.not_recovered), (1, 2));
        assert_eq!(Position::read(b"HTTP/1.1 101 OK\r\nFanwire-Epoch: a\r\n\r\n"), None);
    }
}
