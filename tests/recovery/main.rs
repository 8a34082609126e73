//! Hundreds of clients of every door that recovers, cut at random while publishers run as fast as
//! they can: each has every publication once and in order, or was told where its gap is.
//!
//! Clients, cuts and calls come from a seed; `FANWIRE_RECOVERY_SEED=7 cargo test --test recovery`
//! runs another, and `FANWIRE_RECOVERY_COUNT=100` so many from there on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;
mod centrifugo;
#[path = "../it/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the tests that it is written for")]
mod harness;
#[path = "../invariant/mod.rs"]
#[allow(unused_imports, reason = "other tests look at more")]
mod invariant;
mod judge;
mod line;
mod message;
mod pipe;
mod plain;
mod publisher;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use fastrand::Rng;

use account::{Account, Replay};
use centrifugo::{Codec, Deltas, Dialect, Transport};
use harness::{DEADLINE, Server};
use invariant::Position;
use judge::{Judge, Summary};
use line::{Line, Plan};
use plain::Form;
use world::World;

/// Clients of each way to speak.
const CLIENTS: usize = 25;

/// Bytes after which a connection is cut at the latest.
const CUT_AFTER_MAX: usize = 40_000;

/// A client's thread needs little.
const STACK_LEN: usize = 256 * 1024;

/// How a client speaks.
#[derive(Debug, Clone, Copy)]
enum Speech {
    Plain(Form),
    Centrifugo(Dialect),
}

const SPEECHES: [Speech; 12] = {
    use Codec::{Json, Protobuf};
    use Deltas::{Off, On};
    use Transport::{HttpStream, Sse, WebSocket};
    const fn dialect(transport: Transport, codec: Codec, deltas: Deltas) -> Speech {
        Speech::Centrifugo(Dialect { transport, codec, deltas })
    }
    [
        Speech::Plain(Form::Raw),
        Speech::Plain(Form::Json),
        Speech::Plain(Form::Ndjson),
        Speech::Plain(Form::Sse),
        Speech::Plain(Form::Several),
        dialect(WebSocket, Json, Off),
        dialect(WebSocket, Json, On),
        dialect(WebSocket, Protobuf, Off),
        dialect(WebSocket, Protobuf, On),
        dialect(HttpStream, Json, Off),
        dialect(HttpStream, Protobuf, On),
        dialect(Sse, Json, On),
    ]
};

impl Speech {
    /// How many of the topics such a client subscribes to.
    fn topic_count(self) -> usize {
        match self {
            Self::Plain(Form::Several) => 3,
            Self::Plain(_) => 1,
            Self::Centrifugo(_) => 2,
        }
    }
}

/// Comes back until the account has everything.
fn live(account: &mut Account, speech: Speech, (world, mut random): (&World, Rng)) {
    while !account.is_done() {
        let plans = [(); 2].map(|()| {
            if world.is_calm() { Plan::CALM } else { Plan::random(&mut random, CUT_AFTER_MAX) }
        });
        let outcome = match speech {
            Speech::Plain(form) => form.follow(account, Line::connect(world.addr, plans[0])),
            Speech::Centrifugo(dialect) => dialect.follow(account, (world.addr, plans)),
        };
        if let Err(broken) = outcome {
            account.breaks.push(broken);
            world.count_break();
        }
    }
}

/// What was published.
#[derive(Debug, Default)]
struct Ledger {
    /// By topic: what a publisher was told of its place.
    acknowledged: Vec<(usize, Position, String)>,
    payloads: BTreeSet<String>,
    /// Publications of each topic while connections were cut.
    counts: [u64; World::TOPICS.len()],
}

impl Ledger {
    fn add(&mut self, topic: usize, (position, payload): (Position, String)) {
        self.payloads.insert(payload.clone());
        self.acknowledged.push((topic, position, payload));
    }
}

/// Publishes to all topics at once.
fn publish(server: &Server, world: &World) -> Ledger {
    let mut ledger = Ledger::default();
    let goes = |count| world.needs_more(count);
    thread::scope(|scope| {
        let publishers = (0..World::TOPICS.len()).map(|topic| {
            let post = scope.spawn(move || publisher::post(server, topic, goes));
            let command = scope.spawn(move || publisher::command(server, topic, goes));
            (topic, post, command)
        });
        let publishers: Vec<_> = publishers.collect();
        for (topic, post, command) in publishers {
            let (commands, posts) = (command.join().unwrap(), post.join().unwrap());
            ledger.counts[topic] = (commands.len() + posts.len()) as u64;
            ledger.payloads.extend(commands);
            for one in posts {
                ledger.add(topic, one);
            }
        }
    });
    ledger
}

