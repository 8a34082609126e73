//! Threads that meet in the hub: whoever comes first, order, history and subscribers agree.
//!
//! Each test runs one small meeting of threads again and again, each time in another order. A
//! thread that sleeps for ever is a deadlock, which the checker reports with a schedule to replay.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc as Shared;
use std::time::Duration;

use bytes::Bytes;
use fanwire_interleaving::hub::{
    Admission, CatchUp, Draft, Hub, HubParts, INBOX_LEN_MAX, Inbox, Payload, PayloadKind, Publish,
    PublishError, Published, Since, Start, Topic, TopicName, Variants,
};
use fanwire_interleaving::id::WorkerId;
use fanwire_interleaving::limits::TopicRule;
use fanwire_interleaving::metrics::{Memory, MemoryKind};
use fanwire_interleaving::time::Stamp;
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread::{JoinHandle, spawn};
use tokio::time::Instant;

/// Tries `meeting` in random orders, and in orders with few changes of thread, which find what
/// takes a long run of one thread in a bad moment.
fn check(meeting: fn()) {
    shuttle::check_random(meeting, 3000);
    shuttle::check_pct(meeting, 1500, 3);
}

/// What a worker sleeps on, as on its poller.
#[derive(Debug, Default)]
struct Event {
    is_set: Mutex<bool>,
    set: Condvar,
}

impl Event {
    fn wake(&self) {
        *self.is_set.lock().unwrap() = true;
        self.set.notify_one();
    }

    fn sleep(&self) {
        let mut is_set = self.is_set.lock().unwrap();
        while !*is_set {
            is_set = self.set.wait(is_set).unwrap();
        }
        *is_set = false;
    }
}

/// A hub and what its workers sleep on.
struct World {
    hub: Hub,
    memory: Shared<Memory>,
    events: Vec<Arc<Event>>,
}

impl World {
    fn new(workers: usize, rule: TopicRule) -> Arc<Self> {
        let memory = Shared::new(Memory::new(u64::MAX));
        let events: Vec<Arc<Event>> = (0..workers).map(|_| Arc::default()).collect();
        let inbox = |event: &Arc<Event>| {
            let event = Arc::clone(event);
            Shared::new(Inbox::new(Shared::clone(&memory), move || event.wake()))
        };
        let hub = Hub::new(HubParts {
            rules: vec![rule],
            meta_ttl: Duration::from_hours(24),
            inboxes: events.iter().map(inbox).collect(),
            variants: Shared::new(Variants::new([])),
            memory: Shared::clone(&memory),
        });
        Arc::new(Self { hub, memory, events })
    }

    fn publish(&self, key: Option<&str>) -> Published {
        self.try_publish(Bytes::from_static(b"x"), key).expect("there is room")
    }

    fn try_publish(&self, data: Bytes, key: Option<&str>) -> Result<Published, PublishError> {
        let payload = Payload::from_framed(data, 0, PayloadKind::Binary);
        let draft = Draft::new(payload);
        let (now, admission) = (Stamp::now(), Admission::Always);
        self.hub.publish(
            &name(),
            &draft,
            Publish { idempotency_key: key, ..Publish::new(now, admission) },
        )
    }

    fn subscribe(&self, worker: WorkerId, start: Start) -> Subscriber {
        let (topic, joined) = self.hub.subscribe(&name(), worker, start, |_| 0);
        Subscriber { topic, worker, next: joined.next, recovered: joined.recovered }
    }

    /// Whether the worker gets what comes, in order, without a hole.
    fn drain(&self, subscriber: &mut Subscriber) {
        let inbox = self.hub.inbox(subscriber.worker);
        while let Some(arrival) = inbox.pop() {
            let sequence = arrival.publication.sequence;
            let _ = inbox.release(&arrival.publication);
            if arrival.topic == subscriber.topic.id() && sequence >= subscriber.next {
                assert_eq!(sequence, subscriber.next, "the next one");
                subscriber.next += 1;
            }
        }
    }

