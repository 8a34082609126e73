//! `connect` and `refresh`: who the client is, and what it gets without asking.

use std::sync::Arc;

use super::super::code::{Disconnect, ErrorCode};
use super::super::host::{ConnectionToken, Context, ServerSubscription, TokenFault};
use super::super::message::{
    ConnectRequest, ConnectResult, RefreshRequest, RefreshResult, Reply, SubscribeResult,
};
use super::action::{Action, Cause, Wish};
use super::subscription::Origin;
use super::{Account, CommandId, Failure, Phase, Pings, Session};
use crate::auth::Right;
use crate::hub::TopicName;

/// Longest life of a token that is believed, in seconds: more is a mistake.
pub(super) const TTL_MAX: u64 = 365 * 24 * 3_600;

/// A `connect` whose subscriptions are being opened.
#[derive(Debug)]
pub(super) struct Connecting {
    command: CommandId,
    result: ConnectResult,
    awaited: usize,
}

/// A subscription that the client gets without a command of its own.
pub(super) struct Given {
    pub(super) topic: TopicName,
    pub(super) origin: Origin,
    pub(super) subscription: ServerSubscription,
}

impl Session {
    pub(super) fn connect(
        &mut self,
        command: CommandId,
        request: &ConnectRequest,
        context: &mut Context<'_>,
    ) -> Result<(), Failure> {
        let mut from_token = Vec::new();
        if request.token.is_empty() {
            if self.identity.is_none() {
                return Err(Disconnect::BadRequest.into());
            }
        } else {
            from_token = self.log_in(&request.token, context)?;
        }
        let given = self.given(from_token, request, context)?;
        if given.len() > context.settings.topics_per_session_max {
            return Err(Disconnect::SubscriptionLimit.into());
        }
        let connecting =
            Connecting { command, result: self.connect_result(context), awaited: given.len() };
        self.connecting = Some(Box::new(connecting));
        self.phase = Phase::Connecting;
        for given in given {
            let wish = request.subs.get(given.topic.as_str()).map(Wish::of).unwrap_or_default();
            self.give(given, (Cause::Connect, wish), context);
        }
        self.try_finish_connect(context);
        Ok(())
    }

    /// Takes what the token says. Returns the subscriptions that it names.
    fn log_in(
        &mut self,
        token: &str,
        context: &Context<'_>,
    ) -> Result<Vec<ServerSubscription>, Failure> {
        let now = context.seconds();
        let token = context.host.connection_token(token, now).map_err(|fault| match fault {
            TokenFault::Expired => Failure::Error(ErrorCode::TokenExpired),
            TokenFault::Invalid | TokenFault::NoKey => Disconnect::InvalidToken.into(),
            TokenFault::KeyAway => ErrorCode::Internal.into(),
        })?;
        self.take_token(token, now)
    }

    fn take_token(
        &mut self,
        token: ConnectionToken,
        now: u64,
    ) -> Result<Vec<ServerSubscription>, Failure> {
        let ConnectionToken { identity, user, expires_at, info, subscriptions } = token;
        let expires_at = expires_at.map(|at| at.min(now.saturating_add(TTL_MAX)));
        if expires_at.is_some_and(|at| at <= now) {
            return Err(ErrorCode::Expired.into());
        }
        self.identity = Some(identity);
        let user = Arc::from(user);
        self.account = Some(Box::new(Account { user, info, expires_at }));
        Ok(subscriptions)
    }

    /// The token's subscriptions, and of those that the client wants the ones it may have.
    fn given(
        &self,
        from_token: Vec<ServerSubscription>,
        request: &ConnectRequest,
        context: &Context<'_>,
    ) -> Result<Vec<Given>, Failure> {
        let len_max = context.settings.topic_name_len_max;
        let mut given: Vec<Given> = Vec::with_capacity(from_token.len());
        for subscription in from_token {
            let topic = TopicName::new(&subscription.topic, len_max);
            let topic = topic.map_err(|_| ErrorCode::BadRequest)?;
            if given.iter().all(|known| known.topic != topic) {
                given.push(Given { topic, origin: Origin::Token, subscription });
            }
        }
        for name in request.subs.keys() {
            let Ok(topic) = TopicName::new(name, len_max) else { continue };
            if context.host.topic(&topic).is_none() {
                return Err(Disconnect::BadRequest.into());
            }
            let is_known = given.iter().any(|known| known.topic == topic);
            if is_known || !self.may_have_unasked(&topic) {
                continue;
            }
            let subscription = ServerSubscription::to(name);
            given.push(Given { topic, origin: Origin::Server, subscription });
        }
        Ok(given)
    }

