//! What sessions ask and are told at once: what topics offer, and what tokens say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::post::Post;
use crate::auth::{Access, Identity, Rights};
use crate::hub::{Hub, TopicName};
use crate::id::WorkerId;
use crate::protocol::centrifugo::{
    self, ConnectionToken, Delta, ErrorCode, Host, Presence, Recovery, Settings, SubscriptionToken,
    TokenFault, TopicOptions,
};
use crate::time::Stamp;

/// Those who know topics and keys, and what holds for all sessions. One for all workers.
#[derive(Debug)]
pub struct Gate {
    hub: Arc<Hub>,
    access: Arc<Access>,
    pub(super) settings: Settings,
    /// Commands and calls refused, by the place of their error in [`ErrorCode::ALL`].
    refused: [AtomicU64; ErrorCode::ALL.len()],
    /// The ways to the workers, in their order.
    posts: Vec<Post>,
    started: Instant,
}

impl Gate {
    /// Asks `hub` for topics and `access` for rights.
    pub fn new(hub: Arc<Hub>, access: Arc<Access>, settings: Settings) -> Self {
        let posts = hub.inboxes().iter().map(|inbox| Post::new(Arc::clone(inbox))).collect();
        let (refused, started) = (Default::default(), Instant::now());
        Self { hub, access, settings, refused, posts, started }
    }

    /// What this node is called in clients' requests.
    pub fn node(&self) -> &str {
        &self.settings.node
    }

    /// How long it has been there: as long as the server.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// How long a session goes on after its token's end.
    pub(super) fn expiry_grace(&self) -> Duration {
        self.access.verifier().expiry_grace()
    }

    /// Counts a command, or a call of the server API, that was refused.
    pub fn count_refused(&self, error: ErrorCode) {
        if let Some(at) = ErrorCode::ALL.iter().position(|one| *one == error) {
            self.refused[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The way to a worker.
    pub(super) fn post(&self, worker: WorkerId) -> &Post {
        &self.posts[usize::from(worker.0)]
    }

    /// The ways to all workers.
    pub(super) fn posts(&self) -> &[Post] {
        &self.posts
    }

    /// How many commands were refused, by error code.
    pub fn refused_commands(&self) -> Vec<(&'static str, u64)> {
        let counts = self.refused.iter().map(|count| count.load(Ordering::Relaxed));
        ErrorCode::ALL.into_iter().map(ErrorCode::label).zip(counts).collect()
    }

    /// Looks for a key that is not at hand, so that the client's next attempt finds it.
    fn fetch_key(&self, token: &str) {
        let (access, token) = (Arc::clone(&self.access), token.to_owned());
        // Ends with the fetch, which has its time and its rate.
        tokio::task::spawn_local(async move { access.verifier().verify(&token).await.is_ok() });
    }
}

impl Host for Gate {
    fn topic(&self, topic: &TopicName) -> Option<TopicOptions> {
        let rule = self.hub.rule(topic);
        let recovery = if rule.history_size > 0 { Recovery::Stream } else { Recovery::Off };
        let presence = if rule.presence { Presence::On(rule.join_leave) } else { Presence::Off };
        let delta = if rule.history_size > 0 { Delta::Fossil } else { Delta::Off };
        Some(TopicOptions { recovery, presence, delta })
    }

    fn rights(&self, identity: &Identity, topic: &TopicName) -> Rights {
        self.access.rights(identity, topic, self.hub.rule(topic))
    }

    fn personal_topic(&self, user: &str) -> Option<TopicName> {
        let name = self.access.personal_topic(user)?;
        TopicName::new(&name, self.settings.topic_name_len_max).ok()
    }

    fn connection_token(&self, token: &str, now: Stamp) -> Result<ConnectionToken, TokenFault> {
        let grace = self.settings.expired_grace;
        let checked = centrifugo::connection_token(self.access.verifier(), token, grace, now);
        if matches!(checked, Err(TokenFault::KeyAway)) {
            self.fetch_key(token);
        }
        checked
    }

    fn subscription_token(&self, token: &str, now: Stamp) -> Result<SubscriptionToken, TokenFault> {
        let checked = centrifugo::subscription_token(self.access.verifier(), token, now);
        if matches!(checked, Err(TokenFault::KeyAway)) {
            self.fetch_key(token);
        }
        checked
    }

    fn refused(&self, error: ErrorCode) {
        self.count_refused(error);
    }
}
