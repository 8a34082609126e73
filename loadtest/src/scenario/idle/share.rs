//! One thread's share of the connections, in a descriptor table of its own if there are several.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::sched::{CloneFlags, unshare};

use super::{
    super::{Samples, topic_name},
    course::{Course, Step},
};
use crate::{
    cli,
    clock::Clock,
    door::{Door, Role, Topic},
    fault::Faults,
    http::Target,
    load::pool::{Pool, Seen, Wait},
};

/// How long a share sleeps at a time while it holds; pings are answered on waking.
const NAP: Duration = Duration::from_millis(100);
/// How long a share that has nothing to do leaves the core to the others.
const PAUSE: Duration = Duration::from_millis(1);
/// Messages that make no progress for that long are lost.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a share found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Connections that got every message.
    pub(super) complete: u64,
    /// Messages, over all connections.
    pub(super) received: u64,
    /// Pings and the like that were answered.
    pub(super) replies: u64,
    pub(super) faults: Faults,
    pub(super) samples: Samples,
}

/// Connections of consecutive numbers, the first of them publishers where subscribers cannot
/// publish. Connection `n` of the run follows topic `n` modulo the number of topics.
pub(super) struct Share<D> {
    pool: Pool<D>,
    /// Number in the run of the first subscriber here.
    first: u32,
    /// Topics that this share publishes on: one from each of its first connections.
    published: u32,
    publishers: usize,
    /// Whether other shares want this core, too.
    has_company: bool,
    topics: u32,
    messages: u32,
    /// Messages by subscriber.
    counts: Vec<u32>,
    /// What a subscriber is to receive next, written anew for each.
    expected: String,
    found: Found,
}

impl<D: Door> Share<D> {
    /// Takes share `table` of the connections, in a descriptor table of this thread's own.
    ///
    /// # Errors
    /// The table cannot be had, or is too small.
    pub(super) fn begin(
        door: D,
        target: Target,
        clock: Clock,
        (options, table): (&cli::Idle, u32),
    ) -> anyhow::Result<Self> {
        if options.tables > 1 {
            unshare(CloneFlags::CLONE_FILES).context("no descriptor table of its own")?;
        }
        let edge = |table: u32| {
            let edge = u64::from(options.connections) * u64::from(table);
            u32::try_from(edge / u64::from(options.tables)).expect("no more than all connections")
        };
        let (first, end) = (edge(table), edge(table + 1));
        let used = options.topics.min(options.connections);
        let published = used.clamp(first, end) - first;
        let needs_publishers = options.messages > 0 && !D::SUBSCRIBERS_PUBLISH;
        let publishers = if needs_publishers { published as usize } else { 0 };
        let count = (end - first) as usize;
        Ok(Self {
            pool: Pool::new(door, target, clock, publishers + count)?.numbered_from(first as usize),
            first,
            published,
            publishers,
            has_company: options.tables > 1,
            topics: options.topics,
            messages: options.messages,
            counts: vec![0; count],
            expected: String::new(),
            found: Found::default(),
        })
    }

    /// Takes all steps of the run.
    ///
    /// # Errors
    /// A connection could not be opened, or the poller failed.
    pub(super) fn run(mut self, course: &Course) -> anyhow::Result<Found> {
        let publishers = self.publishers;
        self.open(course, publishers, Role::Publisher)?;
        self.hold_until(course, Step::Open)?;
        let subscribers = self.counts.len();
        self.open(course, subscribers, Role::Subscriber)?;
        self.hold_until(course, Step::Message)?;
        if !course.has_begun(Step::End) {
            self.exchange(course)?;
            course.finish_step();
        }
        self.hold_until(course, Step::End)?;
        self.finish();
        Ok(self.found)
    }

    /// Opens the next `count` connections, when it is this share's turn.
    fn open(&mut self, course: &Course, count: usize, role: Role) -> anyhow::Result<()> {
        if count > 0 {
            let entrance = loop {
                if course.has_begun(Step::End) {
                    bail!("the run ended before its time");
                }
                match course.try_enter() {
                    Some(entrance) => break entrance,
                    None => self.turn(course, Wait::Sleep(NAP / 10))?,
                };
            };
            let topics = (self.first..).take(count).map(|number| topic_name(number % self.topics));
            let topics: Vec<String> = topics.collect();
            let mut seen = self.pool.len();
            self.pool.open_watched(topics.into_iter(), role, |open| {
                course.count(open - seen, 0, 0);
                seen = open;
            })?;
            drop(entrance);
        }
        course.finish_step();
        Ok(())
    }

    fn hold_until(&mut self, course: &Course, step: Step) -> anyhow::Result<()> {
        while !course.has_begun(step) {
            self.turn(course, Wait::Sleep(NAP))?;
        }
        Ok(())
    }

