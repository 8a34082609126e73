//! `rooms`: many small chats. Every member sends now and then, and every member of its room gets
//! it, the sender included.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::{Samples, Verdict, conclude, topic_name};
use crate::{
    cli::{Server, duration, payload_len},
    clock::{Clock, nanos},
    door::{Door as _, Plain, Role, Topic},
    fault::{Faults, Order},
    figure::{Table, float, grouped, per, rounded},
    load::pool::{Pool, Seen, Wait},
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

/// Each member keeps an order of each member of its room.
const ORDERS_MAX: u64 = 16_000_000;
/// After the last delivery: time for one too many to show up.
const AFTERMATH: Duration = Duration::from_millis(100);
/// Messages that are overdue go out in portions of this, or reading would starve.
const BURST_MAX: usize = 256;

/// Options of `rooms`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each member waits a random time between 0 and twice --interval, sends, and waits again: an open \
loop, latency counts from the time a message was due. Intervals come from --seed, so a run can be \
repeated. Each member must get what each member of its room sent, itself included, once and in \
the order it was sent in.")]
pub(crate) struct Options {
    #[command(flatten)]
    server: Server,
    /// Rooms, each a topic
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rooms: u32,
    /// Members of each room
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=4_000))]
    members: u32,
    /// Between two messages of one member, on average
    #[arg(long, default_value = "2s", value_parser = duration)]
    interval: Duration,
    /// Of the random intervals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Bytes of each message
    #[arg(long, default_value_t = 128, value_parser = payload_len)]
    payload: usize,
    /// How long the members send
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// How long to wait, after that, for what is still to come
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
    let count = books.orders.len();
    let clock = Clock::new();
    let mut watch = Watch::new(clock.now(), &options.server.pid);
    let mut pool = Pool::new(Plain, options.server.target()?, clock, count)?;
    let names: Vec<String> = (0..options.rooms)
        .flat_map(|room| std::iter::repeat_n(topic_name(room), options.members as usize))
        .collect();
    pool.open_watched(names.into_iter(), Role::Subscriber, |open| watch.connecting(open))?;
    let usage = || Usage::of(&options.server.pid).context("the server is gone");
    let (before, begun) = (usage()?, clock.now());
    watch.record(books.look(begun), Some(options.duration));
    watch.enter(Phase::Measuring);
    talk(options, &mut pool, &mut books, (clock, &mut watch))?;
    let series = watch.finish(books.look(clock.now()));
    watch.enter(Phase::Draining);
    let (after, seconds) = (usage()?, float(clock.now() - begun) / 1e9);
    let received = books.received;
    drain(options, &mut pool, &mut books, (clock, &mut watch))?;
    // Its line goes before the report comes.
    drop(watch);
    books.finish();
    let report = Report {
        origin,
        shape: format!(
            "{} rooms x {} members, one message each {} x {} B, {}, seed {}",
            options.rooms,
            options.members,
            humantime::format_duration(options.interval),
            options.payload,
            humantime::format_duration(options.duration),
            options.seed,
        ),
        messages: books.sent.iter().copied().map(u64::from).sum(),
        deliveries: books.received,
        deliveries_per_second: per(float(received), seconds),
        latency_ms: Latency::of(&books.latency),
        server: before.zip(after).map(|(before, after)| {
            let cpu_seconds = (after - before).cpu.as_secs_f64();
            Cost {
                cpu_us_per_delivery: per(cpu_seconds * 1e6, float(received)),
                busy: per(cpu_seconds, seconds),
                rss_bytes: after.rss_bytes,
            }
        }),
        faults: books.faults,
        fault_samples: books.samples.0,
        series,
    };
    conclude((&report.table(), &report), &report.faults, &options.server)
}

/// Lets all send until the duration is over.
fn talk(
    options: &Options,
    pool: &mut Pool<Plain>,
    books: &mut Books,
    (clock, watch): (Clock, &mut Watch),
) -> anyhow::Result<()> {
    let begun = clock.now();
    let until = begun + nanos(options.duration);
    let mut agenda = Agenda::new(options.seed, begun, nanos(options.interval), books.sent.len());
    let mut out = Vec::new();
    loop {
        let now = clock.now();
        if now >= until {
            return Ok(());
        }
        if watch.is_due(now) {
            watch.look(books.look(now));
        }
        for _ in 0..BURST_MAX {
            let Some((due, member)) = agenda.next(now) else { break };
            let stamp = books.send(member, due);
            out.clear();
            let room = Topic(member / options.members);
            pool.door().encode(&mut out, room, books.filler.payload_len(), |out| {
                books.filler.push(stamp, out);
            });
            pool.send(member as usize, &out);
        }
        pool.turn(Wait::Spin, |index, now, seen| books.see(index, now, seen))?;
    }
}

