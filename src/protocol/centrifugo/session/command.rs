//! Commands on topics: publish, history, presence.

use std::collections::BTreeMap;

use super::super::code::ErrorCode;
use super::super::frame::Codec;
use super::super::host::{Context, Presence, Recovery};
use super::super::message::{
    ClientInfo, HistoryRequest, HistoryResult, PresenceResult, PresenceStatsResult, Publication,
    PublishRequest, PublishResult, Reply,
};
use super::action::{Action, CommandId, Headcount, History, Order, Page, Publish, Span};
use super::subscribe::{named, since, topic};
use super::{Failure, PAGE_COUNT_MAX, Session};
use crate::auth::Right;
use crate::hub::{PayloadKind, TopicName};
use crate::protocol::plain;

impl Session {
    pub(super) fn publish(
        &mut self,
        command: CommandId,
        request: &PublishRequest,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let name = named(&request.channel)?;
        if request.r#type != 0 {
            return Err(ErrorCode::NotAvailable.into());
        }
        let (topic, _) = topic(name, context)?;
        if request.data.is_empty() {
            return Err(ErrorCode::BadRequest.into());
        }
        if !self.may(Right::Publish, &topic, context) {
            return Err(ErrorCode::PermissionDenied.into());
        }
        let info = self.info(&topic);
        let payload = plain::payload(self.kind(&request.data), &request.data);
        let publish = Publish { command, topic, payload, info };
        self.actions.push_back(Action::Publish(Box::new(publish)));
        Ok(())
    }

    /// JSON is text. Bytes are text where they can be, as the body of a POST without a type is.
    fn kind(&self, data: &[u8]) -> PayloadKind {
        match self.wire().codec() {
            Codec::Json => PayloadKind::Text,
            Codec::Protobuf if simdutf8::basic::from_utf8(data).is_ok() => PayloadKind::Text,
            Codec::Protobuf => PayloadKind::Binary,
        }
    }

    /// The outcome of [`Action::Publish`].
    pub fn on_published(
        &mut self,
        command: CommandId,
        outcome: Result<(), ErrorCode>,
        context: &Context<'_>,
    ) {
        let fill = |(), reply: &mut Reply| reply.publish = Some(PublishResult {});
        self.answer(command, outcome, fill, context);
    }

    pub(super) fn history(
        &mut self,
        command: CommandId,
        request: &HistoryRequest,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let (topic, options) = topic(named(&request.channel)?, context)?;
        if options.recovery == Recovery::Off {
            return Err(ErrorCode::NotAvailable.into());
        }
        if !self.may(Right::History, &topic, context) {
            return Err(ErrorCode::PermissionDenied.into());
        }
        let order = if request.reverse { Order::NewestFirst } else { Order::OldestFirst };
        let since = match &request.since {
            Some(position) if position.offset == 0 && order == Order::NewestFirst => {
                return Err(ErrorCode::BadRequest.into());
            }
            Some(position) => {
                let since = since(&position.epoch, position.offset);
                Some(since.ok_or(ErrorCode::UnrecoverablePosition)?)
            }
            None => None,
        };
        // A negative limit asks for all there is.
        let limit = usize::try_from(request.limit).unwrap_or(PAGE_COUNT_MAX).min(PAGE_COUNT_MAX);
        let history = History { command, topic, span: Span { since, limit, order } };
        self.actions.push_back(Action::History(Box::new(history)));
        Ok(())
    }

    /// The outcome of [`Action::History`].
    pub fn on_history(
        &mut self,
        history: &History,
        outcome: Result<Page, ErrorCode>,
        context: &Context<'_>,
    ) {
        let codec = self.wire().codec();
        let outcome = outcome.and_then(|page_read| {
            if !history.span.is_of(&page_read) {
                return Err(ErrorCode::UnrecoverablePosition);
            }
            let Page { top, publications } = page_read;
            let encoded = publications.iter().map(|one| Publication::of(codec, one));
            let publications = page(encoded, context);
            let epoch = top.map(|top| top.epoch.to_string()).unwrap_or_default();
            let offset = top.map_or(0, |top| top.offset);
            Ok(HistoryResult { publications, epoch, offset })
        });
        let fill = |result, reply: &mut Reply| reply.history = Some(result);
        self.answer(history.command, outcome, fill, context);
    }

    pub(super) fn presence(
        &mut self,
        command: CommandId,
        name: &str,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let topic = self.present(name, context)?;
        self.actions.push_back(Action::Presence(command, topic));
        Ok(())
    }

    pub(super) fn presence_stats(
        &mut self,
        command: CommandId,
        name: &str,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let topic = self.present(name, context)?;
        self.actions.push_back(Action::PresenceStats(command, topic));
        Ok(())
    }

    /// A topic whose members the client may see.
    fn present(&self, name: &str, context: &Context<'_>) -> Result<TopicName, Failure> {
        let (topic, options) = topic(named(name)?, context)?;
        if options.presence == Presence::Off {
            return Err(ErrorCode::NotAvailable.into());
        }
        if !self.may(Right::Presence, &topic, context) {
            return Err(ErrorCode::PermissionDenied.into());
        }
        Ok(topic)
    }

    /// The outcome of [`Action::Presence`].
    pub fn on_presence(
        &mut self,
        command: CommandId,
        outcome: Result<Vec<ClientInfo>, ErrorCode>,
        context: &Context<'_>,
    ) {
        let fill = |members: Vec<ClientInfo>, reply: &mut Reply| {
            let members = members.into_iter().map(|member| (member.client.clone(), member));
            let presence: BTreeMap<_, _> = members.collect();
            reply.presence = Some(PresenceResult { presence });
        };
        self.answer(command, outcome, fill, context);
    }

    /// The outcome of [`Action::PresenceStats`].
    pub fn on_presence_stats(
        &mut self,
        command: CommandId,
        outcome: Result<Headcount, ErrorCode>,
        context: &Context<'_>,
    ) {
        let fill = |Headcount { clients, users }, reply: &mut Reply| {
            let stats = PresenceStatsResult { num_clients: clients, num_users: users };
            reply.presence_stats = Some(stats);
        };
        self.answer(command, outcome, fill, context);
    }

    fn answer<T>(
        &mut self,
        command: CommandId,
        outcome: Result<T, ErrorCode>,
        fill: impl FnOnce(T, &mut Reply),
        context: &Context<'_>,
    ) {
        match outcome {
            Ok(result) => {
                let mut reply = Reply { id: command.0, ..Reply::default() };
                fill(result, &mut reply);
                self.out.push(&reply);
            }
            Err(error) => self.refuse(command, error, context),
        }
    }
}

/// The first of `publications`, at least one, as far as one reply may hold them.
fn page(
    publications: impl Iterator<Item = Publication>,
    context: &Context<'_>,
) -> Vec<Publication> {
    let mut len = 0_usize;
    let page = publications.take(PAGE_COUNT_MAX).take_while(|publication| {
        let is_first = len == 0;
        len = len.saturating_add(publication.reply_len());
        is_first || len <= context.settings.reply_len_max
    });
    page.collect()
}
