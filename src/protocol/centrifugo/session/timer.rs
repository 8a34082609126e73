//! What a session does as time passes: pings, and the ends of tokens.
//!
//! Tokens run out by the wall clock, which may jump; everything else goes by the monotonic one.

use std::time::Duration;

use tokio::time::Instant;

use super::super::code::{Disconnect, UnsubscribeCode};
use super::super::host::Context;
use super::super::message::Reply;
use super::{Phase, Pings, Session};
use crate::hub::TopicName;

/// Longest time to wait in one piece; who wants a longer one is asked again.
const WAIT_MAX: Duration = Duration::from_hours(365 * 24);

/// When something is due.
#[derive(Debug)]
pub(super) struct Timers {
    /// The next ping; before `connect` succeeds, when that is too late.
    due: Option<Instant>,
    /// When the answer to a ping is too late; `None` = no ping is out.
    pong_due: Option<Instant>,
}

impl Timers {
    pub(super) fn new(context: &Context<'_>) -> Self {
        let due = Some(context.now.instant + context.settings.stale_timeout);
        Self { due, pong_due: None }
    }
}

impl Session {
    /// When to call [`Session::on_deadline`]; it may change with every call. Linear in the
    /// subscriptions.
    pub fn deadline(&self, context: &Context<'_>) -> Option<Instant> {
        let expired = self.expiry(context).map(|ends_at| {
            let wait = Duration::from_millis(ends_at.saturating_sub(context.now.wall));
            context.now.instant + wait.min(WAIT_MAX)
        });
        [self.timers.due, self.timers.pong_due, expired].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, context: &mut Context<'_>) {
        let now = context.now.instant;
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match self.phase {
            Phase::New | Phase::Connecting | Phase::Unusable if is_due(self.timers.due) => {
                return self.close(Disconnect::Stale);
            }
            Phase::Open if is_due(self.timers.pong_due) => {
                return self.close(Disconnect::NoPong);
            }
            Phase::Open if is_due(self.timers.due) => self.ping(context),
            _ => {}
        }
        self.expire(context);
    }

    /// The first ping comes at a random time, so that clients that came together do not all
    /// answer together.
    pub(super) fn start_pings(&mut self, context: &mut Context<'_>) {
        self.timers.due = None;
        if self.pings == Pings::Messages {
            let interval = context.settings.ping_interval;
            let first = interval.mul_f64(0.5 + context.random.f64() / 2.0);
            self.timers.due = Some(context.now.instant + first);
        }
    }

    fn ping(&mut self, context: &Context<'_>) {
        self.timers.due = Some(context.now.instant + context.settings.ping_interval);
        if self.timers.pong_due.is_none() {
            self.timers.pong_due = Some(context.now.instant + context.settings.pong_timeout);
            self.out.push(&Reply::default());
        }
    }

    pub(super) fn on_pong(&mut self) {
        if self.timers.pong_due.take().is_none() {
            self.close(Disconnect::BadRequest);
        }
    }

    /// Gives the client the time again that it was not listened to.
    pub fn on_resume(&mut self, context: &Context<'_>) {
        if let Some(due) = &mut self.timers.pong_due {
            *due = context.now.instant + context.settings.pong_timeout;
        }
    }

    /// When the first token is too old, in milliseconds since 1970.
    fn expiry(&self, context: &Context<'_>) -> Option<u64> {
        let grants = self.subscriptions.iter().filter_map(|known| known.grant.as_ref());
        let account = self.account.as_ref().and_then(|account| account.expires_at);
        let first = grants.filter_map(|grant| grant.expires_at).chain(account).min()?;
        Some(too_old(first, context))
    }

    fn expire(&mut self, context: &Context<'_>) {
        let is_over = |at: Option<u64>| {
            at.is_some_and(|expires_at| too_old(expires_at, context) <= context.now.wall)
        };
        if self.account.as_ref().is_some_and(|account| is_over(account.expires_at)) {
            return self.close(Disconnect::Expired);
        }
        let over = self
            .subscriptions
            .iter()
            .filter(|known| known.grant.as_ref().is_some_and(|grant| is_over(grant.expires_at)));
        let over: Vec<TopicName> = over.map(|known| known.topic.clone()).collect();
        for topic in over {
            self.end(&topic, UnsubscribeCode::Expired);
        }
    }
}

/// When a token that runs out at `expires_at` seconds is not waited for any more, in milliseconds.
fn too_old(expires_at: u64, context: &Context<'_>) -> u64 {
    let grace = context.settings.expired_grace.as_secs();
    expires_at.saturating_add(grace).saturating_mul(1_000)
}
