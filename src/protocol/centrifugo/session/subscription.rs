//! The subscriptions of one session: few, nearly always one, which has its place in the session.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::auth::Expiry;
use crate::hub::TopicName;

/// Tells a subscription from earlier ones of the same topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SubscriptionKey(u32);

/// Where a subscription comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The client asked for it.
    Client,
    /// The connection token names it.
    Token,
    /// The application, or the client when it connected.
    Server,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The host was asked.
    Opening,
    /// It is in force.
    Open,
}

/// On which terms it was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    /// When it ends unless it is renewed; `None` = never.
    pub(super) expiry: Option<Expiry>,
    /// What other clients see: JSON, empty = nothing.
    pub(super) info: Bytes,
}

impl Terms {
    /// `None` = nothing that must be kept.
    pub(super) fn new(expiry: Option<Expiry>, info: Bytes) -> Option<Box<Self>> {
        let is_empty = expiry.is_none() && info.is_empty();
        (!is_empty).then(|| Box::new(Self { expiry, info }))
    }
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) topic: TopicName,
    pub(super) key: SubscriptionKey,
    pub(super) origin: Origin,
    pub(super) stage: Stage,
    /// `None` = for ever, and nothing to tell.
    pub(super) terms: Option<Box<Terms>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    list: SmallVec<[Subscription; 1]>,
    next_key: u32,
}

impl Subscriptions {
    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.list.iter()
    }

    pub(super) fn get(&self, topic: &str) -> Option<&Subscription> {
        self.list.iter().find(|subscription| subscription.topic.as_str() == topic)
    }

    pub(super) fn get_mut(&mut self, topic: &str) -> Option<&mut Subscription> {
        self.list.iter_mut().find(|subscription| subscription.topic.as_str() == topic)
    }

    /// Adds one that the host is about to be asked for; the caller has looked that there is none.
    pub(super) fn add(&mut self, topic: TopicName, origin: Origin) -> SubscriptionKey {
        let key = SubscriptionKey(self.next_key);
        self.next_key = self.next_key.wrapping_add(1);
        self.list.push(Subscription { topic, key, origin, stage: Stage::Opening, terms: None });
        key
    }

    /// The one that is still waiting under `key`; `None` = it was ended meanwhile.
    pub(super) fn opening(&mut self, key: SubscriptionKey) -> Option<&mut Subscription> {
        self.list
            .iter_mut()
            .find(|subscription| subscription.key == key && subscription.stage == Stage::Opening)
    }

    pub(super) fn into_topics(self) -> impl Iterator<Item = TopicName> {
        self.list.into_iter().map(|subscription| subscription.topic)
    }

    pub(super) fn remove(&mut self, topic: &str) -> Option<Subscription> {
        let at = self.list.iter().position(|known| known.topic.as_str() == topic)?;
        let removed = self.list.swap_remove(at);
        if self.list.len() <= 1 {
            self.list.shrink_to_fit();
        }
        Some(removed)
    }
}
