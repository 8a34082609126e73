//! All topics by name, and what is remembered of forgotten ones.
//!
//! Map guards never leave this module, and no topic's lock is taken while one is held.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::time::Instant;

use super::name::TopicName;
use super::position::{Epoch, Position};
use super::topic::{Origin, Surroundings, Topic, TopicId};
use crate::id::SessionId;
use crate::limits::TopicRule;
use crate::metrics::{Memory, MemoryKind};
use crate::sync::Mutex;

/// Forgotten topics whose position is remembered; the oldest leaves first.
pub const FORGOTTEN_COUNT_MAX: usize = 1_000_000;

/// What a remembered position is charged: a short name, and its places in map and queue.
const FORGOTTEN_COST: usize = 160;

/// Positions forgotten in one go when memory is short.
const POSITIONS_PER_TRIM: usize = 100_000;

/// Shortest and longest time between two looks at a topic's age.
const SWEEP_EVERY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(15));

/// The directory of topics.
#[derive(Debug)]
pub(super) struct Directory {
    places: DashMap<TopicName, Place>,
    rules: Vec<Arc<TopicRule>>,
    fallback: Arc<TopicRule>,
    meta_ttl: Duration,
    memory: Arc<Memory>,
    live: AtomicUsize,
    next_id: AtomicU64,
    /// Topics by when they are looked at next; only the sweep takes from it.
    due: Mutex<BTreeMap<(Instant, TopicId), Weak<Topic>>>,
    /// Forgotten topics, oldest first.
    forgotten: Mutex<VecDeque<(Instant, TopicName)>>,
    /// Members whose connection ended, by when they are given up.
    awaited: Mutex<BTreeMap<(Instant, TopicId, SessionId), Weak<Topic>>>,
}

#[derive(Debug)]
enum Place {
    Live(Arc<Topic>),
    Forgotten { position: Position, until: Instant },
}

/// What went when positions were trimmed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Positions {
    pub(super) count: usize,
    /// Bytes.
    pub(super) len: usize,
    /// Enough went, or as many as go at a time.
    pub(super) is_enough: bool,
}

/// What is known of a name.
#[derive(Debug)]
pub(super) enum Known {
    Topic(Arc<Topic>),
    /// Only its last position is remembered.
    Position(Position),
    Nothing,
}

impl Directory {
    pub(super) fn new(rules: Vec<TopicRule>, meta_ttl: Duration, memory: Arc<Memory>) -> Self {
        Self {
            places: DashMap::new(),
            rules: rules.into_iter().map(Arc::new).collect(),
            fallback: Arc::default(),
            meta_ttl,
            memory,
            live: AtomicUsize::new(0),
            next_id: AtomicU64::new(1),
            due: Mutex::default(),
            forgotten: Mutex::default(),
            awaited: Mutex::default(),
        }
    }

    /// Number of live topics.
    pub(super) fn count(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// The options for `name`: the first rule that matches, else the defaults.
    pub(super) fn rule(&self, name: &TopicName) -> &Arc<TopicRule> {
        let matching = self.rules.iter().find(|rule| rule.matches(name.as_str()));
        matching.unwrap_or(&self.fallback)
    }

    /// The topic of that name, made if there is none.
    pub(super) fn get_or_create(&self, name: &TopicName) -> Arc<Topic> {
        if let Some(place) = self.places.get(name)
            && let Place::Live(topic) = place.value()
        {
            return Arc::clone(topic);
        }
        let topic = match self.places.entry(name.clone()) {
            Entry::Occupied(mut occupied) => match occupied.get() {
                Place::Live(topic) => return Arc::clone(topic),
                Place::Forgotten { position, until } => {
                    let position = (Instant::now() < *until).then_some(*position);
                    let topic = self.create(name, position);
                    occupied.insert(Place::Live(Arc::clone(&topic)));
                    topic
                }
            },
            Entry::Vacant(vacant) => {
                let topic = self.create(name, None);
                vacant.insert(Place::Live(Arc::clone(&topic)));
                topic
            }
        };
        self.schedule(&topic, Instant::now());
        topic
    }

    fn create(&self, name: &TopicName, position: Option<Position>) -> Arc<Topic> {
        let position = position.unwrap_or_else(|| Position {
            epoch: Epoch::random(&mut fastrand::Rng::new()),
            offset: 0,
        });
        self.live.fetch_add(1, Ordering::Relaxed);
        Arc::new(Topic::new(Origin {
            id: TopicId(self.next_id.fetch_add(1, Ordering::Relaxed)),
            name: name.clone(),
            rule: Arc::clone(self.rule(name)),
            position,
            memory: Arc::clone(&self.memory),
        }))
    }

    /// What is known of `name`, without making it known.
    pub(super) fn find(&self, name: &TopicName) -> Known {
        match self.places.get(name).as_deref() {
            Some(Place::Live(topic)) => Known::Topic(Arc::clone(topic)),
            Some(Place::Forgotten { position, until }) if Instant::now() < *until => {
                Known::Position(*position)
            }
            _ => Known::Nothing,
        }
    }

    /// All live topics, at the price of a look at each.
    pub(super) fn topics(&self) -> Vec<Arc<Topic>> {
        let live = self.places.iter().filter_map(|place| match place.value() {
            Place::Live(topic) => Some(Arc::clone(topic)),
            Place::Forgotten { .. } => None,
        });
        live.collect()
    }

    fn schedule(&self, topic: &Arc<Topic>, now: Instant) {
        let ttl =
            if topic.has_history() { topic.rule().history_ttl } else { Duration::from_secs(2) };
        let at = now + ttl.clamp(SWEEP_EVERY.0, SWEEP_EVERY.1);
        self.due.lock().insert((at, topic.id()), Arc::downgrade(topic));
    }

    /// Looks at every topic that is due: drops old history, forgets idle topics.
    pub(super) fn sweep(&self, now: Instant) {
        loop {
            let topic = {
                let mut due = self.due.lock();
                match due.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    _ => break,
                }
            };
            let Some(topic) = topic.upgrade() else { continue };
            if !self.try_forget(&topic, now) {
                self.schedule(&topic, now);
            }
        }
        self.forget_positions(now);
    }

