//! What a seed of the Centrifugo door stands for.

use std::time::Duration;

use fanwire::limits::{Delivery, JoinLeave, Limits, TopicRule};
use fanwire::worker::Portions;
use fastrand::Rng;

use crate::setup::{self, PAYLOAD_LEN_MIN, Pace, Setup, Topic};

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    /// A body, and requests to `/emulation`.
    HttpStream,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Json,
    Protobuf,
}

/// How a client shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guise {
    pub(crate) transport: Transport,
    pub(crate) codec: Codec,
    /// The number of the user that its token names, if it has one.
    pub(crate) user: Option<u8>,
    pub(crate) pace: Pace,
}

impl Guise {
    /// A client that reads everything at once.
    pub(crate) const PLAIN: Self = Self {
        transport: Transport::WebSocket,
        codec: Codec::Json,
        user: None,
        pace: Pace::Prompt,
    };
}

/// What the application has done to all sessions of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Disconnect,
    /// From that topic.
    Unsubscribe(usize),
}

/// Where a subscription is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Live,
    /// Where the subscription of this number is.
    After(usize),
    /// So far behind the newest position that anybody saw.
    Behind(u64),
    /// A position of an epoch that never was.
    Stranger,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deltas {
    Off,
    On,
}

/// Whether a subscriber asks to hear who comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hears {
    Publications,
    Members,
}

/// What a client asks of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) topic: usize,
    pub(crate) from: From,
    pub(crate) deltas: Deltas,
    pub(crate) hears: Hears,
}

/// What only these clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Connect { guise: Guise, worker: usize },
    Subscribe { session: usize, wish: Wish },
    Unsubscribe { session: usize, topic: usize },
    Publish { session: usize, topic: usize, count: usize, len: usize },
    Presence { session: usize, topic: usize },
    Call { user: u8, order: Order, worker: usize },
}

/// What happens next.
pub(crate) type Step = setup::Step<Act>;

const USERS: u8 = 3;

/// Longer than a run lasts: only counts trim history, and no topic is forgotten in it.
const HISTORY_TTL: Duration = Duration::from_hours(5);

/// A server with topics of which members are told.
pub(crate) fn plan(seed: u64) -> (Setup, Vec<Step>) {
    let mut random = Rng::with_seed(seed);
    let room = if random.bool() { Room::Little } else { Room::Enough };
    let limits = Limits {
        outbox_bytes_max: 1 << if room == Room::Little { 16 } else { 20 },
        write_timeout: Duration::from_secs(random.u64(2..=10)),
        ..Limits::default()
    };
    let portions = if random.bool() {
        Portions::default()
    } else {
        Portions { writes: random.usize(1..=4), replay_len: 1 << random.u32(0..=12) }
    };
    let setup = Setup {
        seed,
        workers: random.usize(1..=3),
        topics: topics(&mut random),
        limits,
        meta_ttl: Duration::from_hours(24),
        drain_window: Duration::from_millis(random.u64(..3000)),
        portions,
    };
    let steps = steps(room, &mut random);
    (setup, steps)
}

/// How much can wait for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Who does not read is soon too far behind; and nobody else is, for nothing piles up.
    Little,
    Enough,
}

fn topics(random: &mut Rng) -> Vec<Topic> {
    let topic = |name: &str, rule: TopicRule| {
        let name = name.to_owned();
        let rule = TopicRule { pattern: name.clone(), history_ttl: HISTORY_TTL, ..rule };
        Topic { name, rule, is_witnessed: true }
    };
    let deep = TopicRule { history_size: 1000, ..TopicRule::default() };
    let short = TopicRule { history_size: random.usize(1..8), ..TopicRule::default() };
    let lossy = TopicRule { delivery: Delivery::Lossy, ..deep.clone() };
    vec![
        topic("deep", TopicRule { presence: true, ..deep }),
        topic("short", TopicRule { presence: true, join_leave: JoinLeave::Asked, ..short }),
        topic("lossy", lossy),
    ]
}

