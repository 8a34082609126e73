//! What a session does as time passes: pings, and the ends of tokens.
//!
//! Tokens run out by both clocks (`auth::Expiry`); everything else goes by the monotonic one.

use tokio::time::Instant;

use super::super::code::{Disconnect, UnsubscribeCode};
use super::super::host::Context;
use super::super::message::Reply;
use super::{Phase, Pings, Session};
use crate::auth::Expiry;
use crate::hub::TopicName;

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
        let terms = self.subscriptions.iter().filter_map(|known| known.terms.as_ref());
        let expiries = terms.filter_map(|terms| terms.expiry);
        let expiries = expiries.chain(self.account.as_ref().and_then(|account| account.expiry));
        let looks = expiries.map(|expiry| expiry.look_at(context.now));
        let own = [self.timers.due, self.timers.pong_due].into_iter().flatten();
        looks.chain(own).min()
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
        if self.sends_pings() {
            let interval = context.settings.ping_interval;
            let first = interval.mul_f64(0.5 + context.random.f64() / 2.0);
            self.timers.due = Some(context.now.instant + first);
        }
    }

    /// Whether the client gets pings as messages: one that only listens does in any case, and does not
    /// answer.
    pub(super) fn sends_pings(&self) -> bool {
        self.pings == Pings::Messages || self.wire().is_unidirectional()
    }

    fn ping(&mut self, context: &Context<'_>) {
        self.timers.due = Some(context.now.instant + context.settings.ping_interval);
        if self.wire().is_unidirectional() {
            self.out.push(&Reply::default());
        } else if self.timers.pong_due.is_none() {
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

    fn expire(&mut self, context: &Context<'_>) {
        let is_over = |expiry: Option<Expiry>| expiry.is_some_and(|at| at.is_over(context.now));
        if self.account.as_ref().is_some_and(|account| is_over(account.expiry)) {
            return self.close(Disconnect::Expired);
        }
        let over = self
            .subscriptions
            .iter()
            .filter(|known| known.terms.as_ref().is_some_and(|terms| is_over(terms.expiry)));
        let over: Vec<TopicName> = over.map(|known| known.topic.clone()).collect();
        for topic in over {
            self.end(&topic, UnsubscribeCode::Expired);
        }
    }
}
