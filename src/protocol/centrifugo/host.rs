//! What a session asks and is told at once: what topics offer, and what tokens say.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::code::ErrorCode;
use crate::auth::{Identity, Rights};
use crate::hub::TopicName;
use crate::limits::{JoinLeave, Limits};
use crate::time::Stamp;

/// What is asked of those who know topics and keys.
pub trait Host {
    /// What a topic offers; `None` = there cannot be a topic of that name.
    fn topic(&self, topic: &TopicName) -> Option<TopicOptions>;

    /// What `identity` may do on a topic.
    fn rights(&self, identity: &Identity, topic: &TopicName) -> Rights;

    /// The topic that is for `user` alone, if users have such topics and this one's can be.
    fn personal_topic(&self, user: &str) -> Option<TopicName>;

    /// Checks a connection token.
    ///
    /// # Errors
    /// [`TokenFault`] says why nobody is let in by it.
    fn connection_token(&self, token: &str, now: Stamp) -> Result<ConnectionToken, TokenFault>;

    /// Checks a subscription token. Whose it is and for which topic is for the session to compare.
    ///
    /// # Errors
    /// [`TokenFault`] says why it lets nobody subscribe.
    fn subscription_token(&self, token: &str, now: Stamp) -> Result<SubscriptionToken, TokenFault>;

    /// Counts a command that the session refused.
    fn refused(&self, error: ErrorCode);
}

/// What a topic offers to clients of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicOptions {
    /// What a client gets that comes back.
    pub recovery: Recovery,
    /// Whether it is known who is there.
    pub presence: Presence,
    /// Whether subscribers may have what changed instead of the whole.
    pub delta: Delta,
}

/// What a client gets that comes back to a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recovery {
    /// Nothing: the topic keeps no history.
    #[default]
    Off,
    /// All that it missed, or the word that this cannot be had.
    Stream,
    /// The newest publication, unless it has it.
    Newest,
}

/// Whether a topic knows its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// It does not.
    #[default]
    Off,
    /// It does, and these are told who comes and goes.
    On(JoinLeave),
}

/// What subscribers get of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delta {
    /// All of it.
    #[default]
    Off,
    /// What makes it of the one before, in the format of [`super::fossil`].
    Fossil,
}

/// Why a token is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenFault {
    /// It was good once.
    Expired,
    /// It never was.
    Invalid,
    /// No key is configured to check tokens with.
    NoKey,
    /// The key cannot be had at this moment.
    KeyAway,
}

/// What a connection token says, or a request in its place.
#[derive(Debug, Clone)]
pub struct ConnectionToken {
    /// Who the client is and what it may do.
    pub identity: Identity,
    /// When the connection ends unless it is renewed, in seconds since 1970; `None` = with the
    /// identity, which the client is not told.
    pub expires_at: Option<u64>,
    /// What other clients see of it: JSON, empty = nothing.
    pub info: Bytes,
    /// Topics that the client is subscribed to without asking.
    pub subscriptions: Vec<ServerSubscription>,
}

impl From<Identity> for ConnectionToken {
    fn from(identity: Identity) -> Self {
        Self { identity, expires_at: None, info: Bytes::new(), subscriptions: Vec::new() }
    }
}

/// A position as it was written, be it that of a topic or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Empty = the current one.
    pub epoch: Box<str>,
    /// The last offset that the client has.
    pub offset: u64,
}

/// A subscription that the client gets without a command of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSubscription {
    /// The topic's name, not checked yet.
    pub topic: Box<str>,
    /// What other clients see of the client on this topic: JSON, empty = nothing.
    pub info: Bytes,
    /// What the client is told: JSON, empty = nothing.
    pub data: Bytes,
    /// Whether it hears who comes and goes.
    pub hears: Hears,
    /// The position to recover from, if there is one.
    pub recover: Option<Asked>,
    /// When it ends, in seconds since 1970; `None` = never.
    pub expires_at: Option<u64>,
}

impl ServerSubscription {
    /// A subscription to `topic` of which there is nothing to tell.
    pub fn to(topic: &str) -> Self {
        Self {
            topic: topic.into(),
            info: Bytes::new(),
            data: Bytes::new(),
            hears: Hears::Publications,
            recover: None,
            expires_at: None,
        }
    }
}

/// What a subscriber hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hears {
    /// Publications only.
    #[default]
    Publications,
    /// Also who joins and who leaves, itself included.
    Members,
}

/// What a subscription token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionToken {
    /// Whose it is; `None` = of clients without a name.
    pub user: Option<Arc<str>>,
    /// For which topic.
    pub topic: Box<str>,
    /// For which client; `None` = any of the user's.
    pub client: Option<Box<str>>,
    /// When the subscription ends unless it is renewed, in seconds since 1970; `None` = never.
    pub expires_at: Option<u64>,
    /// What other clients see of the client on this topic: JSON, empty = nothing.
    pub info: Bytes,
    /// What the client is told: JSON, empty = nothing.
    pub data: Bytes,
    /// Whether it hears who comes and goes, also without asking.
    pub hears: Hears,
}

/// What holds for all sessions of the door.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of the server, as clients are told.
    pub version: Box<str>,
    /// Of this node, where requests must find back to it.
    pub node: Box<str>,
    /// Between pings; at least a second, the unit in which clients are told.
    pub ping_interval: Duration,
    /// For the answer to a ping.
    pub pong_timeout: Duration,
    /// For a successful `connect`.
    pub stale_timeout: Duration,
    /// For a token to be renewed, once it has run out.
    pub expired_grace: Duration,
    /// Subscriptions of a session.
    pub topics_per_session_max: usize,
    /// Bytes of a topic's name.
    pub topic_name_len_max: usize,
    /// Bytes of publications in one reply.
    pub reply_len_max: usize,
    /// Commands per second and session that read history, list members, check tokens or are told to
    /// members.
    pub costly_per_second_max: u32,
}

impl Settings {
    /// Those of the configuration.
    pub fn new(limits: &Limits, node: &str) -> Self {
        Self {
            version: concat!("Fanwire ", env!("CARGO_PKG_VERSION")).into(),
            node: node.into(),
            ping_interval: limits.ping_interval.max(Duration::from_secs(1)),
            pong_timeout: limits.pong_timeout,
            stale_timeout: Duration::from_secs(10),
            expired_grace: Duration::from_secs(25),
            topics_per_session_max: limits.topics_per_session_max,
            topic_name_len_max: limits.topic_name_bytes_max,
            reply_len_max: limits.outbox_bytes_max / 2,
            // Twice what a client with all its subscriptions needs to come back.
            costly_per_second_max: 256,
        }
    }
}

/// What every call into a session needs.
#[expect(missing_debug_implementations, reason = "a host is any type")]
pub struct Context<'a> {
    /// The time, which may be a simulated one.
    pub now: Stamp,
    /// What holds for all sessions.
    pub settings: &'a Settings,
    /// Who is asked.
    pub host: &'a dyn Host,
    /// For client ids and the first ping; a seed replays a run.
    pub random: &'a mut fastrand::Rng,
}

impl Context<'_> {
    /// Seconds since 1970.
    pub(super) fn seconds(&self) -> u64 {
        self.now.wall / 1_000
    }
}
