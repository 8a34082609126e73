//! Sessions of the Centrifugo protocol: what they ask for is done here.

use std::sync::Arc;

use super::connection::{ConnectionKey, Phase};
use super::member::{Pick, Seat};
use super::wheel::Tick;
use super::{Subscription, Worker};
use crate::hub::{
    Admission, Draft, Parting, Peer, Position, Publish, PublishError, Since, Start, TopicName,
};
use crate::protocol::centrifugo::{
    Action, ClientInfo, Commands, Context, Delta, ErrorCode, Opening, PAGE_COUNT_MAX,
    Publish as Publication, Session, Subscribe, Subscribed, UnsubscribeCode,
};
use crate::protocol::delta;
use crate::reason::CloseReason;

impl Worker {
    /// Begins the session of a connection.
    pub(super) fn begin_session(&mut self, key: ConnectionKey, opening: Opening) {
        let opening = self.name_session(key, opening);
        let gate = Arc::clone(&self.gate);
        let mut context = Context {
            now: self.clock,
            settings: &gate.settings,
            host: &*gate,
            random: &mut self.random,
        };
        let session = Box::new(Session::new(opening, &mut context));
        self.connections[key.index as usize].extra().session = Some(session);
        // From here on it has its deadlines.
        self.drive(key, &mut Commands::none(), |_, _| {});
    }

    /// Hands a message of the client to its session.
    pub(super) fn on_commands(&mut self, key: ConnectionKey, data: &[u8]) {
        let Some(session) = self.get(key).and_then(|connection| connection.commanded()) else {
            return;
        };
        let mut commands = session.read(data);
        self.drive(key, &mut commands, |_, _| {});
    }

    /// Tells a session that its time has come.
    pub(super) fn on_session_due(&mut self, key: ConnectionKey) {
        self.drive(key, &mut Commands::none(), Session::on_deadline);
    }

