//! The hub alone: random calls by several workers, whose inboxes are drained whenever it pleases,
//! against a model that says exactly what each call must give.

mod model;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanwire::hub::{
    Admission, CatchUp, Draft, Hub, HubParts, INBOX_LEN_MAX, Inbox, Joined, Page, Payload,
    PayloadKind, Publish, PublishError, Start, Topic, TopicName, Variants,
};
use fanwire::id::WorkerId;
use fanwire::limits::TopicRule;
use fanwire::metrics::{Memory, MemoryKind};
use fanwire::time::Stamp;
use fastrand::Rng;
use tokio::time::Instant;

use model::Model;

/// Bytes that a publication weighs beside its payload, at most.
const WEIGHT_MAX: usize = 1024;

/// Length of the framing that payloads come in.
const HEAD_LEN: usize = 2;

const CALLS: usize = 250;

/// Runs a seed; the panic of a broken expectation comes with the calls that led there.
pub(crate) fn run(seed: u64) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    fastrand::seed(seed);
    runtime.block_on(async {
        let mut world = World::new(seed);
        for _ in 0..CALLS {
            world.call().await;
        }
        world.end().await;
    });
}

struct World {
    hub: Hub,
    memory: Arc<Memory>,
    random: Rng,
    start: Instant,
    models: Vec<(TopicName, Model)>,
    workers: Vec<Worker>,
    subscribers: Vec<Subscriber>,
    /// What payloads are cut from: the large ones cost nothing.
    zeros: Bytes,
    story: Vec<String>,
}

/// What a worker knows of a topic that it has subscribers on.
struct Local {
    topic: Arc<Topic>,
    index: usize,
    /// The newest sequence that arrived, or the top when the first subscriber came.
    arrived: u64,
    count: usize,
}

#[derive(Default)]
struct Worker {
    /// By the number that was given to the hub; numbers are used again.
    locals: Vec<Option<Local>>,
    /// Bytes of payloads that were pushed and not released.
    waiting: usize,
    /// Publications that were pushed and not released.
    waiting_count: usize,
}

