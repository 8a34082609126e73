//! What the application has done to the sessions of a user, on all workers.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::connection::{ConnectionKey, Phase};
use super::{Gate, Worker};
use crate::auth::{Expiry, Grant};
use crate::hub::TopicName;
use crate::protocol::centrifugo::{
    Commands, Disconnect, ErrorCode, ServerSubscription, UnsubscribeCode,
};
use crate::reason::CloseReason;

/// Which sessions are meant: those of one user that nothing here rules out.
///
/// Only sessions of the Centrifugo protocol have a name of their own; where one is asked for, others
/// are not meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whom {
    /// The user.
    pub user: Box<str>,
    /// The one client with this id; `None` = all.
    pub client: Option<Box<str>>,
    /// The one session with this name, which those that send over a WebSocket do not have; `None` =
    /// all.
    pub session: Option<Box<str>>,
    /// Clients with these ids are spared.
    pub spared: HashSet<Box<str>>,
}

/// What is to be done to a session. Sessions of other doors keep their topics for all their life: they
/// are neither subscribed nor unsubscribed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    /// Subscribe it; the client is told.
    Subscribe(ServerSubscription),
    /// End its subscription of a topic, `None` = of all; the client is told.
    Unsubscribe(Option<TopicName>),
    /// End it, with these words for a client that can be told.
    Disconnect(Disconnect, Option<Box<str>>),
    /// Set when it ends, and what others see of its client.
    Refresh {
        /// In seconds since 1970; `None` = never.
        expires_at: Option<u64>,
        /// JSON, empty = as it is.
        info: Bytes,
    },
}

/// How many are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Headcount {
    /// Sessions.
    pub clients: usize,
    /// Distinct users, as far as they are known.
    pub users: usize,
    /// Subscriptions.
    pub subscriptions: u64,
}

/// What one worker counts.
struct Count {
    clients: usize,
    users: Vec<Arc<str>>,
    subscriptions: u64,
}

impl Gate {
    /// Has all workers run an errand, and waits until they have.
    ///
    /// # Errors
    /// What the first session that could not be served says; [`ErrorCode::Internal`] where a worker
    /// does not answer. Others are served all the same.
    ///
    /// # Cancel safety
    /// The errand is run all the same.
    pub async fn run_errand(&self, whom: Whom, errand: Errand) -> Result<(), ErrorCode> {
        let errand = Arc::new((whom, errand));
        let asked = self.posts().iter().map(|post| {
            let errand = Arc::clone(&errand);
            post.ask(move |worker| worker.run_errand(&errand.0, &errand.1))
        });
        // All have it before one is waited for.
        let asked: Vec<_> = asked.collect();
        let mut outcome = Ok(());
        for answer in asked {
            outcome = outcome.and(answer.await.unwrap_or(Err(ErrorCode::Internal)));
        }
        outcome
    }

    /// Counts sessions and users of all workers, at the price of a look at each user. `None` = a
    /// worker does not answer.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn headcount(&self) -> Option<Headcount> {
        let asked: Vec<_> =
            self.posts().iter().map(|post| post.ask(|worker| worker.count())).collect();
        let (mut headcount, mut users) = (Headcount::default(), HashSet::new());
        for answer in asked {
            let count = answer.await?;
            headcount.clients += count.clients;
            headcount.subscriptions += count.subscriptions;
            users.extend(count.users);
        }
        Some(Headcount { users: users.len(), ..headcount })
    }
}

impl Worker {
    fn count(&self) -> Count {
        Count {
            clients: self.present,
            users: self.users.iter().map(Arc::clone).collect(),
            subscriptions: self.metrics.subscriptions.get(),
        }
    }

    fn run_errand(&mut self, whom: &Whom, errand: &Errand) -> Result<(), ErrorCode> {
        let mut outcome = Ok(());
        for key in self.users.of(&whom.user) {
            if self.is_meant(key, whom) {
                outcome = outcome.and(self.serve(key, errand));
            }
        }
        outcome
    }

    fn is_meant(&mut self, key: ConnectionKey, whom: &Whom) -> bool {
        let is_the_session = whom.session.as_ref().is_none_or(|name| self.is_named(key, name));
        let Some(connection) = self.get(key).filter(|one| one.phase == Phase::Open) else {
            return false;
        };
        let client = connection.commanded().map(|session| Box::from(session.client().to_string()));
        let is_the_client = whom.client.is_none() || whom.client == client;
        let is_spared = client.is_some_and(|client| whom.spared.contains(&client));
        is_the_session && is_the_client && !is_spared
    }

    fn serve(&mut self, key: ConnectionKey, errand: &Errand) -> Result<(), ErrorCode> {
        let mut outcome = Ok(());
        let mut commands = Commands::none();
        match errand {
            Errand::Disconnect(disconnect, words) => {
                self.end_saying(key, CloseReason::Centrifugo(*disconnect), words.clone());
            }
            Errand::Refresh { expires_at, info } if self.has_session(key) => {
                self.drive(key, &mut commands, |session, context| {
                    session.refresh_for_server(*expires_at, info.clone(), context);
                });
            }
            Errand::Refresh { expires_at, .. } => self.expire_at(key, *expires_at),
            Errand::Subscribe(subscription) => {
                self.drive(key, &mut commands, |session, context| {
                    outcome = session.subscribe_for_server(subscription.clone(), context);
                });
            }
            Errand::Unsubscribe(topic) => {
                self.drive(key, &mut commands, |session, _| match topic {
                    Some(topic) => session.end(topic, UnsubscribeCode::Server),
                    None => session.end_all(),
                });
            }
        }
        match outcome {
            // It has what it is to have.
            Err(ErrorCode::AlreadySubscribed) => Ok(()),
            outcome => outcome,
        }
    }

    fn has_session(&mut self, key: ConnectionKey) -> bool {
        self.get(key).is_some_and(|connection| connection.has_session())
    }

    fn end_saying(&mut self, key: ConnectionKey, reason: CloseReason, words: Option<Box<str>>) {
        let Self { connections, output, .. } = self;
        output.end_saying(key.index, &mut connections[key.index as usize], (reason, words));
    }

    /// Sets when a connection ends that has no session to tell.
    fn expire_at(&mut self, key: ConnectionKey, expires_at: Option<u64>) {
        let (clock, grace) = (self.clock, self.gate.expiry_grace());
        if expires_at.is_some_and(|seconds| seconds <= clock.wall / 1_000) {
            return self.end(key, CloseReason::TokenExpired);
        }
        let expiry = expires_at.and_then(|seconds| Expiry::new(seconds, grace, clock));
        let Self { connections, output, .. } = self;
        let connection = &mut connections[key.index as usize];
        if let Some(grant) = &connection.grant {
            connection.grant = Some(Arc::new(Grant { expiry, ..Grant::clone(grant) }));
            output.expect_by(key.index, connection, output.expiry_tick(connection, clock));
        }
    }
}
