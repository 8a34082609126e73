//! One topic: the order of its publications, its history, and the workers that must hear of it.
//!
//! Everything that defines the order happens in one step under the topic's lock: two publishers
//! that pushed after unlocking could reach two workers in different orders.

mod members;
mod reading;
mod version;

use std::sync::Arc;

use tokio::time::Instant;

use super::history::History;
use super::idempotency::Keys;
use super::inbox::{Arrival, Inbox};
use super::name::TopicName;
use super::position::{Epoch, Position, Start};
use super::presence::Roster;
use super::publication::{Draft, Publication};
use crate::drain::Drain;
use crate::id::WorkerId;
use crate::limits::TopicRule;
use crate::metrics::{Memory, MemoryKind};
use crate::reason::Refusal;
use crate::sync::Mutex;
use crate::time::Stamp;
use version::Newest;

pub use reading::{CatchUp, Page};
pub use version::Version;

/// Publications and keys that are dropped in one go when memory is short.
const TRIM_COUNT_MAX: usize = 256;

/// What a topic is charged beside itself: its places in the directory and on a worker.
const PLACES_COST: usize = 512;

/// One incarnation of a topic in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(pub(super) u64);

/// A topic. It outlives its place in the directory while somebody holds it.
#[derive(Debug)]
pub struct Topic {
    id: TopicId,
    name: TopicName,
    rule: Arc<TopicRule>,
    epoch: Epoch,
    memory: Arc<Memory>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Set once, before the topic leaves the directory; whoever finds it looks up again.
    closed: bool,
    /// Sequence of the newest publication.
    top: u64,
    /// How many of them have no offset of their own.
    unkept: u64,
    history: History,
    interest: Vec<Interest>,
    keys: Option<Box<Keys>>,
    /// The version of the newest publication that had one.
    version: Option<Box<Newest>>,
    /// Subscribers that want to know what each publication changed.
    delta_count: u32,
    /// Who is there; `None` = nobody, or the topic has no presence.
    roster: Option<Box<Roster>>,
}

impl State {
    /// Offset of the newest publication that has one.
    fn offset(&self) -> u64 {
        self.top - self.unkept
    }

    /// The answer to a publication that is nothing new.
    fn duplicate(&self, position: Option<Position>) -> Published {
        Published { position, sequence: self.top, duplicate: true, overrun: false }
    }

    /// Bytes that are kept for clients who come back, and for publishers.
    fn held_len(&self) -> usize {
        let keys = self.keys.as_ref().map_or(0, |keys| keys.held_len());
        let version = self.version.as_ref().map_or(0, |newest| newest.held_len());
        self.history.held_len() + keys + version
    }

    /// When the oldest of it came, `None` if there is nothing.
    fn oldest(&self) -> Option<Instant> {
        let key = self.keys.as_ref().and_then(|keys| keys.oldest());
        [self.history.oldest_accepted(), key].into_iter().flatten().min()
    }

    /// Drops what came at `at` or before, one publication or key. Returns whether there was one.
    fn drop_one(&mut self, at: Instant) -> bool {
        if self.history.oldest_accepted().is_some_and(|oldest| oldest <= at) {
            self.history.drop_oldest();
            return true;
        }
        let Some(keys) = self.keys.as_mut().filter(|keys| keys.oldest() <= Some(at)) else {
            return false;
        };
        keys.drop_oldest();
        if keys.oldest().is_none() {
            self.keys = None;
        }
        true
    }
}

/// A worker with subscribers on the topic.
#[derive(Debug)]
struct Interest {
    worker: WorkerId,
    local: u32,
    count: u32,
    /// How many of them hear who comes and goes.
    listener_count: u32,
}

/// Whether a publisher can be held back by refusing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Refuse when a concerned inbox is over its budget, or the server drains (HTTP).
    IfRoom,
    /// Accept what was read already and tell the caller to read no more (WebSocket).
    Always,
}

/// Who gets a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Who subscribes, and who comes back, as far as the topic keeps history.
    All,
    /// Who is there: it is not kept, and has no position.
    Present,
}