fn steps(room: Room, random: &mut Rng) -> Vec<Step> {
    let shape = match room {
        // Less at once than there is room for, the longest reply included.
        Room::Little => Shape { len_max: 300, burst: 30 },
        Room::Enough => Shape { len_max: [40, 300, 2000][random.usize(..3)], burst: 5 },
    };
    let mut steps = if room == Room::Little { overflow(shape, random) } else { Vec::new() };
    steps.extend((0..random.usize(1..4)).map(|_| connect(random)));
    for _ in 0..random.usize(20..70) {
        steps.push(step(shape, random));
        steps.extend((random.u8(..4) == 0).then_some(Step::AtOnce));
    }
    if random.u8(..8) == 0 {
        // The server leaves in the middle.
        let at = random.usize(steps.len() / 2..steps.len());
        steps.insert(at, Step::Drain);
    }
    if room == Room::Little {
        steps.retain(|step| !matches!(step, Step::AtOnce | Step::Freeze { .. }));
    }
    steps
}

/// One publishes more than can wait for another that does not read.
fn overflow(Shape { len_max: len, burst: count }: Shape, random: &mut Rng) -> Vec<Step> {
    let connect = Step::Act(Act::Connect { guise: Guise::PLAIN, worker: random.usize(..8) });
    let (topic, from) = ([0, 2][random.usize(..2)], From::Live);
    let wish = Wish { topic, from, deltas: Deltas::Off, hears: Hears::Publications };
    let subscribe = Step::Act(Act::Subscribe { session: 1, wish });
    let mut steps =
        vec![connect, connect, subscribe, Step::Pace { session: 1, pace: Pace::Stopped }];
    steps.extend([Step::Act(Act::Publish { session: 0, topic, count, len }); 10]);
    steps
}

/// How much a seed's publishers say.
#[derive(Debug, Clone, Copy)]
struct Shape {
    len_max: usize,
    burst: usize,
}

fn connect(random: &mut Rng) -> Step {
    let transport = if random.u8(..3) == 0 { Transport::HttpStream } else { Transport::WebSocket };
    let codec = if random.u8(..3) == 0 { Codec::Protobuf } else { Codec::Json };
    let user = random.bool().then(|| random.u8(..USERS));
    let guise = Guise { transport, codec, user, pace: pace(random) };
    Step::Act(Act::Connect { guise, worker: random.usize(..8) })
}

fn pace(random: &mut Rng) -> Pace {
    match random.u8(..8) {
        0..6 => Pace::Prompt,
        6 => Pace::Slow(random.usize(1..2000)),
        _ => Pace::Stopped,
    }
}

fn step(Shape { len_max, burst }: Shape, random: &mut Rng) -> Step {
    let (session, topic) = (random.usize(..64), random.usize(..3));
    let (worker, len) = (random.usize(..8), random.usize(PAYLOAD_LEN_MIN..=len_max));
    match random.u8(..53) {
        0..5 => connect(random),
        5..18 => {
            let from = match random.u8(..8) {
                0..3 => From::Live,
                3..6 => From::After(random.usize(..64)),
                6 => From::Behind(random.u64(..12)),
                _ => From::Stranger,
            };
            let deltas = if random.bool() { Deltas::On } else { Deltas::Off };
            let hears = if random.bool() { Hears::Members } else { Hears::Publications };
            Step::Act(Act::Subscribe { session, wish: Wish { topic, from, deltas, hears } })
        }
        18..22 => Step::Act(Act::Unsubscribe { session, topic }),
        22..29 => Step::Act(Act::Publish { session, topic, count: random.usize(1..=burst), len }),
        29..36 => Step::Post { topic, worker, len, key: None },
        36..38 => Step::Act(Act::Presence { session, topic }),
        38..40 => Step::Pace { session, pace: pace(random) },
        40..43 => Step::Vanish { session },
        43..46 => {
            let most = [100, 3000, 20_000][random.usize(..3)];
            Step::Advance { millis: random.u64(1..most) }
        }
        46 | 47 => Step::Freeze { worker },
        48..51 => {
            let order = if random.bool() { Order::Unsubscribe(topic) } else { Order::Disconnect };
            Step::Act(Act::Call { user: random.u8(..USERS), order, worker })
        }
        _ => Step::Thaw { worker },
    }
}
