//! `connect` and `refresh`: who the client is, and what it gets without asking.

use bytes::Bytes;

use super::super::code::{Disconnect, ErrorCode};
use super::super::host::{ConnectionToken, Context, ServerSubscription, TokenFault};
use super::super::message::{
    self, ConnectRequest, ConnectResult, Publication, Push, RefreshRequest, RefreshResult, Reply,
    SubscribeResult,
};
use super::action::{Action, Cause, Wish};
use super::subscription::Origin;
use super::{Account, CommandId, Failure, Owner, Phase, Session};
use crate::auth::{Expiry, Right};
use crate::hub::TopicName;

/// Longest life of a token that clients are told, in seconds: their timers have an end.
const TTL_MAX: u64 = 365 * 24 * 3_600;

/// A `connect` whose subscriptions are being opened.
#[derive(Debug)]
pub(super) struct Connecting {
    command: CommandId,
    result: ConnectResult,
    awaited: usize,
    /// Bytes of publications in `result`, which is one reply for all topics.
    pub(super) missed_len: usize,
}

/// What else a token says that was accepted.
#[derive(Default)]
struct Accepted {
    expires_at: Option<u64>,
    subscriptions: Vec<ServerSubscription>,
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
        let token = match &mut self.owner {
            Owner::Caller(caller) if request.token.is_empty() => {
                *caller.take().ok_or(Disconnect::BadRequest)?
            }
            Owner::Caller(_) | Owner::Client(_) => verified(&request.token, context)?,
        };
        let token = self.accept(token, context)?;
        let (expires, ttl) = seconds_left(token.expires_at, context);
        let given = self.given(token.subscriptions, request, context)?;
        let result = ConnectResult { expires, ttl, ..self.connect_result(context) };
        let awaited = given.len();
        let connecting = Connecting { command, result, awaited, missed_len: 0 };
        self.connecting = Some(Box::new(connecting));
        self.phase = Phase::Connecting;
        for given in given {
            let wish = request.subs.get(given.topic.as_str()).map(Wish::of).unwrap_or_default();
            self.give(given, (Cause::Connect, wish), context)?;
        }
        self.try_finish_connect(context);
        Ok(())
    }

    fn accept(
        &mut self,
        token: ConnectionToken,
        context: &Context<'_>,
    ) -> Result<Accepted, Failure> {
        let ConnectionToken { identity, expires_at, info, mut subscriptions } = token;
        let expiry = check_expiry(expires_at, context)?;
        let expiry = expiry.or_else(|| identity.grant()?.expiry);
        let personal = identity.user().and_then(|user| context.host.personal_topic(user));
        subscriptions.extend(personal.map(|topic| ServerSubscription::to(topic.as_str())));
        let is_plain = info.is_empty() && expiry.is_none();
        self.account = (!is_plain).then(|| Box::new(Account { info, expiry }));
        self.owner = Owner::Client(identity);
        Ok(Accepted { expires_at, subscriptions })
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
            if is_known || !self.may_have_unasked(&topic, context) {
                continue;
            }
            let subscription = ServerSubscription::to(name);
            given.push(Given { topic, origin: Origin::Server, subscription });
            if given.len() > context.settings.topics_per_session_max {
                break;
            }
        }
        if given.len() > context.settings.topics_per_session_max {
            return Err(Disconnect::SubscriptionLimit.into());
        }
        Ok(given)
    }

    fn may_have_unasked(&self, topic: &TopicName, context: &Context<'_>) -> bool {
        let name = topic.as_str();
        name.is_ascii() && !name.starts_with('$') && self.may(Right::Subscribe, topic, context)
    }

    fn connect_result(&self, context: &Context<'_>) -> ConnectResult {
        let mut result = ConnectResult {
            client: self.client.to_string(),
            version: context.settings.version.to_string(),
            ..ConnectResult::default()
        };
        if self.sends_pings() {
            let interval = context.settings.ping_interval.as_secs();
            result.ping = u32::try_from(interval).unwrap_or(u32::MAX);
            result.pong = !self.wire().is_unidirectional();
        }
        if let Some(name) = &self.name {
            result.session = name.to_string();
        }
        if self.wire().is_emulated() {
            result.node = context.settings.node.to_string();
        }
        result
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
                let lens = result.publications.iter().map(Publication::reply_len);
                connecting.missed_len += lens.sum::<usize>();
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
                self.refuse(command, error, context);
            }
        }
    }

    fn try_finish_connect(&mut self, context: &mut Context<'_>) {
        let Some(connecting) = self.connecting.take_if(|connecting| connecting.awaited == 0) else {
            return;
        };
        let Connecting { command: CommandId(id), result, .. } = *connecting;
        self.phase = Phase::Open;
        self.name = None;
        self.start_pings(context);
        if self.wire().is_unidirectional() {
            self.push(Push { connect: Some(result), ..Push::default() });
        } else {
            self.out.push(&Reply { id, connect: Some(result), ..Reply::default() });
        }
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
        let token = context.host.connection_token(&request.token, context.now);
        let token = token.map_err(|fault| match fault {
            TokenFault::Expired => Failure::Disconnect(Disconnect::Expired),
            TokenFault::Invalid => Disconnect::InvalidToken.into(),
            TokenFault::NoKey => ErrorCode::NotAvailable.into(),
            TokenFault::KeyAway => ErrorCode::Internal.into(),
        })?;
        if token.identity.user() != self.user() {
            return Err(Disconnect::InvalidToken.into());
        }
        let token = self.accept(token, context)?;
        if self.has_other_topics(&token.subscriptions) {
            return Err(Disconnect::InsufficientState.into());
        }
        let (expires, ttl) = seconds_left(token.expires_at, context);
        let refresh = Some(RefreshResult { expires, ttl, ..RefreshResult::default() });
        self.out.push(&Reply { id, refresh, ..Reply::default() });
        Ok(())
    }

    /// Sets the end of the connection for the application, and what others see of the client if
    /// `info` is not empty; the client is told by a push. An end that has come ends it at once.
    pub fn refresh_for_server(
        &mut self,
        expires_at: Option<u64>,
        info: Bytes,
        context: &Context<'_>,
    ) {
        if self.phase != Phase::Open {
            return;
        }
        let Ok(expiry) = check_expiry(expires_at, context) else {
            return self.close(Disconnect::Expired);
        };
        let account = self
            .account
            .get_or_insert_with(|| Box::new(Account { info: Bytes::new(), expiry: None }));
        account.expiry = expiry;
        if !info.is_empty() {
            account.info = info;
        }
        let (expires, ttl) = seconds_left(expires_at, context);
        let refresh = Some(message::Refresh { expires, ttl });
        self.push(Push { refresh, ..Push::default() });
    }

    /// Whether a token names other topics than the one before did.
    fn has_other_topics(&self, granted: &[ServerSubscription]) -> bool {
        let present = self.subscriptions.iter().filter(|known| known.origin == Origin::Token);
        let mut present: Vec<_> = present.map(|known| known.topic.as_str()).collect();
        let mut granted: Vec<_> = granted.iter().map(|granted| &*granted.topic).collect();
        present.sort_unstable();
        granted.sort_unstable();
        // It may name one twice: plainly and in detail, or one that the user has anyway.
        granted.dedup();
        present != granted
    }
}

