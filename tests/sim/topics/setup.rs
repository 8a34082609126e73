//! What a seed of the doors of `/topics` stands for.

use std::time::Duration;

use fanwire::limits::{Delivery, Limits, TopicRule};
use fanwire::worker::Portions;
use fastrand::Rng;

use crate::client::{Door, Offence};
use crate::setup::{self, PAYLOAD_LEN_MIN, Pace, Setup, Topic};

/// Where a client wants its stream to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Live,
    /// Where the session of this number is.
    After(usize),
    /// So far behind the newest position that anybody saw.
    Behind(u64),
    /// An offset in whatever epoch is current.
    Offset(u64),
    /// A position of an epoch that never was.
    Stranger,
    Last(u64),
}

/// Whether a client gets its own publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    On,
    Off,
}

/// A session that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) topic: usize,
    pub(crate) door: Door,
    pub(crate) start: Start,
    pub(crate) echo: Echo,
    pub(crate) pace: Pace,
    pub(crate) worker: usize,
}

/// What only these clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Open(Opening),
    /// The session publishes `count` messages of `len` bytes, sent in pieces of `piece` bytes.
    Send {
        session: usize,
        count: usize,
        len: usize,
        piece: usize,
    },
    History {
        topic: usize,
        worker: usize,
        start: Start,
        limit: usize,
    },
    Ping {
        session: usize,
        count: usize,
    },
    Close {
        session: usize,
        code: u16,
    },
    /// The client shuts its side without a close frame.
    Shut {
        session: usize,
    },
    Offend {
        session: usize,
        offence: Offence,
    },
}

/// What happens next.
pub(crate) type Step = setup::Step<Act>;

const MESSAGE_BYTES_MAX: usize = 3000;

/// What a seed stands for.
pub(crate) fn plan(seed: u64) -> (Setup, Vec<Step>) {
    let mut random = Rng::with_seed(seed);
    let setup = setup(seed, &mut random);
    let steps = steps(&mut random);
    (setup, steps)
}

/// A server with some of the topics.
fn setup(seed: u64, random: &mut Rng) -> Setup {
    let mut topics: Vec<Topic> = (0..TOPIC_KINDS).map(|kind| topic(kind, random)).collect();
    random.shuffle(&mut topics);
    topics.truncate(random.usize(1..=4));
    // Without positions, somebody must be able to tell the order without a gap.
    let is_bare = topics.iter().any(|topic| topic.rule.history_size == 0);
    let limits = Limits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        outbox_bytes_max: 1 << random.u32(if is_bare { 16..=18 } else { 10..=15 }),
        publish_rate_max: if random.u8(..5) == 0 { random.u32(3..20) } else { 0 },
        write_timeout: Duration::from_secs(random.u64(2..=10)),
        ..Limits::default()
    };
    // Not of the same generator: the seed's other choices are not touched.
    let mut random_too = Rng::with_seed(!seed);
    let portions = if random_too.bool() {
        Portions::default()
    } else {
        Portions { writes: random_too.usize(1..=4), replay_len: 1 << random_too.u32(0..=12) }
    };
    Setup {
        seed,
        workers: random.usize(1..=3),
        topics,
        limits,
        meta_ttl: [Duration::ZERO, Duration::from_secs(5), Duration::from_hours(24)]
            [random.usize(..3)],
        drain_window: Duration::from_millis(random.u64(..3000)),
        portions,
    }
}

const TOPIC_KINDS: usize = 7;

fn topic(kind: usize, random: &mut Rng) -> Topic {
    let names = ["deep", "short", "brief", "bare", "latest", "lossy", "fleeting"];
    let name = names[kind].to_owned();
    let deep = TopicRule {
        pattern: name.clone(),
        history_size: 1000,
        history_ttl: Duration::from_mins(5),
        ..TopicRule::default()
    };
    let any_class = Delivery::ALL[random.usize(..3)];
    let rule = match kind {
        1 => TopicRule {
            history_size: random.usize(1..12),
            history_bytes_max: random.usize(200..6000),
            delivery: any_class,
            ..deep
        },
        2 | 6 => TopicRule {
            history_ttl: Duration::from_millis(random.u64(100..5000)),
            delivery: any_class,
            ..deep
        },
        3 => TopicRule { history_size: 0, delivery: any_class, ..deep },
        4 => TopicRule { delivery: Delivery::Latest, ..deep },
        5 => TopicRule { delivery: Delivery::Lossy, ..deep },
        _ => deep,
    };
    // A topic that somebody reads is never forgotten.
    let is_witnessed = !matches!(kind, 2);
    Topic { name, rule, is_witnessed }
}