    /// Acts on a session, reads the commands for it, and does what it asks for.
    pub(super) fn drive(
        &mut self,
        key: ConnectionKey,
        commands: &mut Commands<'_>,
        act: impl FnOnce(&mut Session, &mut Context<'_>),
    ) {
        let Some(connection) = self.get(key) else { return };
        // Out of its place while it is driven: what it asks for needs the whole worker.
        let Some(mut session) = connection.extra().session.take() else { return };
        let gate = Arc::clone(&self.gate);
        let mut random = std::mem::take(&mut self.random);
        let mut context = Context {
            now: self.clock,
            settings: &gate.settings,
            host: &*gate,
            random: &mut random,
        };
        let was_open = session.is_open();
        act(&mut session, &mut context);
        while let Some(action) = session.next_action(commands, &mut context) {
            self.perform(key, &mut session, action, &mut context);
        }
        let due = session.deadline(&context);
        self.random = random;
        let is_let_in = !was_open && session.is_open();
        // It may have ended the connection, which then has no use for it.
        let Self { connections, output, .. } = self;
        if let Some(connection) = connections.get_mut(key.index as usize)
            && connection.key(key.index) == key
        {
            let due = due.map_or(Tick::NEVER, |due| output.wheel.tick(due).plus(1));
            let extra = connection.extra();
            (extra.session, extra.session_due) = (Some(session), due);
            output.expect_by(key.index, connection, due);
            if is_let_in && connection.is_present() {
                self.add_user(key);
            }
        }
    }

    fn perform(
        &mut self,
        key: ConnectionKey,
        session: &mut Session,
        action: Action,
        context: &mut Context<'_>,
    ) {
        match action {
            Action::Send(bytes) => self.reply(key, bytes),
            Action::Subscribe(subscribe) => {
                let opened = self.open_subscription(key, session, &subscribe);
                let (seat, outcome) = match opened {
                    Ok((seat, subscribed)) => (Some(seat), Ok(subscribed)),
                    Err(error) => (None, Err(error)),
                };
                session.on_subscribed(&subscribe, outcome, context);
                // A subscription that was not good enough for the client is over already.
                if let Some(seat) = seat.filter(|_| session.is_subscribed(&subscribe.topic)) {
                    self.enter(seat, peer(session.info(&subscribe.topic)), subscribe.hears);
                }
            }
            Action::Unsubscribe(topic) => self.close_subscription(key, &topic),
            Action::Publish(publication) => {
                let command = publication.command;
                let outcome = self.publish_for(key, session, *publication);
                session.on_published(command, outcome);
            }
            Action::History(history) => {
                let page = history.span.read(&self.hub, &history.topic);
                session.on_history(&history, Ok(page), context);
            }
            Action::Presence(command, topic) => {
                session.on_presence(command, self.members_of(&topic));
            }
            Action::PresenceStats(command, topic) => {
                session.on_presence_stats(command, self.headcount_of(&topic));
            }
            Action::Close(disconnect) => self.end(key, CloseReason::Centrifugo(disconnect)),
        }
    }

    /// Sends replies. A client that asks and does not read is slow like any other.
    fn reply(&mut self, key: ConnectionKey, bytes: Box<[u8]>) {
        let len_max = self.limits.outbox_bytes_max;
        let Self { connections, output, .. } = self;
        let Some(connection) = connections.get_mut(key.index as usize) else { return };
        if connection.key(key.index) != key {
            return;
        }
        output.send_own(key.index, connection, bytes);
        if connection.outbox.as_ref().is_some_and(|outbox| outbox.len() > len_max) {
            output.end(key.index, connection, CloseReason::OutboxOverflow);
        }
    }

    fn open_subscription(
        &mut self,
        key: ConnectionKey,
        session: &Session,
        subscribe: &Subscribe,
    ) -> Result<(Seat, Subscribed), ErrorCode> {
        if self.hub.memory().is_scarce() || self.get(key).is_none() {
            return Err(ErrorCode::Internal);
        }
        let subscription = Subscription {
            topic: subscribe.topic.clone(),
            start: subscribe.start,
            variant: match subscribe.delta {
                Delta::Off => session.wire().variant(),
                Delta::Fossil => delta::opening(session.wire()),
            },
            pick: Pick::All,
        };
        let (slot, joined) = self.count_in(key, subscription);
        // What it missed goes into the answer, not before it.
        self.join(key, slot, joined.top + 1);
        let topic = Arc::clone(&self.topics[joined.local as usize].topic);
        let top = joined.position.map(|position| Position { offset: joined.top, ..position });
        let is_replayed = match (subscribe.start, joined.recovered) {
            (Start::Last(_), _) | (_, Some(true)) => true,
            (Start::Live | Start::Since(_) | Start::Unknown, _) => false,
        };
        match joined.recovered {
            Some(true) => self.metrics.recovered.add(1),
            Some(false) => self.metrics.not_recovered.add(1),
            None => {}
        }
        let missed = is_replayed.then(|| {
            let since = Since { epoch: None, offset: joined.next - 1 };
            let mut missed = topic.page(Some(since), PAGE_COUNT_MAX + 1).publications;
            // What another thread published since then comes live.
            missed.retain(|publication| publication.sequence <= joined.top);
            missed
        });
        // Another thread may have pushed the oldest out since then.
        let is_whole = |missed: &Vec<Arc<_>>| {
            let wanted = usize::try_from(joined.top + 1 - joined.next).unwrap_or(usize::MAX);
            missed.len() == wanted.min(PAGE_COUNT_MAX + 1)
        };
        let missed = missed.filter(is_whole);
        let seat = Seat { index: key.index, slot };
        Ok((seat, Subscribed { topic: topic.name().clone(), top, missed }))
    }

    fn close_subscription(&mut self, key: ConnectionKey, topic: &TopicName) {
        let Some(connection) = self.connections.get(key.index as usize) else { return };
        let mut members = connection.members.iter();
        let found =
            members.find(|(_, member)| self.topics[member.topic as usize].topic.name() == topic);
        if let Some(slot) = found.map(|(slot, _)| slot) {
            drop(members);
            self.unsubscribe(Seat { index: key.index, slot }, Parting::Unsubscribed);
        }
    }

    fn publish_for(
        &mut self,
        key: ConnectionKey,
        session: &Session,
        publication: Publication,
    ) -> Result<(), ErrorCode> {
        if !self.take_rate(key) {
            return Err(ErrorCode::TooManyRequests);
        }
        let Publication { topic, payload, info, .. } = publication;
        let len = payload.data().len() as u64;
        let draft = Draft {
            session: Some(key.session(self.output.worker)),
            publisher: Some(Arc::new(peer(info))),
            ..Draft::new(payload)
        };
        let options = Publish::new(self.clock, Admission::Always);
        match self.hub.publish(&topic, &draft, options) {
            Ok(accepted) => {
                self.metrics.count_publication(session.wire().codec().door(), len);
                if accepted.overrun {
                    self.pause(key);
                }
                Ok(())
            }
            Err(PublishError::Overrun) => Err(ErrorCode::TooManyRequests),
            Err(_) => Err(ErrorCode::Internal),
        }
    }

    /// Tells the sessions that lost publications of a topic, which then subscribe again.
    pub(super) fn tell_gaps(&mut self) {
        for (key, topic) in std::mem::take(&mut self.output.gaps) {
            let Some(local) = self.topics.get(topic as usize) else { continue };
            let name = local.topic.name().clone();
            if self.get(key).is_some_and(|connection| connection.phase == Phase::Open) {
                self.drive(key, &mut Commands::none(), |session, _| {
                    session.end(&name, UnsubscribeCode::InsufficientState);
                });
            }
        }
    }
}

/// A client of the protocol as those of other doors see it.
fn peer(info: ClientInfo) -> Peer {
    Peer {
        user: info.user.into(),
        client: info.client.into(),
        info: info.conn_info,
        topic_info: info.chan_info,
    }
}