/// What a token in `connect` says.
fn verified(token: &str, context: &Context<'_>) -> Result<ConnectionToken, Failure> {
    let token = context.host.connection_token(token, context.now);
    token.map_err(|fault| match fault {
        TokenFault::Expired => Failure::Error(ErrorCode::TokenExpired),
        TokenFault::Invalid | TokenFault::NoKey => Disconnect::InvalidToken.into(),
        TokenFault::KeyAway => ErrorCode::Internal.into(),
    })
}

/// Whether something ends some time, and in how many seconds it is to be renewed.
pub(super) fn seconds_left(expires_at: Option<u64>, context: &Context<'_>) -> (bool, u32) {
    let left = expires_at.map_or(0, |at| at.saturating_sub(context.seconds()));
    (expires_at.is_some(), u32::try_from(left.min(TTL_MAX)).unwrap_or(u32::MAX))
}

/// When something ends that is to be renewed by `expires_at`; what has ended does not begin.
pub(super) fn check_expiry(
    expires_at: Option<u64>,
    context: &Context<'_>,
) -> Result<Option<Expiry>, ErrorCode> {
    if expires_at.is_some_and(|at| at <= context.seconds()) {
        return Err(ErrorCode::Expired);
    }
    let grace = context.settings.expired_grace;
    Ok(expires_at.and_then(|seconds| Expiry::new(seconds, grace, context.now)))
}
