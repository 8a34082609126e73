//! Subscriptions: opened by the client or for it, recovered, renewed and ended.

use std::iter;
use std::sync::Arc;

use bytes::Bytes;

use super::super::code::{Disconnect, ErrorCode, UnsubscribeCode};
use super::super::host::{
    Asked, Context, Delta, Hears, Presence, Recovery, ServerSubscription, SubscriptionToken,
    TokenFault, TopicOptions,
};
use super::super::message::{
    self, Publication, Push, Reply, SubRefreshRequest, SubRefreshResult, SubscribeRequest,
    SubscribeResult, UnsubscribeRequest, UnsubscribeResult,
};
use super::action::{Action, Cause, Subscribe, Subscribed, Wish};
use super::connect::{Given, check_expiry, seconds_left};
use super::subscription::{Origin, Stage, Subscription, Terms};
use super::{CommandId, FRAME_LEN_MAX, Failure, PAGE_COUNT_MAX, Session};
use crate::auth::Right;
use crate::hub::{self, Epoch, Position, Since, Start, TopicName};
use crate::limits::JoinLeave;

/// Bit of a subscription's `flag`: rather no subscription than one that is not recovered.
const FLAG_REJECT_UNRECOVERED: i64 = 2;

/// What a token grants for a subscription; nothing at all without one.
#[derive(Default)]
struct Granted {
    expires_at: Option<u64>,
    terms: Option<Box<Terms>>,
    data: Bytes,
    hears: Hears,
}

impl Wish {
    pub(super) fn of(request: &SubscribeRequest) -> Self {
        let recover = request
            .recover
            .then(|| Asked { epoch: request.epoch.as_str().into(), offset: request.offset });
        Self { recover, else_reject: request.flag & FLAG_REJECT_UNRECOVERED != 0 }
    }

    fn start(&self, recovery: Recovery) -> Start {
        let Some(asked) = &self.recover else { return Start::Live };
        match recovery {
            Recovery::Off => Start::Live,
            Recovery::Newest => Start::Last(1),
            Recovery::Stream => asked.since().map_or(Start::Unknown, Start::Since),
        }
    }
}

impl Asked {
    /// `None` = a position that nobody can have.
    fn since(&self) -> Option<Since> {
        since(&self.epoch, self.offset)
    }

    fn is_at(&self, top: Position) -> bool {
        self.offset > 0 && self.offset == top.offset && *self.epoch == *top.epoch.as_str()
    }
}

/// A position as clients write it, where an empty epoch is the current one.
pub(super) fn since(epoch: &str, offset: u64) -> Option<Since> {
    let epoch = if epoch.is_empty() { None } else { Some(Epoch::parse(epoch)?) };
    Some(Since { epoch, offset })
}

impl Session {
    pub(super) fn subscribe(
        &mut self,
        command: CommandId,
        request: &SubscribeRequest,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let (topic, options) = self.check_subscribe(request, context)?;
        // Others are told, each of them.
        if options.presence != Presence::Off {
            self.take_allowance(context)?;
        }
        let granted = self.admit(&topic, &request.token, context)?;
        if request.tf.is_some() {
            return Err(ErrorCode::BadRequest.into());
        }
        let asked = if request.join_leave { Hears::Members } else { Hears::Publications };
        let hears = self.hears((&topic, options.presence), (asked, granted.hears), context);
        // What changed can only be told where it is known what the client has.
        let wants_delta = !request.delta.is_empty() && options.recovery != Recovery::Off;
        let wish = Wish::of(request);
        self.actions.push_back(Action::Subscribe(Box::new(Subscribe {
            key: self.subscriptions.add(topic.clone(), Origin::Client),
            topic,
            start: wish.start(options.recovery),
            hears,
            delta: if wants_delta { options.delta } else { Delta::Off },
            cause: Cause::Command(command),
            wish,
            expires_at: granted.expires_at,
            terms: granted.terms,
            data: granted.data,
        })));
        Ok(())
    }