/// How to publish.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// When the publication was received.
    pub now: Stamp,
    /// What to do when inboxes are full.
    pub admission: Admission,
    /// A repeat of this key within five minutes is answered, not published again.
    pub idempotency_key: Option<&'a str>,
    /// What is not newer than the topic's last version is answered, not published.
    pub version: Option<Version<'a>>,
    /// Who gets it.
    pub reach: Reach,
}

impl Publish<'_> {
    /// Publishes whatever comes, once for each call.
    pub fn new(now: Stamp, admission: Admission) -> Self {
        Self { now, admission, idempotency_key: None, version: None, reach: Reach::All }
    }
}

/// An accepted publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its position; `None` = it is not kept.
    pub position: Option<Position>,
    /// Its place in the topic's order, or that of the newest where nothing was published now.
    pub sequence: u64,
    /// The idempotency key was seen before, or a newer version: nothing was published now.
    pub duplicate: bool,
    /// An inbox is over its budget: the publisher should pause.
    pub overrun: bool,
}

/// A publication that was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// A worker has more on its way than its budget.
    #[error("subscribers' workers are over their inbox budget")]
    Overrun,
    /// The memory account is at its budget.
    #[error("the server is at its memory limit")]
    Memory,
    /// The server is going away, and sessions that would miss it may have left.
    #[error("the server drains")]
    Draining,
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Overrun => Self::PublisherOverrun,
            PublishError::Memory => Self::MemoryLimit,
            PublishError::Draining => Self::Draining,
        }
    }
}

/// What stands around all topics when one of them publishes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    /// Of all workers, in their order.
    pub(super) inboxes: &'a [Arc<Inbox>],
    pub(super) drain: &'a Drain,
}

/// The topic left the directory; look it up again.
#[derive(Debug)]
pub(super) struct Closed;

/// A subscription in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// The worker's number for the topic.
    pub local: u32,
    /// First sequence that the subscriber is to get.
    pub next: u64,
    /// Newest sequence at the time of subscribing.
    pub top: u64,
    /// Position just before `next`; `None` = the topic keeps no history.
    pub position: Option<Position>,
    /// Position of the topic, which is that of everything up to `top`; `None` as above.
    pub newest: Option<Position>,
    /// Whether the position asked for was recovered; `None` = none was asked.
    pub recovered: Option<bool>,
}

/// What went when a topic was trimmed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trimmed {
    /// Publications and keys.
    pub(super) count: usize,
    /// Bytes.
    pub(super) len: usize,
    /// When the oldest that is left came, `None` if nothing is left.
    pub(super) oldest: Option<Instant>,
}

/// What is needed to make a topic.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) id: TopicId,
    pub(super) name: TopicName,
    pub(super) rule: Arc<TopicRule>,
    pub(super) position: Position,
    pub(super) memory: Arc<Memory>,
}

impl Topic {
    pub(super) fn new(origin: Origin) -> Self {
        let Origin { id, name, rule, position, memory } = origin;
        memory.charge(MemoryKind::Connections, cost(&name));
        let state = State {
            closed: false,
            top: position.offset,
            unkept: 0,
            history: History::default(),
            interest: Vec::new(),
            keys: None,
            version: None,
            delta_count: 0,
            roster: None,
        };
        Self { id, name, rule, epoch: position.epoch, memory, state: Mutex::new(state) }
    }

    /// The incarnation.
    pub fn id(&self) -> TopicId {
        self.id
    }

    /// The name.
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// The options that apply.
    pub fn rule(&self) -> &TopicRule {
        &self.rule
    }

    /// Whether publications are kept, and with them positions shown.
    pub fn has_history(&self) -> bool {
        self.rule.history_size > 0
    }

    /// Sequence of the newest publication; 0 = there never was one.
    pub fn top(&self) -> u64 {
        self.state.lock().top
    }

    fn shown(&self, offset: u64) -> Option<Position> {
        self.has_history().then_some(Position { epoch: self.epoch, offset })
    }