    /// Sleeps unless there is something to do, as a worker does.
    fn sleep(&self, worker: WorkerId, has_work: impl FnOnce() -> bool) {
        let inbox = self.hub.inbox(worker);
        if inbox.try_sleep(has_work) {
            self.events[usize::from(worker.0)].sleep();
            inbox.set_awake();
        }
    }

    /// Sweeps, so many minutes from now: a topic that was looked at has its rest first.
    fn sweep(&self, minutes: u64) {
        self.hub.sweep(Instant::now() + Duration::from_mins(minutes));
    }

    /// Nothing of the topic stays but its position.
    fn assert_forgotten(&self) {
        self.sweep(60);
        assert_eq!(self.hub.topic_count(), 0, "nobody holds the topic");
        assert_eq!(self.memory.held(MemoryKind::Inbox), 0, "nothing is on its way");
    }
}

/// A worker's only subscriber.
struct Subscriber {
    topic: Shared<Topic>,
    worker: WorkerId,
    /// The sequence that it gets next.
    next: u64,
    recovered: Option<bool>,
}

impl Subscriber {
    /// Reads history until it is live.
    fn catch_up(&mut self) {
        loop {
            match self.topic.catch_up(self.next, 1) {
                CatchUp::Live => return,
                CatchUp::Behind(publications) => {
                    for publication in publications {
                        assert_eq!(publication.sequence, self.next);
                        self.next += 1;
                    }
                }
                CatchUp::Trimmed { .. } => panic!("all is kept"),
            }
        }
    }
}

fn name() -> TopicName {
    TopicName::new("a", 255).unwrap()
}

/// History that is never kept: a topic without subscribers can be forgotten at any time.
fn fleeting() -> TopicRule {
    TopicRule { history_ttl: Duration::ZERO, ..TopicRule::default() }
}

fn join<T>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// `count` threads that publish `each`.
fn publishers(world: &Arc<World>, count: usize, each: usize) -> Vec<JoinHandle<()>> {
    let publisher = |_| {
        let world = Arc::clone(world);
        spawn(move || {
            for _ in 0..each {
                world.publish(None);
            }
        })
    };
    (0..count).map(publisher).collect()
}

const OWN: WorkerId = WorkerId(0);
const OTHER: WorkerId = WorkerId(1);

#[test]
fn no_arrival_is_slept_over() {
    check(|| {
        let world = World::new(1, TopicRule::default());
        let mut subscriber = world.subscribe(OWN, Start::Live);
        let threads = publishers(&world, 2, 2);
        while subscriber.next <= 4 {
            world.drain(&mut subscriber);
            if subscriber.next <= 4 {
                world.sleep(OWN, || false);
            }
        }
        join(threads);
    });
}

#[test]
fn who_subscribes_while_others_publish_gets_everything_from_its_position_on() {
    check(|| {
        let world = World::new(1, TopicRule::default());
        let threads = publishers(&world, 2, 2);
        let mut subscriber = world.subscribe(OWN, Start::Live);
        world.drain(&mut subscriber);
        join(threads);
        world.drain(&mut subscriber);
        assert_eq!(subscriber.next, 5, "the newest arrived");
    });
}

#[test]
fn a_replay_meets_the_live_stream_without_a_seam() {
    check(|| {
        let world = World::new(1, TopicRule::default());
        world.publish(None);
        let threads = publishers(&world, 2, 2);
        let since = Since { epoch: None, offset: 0 };
        let mut subscriber = world.subscribe(OWN, Start::Since(since));
        assert_eq!(subscriber.recovered, Some(true));
        subscriber.catch_up();
        world.drain(&mut subscriber);
        join(threads);
        world.drain(&mut subscriber);
        assert_eq!(subscriber.next, 6, "the newest arrived");
    });
}

#[test]
fn two_workers_get_the_same_order() {
    check(|| {
        let world = World::new(2, TopicRule::default());
        let mut subscribers = [OWN, OTHER].map(|worker| world.subscribe(worker, Start::Live));
        join(publishers(&world, 3, 1));
        // Every sequence was pushed where its place in the order was given: none out of turn.
        for subscriber in &mut subscribers {
            world.drain(subscriber);
        }
        assert_eq!(subscribers.map(|subscriber| subscriber.next), [4, 4]);
    });
}