    /// What can be said before anybody's rights are looked at.
    fn check_subscribe(
        &self,
        request: &SubscribeRequest,
        context: &Context<'_>,
    ) -> Result<(TopicName, TopicOptions), Failure> {
        let name = named(&request.channel)?;
        if request.r#type != 0 {
            return Err(ErrorCode::NotAvailable.into());
        }
        if !matches!(request.delta.as_str(), "" | "fossil") {
            return Err(Disconnect::BadRequest.into());
        }
        if name.len() > context.settings.topic_name_len_max {
            return Err(ErrorCode::BadRequest.into());
        }
        if self.subscriptions.get(name).is_some() {
            return Err(ErrorCode::AlreadySubscribed.into());
        }
        if self.subscriptions.count() >= context.settings.topics_per_session_max {
            return Err(ErrorCode::LimitExceeded.into());
        }
        Ok(topic(name, context)?)
    }

    /// Lets the client in by its token, or else by its rights. Topics that begin with `$` are for
    /// tokens only.
    fn admit(
        &self,
        topic: &TopicName,
        token: &str,
        context: &Context<'_>,
    ) -> Result<Granted, Failure> {
        if token.is_empty() {
            let is_private = topic.as_str().starts_with('$');
            if is_private || !self.may(Right::Subscribe, topic, context) {
                return Err(ErrorCode::PermissionDenied.into());
            }
            return Ok(Granted::default());
        }
        let token = context.host.subscription_token(token, context.now);
        let token = token.map_err(|fault| match fault {
            TokenFault::Expired => ErrorCode::TokenExpired,
            TokenFault::Invalid | TokenFault::NoKey => ErrorCode::PermissionDenied,
            TokenFault::KeyAway => ErrorCode::Internal,
        })?;
        self.grant(token, topic, context)
    }

    /// What a token grants, if it is of this client and for this topic.
    fn grant(
        &self,
        token: SubscriptionToken,
        topic: &TopicName,
        context: &Context<'_>,
    ) -> Result<Granted, Failure> {
        let SubscriptionToken { user, topic: named, client, expires_at, info, data, hears } = token;
        let is_of_client = client.is_none_or(|client| *client == *self.client.to_string());
        if *named != *topic.as_str() || user.as_ref() != self.user() || !is_of_client {
            return Err(Disconnect::InvalidToken.into());
        }
        let terms = Terms::new(check_expiry(expires_at, context)?, info);
        Ok(Granted { expires_at, terms, data, hears })
    }

    /// What the client hears of a topic, by what it asked for and by what its token says.
    fn hears(
        &self,
        (topic, presence): (&TopicName, Presence),
        (asked, granted): (Hears, Hears),
        context: &Context<'_>,
    ) -> Hears {
        let is_told = match presence {
            Presence::Off | Presence::On(JoinLeave::Off) => return Hears::Publications,
            Presence::On(JoinLeave::All) => true,
            Presence::On(JoinLeave::Asked) => asked == Hears::Members,
        };
        let may_hear = is_told && self.may(Right::Presence, topic, context);
        if may_hear { Hears::Members } else { granted }
    }

    pub(super) fn may(&self, right: Right, topic: &TopicName, context: &Context<'_>) -> bool {
        self.identity().is_some_and(|identity| context.host.rights(identity, topic).has(right))
    }

    /// Subscribes the client to what it did not ask for by a command, unless that is over already.
    pub(super) fn give(
        &mut self,
        given: Given,
        (cause, wish): (Cause, Wish),
        context: &Context<'_>,
    ) -> Result<(), ErrorCode> {
        let Given { topic, origin, subscription } = given;
        let ServerSubscription { info, data, hears, expires_at, .. } = subscription;
        let terms = Terms::new(check_expiry(expires_at, context)?, info);
        let TopicOptions { recovery, presence, .. } =
            context.host.topic(&topic).unwrap_or_default();
        let hears = self.hears((&topic, presence), (Hears::Publications, hears), context);
        self.actions.push_back(Action::Subscribe(Box::new(Subscribe {
            key: self.subscriptions.add(topic.clone(), origin),
            topic,
            start: wish.start(recovery),
            hears,
            delta: Delta::Off,
            cause,
            wish,
            expires_at,
            terms,
            data,
        })));
        Ok(())
    }

    /// Subscribes the client for the application; the client is told by a push.
    ///
    /// # Errors
    /// [`ErrorCode`] where there is such a subscription already, or cannot be.
    pub fn subscribe_for_server(
        &mut self,
        subscription: ServerSubscription,
        context: &Context<'_>,
    ) -> Result<(), ErrorCode> {
        if self.phase != super::Phase::Open {
            return Err(ErrorCode::NotAvailable);
        }
        if self.subscriptions.get(&subscription.topic).is_some() {
            return Err(ErrorCode::AlreadySubscribed);
        }
        if self.subscriptions.count() >= context.settings.topics_per_session_max {
            return Err(ErrorCode::LimitExceeded);
        }
        let (topic, _) = topic(&subscription.topic, context)?;
        let wish = Wish { recover: subscription.recover.clone(), else_reject: false };
        let given = Given { topic, origin: Origin::Server, subscription };
        self.give(given, (Cause::Server, wish), context)
    }

    /// The outcome of [`Action::Subscribe`]. Returns whether the client recovers, as it is told;
    /// `None` = it did not ask to, or has no subscription for another reason.
    pub fn on_subscribed(
        &mut self,
        subscribe: &Subscribe,
        outcome: Result<Subscribed, ErrorCode>,
        context: &mut Context<'_>,
    ) -> Option<bool> {
        let outcome = outcome.and_then(|subscribed| self.settle(subscribe, subscribed, context));
        let recovered = match &outcome {
            Ok(result) => result.was_recovering.then_some(result.recovered),
            Err(ErrorCode::UnrecoverablePosition) => Some(false),
            Err(_) => None,
        };
        if outcome.is_err() && self.subscriptions.opening(subscribe.key).is_some() {
            self.subscriptions.remove(subscribe.topic.as_str());
        }
        match subscribe.cause {
            Cause::Command(command) => match outcome {
                Ok(result) => {
                    let CommandId(id) = command;
                    self.out.push(&Reply { id, subscribe: Some(result), ..Reply::default() });
                }
                Err(error) => self.refuse(command, error, context),
            },
            Cause::Connect => self.on_given(&subscribe.topic, outcome, context),
            Cause::Server => {
                if let Ok(result) = outcome {
                    self.announce(&subscribe.topic, result);
                }
            }
        }
        recovered
    }

    /// Puts a subscription that the host opened into force, and says what the client is told.
    fn settle(
        &mut self,
        subscribe: &Subscribe,
        subscribed: Subscribed,
        context: &Context<'_>,
    ) -> Result<SubscribeResult, ErrorCode> {
        let Some(subscription) = self.subscriptions.opening(subscribe.key) else {
            // It was ended before it began, and the host told so.
            return Err(ErrorCode::Internal);
        };
        let (expires, ttl) = seconds_left(subscribe.expires_at, context);
        let mut result = SubscribeResult {
            expires,
            ttl,
            data: subscribe.data.clone(),
            was_recovering: subscribe.wish.recover.is_some(),
            ..SubscribeResult::default()
        };
        let Subscribed { topic, top, missed, waiting_len } = subscribed;
        subscription.stage = Stage::Open;
        subscription.topic = topic;
        subscription.terms.clone_from(&subscribe.terms);
        let Some(top) = top else { return Ok(result) };
        result.positioned = true;
        result.recoverable = true;
        result.delta = subscribe.delta == Delta::Fossil;
        result.epoch = top.epoch.to_string();
        result.offset = top.offset;
        let Some(asked) = &subscribe.wish.recover else { return Ok(result) };
        let is_at_top = asked.is_at(top);
        let missed = match subscribe.start {
            // Who has the newest publication is not given it again.
            Start::Last(_) if is_at_top => Some(Vec::new()),
            Start::Last(_) => missed.filter(|missed| !missed.is_empty()),
            _ => missed,
        };
        let replay = missed.and_then(|missed| {
            self.replay(subscribe.delta, (&missed, waiting_len), context.settings.reply_len_max)
        });
        match replay {
            Some(publications) => {
                result.recovered = true;
                result.publications = publications;
                // From here the client advances over what it is given.
                result.offset = asked.offset;
            }
            None if subscribe.wish.else_reject => {
                self.drop_subscription(&subscribe.topic);
                return Err(ErrorCode::UnrecoverablePosition);
            }
            None => {}
        }
        Ok(result)
    }

    /// What the client missed, unless that is too much to wait for it beside what does: closed for
    /// being slow, it would come back and ask for as much again.
    fn replay(
        &self,
        delta: Delta,
        (missed, waiting_len): (&[Arc<hub::Publication>], usize),
        len_max: usize,
    ) -> Option<Vec<Publication>> {
        let connecting_len = self.connecting.as_ref().map_or(0, |connecting| connecting.missed_len);
        let waiting_len = waiting_len + self.out.len() + connecting_len;
        let len_max = match missed.len() {
            // An outbox holds the longest one and a little more.
            1 if waiting_len <= FRAME_LEN_MAX => usize::MAX,
            0..=PAGE_COUNT_MAX => len_max,
            _ => return None,
        };
        let mut room = len_max.saturating_sub(waiting_len);
        let codec = self.wire().codec();
        let before = iter::once(None).chain(missed.iter().map(|one| Some(one.payload())));
        let encoded = missed.iter().zip(before).map(|(one, before)| {
            let publication = match delta {
                Delta::Off => Publication::of(codec, one),
                Delta::Fossil => Publication::after(codec, one, before),
            };
            room = room.checked_sub(publication.reply_len())?;
            Some(publication)
        });
        encoded.collect()
    }
}

