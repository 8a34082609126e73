//! Topics and their publications: one order, history, and which workers must hear of it.
//!
//! The hub never names a front door and never touches a socket.

mod directory;
mod doorbell;
mod history;
mod idempotency;
mod inbox;
mod name;
mod peer;
mod position;
mod presence;
mod publication;
mod shed;
mod topic;
mod variant;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use directory::{Directory, Known};
use shed::Shedding;
use topic::Surroundings;

pub use directory::FORGOTTEN_COUNT_MAX;
pub use idempotency::{IDEMPOTENCY_KEY_LEN_MAX, IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_TTL};
pub use inbox::{Arrival, INBOX_LEN_MAX, Inbox};
pub use name::{NameError, TOPIC_NAME_LEN_MAX, TopicName, decode_strict};
pub use peer::Peer;
pub use position::{Epoch, Position, Since, Start};
pub use presence::{Movement, Notice, Parting, Presence};
pub use publication::{Draft, Payload, PayloadKind, Publication, Tags};
pub use topic::{
    Admission, CatchUp, Joined, Page, Publish, PublishError, Published, Reach, Topic, TopicId,
    Version,
};
pub use variant::{Derive, Variant, VariantId, Variants};

use crate::drain::Drain;
use crate::id::{SessionId, WorkerId};
use crate::limits::TopicRule;
use crate::metrics::Memory;
use crate::sync::{Mutex, yield_now};

/// All topics, and the inboxes of all workers.
#[derive(Debug)]
pub struct Hub {
    directory: Directory,
    inboxes: Vec<Arc<Inbox>>,
    variants: Arc<Variants>,
    memory: Arc<Memory>,
    drain: Arc<Drain>,
    /// Only the thread that sweeps takes it.
    shedding: Mutex<Shedding>,
}

/// What a hub is made of.
#[derive(Debug)]
pub struct HubParts {
    /// Options of topics; the first match wins.
    pub rules: Vec<TopicRule>,
    /// How long a forgotten topic keeps its position.
    pub meta_ttl: Duration,
    /// One inbox per worker, in their order.
    pub inboxes: Vec<Arc<Inbox>>,
    /// The encodings of all front doors.
    pub variants: Arc<Variants>,
    /// The account to charge.
    pub memory: Arc<Memory>,
}

impl Hub {
    /// An empty hub.
    pub fn new(parts: HubParts) -> Self {
        let HubParts { rules, meta_ttl, inboxes, variants, memory } = parts;
        let directory = Directory::new(rules, meta_ttl, Arc::clone(&memory));
        Self {
            directory,
            inboxes,
            variants,
            memory,
            drain: Arc::default(),
            shedding: Mutex::default(),
        }
    }

    /// Publishes to a topic by name, which is made if there is none.
    ///
    /// # Errors
    /// [`PublishError`] when nothing was published; trying again later can help.
    pub fn publish(
        &self,
        name: &TopicName,
        draft: &Draft,
        options: Publish<'_>,
    ) -> Result<Published, PublishError> {
        if self.memory.is_exhausted() {
            // Before a topic is made for it.
            return Err(PublishError::Memory);
        }
        loop {
            let topic = self.directory.get_or_create(name);
            match topic.publish(self.surroundings(), draft.clone(), options) {
                Ok(result) => return result,
                Err(topic::Closed) => yield_now(),
            }
        }
    }

    /// Publishes to a topic that the caller subscribes to: no look-up by name.
    ///
    /// # Errors
    /// As [`Hub::publish`].
    ///
    /// # Panics
    /// When the topic is closed: a bug, since a topic with subscribers cannot be.
    pub fn publish_to(
        &self,
        topic: &Topic,
        draft: Draft,
        options: Publish<'_>,
    ) -> Result<Published, PublishError> {
        let result = topic.publish(self.surroundings(), draft, options);
        result.expect("a topic with subscribers is not closed")
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings { inboxes: &self.inboxes, drain: &self.drain }
    }