#[test]
fn who_leaves_while_others_come_and_publish_leaves_no_ghost() {
    check(|| {
        let world = World::new(2, fleeting());
        let stay = |worker| {
            let world = Arc::clone(&world);
            spawn(move || {
                for _ in 0..2 {
                    let mut subscriber = world.subscribe(worker, Start::Live);
                    world.drain(&mut subscriber);
                    assert!(subscriber.topic.unsubscribe(worker), "it was the only one");
                }
            })
        };
        let stays = vec![stay(OWN), stay(OTHER)];
        let threads = publishers(&world, 1, 2);
        join(stays);
        join(threads);
        for worker in [OWN, OTHER] {
            while let Some(arrival) = world.hub.inbox(worker).pop() {
                let _ = world.hub.inbox(worker).release(&arrival.publication);
            }
        }
        world.publish(None);
        assert!(world.hub.inbox(OWN).pop().is_none() && world.hub.inbox(OTHER).pop().is_none());
        world.assert_forgotten();
    });
}

#[test]
fn a_topic_that_is_forgotten_and_made_again_goes_on_where_it_was() {
    check(|| {
        let world = World::new(1, fleeting());
        let sweeper = {
            let world = Arc::clone(&world);
            spawn(move || (1..4).for_each(|minutes| world.sweep(minutes)))
        };
        let publisher = {
            let world = Arc::clone(&world);
            spawn(move || (0..3).map(|_| world.publish(None).position.unwrap()).collect::<Vec<_>>())
        };
        let mut subscriber = world.subscribe(OWN, Start::Live);
        let positions = publisher.join().unwrap();
        sweeper.join().unwrap();
        world.drain(&mut subscriber);
        assert_eq!(subscriber.next, 4, "no publication went to a topic that nobody finds");
        for (position, offset) in positions.iter().zip(1..) {
            assert_eq!((position.offset, position.epoch), (offset, positions[0].epoch));
        }
        assert!(subscriber.topic.unsubscribe(OWN));
        world.assert_forgotten();
        let page = world.hub.page(&name(), None, 1).expect("its position is remembered");
        assert_eq!(page.top, positions[2]);
    });
}

#[test]
fn one_key_is_published_once_whoever_comes_first() {
    check(|| {
        let world = World::new(1, TopicRule::default());
        let thread = |_| {
            let world = Arc::clone(&world);
            spawn(move || world.publish(Some("key")))
        };
        let results = join((0..3).map(thread).collect());
        assert_eq!(results.iter().filter(|one| !one.duplicate).count(), 1);
        assert!(results.iter().all(|one| one.position == results[0].position));
    });
}

/// The protocol between a worker that holds publishers back and the one that has no room, as
/// `worker/read.rs` and `worker/pass.rs` have it. It is written again here: workers need sockets.
#[test]
fn publishers_that_wait_for_room_are_woken_when_there_is_some() {
    check(|| {
        let world = World::new(2, TopicRule::default());
        world.subscribe(OTHER, Start::Live);
        let large = Bytes::from(vec![0; INBOX_LEN_MAX]);
        assert!(world.try_publish(large, None).is_ok());
        let full = {
            let world = Arc::clone(&world);
            spawn(move || {
                let inbox = world.hub.inbox(OTHER);
                let arrival = inbox.pop().expect("it is there");
                if inbox.release(&arrival.publication) {
                    let inboxes = world.hub.inboxes().iter();
                    inboxes.filter(|inbox| inbox.publishers_wait()).for_each(|inbox| inbox.wake());
                }
            })
        };
        if world.hub.is_over() {
            let inbox = world.hub.inbox(OWN);
            inbox.set_publishers_wait(true);
            while !world.hub.has_room() {
                world.sleep(OWN, || world.hub.has_room());
            }
            inbox.set_publishers_wait(false);
        }
        full.join().unwrap();
    });
}