/// What the clients of a seed do.
fn steps(random: &mut Rng) -> Vec<Step> {
    // Each seed has its own mixture, so that some do much of one thing.
    let weights: Vec<u32> = BASE_WEIGHTS.iter().map(|base| base * random.u32(..=4)).collect();
    let weights = if weights.iter().sum::<u32>() == 0 { BASE_WEIGHTS.to_vec() } else { weights };
    let shape =
        Shape { len_max: [40, 300, 2500, 2500][random.usize(..4)], burst: random.usize(1..=12) };
    let count = random.usize(20..=90);
    let mut steps: Vec<Step> =
        (0..random.usize(1..=4)).map(|_| Step::Act(Act::Open(opening(random)))).collect();
    for _ in 0..count {
        steps.push(step(pick(&weights, random), shape, random));
        steps.extend((random.u8(..6) == 0).then_some(Step::AtOnce));
    }
    if random.u8(..4) == 0 {
        // The server leaves while some of its clients are far behind.
        steps.extend((0..4).map(|_| {
            let opening = Opening { pace: Pace::Slow(random.usize(100..2000)), ..opening(random) };
            Step::Act(Act::Open(Opening { start: Start::Last(random.u64(5..20)), ..opening }))
        }));
        steps.extend([Step::Drain, Step::Advance { millis: random.u64(500..4000) }]);
    }
    steps
}

/// How much a seed's publishers say.
#[derive(Debug, Clone, Copy)]
struct Shape {
    len_max: usize,
    burst: usize,
}

fn pick(weights: &[u32], random: &mut Rng) -> usize {
    let mut at = random.u32(..weights.iter().sum::<u32>());
    let found = weights.iter().position(|weight| {
        let is_here = at < *weight;
        at = at.saturating_sub(*weight);
        is_here
    });
    found.expect("the weights cover the number")
}

const BASE_WEIGHTS: [u32; 14] = [24, 40, 30, 8, 14, 4, 5, 4, 2, 2, 24, 3, 5, 1];

fn step(kind: usize, shape: Shape, random: &mut Rng) -> Step {
    let session = random.usize(..64);
    let (topic, worker) = (random.usize(..8), random.usize(..8));
    let len = random.usize(PAYLOAD_LEN_MIN..=shape.len_max);
    match kind {
        0 => Step::Act(Act::Open(opening(random))),
        1 => {
            let piece = if random.u8(..4) == 0 { random.usize(1..64) } else { usize::MAX };
            Step::Act(Act::Send { session, count: random.usize(1..=shape.burst), len, piece })
        }
        2 => {
            let key = (random.u8(..4) == 0).then(|| random.u8(..4));
            Step::Post { topic, worker, len, key }
        }
        3 => {
            let limit = [0, 1, 5, 100, 1000][random.usize(..5)];
            Step::Act(Act::History { topic, worker, start: start(random), limit })
        }
        4 => Step::Pace { session, pace: pace(random) },
        5 => Step::Act(Act::Ping { session, count: random.usize(1..4) }),
        6 => Step::Act(Act::Close { session, code: [1000, 1001, 3000, 1000][random.usize(..4)] }),
        7 => Step::Vanish { session },
        8 => Step::Act(Act::Shut { session }),
        9 => {
            use Offence::{ReservedBits, TooLarge, Unmasked, Utf8};
            let offence = [Unmasked, ReservedBits, Utf8, TooLarge][random.usize(..4)];
            Step::Act(Act::Offend { session, offence })
        }
        10 => Step::Advance { millis: millis(random) },
        11 => Step::Freeze { worker },
        12 => Step::Thaw { worker },
        _ => Step::Drain,
    }
}

/// Mostly moments, sometimes a pause longer than every deadline, seldom a machine that slept.
fn millis(random: &mut Rng) -> u64 {
    match random.u8(..20) {
        0..10 => random.u64(1..100),
        10..15 => random.u64(100..3000),
        15..18 => random.u64(3000..15_000),
        18 => random.u64(15_000..60_000),
        _ => random.u64(60_000..90_000_000),
    }
}

fn opening(random: &mut Rng) -> Opening {
    use Door::{Json, Ndjson, Plain, Sse, SseJson};
    Opening {
        topic: random.usize(..8),
        door: [Plain, Json, Json, Sse, SseJson, Ndjson][random.usize(..6)],
        start: start(random),
        echo: if random.u8(..4) == 0 { Echo::Off } else { Echo::On },
        pace: pace(random),
        worker: random.usize(..8),
    }
}

fn start(random: &mut Rng) -> Start {
    match random.u8(..10) {
        0..4 => Start::Live,
        4 | 5 => Start::After(random.usize(..64)),
        6 => Start::Behind(random.u64(..12)),
        7 => Start::Offset(random.u64(..6)),
        8 => Start::Last(random.u64(..20)),
        _ => Start::Stranger,
    }
}

fn pace(random: &mut Rng) -> Pace {
    match random.u8(..8) {
        0..4 => Pace::Prompt,
        4 | 5 => Pace::Slow(random.usize(1..2000)),
        _ => Pace::Stopped,
    }
}