    /// Counts a subscriber of `worker` in; `number` gives the worker's number for a new topic.
    pub fn subscribe(
        &self,
        name: &TopicName,
        worker: WorkerId,
        start: Start,
        mut number: impl FnMut(&Arc<Topic>) -> u32,
    ) -> (Arc<Topic>, Joined) {
        loop {
            let topic = self.directory.get_or_create(name);
            match topic.subscribe(worker, start, || number(&topic)) {
                Ok(joined) => return (topic, joined),
                Err(topic::Closed) => yield_now(),
            }
        }
    }

    /// A page of a topic's history, and `None` for an unknown topic, which stays unknown.
    pub fn page(&self, name: &TopicName, since: Option<Since>, limit: usize) -> Option<Page> {
        match self.directory.find(name) {
            Known::Topic(topic) => Some(topic.page(since, limit)),
            Known::Position(top) => {
                let recovered = since.map(|since| {
                    since.epoch.is_none_or(|epoch| epoch == top.epoch) && since.offset == top.offset
                });
                Some(Page { top, recovered, publications: Vec::new() })
            }
            Known::Nothing => None,
        }
    }

    /// Drops what is kept of a topic's publications; its position stays.
    pub fn remove_history(&self, name: &TopicName) {
        if let Known::Topic(topic) = self.directory.find(name) {
            topic.remove_history();
        }
    }

    /// All topics, at the price of a look at each.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.directory.topics()
    }

    /// Makes a subscriber known as a member of its topic, if that has presence.
    pub fn enter(&self, topic: &Topic, session: SessionId, peer: &Arc<Peer>) {
        topic.enter(&self.inboxes, session, peer);
    }

    /// Takes a member out of its topic, now or when its user has not come back in time.
    pub fn part(&self, topic: &Arc<Topic>, session: SessionId, parting: Parting, now: Instant) {
        if let Some(until) = topic.part(self.surroundings(), session, parting, now) {
            self.directory.await_member(topic, session, until);
        }
    }

    /// Who is on a topic, with `limit` of the members at most; `None` = it has no presence.
    pub fn presence(&self, name: &TopicName, limit: usize) -> Option<Presence> {
        if !self.rule(name).presence {
            return None;
        }
        Some(match self.directory.find(name) {
            Known::Topic(topic) => topic.presence(limit),
            Known::Position(_) | Known::Nothing => Presence::default(),
        })
    }

    /// Whether topics of that name keep history.
    pub fn has_history(&self, name: &TopicName) -> bool {
        self.rule(name).history_size > 0
    }

    /// The options of topics of that name. Linear in the rules.
    pub fn rule(&self, name: &TopicName) -> &TopicRule {
        self.directory.rule(name)
    }

    /// The inbox of `worker`.
    pub fn inbox(&self, worker: WorkerId) -> &Arc<Inbox> {
        &self.inboxes[usize::from(worker.0)]
    }

    /// All inboxes, in the workers' order.
    pub fn inboxes(&self) -> &[Arc<Inbox>] {
        &self.inboxes
    }

    /// Whether publishers are to be held back: some inbox is over its budget.
    pub fn is_over(&self) -> bool {
        self.inboxes.iter().any(|inbox| inbox.is_over())
    }

    /// Whether publishers that were held back may go on: every inbox is under half.
    pub fn has_room(&self) -> bool {
        self.inboxes.iter().all(|inbox| inbox.is_under_half())
    }

    /// The encodings.
    pub fn variants(&self) -> &Arc<Variants> {
        &self.variants
    }

    /// The way out; once it is begun, requests publish no more.
    pub fn drain(&self) -> &Arc<Drain> {
        &self.drain
    }

    /// The memory account.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Number of topics.
    pub fn topic_count(&self) -> usize {
        self.directory.count()
    }

    /// Drops old history, forgets idle topics, and when memory is short lets go of what the account
    /// is short of; to be called many times a second, by one thread.
    pub fn sweep(&self, now: Instant) {
        self.directory.give_up_members(self.surroundings(), now);
        self.directory.sweep(now);
        if self.shedding.lock().look(&self.directory, &self.memory, now) {
            self.inboxes.iter().for_each(|inbox| inbox.wake());
        }
    }
}