/// Publishes to every topic, so that nobody waits for nothing, until all have what they need.
fn publish_until(server: &Server, is_over: impl Fn() -> bool, ledger: &mut Ledger) {
    let deadline = Instant::now() + 6 * DEADLINE;
    for n in 0.. {
        for (topic, name) in World::TOPICS.into_iter().enumerate() {
            let payload = publisher::payload("tail", n);
            ledger.add(topic, (server.publish(name, &payload), payload));
        }
        if is_over() {
            return;
        }
        assert!(Instant::now() < deadline, "not everybody got everything");
    }
}

/// Clients that read, publishers, and what comes of them.
fn run(seed: u64) -> Result<Summary, Vec<String>> {
    let config = format!("{}{}", publisher::auth(), World::CONFIG);
    let server = Server::start_with(&config, &["--workers", "2"]);
    let world = Arc::new(World::new(server.addr));
    let mut clients: Vec<_> =
        (0..CLIENTS * SPEECHES.len()).map(|index| client(index, &world)).collect();
    let users: Vec<_> = clients.iter().map(|(account, _)| account.name.clone()).collect();
    let mut random = Rng::with_seed(seed);
    let ledger = thread::scope(|scope| {
        let threads = clients.iter_mut().map(|(account, speech)| {
            let (random, speech, world) = (random.fork(), *speech, &*world);
            let thread = thread::Builder::new().stack_size(STACK_LEN);
            let life = move || live(account, speech, (world, random));
            thread.spawn_scoped(scope, life).expect("a thread")
        });
        let threads: Vec<_> = threads.collect();
        let disturbance = scope.spawn(|| publisher::disturb(&server, &users, random.fork()));
        let mut ledger = publish(&server, &world);
        disturbance.join().unwrap();
        let tops = World::TOPICS.map(|topic| {
            let page = server.get(&format!("/topics/{topic}/history?limit=0")).json();
            Position::of(&page).offset
        });
        assert_eq!(tops, ledger.counts, "each was accepted once");
        world.calm_down(tops);
        let is_over = || threads.iter().all(thread::ScopedJoinHandle::is_finished);
        publish_until(&server, is_over, &mut ledger);
        ledger
    });
    server.await_metric("fanwire_subscriptions", &[], 0);
    let presence = server.get("/topics/deep-a/presence").json();
    assert_eq!((&presence["clients"], &presence["users"]), (&0.into(), &0.into()));
    judge(&clients, ledger)
}

fn client(index: usize, world: &Arc<World>) -> (Account, Speech) {
    let (first, speech) = (index / SPEECHES.len(), SPEECHES[index % SPEECHES.len()]);
    let topics = (0..speech.topic_count()).map(|nth| (first + nth) % World::TOPICS.len());
    let topics: Vec<_> = topics.collect();
    let replay = match speech {
        Speech::Plain(_) => Replay::Stream,
        Speech::Centrifugo(_) => Replay::Reply,
    };
    (Account::new(format!("client {index} {speech:?}"), replay, &topics, world), speech)
}

fn judge(clients: &[(Account, Speech)], ledger: Ledger) -> Result<Summary, Vec<String>> {
    let mut judge = Judge::new(ledger.payloads);
    for (account, _) in clients {
        judge.hears(account);
    }
    for (topic, position, payload) in &ledger.acknowledged {
        // What comes when all have enough is for those who wait.
        if position.offset <= ledger.counts[*topic] {
            judge.acknowledged(*topic, position, payload);
        }
    }
    judge.finish();
    if judge.findings.is_empty() { Ok(judge.summary) } else { Err(judge.findings) }
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn whoever_is_cut_at_random_under_load_gets_everything_or_is_told() {
    let first = number_of("FANWIRE_RECOVERY_SEED").unwrap_or(1);
    for seed in first..first + number_of("FANWIRE_RECOVERY_COUNT").unwrap_or(1) {
        eprintln!("to see it again: FANWIRE_RECOVERY_SEED={seed} cargo test --test recovery");
        let begun = Instant::now();
        let summary = run(seed).unwrap_or_else(|findings| {
            panic!(
                "seed {seed}: {} findings: {:#?}",
                findings.len(),
                &findings[..findings.len().min(10)]
            )
        });
        eprintln!("{:?} {summary:?}", begun.elapsed());
        summary.assert_complete();
    }
}