/// Waits for what is still to come, and a little longer for what should not come.
fn drain(
    options: &Options,
    pool: &mut Pool<Plain>,
    books: &mut Books,
    (clock, watch): (Clock, &mut Watch),
) -> anyhow::Result<()> {
    let deadline = clock.now() + nanos(options.drain);
    while books.received < books.expected() && clock.now() < deadline {
        if watch.is_due(clock.now()) {
            watch.look(books.look(clock.now()));
        }
        pool.turn(Wait::Spin, |index, now, seen| books.see(index, now, seen))?;
    }
    let until = clock.now() + nanos(AFTERMATH);
    while clock.now() < until {
        pool.turn(Wait::Spin, |index, now, seen| books.see(index, now, seen))?;
    }
    Ok(())
}

/// When each member sends next.
#[derive(Debug)]
struct Agenda {
    state: u64,
    interval: u64,
    due: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Agenda {
    fn new(seed: u64, start: u64, interval: u64, member_count: usize) -> Self {
        // Any seed but zero runs through all states.
        let state = seed ^ 0x9E37_79B9_7F4A_7C15;
        let state = if state == 0 { 1 } else { state };
        let mut agenda = Self { state, interval, due: BinaryHeap::new() };
        for member in (0..).take(member_count) {
            let wait = agenda.wait();
            agenda.due.push(Reverse((start + wait, member)));
        }
        agenda
    }

    /// A member that is due at `now`, and since when; its next time is set.
    fn next(&mut self, now: u64) -> Option<(u64, u32)> {
        let Reverse((due, member)) = *self.due.peek()?;
        if due > now {
            return None;
        }
        self.due.pop();
        let wait = self.wait();
        self.due.push(Reverse((due + wait, member)));
        Some((due, member))
    }

    /// Between 1 ns and twice the interval (xorshift).
    fn wait(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        1 + self.state % self.interval.saturating_mul(2).max(1)
    }
}

/// What each member sent, and got of the others. A stamp's topic is its sender.
#[derive(Debug)]
struct Books {
    filler: Filler,
    members_per_room: u32,
    /// Messages by sender.
    sent: Vec<u32>,
    /// By receiver, then by sender within the room.
    orders: Vec<Vec<Order>>,
    received: u64,
    latency: Histogram<u64>,
    faults: Faults,
    samples: Samples,
}

impl Books {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let (rooms, members) = (u64::from(options.rooms), u64::from(options.members));
        if rooms * members * members > ORDERS_MAX {
            bail!("rooms x members x members may be {ORDERS_MAX} at most");
        }
        let count = usize::try_from(rooms * members).context("too many connections")?;
        let orders = || (0..options.members).map(|_| Order::new()).collect();
        Ok(Self {
            filler: Filler::new(options.payload),
            members_per_room: options.members,
            sent: vec![0; count],
            orders: (0..count).map(|_| orders()).collect(),
            received: 0,
            latency: Latency::histogram(),
            faults: Faults::default(),
            samples: Samples::default(),
        })
    }

    /// Books the next message of `member`.
    fn send(&mut self, member: u32, due: u64) -> Stamp {
        let seq = &mut self.sent[member as usize];
        *seq += 1;
        Stamp { topic: member, seq: *seq, time: due }
    }

    fn see(&mut self, index: usize, now: u64, seen: Seen<'_>) {
        match seen {
            Seen::Publication(payload) => self.receive(index, now, payload),
            Seen::Opened(_) => {}
            Seen::Ended(reason) => {
                self.faults.closed += 1;
                self.samples.add(reason);
            }
        }
    }

    fn receive(&mut self, index: usize, now: u64, payload: &[u8]) {
        self.received += 1;
        let members = self.members_per_room as usize;
        let stamp = Stamp::read(payload).filter(|stamp| {
            let sent = self.sent.get(stamp.topic as usize).copied().unwrap_or(0);
            (1..=sent).contains(&stamp.seq) && self.filler.check(*stamp, payload, 0)
        });
        let Some(stamp) = stamp else {
            self.faults.corrupted += 1;
            return;
        };
        let sender = stamp.topic as usize;
        if sender / members != index / members {
            self.faults.misrouted += 1;
            return;
        }
        self.orders[index][sender % members].accept(stamp.seq, &mut self.faults);
        self.latency.saturating_record(now.saturating_sub(stamp.time));
    }