    /// Publishes on every topic of this share and waits until all shares have it, as often as
    /// asked. It never sleeps in the poll: waking a sleeping client is work that the kernel charges
    /// to the server.
    fn exchange(&mut self, course: &Course) -> anyhow::Result<()> {
        for round in 1..=self.messages {
            for index in 0..self.published {
                self.publish(index, round);
            }
            let due = u64::from(round) * self.counts.len() as u64;
            let (mut is_told, mut received) = (false, self.found.received);
            let mut progress = Instant::now();
            while !course.has_rounds(round) {
                if !is_told && self.found.received >= due {
                    course.finish_round();
                    is_told = true;
                }
                if self.turn(course, Wait::Spin)? == 0 && self.has_company {
                    thread::sleep(PAUSE);
                }
                if self.found.received > received {
                    (progress, received) = (Instant::now(), self.found.received);
                } else if progress.elapsed() > MESSAGE_TIMEOUT || course.has_begun(Step::End) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn publish(&mut self, index: u32, round: u32) {
        let topic = Topic((self.first + index) % self.topics);
        let (message, mut out) = (message(topic, round), Vec::new());
        self.pool.door().encode(&mut out, topic, message.len(), |out| {
            out.extend_from_slice(message.as_bytes());
        });
        // Publishers, if there are any, and subscribers follow the same topics in the same order.
        self.pool.send(index as usize, &out);
    }

    fn turn(&mut self, course: &Course, wait: Wait) -> anyhow::Result<usize> {
        let Self { pool, publishers, first, topics, counts, expected, found, .. } = self;
        let before = (found.received, found.faults.total());
        let events = pool.turn(wait, |index, _, seen| match seen {
            Seen::Publication(payload) => {
                let Some(subscriber) = index.checked_sub(*publishers) else {
                    // A publisher that asked for no echo.
                    found.faults.misrouted += 1;
                    return;
                };
                let number = *first + u32::try_from(subscriber).expect("counted in u32");
                let next = counts[subscriber] + 1;
                write_message(expected, Topic(number % *topics), next);
                if payload == expected.as_bytes() {
                    counts[subscriber] = next;
                    found.received += 1;
                } else {
                    misfit(payload, (Topic(number % *topics), next), &mut found.faults);
                }
            }
            Seen::Ended(reason) => {
                found.faults.closed += 1;
                found.samples.add(reason);
            }
            Seen::Opened(_) => {}
        })?;
        course.count(0, found.received - before.0, found.faults.total() - before.1);
        Ok(events)
    }

    /// Closes the books.
    fn finish(&mut self) {
        let Self { pool, counts, messages, found, .. } = self;
        found.replies = pool.replies();
        found.complete = counts.iter().filter(|count| *count == messages).count() as u64;
        found.faults.lost += counts.iter().map(|count| u64::from(*messages - count)).sum::<u64>();
    }
}

/// Counts a payload that is not the one that its subscriber waits for.
#[cold]
fn misfit(payload: &[u8], (topic, next): (Topic, u32), faults: &mut Faults) {
    let text = str::from_utf8(payload).unwrap_or_default();
    let parts = text.strip_prefix("message ").and_then(|rest| rest.split_once(" to "));
    let round = parts.and_then(|(round, name)| Some((round.parse::<u32>().ok()?, name)));
    match round {
        None => faults.corrupted += 1,
        Some((_, name)) if name != topic.to_string() => faults.misrouted += 1,
        Some((round, _)) if round < next => faults.duplicated += 1,
        Some(_) => faults.reordered += 1,
    }
}

/// What is published on `topic` as number `round`.
fn message(topic: Topic, round: u32) -> String {
    let mut text = String::new();
    write_message(&mut text, topic, round);
    text
}

fn write_message(text: &mut String, topic: Topic, round: u32) {
    text.clear();
    write!(text, "message {round} to {topic}").expect("writing to a string");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_apart() {
        let wait = (Topic(7), 3);
        for (payload, fault) in [
            ("message 2 to bench-7", "duplicated"),
            ("message 4 to bench-7", "reordered"),
            ("message 3 to bench-17", "misrouted"),
            ("message 3 to bench-", "misrouted"),
            ("message x to bench-7", "corrupted"),
            ("message 3 ", "corrupted"),
            ("", "corrupted"),
        ] {
            let mut faults = Faults::default();
            misfit(payload.as_bytes(), wait, &mut faults);
            let named = faults.named();
            let found: Vec<_> = named.iter().filter(|(_, count)| *count > 0).collect();
            assert_eq!(found, [&(fault, 1)], "{payload}");
        }
    }
}