/// The name of a topic in a command that must have one.
pub(super) fn named(name: &str) -> Result<&str, Disconnect> {
    if name.is_empty() { Err(Disconnect::BadRequest) } else { Ok(name) }
}

/// The topic of that name. Names beyond ASCII exist, but this protocol has none.
pub(super) fn topic(
    name: &str,
    context: &Context<'_>,
) -> Result<(TopicName, TopicOptions), ErrorCode> {
    let topic = TopicName::new(name, context.settings.topic_name_len_max);
    let topic = topic.map_err(|_| ErrorCode::BadRequest)?;
    let options = context.host.topic(&topic).ok_or(ErrorCode::UnknownTopic)?;
    if name.is_ascii() { Ok((topic, options)) } else { Err(ErrorCode::BadRequest) }
}

/// Commands and calls that renew or end subscriptions.
impl Session {
    /// Tells the client of a subscription that it did not ask for, and what it missed. There is no
    /// word for recovery here: the position is the one that was asked for, or it is not.
    fn announce(&mut self, topic: &TopicName, result: SubscribeResult) {
        let SubscribeResult { recoverable, epoch, offset, positioned, data, .. } = result;
        let subscribe = message::Subscribe { recoverable, epoch, offset, positioned, data };
        let channel = topic.to_string();
        self.push(Push { channel, subscribe: Some(subscribe), ..Push::default() });
        for publication in result.publications {
            let channel = topic.to_string();
            self.push(Push { channel, r#pub: Some(publication), ..Push::default() });
        }
    }

    pub(super) fn unsubscribe(
        &mut self,
        CommandId(id): CommandId,
        request: &UnsubscribeRequest,
    ) -> Result<(), Failure> {
        let name = named(&request.channel)?;
        if let Some(Subscription { topic, .. }) = self.subscriptions.remove(name) {
            self.actions.push_back(Action::Unsubscribe(topic));
        }
        self.out.push(&Reply { id, unsubscribe: Some(UnsubscribeResult {}), ..Reply::default() });
        Ok(())
    }

    pub(super) fn sub_refresh(
        &mut self,
        CommandId(id): CommandId,
        request: &SubRefreshRequest,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let name = named(&request.channel)?;
        let subscription = self.subscriptions.get(name);
        let subscription = subscription.filter(|known| known.stage == Stage::Open);
        let topic = subscription.ok_or(ErrorCode::PermissionDenied)?.topic.clone();
        if request.token.is_empty() {
            return Err(ErrorCode::BadRequest.into());
        }
        let token = context.host.subscription_token(&request.token, context.now);
        let token = token.map_err(|fault| match fault {
            TokenFault::Expired => Failure::Error(ErrorCode::TokenExpired),
            TokenFault::Invalid => Disconnect::InvalidToken.into(),
            TokenFault::NoKey => ErrorCode::NotAvailable.into(),
            TokenFault::KeyAway => ErrorCode::Internal.into(),
        })?;
        let granted = self.grant(token, &topic, context)?;
        if let Some(subscription) = self.subscriptions.get_mut(name) {
            subscription.terms = granted.terms;
        }
        let (expires, ttl) = seconds_left(granted.expires_at, context);
        let sub_refresh = Some(SubRefreshResult { expires, ttl });
        self.out.push(&Reply { id, sub_refresh, ..Reply::default() });
        Ok(())
    }

    /// Ends a subscription from our side; the client is told why. A gap in one that it did not ask
    /// for, or its time, ends the connection instead: it could not subscribe again by itself.
    pub fn end(&mut self, topic: &TopicName, code: UnsubscribeCode) {
        let subscription = self.subscriptions.get(topic.as_str());
        let Some(subscription) = subscription.filter(|known| known.stage == Stage::Open) else {
            return;
        };
        match code {
            _ if subscription.origin == Origin::Client => {}
            UnsubscribeCode::Server => {}
            UnsubscribeCode::InsufficientState => return self.close(Disconnect::InsufficientState),
            UnsubscribeCode::Expired => return self.close(Disconnect::SubscriptionExpired),
        }
        let unsubscribe =
            Some(message::Unsubscribe { code: code.code(), reason: code.reason().to_owned() });
        self.push(Push { channel: topic.to_string(), unsubscribe, ..Push::default() });
        self.drop_subscription(topic);
    }

    /// Ends all of them for the application; the client is told of each.
    pub fn end_all(&mut self) {
        let topics: Vec<TopicName> = self.topics().cloned().collect();
        for topic in topics {
            self.end(&topic, UnsubscribeCode::Server);
        }
    }

    fn drop_subscription(&mut self, topic: &TopicName) {
        if let Some(Subscription { topic, .. }) = self.subscriptions.remove(topic.as_str()) {
            self.actions.push_back(Action::Unsubscribe(topic));
        }
    }
}