    fn look(&self, time: u64) -> Look<'_> {
        let closed = usize::try_from(self.faults.closed).unwrap_or(usize::MAX);
        Look {
            time,
            connected: self.orders.len().saturating_sub(closed),
            received: self.received,
            latency: &self.latency,
            errors: self.faults.total(),
        }
    }

    /// Deliveries, if nothing is lost.
    fn expected(&self) -> u64 {
        let sent: u64 = self.sent.iter().copied().map(u64::from).sum();
        sent * u64::from(self.members_per_room)
    }

    /// Closes the books: what has not come by now is lost.
    fn finish(&mut self) {
        let rooms = self.sent.chunks(self.members_per_room as usize);
        let receivers = self.orders.chunks(self.members_per_room as usize);
        for (sent, receivers) in rooms.zip(receivers) {
            for orders in receivers {
                for (order, sent) in orders.iter().zip(sent) {
                    order.finish(*sent, &mut self.faults);
                }
            }
        }
    }
}

#[derive(Debug, Serialize)]
struct Cost {
    cpu_us_per_delivery: f64,
    /// Share of a core.
    busy: f64,
    rss_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    origin: Origin,
    shape: String,
    messages: u64,
    deliveries: u64,
    deliveries_per_second: f64,
    latency_ms: Latency,
    server: Option<Cost>,
    faults: Faults,
    fault_samples: Vec<String>,
    series: Vec<Sample>,
}

impl Report {
    fn table(&self) -> Table {
        let mut table = report::begin(&self.origin, &self.shape);
        table.row("messages", grouped(self.messages));
        table.row("deliveries", grouped(self.deliveries));
        table.row("deliveries/s", rounded(self.deliveries_per_second));
        table.row("latency, ms", self.latency_ms.text());
        if let Some(server) = &self.server {
            table.row("server CPU/delivery", format!("{:.3} us", server.cpu_us_per_delivery));
            table.row("server busy", format!("{:.1} % of a core", server.busy * 100.0));
            table.row("server RSS", mebibytes(server.rss_bytes));
        }
        report::end(&mut table, &self.faults, &self.fault_samples);
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn sends(seed: u64) -> Vec<(u64, u32)> {
        let mut agenda = Agenda::new(seed, 0, SECOND, 10);
        std::iter::from_fn(|| agenda.next(100 * SECOND)).collect()
    }

    #[test]
    fn members_send_at_the_interval_on_average_and_a_seed_repeats_itself() {
        let all = sends(7);
        assert!((900..1_100).contains(&all.len()), "{}", all.len());
        assert!(all.is_sorted(), "in the order of time");
        assert!((0..10).all(|member| all.iter().any(|(_, sender)| *sender == member)));
        assert_eq!(all, sends(7));
        assert_ne!(all, sends(8));
        assert!(!sends(0x9E37_79B9_7F4A_7C15).is_empty());
    }

    /// Two rooms of two members; 0 and 2 have sent two messages each.
    fn books() -> (Books, [Vec<Vec<u8>>; 2]) {
        let mut books = Books {
            filler: Filler::new(64),
            members_per_room: 2,
            sent: vec![0; 4],
            orders: (0..4).map(|_| vec![Order::new(), Order::new()]).collect(),
            received: 0,
            latency: Latency::histogram(),
            faults: Faults::default(),
            samples: Samples::default(),
        };
        let payloads = [0, 2].map(|member| {
            let payload = |time| {
                let (mut out, stamp) = (Vec::new(), books.send(member, time));
                books.filler.push(stamp, &mut out);
                out
            };
            (0..2).map(payload).collect()
        });
        (books, payloads)
    }

    #[test]
    fn a_room_that_got_all_from_all_is_faultless() {
        let (mut books, payloads) = books();
        for index in 0..4 {
            for payload in &payloads[index / 2] {
                books.receive(index, 5_000, payload);
            }
        }
        assert_eq!((books.received, books.expected()), (8, 8));
        books.finish();
        assert_eq!((books.faults, books.latency.len()), (Faults::default(), 8));
    }

    #[test]
    fn what_is_of_another_room_not_whole_or_not_there_is_a_fault() {
        let (mut books, payloads) = books();
        books.receive(0, 0, &payloads[1][0]);
        books.receive(0, 0, &payloads[0][0][..40]);
        books.receive(0, 0, b"hello");
        books.receive(1, 0, &payloads[0][0]);
        books.receive(1, 0, &payloads[0][0]);
        books.finish();
        let expected =
            Faults { lost: 7, duplicated: 1, misrouted: 1, corrupted: 2, ..Faults::default() };
        assert_eq!(books.faults, expected);
    }
}
