//! What a session asks its host to do, and what it is told of the outcome.

use std::sync::Arc;

use bytes::Bytes;

use super::subscription::{SubscriptionKey, Terms};
use crate::hub::{Hub, Payload, Position, Publication, Since, Start, TopicName};
use crate::protocol::centrifugo::{Asked, ClientInfo, Delta, Disconnect, Hears};

/// What the host is to do next.
///
/// Those that need an answer are answered at once or later, in any order; the session goes on
/// meanwhile.
#[derive(Debug)]
pub enum Action {
    /// Send these bytes: a whole frame.
    Send(Box<[u8]>),
    /// Subscribe the session; answered by [`super::Session::on_subscribed`].
    Subscribe(Box<Subscribe>),
    /// End a subscription, also one whose answer is not in yet. Not answered.
    Unsubscribe(TopicName),
    /// Publish; answered by [`super::Session::on_published`].
    Publish(Box<Publish>),
    /// Read history; answered by [`super::Session::on_history`].
    History(Box<History>),
    /// Tell who is there; answered by [`super::Session::on_presence`].
    Presence(CommandId, TopicName),
    /// Tell how many are there; answered by [`super::Session::on_presence_stats`].
    PresenceStats(CommandId, TopicName),
    /// End the connection with all its subscriptions. Nothing follows but answers to what was asked
    /// before.
    Close(Disconnect),
}

/// The command that an answer is for, as its client numbered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandId(pub(super) u32);

/// A subscription to open.
#[derive(Debug)]
pub struct Subscribe {
    /// The topic.
    pub topic: TopicName,
    /// Where the client's stream begins. What is to be replayed goes into the answer, live
    /// publications follow it without a gap.
    pub start: Start,
    /// Whether the client hears who comes and goes.
    pub hears: Hears,
    /// Whether it gets deltas. The first live publication must be whole, unless the subscription
    /// is recovered.
    pub delta: Delta,
    pub(super) key: SubscriptionKey,
    pub(super) cause: Cause,
    pub(super) wish: Wish,
    /// When it ends unless it is renewed, in seconds since 1970.
    pub(super) expires_at: Option<u64>,
    pub(super) terms: Option<Box<Terms>>,
    /// What the client is told: JSON, empty = nothing.
    pub(super) data: Bytes,
}

/// Who wanted a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A command, which is replied to.
    Command(CommandId),
    /// It came with the connection: its result is part of the reply to `connect`.
    Connect,
    /// The application: the client is told by a push.
    Server,
}

/// What is wanted of the topic's past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// The position that the client has, if it is to recover from it.
    pub(super) recover: Option<Asked>,
    /// Whether the subscription is to fail if that cannot be.
    pub(super) else_reject: bool,
}

/// A subscription in force.
#[derive(Debug)]
pub struct Subscribed {
    /// The topic's own name, so that no session holds a copy.
    pub topic: TopicName,
    /// The position just before the first live publication; `None` = no history.
    pub top: Option<Position>,
    /// What lies between the position asked for and `top`, oldest first; `None` = not recovered,
    /// or none was asked for. More than [`super::PAGE_COUNT_MAX`] count as not recovered.
    pub missed: Option<Vec<Arc<Publication>>>,
    /// Bytes that wait for the client already.
    pub waiting_len: usize,
}

/// A publication of the client's.
#[derive(Debug)]
pub struct Publish {
    /// The command.
    pub command: CommandId,
    /// The topic.
    pub topic: TopicName,
    /// The payload, in the frame of the plain door.
    pub payload: Payload,
    /// How subscribers see the publisher.
    pub info: ClientInfo,
}

/// A page of history to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The command.
    pub command: CommandId,
    /// The topic.
    pub topic: TopicName,
    /// Which part of it.
    pub span: Span,
}

/// A part of a topic's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// After it, or before it where the newest come first; `None` = from the end of the topic.
    pub since: Option<Since>,
    /// At most so many publications; 0 = only the position.
    pub limit: usize,
    /// Their order.
    pub order: Order,
}

impl Span {
    /// Reads it. Linear in the page, or, where the newest come first, in the topic's history.
    pub fn read(self, hub: &Hub, topic: &TopicName) -> Page {
        let since = self.since.map(|since| Since { epoch: None, ..since });
        let (since, limit) = match self.order {
            Order::NewestFirst => (None, usize::MAX),
            Order::OldestFirst => {
                let from_the_oldest = Since { epoch: None, offset: 0 };
                (Some(since.unwrap_or(from_the_oldest)), self.limit)
            }
        };
        let Some(page) = hub.page(topic, since, limit) else {
            return Page { top: None, publications: Vec::new() };
        };
        let mut publications = page.publications;
        if self.order == Order::NewestFirst {
            let before = self.since.map_or(u64::MAX, |since| since.offset);
            publications.retain(|publication| publication.offset < before);
            publications.reverse();
            publications.truncate(self.limit);
        }
        Page { top: Some(page.top), publications }
    }

    /// Whether `page` is of the epoch that was asked for, if one was.
    pub fn is_of(self, page: &Page) -> bool {
        let asked = self.since.and_then(|since| since.epoch);
        asked.is_none() || asked == page.top.map(|top| top.epoch)
    }
}

/// The order of a page of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the oldest on.
    OldestFirst,
    /// From the newest back.
    NewestFirst,
}

/// A page of history.
#[derive(Debug)]
pub struct Page {
    /// The topic's position; `None` = nobody ever published to it.
    pub top: Option<Position>,
    /// In the order that was asked for.
    pub publications: Vec<Arc<Publication>>,
}

/// How many are on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headcount {
    /// Connections.
    pub clients: u32,
    /// Distinct users.
    pub users: u32,
}