struct Subscriber {
    index: usize,
    worker: usize,
    next: u64,
    is_live: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let memory = Arc::new(Memory::new(u64::MAX));
        let workers = random.usize(1..=3);
        let rules: Vec<TopicRule> = (0..3).map(|index| rule(index, &mut random)).collect();
        let meta_ttl = [0, 3, 86_400][random.usize(..3)];
        let meta_ttl = Duration::from_secs(meta_ttl);
        let hub = Hub::new(HubParts {
            rules: rules.clone(),
            meta_ttl,
            inboxes: (0..workers)
                .map(|_| Arc::new(Inbox::new(Arc::clone(&memory), || {})))
                .collect(),
            variants: Arc::new(Variants::new([])),
            memory: Arc::clone(&memory),
        });
        let models = rules.into_iter().map(|rule| {
            let name = TopicName::new(&rule.pattern, 255).expect("a name");
            (name, Model::new(rule, meta_ttl))
        });
        Self {
            models: models.collect(),
            hub,
            memory,
            random,
            start: Instant::now(),
            workers: (0..workers).map(|_| Worker::default()).collect(),
            subscribers: Vec::new(),
            zeros: Bytes::from(vec![0; INBOX_LEN_MAX / 2]),
            story: Vec::new(),
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    #[track_caller]
    fn expect(&self, is_right: bool, what: &str) {
        if !is_right {
            let from = self.story.len().saturating_sub(40);
            panic!("{what}, after:\n  {}", self.story[from..].join("\n  "));
        }
    }

    async fn call(&mut self) {
        let index = self.random.usize(..self.models.len());
        match self.random.u8(..20) {
            0..7 => self.publish(index),
            7..10 => self.subscribe(index),
            10 => self.unsubscribe(),
            11..14 => self.drain_inbox(),
            14 | 15 => self.catch_up(),
            16 => self.page(index),
            17 => self.sweep(),
            _ => {
                let most = [50, 1000, 4000, 400_000][self.random.usize(..4)];
                let time = Duration::from_millis(self.random.u64(1..most));
                self.story.push(format!("{time:?} pass"));
                tokio::time::advance(time).await;
            }
        }
    }

    fn payload(&mut self) -> Payload {
        let len = match self.random.u8(..12) {
            0 => self.random.usize(1..self.zeros.len() - HEAD_LEN),
            1..4 => 0,
            _ => self.random.usize(1..600),
        };
        Payload::from_framed(self.zeros.slice(..len + HEAD_LEN), 2, PayloadKind::Binary)
    }

    fn publish(&mut self, index: usize) {
        let (now, payload) = (self.now(), self.payload());
        let len = payload.data().len();
        let key = (self.random.u8(..4) == 0).then(|| self.random.u8(..3));
        let text = key.map(|key| key.to_string());
        let admission = if self.random.bool() { Admission::IfRoom } else { Admission::Always };
        let draft = Draft::new(payload);
        let options =
            Publish { idempotency_key: text.as_deref(), ..Publish::new(Stamp::now(), admission) };
        let (name, model) = &mut self.models[index];
        let result = self.hub.publish(name, &draft, options);
        self.story
            .push(format!("publish {name} {len} bytes key {key:?} {admission:?}: {result:?}"));
        let repeat = key.and_then(|key| model.repeat(key, now));
        let concerned: Vec<usize> = (0..self.workers.len())
            .filter(|worker| {
                self.workers[*worker].locals.iter().flatten().any(|one| one.index == index)
            })
            .collect();
        let is_over = |extra: usize| {
            concerned.iter().any(|worker| {
                let Worker { waiting, waiting_count, .. } = &self.workers[*worker];
                waiting + waiting_count * extra > INBOX_LEN_MAX
            })
        };
        match result {
            Ok(published) if published.duplicate => {
                let is_right = repeat.is_some_and(|(epoch, offset)| {
                    published.position.is_none_or(|position| {
                        Some(position.epoch) == epoch && position.offset == offset
                    })
                });
                self.expect(is_right, "it is no repeat");
            }
            Ok(published) => {
                let is_right = self.models[index].1.accept(published.position, (now, len, key));
                self.expect(repeat.is_none(), "it is a repeat");
                self.expect(is_right, "it has another position");
                self.expect(!published.overrun || is_over(WEIGHT_MAX), "there is room");
                self.expect(published.overrun || !is_over(0), "there is no room");
                let refused = published.overrun && admission == Admission::IfRoom;
                self.expect(!refused, "it is to be refused");
                for worker in concerned {
                    self.workers[worker].waiting += len;
                    self.workers[worker].waiting_count += 1;
                }
            }
            Err(PublishError::Overrun) => {
                let is_right = admission == Admission::IfRoom && is_over(WEIGHT_MAX);
                self.expect(is_right && repeat.is_none(), "there is room");
            }
            Err(PublishError::Memory) => self.expect(false, "there is memory"),
            Err(PublishError::Draining) => self.expect(false, "nothing drains"),
        }
    }

    fn subscribe(&mut self, index: usize) {
        let (now, worker) = (self.now(), self.random.usize(..self.workers.len()));
        let start = self.models[index].1.some_start(&mut self.random);
        let id = WorkerId(u16::try_from(worker).expect("few"));
        let locals = &mut self.workers[worker].locals;
        let vacant = locals.iter().position(Option::is_none).unwrap_or(locals.len());
        let number = u32::try_from(vacant).expect("few");
        let mut is_first = false;
        let (topic, joined) = self.hub.subscribe(&self.models[index].0, id, start, |_| {
            is_first = true;
            number
        });
        let name = &self.models[index].0;
        self.story.push(format!("worker {worker} subscribes to {name} {start:?}: {joined:?}"));
        let Joined { local, next, top, .. } = joined;
        if is_first {
            let local = Local { topic, index, arrived: top, count: 0 };
            locals.resize_with(locals.len().max(vacant + 1), || None);
            locals[vacant] = Some(local);
        }
        let its = locals.get_mut(local as usize).and_then(Option::as_mut);
        let is_its = its.is_some_and(|its| {
            its.count += 1;
            its.index == index
        });
        self.expect(is_its, "the number is that of another topic");
        let is_right = self.models[index].1.join(start, &joined, now);
        self.expect(is_right, "it begins elsewhere");
        self.subscribers.push(Subscriber { index, worker, next, is_live: next > top });
    }

    fn unsubscribe(&mut self) {
        if self.subscribers.is_empty() {
            return;
        }
        let now = self.now();
        let gone = self.random.usize(..self.subscribers.len());
        let Subscriber { index, worker, .. } = self.subscribers.swap_remove(gone);
        self.story.push(format!("worker {worker} leaves {}", self.models[index].0));
        self.models[index].1.leave(now);
        let slot = self.workers[worker].locals.iter_mut();
        let mut slot = slot.filter(|slot| slot.as_ref().is_some_and(|one| one.index == index));
        let slot = slot.next().expect("it is subscribed");
        let local = slot.as_mut().expect("it is subscribed");
        local.count -= 1;
        let is_last = local.count == 0;
        let was_last = local.topic.unsubscribe(WorkerId(u16::try_from(worker).expect("few")));
        if is_last {
            *slot = None;
        }
        self.expect(was_last == is_last, "hub and worker count differently");
    }

    /// A worker takes some of what arrived.
    fn drain_inbox(&mut self) {
        let worker = self.random.usize(..self.workers.len());
        let count = self.random.usize(1..8);
        for _ in 0..count {
            if !self.drain_one(worker) {
                return;
            }
        }
    }

    fn drain_one(&mut self, worker: usize) -> bool {
        let id = WorkerId(u16::try_from(worker).expect("few"));
        let Some(arrival) = self.hub.inbox(id).pop() else { return false };
        let before = self.hub.inbox(id).is_under_half();
        let has_room = self.hub.inbox(id).release(&arrival.publication);
        let after = self.hub.inbox(id).is_under_half();
        let (sequence, len) =
            (arrival.publication.sequence, arrival.publication.payload().data().len());
        self.story
            .push(format!("worker {worker} takes {sequence} ({len} bytes) for {}", arrival.local));
        self.expect(has_room == (!before && after), "it is told of room when there is some");
        let side = &mut self.workers[worker];
        side.waiting -= len;
        side.waiting_count -= 1;
        let local = side.locals.get_mut(arrival.local as usize).and_then(Option::as_mut);
        // As workers do: what was for those who left is dropped.
        let Some(local) = local.filter(|local| local.topic.id() == arrival.topic) else {
            return true;
        };
        if sequence <= local.arrived {
            return true;
        }
        let (is_next, index) = (sequence == local.arrived + 1, local.index);
        local.arrived = sequence;
        self.expect(is_next, "arrivals have no hole");
        self.expect(self.models[index].1.len(sequence) == Some(len), "another payload");
        let mut is_fed = true;
        for one in &mut self.subscribers {
            if one.index == index && one.worker == worker && one.is_live && one.next <= sequence {
                is_fed &= one.next == sequence;
                one.next += 1;
            }
        }
        self.expect(is_fed, "a subscriber missed one");
        true
    }

    fn catch_up(&mut self) {
        let behind = (0..self.subscribers.len()).filter(|one| !self.subscribers[*one].is_live);
        let behind: Vec<usize> = behind.collect();
        if behind.is_empty() {
            return;
        }
        let which = behind[self.random.usize(..behind.len())];
        let (now, len_max) = (self.now(), self.random.usize(..2000));
        let Subscriber { index, worker, next, .. } = self.subscribers[which];
        let locals = self.workers[worker].locals.iter().flatten();
        let topic =
            locals.filter(|one| one.index == index).map(|one| Arc::clone(&one.topic)).next();
        let got = topic.expect("it is subscribed").catch_up(next, len_max);
        let model = &self.models[index].1;
        let is_right = match &got {
            CatchUp::Live => next > model.top(),
            CatchUp::Behind(some) => model.is_next(next, some, len_max),
            CatchUp::Trimmed { oldest } => {
                model.oldest_by_size() <= *oldest && *oldest <= model.oldest(now) && next < *oldest
            }
        };
        let name = &self.models[index].0;
        let shown = match &got {
            CatchUp::Behind(some) => format!("{} publications", some.len()),
            other => format!("{other:?}"),
        };
        self.story.push(format!("worker {worker} catches up on {name} from {next}: {shown}"));
        self.expect(is_right, "history says something else");
        let subscriber = &mut self.subscribers[which];
        match got {
            CatchUp::Live => subscriber.is_live = true,
            CatchUp::Behind(some) => subscriber.next += some.len() as u64,
            CatchUp::Trimmed { oldest } => subscriber.next = oldest,
        }
    }

    fn page(&mut self, index: usize) {
        let now = self.now();
        let (name, model) = &mut self.models[index];
        if model.rule().history_size == 0 {
            return;
        }
        let since = match model.some_start(&mut self.random) {
            Start::Since(since) => Some(since),
            _ => None,
        };
        let limit = [0, 1, 3, 1000][self.random.usize(..4)];
        let page = self.hub.page(name, since, limit);
        let shown = page
            .as_ref()
            .map(|Page { top, recovered, publications }| (*top, *recovered, publications.len()));
        self.story.push(format!("page of {name} since {since:?} limit {limit}: {shown:?}"));
        let is_right = model.shows(since, limit, page.as_ref(), now);
        self.expect(is_right, "the page is another");
    }

    fn sweep(&mut self) {
        let now = self.now();
        self.story.push("sweep".to_owned());
        self.hub.sweep(Instant::now());
        self.models.iter_mut().for_each(|(_, model)| model.is_swept(now));
        let needed = self.models.iter().filter(|(_, model)| model.must_live(now)).count();
        self.expect(self.hub.topic_count() >= needed, "a topic is forgotten too early");
    }

    /// Everybody leaves, everything is taken, time passes: nothing stays.
    async fn end(&mut self) {
        while !self.subscribers.is_empty() {
            self.unsubscribe();
        }
        for worker in 0..self.workers.len() {
            while self.drain_one(worker) {}
        }
        for pause in [Duration::from_mins(6), Duration::from_mins(6), Duration::from_hours(25)] {
            tokio::time::advance(pause).await;
            self.sweep();
        }
        self.expect(self.hub.topic_count() == 0, "a topic stays");
        for kind in MemoryKind::ALL {
            self.expect(self.memory.held(kind) == 0, kind.word());
        }
    }
}

fn rule(index: usize, random: &mut Rng) -> TopicRule {
    TopicRule {
        pattern: ["a", "b", "c"][index].to_owned(),
        history_size: [0, 1, 3, 1000][random.usize(..4)],
        history_bytes_max: [0, 500, 2000, 1 << 30][random.usize(..4)],
        history_ttl: Duration::from_millis([10, 1500, 300_000][random.usize(..3)]),
        ..TopicRule::default()
    }
}