    fn may_have_unasked(&self, topic: &TopicName) -> bool {
        let name = topic.as_str();
        name.is_ascii() && !name.starts_with('$') && self.may(Right::Subscribe, topic)
    }

    fn connect_result(&self, context: &Context<'_>) -> ConnectResult {
        let (expires, ttl) = self.ttl(context);
        let mut result = ConnectResult {
            client: self.client.to_string(),
            version: context.settings.version.to_string(),
            expires,
            ttl,
            ..ConnectResult::default()
        };
        if self.pings == Pings::Messages {
            let interval = context.settings.ping_interval.as_secs();
            result.ping = u32::try_from(interval).unwrap_or(u32::MAX);
            result.pong = true;
        }
        if let Some(key) = &self.emulation_key {
            result.session = key.to_string();
            result.node = context.settings.node.to_string();
        }
        result
    }

    /// Whether the connection ends some time, and in how many seconds.
    fn ttl(&self, context: &Context<'_>) -> (bool, u32) {
        let expires_at = self.account.as_ref().and_then(|account| account.expires_at);
        seconds_left(expires_at, context.seconds())
    }

    /// Notes the outcome of a subscription that comes with the connection.
    pub(super) fn on_given(
        &mut self,
        topic: &TopicName,
        outcome: Result<SubscribeResult, ErrorCode>,
        context: &mut Context<'_>,
    ) {
        let Some(connecting) = &mut self.connecting else { return };
        match outcome {
            Ok(result) => {
                connecting.result.subs.insert(topic.to_string(), result);
                connecting.awaited = connecting.awaited.saturating_sub(1);
                self.try_finish_connect(context);
            }
            Err(error) => {
                let command = connecting.command;
                self.connecting = None;
                self.phase = Phase::Unusable;
                self.actions.clear();
                let dropped = std::mem::take(&mut self.subscriptions).into_topics();
                self.actions.extend(dropped.map(Action::Unsubscribe));
                self.refuse(command, error);
            }
        }
    }

    fn try_finish_connect(&mut self, context: &mut Context<'_>) {
        let Some(connecting) = self.connecting.take_if(|connecting| connecting.awaited == 0) else {
            return;
        };
        let Connecting { command: CommandId(id), result, .. } = *connecting;
        self.phase = Phase::Open;
        self.emulation_key = None;
        self.start_pings(context);
        self.out.push(&Reply { id, connect: Some(result), ..Reply::default() });
    }

    pub(super) fn refresh(
        &mut self,
        CommandId(id): CommandId,
        request: &RefreshRequest,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        if request.token.is_empty() {
            return Err(Disconnect::BadRequest.into());
        }
        let now = context.seconds();
        let token = context.host.connection_token(&request.token, now);
        let token = token.map_err(|fault| match fault {
            TokenFault::Expired => Failure::Disconnect(Disconnect::Expired),
            TokenFault::Invalid => Disconnect::InvalidToken.into(),
            TokenFault::NoKey => ErrorCode::NotAvailable.into(),
            TokenFault::KeyAway => ErrorCode::Internal.into(),
        })?;
        if *token.user != *self.user() {
            return Err(Disconnect::InvalidToken.into());
        }
        let granted = self.take_token(token, now)?;
        if self.has_other_topics(&granted) {
            return Err(Disconnect::InsufficientState.into());
        }
        let (expires, ttl) = self.ttl(context);
        let refresh = Some(RefreshResult { expires, ttl, ..RefreshResult::default() });
        self.out.push(&Reply { id, refresh, ..Reply::default() });
        Ok(())
    }

    /// Whether a token names other topics than the one before did.
    fn has_other_topics(&self, granted: &[ServerSubscription]) -> bool {
        let present = self.subscriptions.iter().filter(|known| known.origin == Origin::Token);
        let mut present: Vec<_> = present.map(|known| known.topic.as_str()).collect();
        let mut granted: Vec<_> = granted.iter().map(|granted| &*granted.topic).collect();
        present.sort_unstable();
        granted.sort_unstable();
        present != granted
    }
}

/// Whether something ends some time, and in how many seconds.
pub(super) fn seconds_left(expires_at: Option<u64>, now: u64) -> (bool, u32) {
    let left = expires_at.map_or(0, |at| at.saturating_sub(now));
    (expires_at.is_some(), u32::try_from(left).unwrap_or(u32::MAX))
}