    /// Has a member looked at again when it has been waited for long enough.
    pub(super) fn await_member(&self, topic: &Arc<Topic>, session: SessionId, until: Instant) {
        let key = (until, topic.id(), session);
        self.awaited.lock().insert(key, Arc::downgrade(topic));
    }

    /// Gives up the members that have been waited for long enough.
    pub(super) fn give_up_members(&self, around: Surroundings<'_>, now: Instant) {
        loop {
            let (session, topic) = {
                let mut awaited = self.awaited.lock();
                match awaited.first_entry() {
                    Some(first) if first.key().0 <= now => (first.key().2, first.remove()),
                    _ => return,
                }
            };
            if let Some(topic) = topic.upgrade() {
                topic.give_up(around.inboxes, session, now);
            }
        }
    }

    /// Forgets a topic if it keeps nothing and nobody subscribes. Returns whether it did.
    pub(super) fn try_forget(&self, topic: &Arc<Topic>, now: Instant) -> bool {
        let position = topic.try_close(now);
        position.inspect(|position| self.forget(topic, *position, now)).is_some()
    }

    /// Replaces a closed topic by its position, if it has one to show.
    fn forget(&self, topic: &Arc<Topic>, position: Position, now: Instant) {
        let name = topic.name();
        self.live.fetch_sub(1, Ordering::Relaxed);
        if !topic.has_history() || self.meta_ttl.is_zero() {
            self.places.remove(name);
            return;
        }
        let until = now + self.meta_ttl;
        self.memory.charge(MemoryKind::History, FORGOTTEN_COST);
        self.places.insert(name.clone(), Place::Forgotten { position, until });
        self.forgotten.lock().push_back((until, name.clone()));
    }

    fn forget_positions(&self, now: Instant) {
        while self.forget_position(|until, count| until <= now || count > FORGOTTEN_COUNT_MAX) {}
    }

    /// Forgets the oldest positions until `len` bytes went.
    pub(super) fn trim_positions(&self, len: usize) -> Positions {
        let wanted = len.div_ceil(FORGOTTEN_COST).min(POSITIONS_PER_TRIM);
        let count = (0..wanted).take_while(|_| self.forget_position(|_, _| true)).count();
        Positions { count, len: count * FORGOTTEN_COST, is_enough: count == wanted }
    }

    /// Forgets the oldest position if `is_due`, asked with its end and the number remembered, says
    /// so. Returns whether it did.
    fn forget_position(&self, is_due: impl Fn(Instant, usize) -> bool) -> bool {
        let oldest = {
            let mut forgotten = self.forgotten.lock();
            let count = forgotten.len();
            if !forgotten.front().is_some_and(|(until, _)| is_due(*until, count)) {
                return false;
            }
            forgotten.pop_front()
        };
        let Some((until, name)) = oldest else { return false };
        self.memory.release(MemoryKind::History, FORGOTTEN_COST);
        // The name may have come back to life and been forgotten again: later entry, keep.
        self.places.remove_if(
            &name,
            |_, place| matches!(place, Place::Forgotten { until: its, .. } if *its == until),
        );
        true
    }
}