    /// Gives `draft` its place in the order and hands it to every concerned worker.
    pub(super) fn publish(
        &self,
        Surroundings { inboxes, drain }: Surroundings<'_>,
        draft: Draft,
        options: Publish<'_>,
    ) -> Result<Result<Published, PublishError>, Closed> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Closed);
        }
        if let Some(key) = options.idempotency_key {
            self.expire(&mut state, options.now.instant);
            let seen = state.keys.as_ref().and_then(|keys| keys.find(key));
            if let Some(offset) = seen {
                let position = self.shown(offset).filter(|position| position.offset > 0);
                return Ok(Ok(state.duplicate(position)));
            }
        }
        if let (Some(version), Some(newest)) = (options.version, &state.version)
            && newest.is_at(version)
        {
            let position = self.shown(state.offset());
            return Ok(Ok(state.duplicate(position)));
        }
        // Under the lock: a session that has left looked at the top after the drain began, so what
        // it would miss finds the drain begun.
        if options.admission == Admission::IfRoom && drain.is_draining() {
            return Ok(Err(PublishError::Draining));
        }
        let overrun =
            state.interest.iter().any(|entry| inboxes[usize::from(entry.worker.0)].is_over());
        if overrun && options.admission == Admission::IfRoom {
            return Ok(Err(PublishError::Overrun));
        }
        if self.memory.is_exhausted() {
            return Ok(Err(PublishError::Memory));
        }
        self.append(&mut state, inboxes, draft, options);
        let is_kept = self.keeps(options.reach);
        let position = self.shown(state.offset()).filter(|_| is_kept);
        self.remember(&mut state, position, options);
        Ok(Ok(Published { position, sequence: state.top, duplicate: false, overrun }))
    }

    fn keeps(&self, reach: Reach) -> bool {
        self.has_history() && reach == Reach::All
    }

    /// Remembers what tells later publications from this one, if its publisher gave anything.
    fn remember(&self, state: &mut State, position: Option<Position>, options: Publish<'_>) {
        let Publish { now, idempotency_key, version, .. } = options;
        if idempotency_key.is_none() && version.is_none() {
            return;
        }
        let before = state.held_len();
        if let Some(key) = idempotency_key {
            let offset = position.map_or(0, |position| position.offset);
            state.keys.get_or_insert_default().insert(key, offset, now.instant);
        }
        if let Some(version) = version {
            state.version = Some(Box::new(Newest::after(state.version.as_deref(), version)));
        }
        self.account(before, state.held_len());
    }

    /// The one step that makes the order: sequence, history, every inbox.
    fn append(
        &self,
        state: &mut State,
        inboxes: &[Arc<Inbox>],
        draft: Draft,
        Publish { now, reach, .. }: Publish<'_>,
    ) {
        // Subscribers compare with what they got last, which must be at hand.
        let before = state.history.newest().filter(|before| before.sequence == state.top);
        let before = before.filter(|_| state.delta_count > 0).map(|one| one.payload().clone());
        let is_kept = self.keeps(reach);
        state.top += 1;
        state.unkept += u64::from(self.has_history() && !is_kept);
        let place = (state.top, is_kept.then_some(self.epoch));
        let publication = Publication::new(place, now, draft, Arc::clone(&self.memory));
        let publication = Arc::new(publication.at(state.offset()).after(before));
        if is_kept {
            let before = state.held_len();
            state.history.push(Arc::clone(&publication), &self.rule);
            self.account(before, state.held_len());
        }
        if let Some((last, others)) = state.interest.split_last() {
            for entry in others {
                let publication = Arc::clone(&publication);
                self.send(entry, inboxes, publication);
            }
            self.send(last, inboxes, publication);
        }
    }

    fn send(&self, entry: &Interest, inboxes: &[Arc<Inbox>], publication: Arc<Publication>) {
        let arrival = Arrival { local: entry.local, topic: self.id, publication };
        inboxes[usize::from(entry.worker.0)].push(arrival);
    }

    fn account(&self, before: usize, after: usize) {
        if after >= before {
            self.memory.charge(MemoryKind::History, after - before);
        } else {
            self.memory.release(MemoryKind::History, before - after);
        }
    }

    /// Counts one more subscriber of `worker` in; `number` gives the worker's number for the topic
    /// if this is its first.
    pub(super) fn subscribe(
        &self,
        worker: WorkerId,
        start: Start,
        number: impl FnOnce() -> u32,
    ) -> Result<Joined, Closed> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Closed);
        }
        self.expire(&mut state, Instant::now());
        let known = state.interest.iter_mut().find(|entry| entry.worker == worker);
        let local = if let Some(entry) = known {
            entry.count += 1;
            entry.local
        } else {
            let local = number();
            state.interest.push(Interest { worker, local, count: 1, listener_count: 0 });
            local
        };
        let (first, recovered) = self.begin(&state, start);
        let before_live = (state.top + 1, state.offset());
        let (next, offset) = first.map_or(before_live, |one| (one.sequence, one.offset - 1));
        let (position, newest) = (self.shown(offset), self.shown(state.offset()));
        Ok(Joined { local, next, top: state.top, position, newest, recovered })
    }

    /// Takes one subscriber of `worker` out. Returns whether it was the worker's last.
    pub fn unsubscribe(&self, worker: WorkerId) -> bool {
        let mut state = self.state.lock();
        let Some(index) = state.interest.iter().position(|entry| entry.worker == worker) else {
            debug_assert!(false, "a worker unsubscribes only what it subscribed");
            return true;
        };
        state.interest[index].count -= 1;
        let was_last = state.interest[index].count == 0;
        if was_last {
            state.interest.swap_remove(index);
        }
        was_last
    }

    fn expire(&self, state: &mut State, now: Instant) {
        let before = state.held_len();
        state.history.expire(now, &self.rule);
        if state.keys.as_mut().is_some_and(|keys| keys.expire(now)) {
            state.keys = None;
        }
        self.account(before, state.held_len());
    }

    /// Drops the publications that are kept; the order goes on.
    pub(super) fn remove_history(&self) {
        let mut state = self.state.lock();
        let before = state.held_len();
        while state.history.count() > 0 {
            state.history.drop_oldest();
        }
        state.history.give_room_back();
        self.account(before, state.held_len());
    }

    /// Number of subscribers on all workers.
    pub fn subscriber_count(&self) -> u64 {
        self.state.lock().interest.iter().map(|entry| u64::from(entry.count)).sum()
    }

    /// When the oldest of what is kept came.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.state.lock().oldest()
    }

    /// Drops the oldest of what is kept, as long as it came at `until` or before: `len` bytes, but
    /// not more than [`TRIM_COUNT_MAX`] at a time, for publishers wait meanwhile.
    pub(super) fn trim(&self, until: Instant, len: usize) -> Trimmed {
        let mut state = self.state.lock();
        let before = state.held_len();
        let mut count = 0;
        while count < TRIM_COUNT_MAX && before - state.held_len() < len && state.drop_one(until) {
            count += 1;
        }
        state.history.give_room_back();
        self.account(before, state.held_len());
        Trimmed { count, len: before - state.held_len(), oldest: state.oldest() }
    }

    /// Drops what is too old; closes the topic if nothing is left and nobody subscribes.
    /// Returns the last position if it closed.
    pub(super) fn try_close(&self, now: Instant) -> Option<Position> {
        let mut state = self.state.lock();
        self.expire(&mut state, now);
        if state.closed
            || !state.interest.is_empty()
            || state.history.count() > 0
            || state.keys.is_some()
            || state.roster.is_some()
        {
            return None;
        }
        state.closed = true;
        Some(Position { epoch: self.epoch, offset: state.offset() })
    }
}

/// Deltas.
impl Topic {
    /// One more subscriber wants to know what each publication changes.
    pub fn begin_deltas(&self) {
        self.state.lock().delta_count += 1;
    }

    /// One subscriber less does.
    pub fn end_deltas(&self) {
        self.state.lock().delta_count -= 1;
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        let held = self.state.get_mut().held_len();
        self.memory.release(MemoryKind::History, held);
        let roster = self.state.get_mut().roster.as_ref().map_or(0, |roster| roster.held_len());
        self.memory.release(MemoryKind::Connections, roster);
        self.memory.release(MemoryKind::Connections, cost(&self.name));
    }
}

/// What a topic of that name is charged, whatever it keeps.
fn cost(name: &TopicName) -> usize {
    size_of::<Topic>() + PLACES_COST + name.as_str().len()
}
