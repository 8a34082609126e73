//! Sessions of the Centrifugo protocol: what they ask for is done here.

use std::sync::Arc;

use super::connection::{ConnectionKey, Phase};
use super::member::{Member, Pick, Seat};
use super::wheel::Tick;
use super::{Subscription, Worker};
use crate::hub::{
    self, Admission, Draft, Parting, Peer, Publish, PublishError, Since, Start, Topic, TopicId,
    TopicName,
};
use crate::protocol::centrifugo::{
    Action, ClientInfo, CommandId, Commands, Context, Delta, ErrorCode, Opening, PAGE_COUNT_MAX,
    Publish as Publication, Session, Subscribe, Subscribed, UnsubscribeCode,
};
use crate::protocol::delta;
use crate::reason::CloseReason;

/// A publication of a subscriber, which gets its own push before the reply.
///
/// There are never more of them than publications on their way to this worker, which its inbox
/// bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unanswered {
    key: ConnectionKey,
    command: CommandId,
    topic: TopicId,
    sequence: u64,
}

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
                let recovered = session.on_subscribed(&subscribe, outcome, context);
                self.metrics.count_recovery(recovered);
                // A subscription that was not good enough for the client is over already.
                if let Some(seat) = seat.filter(|_| session.is_subscribed(&subscribe.topic)) {
                    self.enter(seat, peer(session.info(&subscribe.topic)), subscribe.hears);
                }
            }
            Action::Unsubscribe(topic) => self.close_subscription(key, &topic),
            Action::Publish(publication) => {
                let command = publication.command;
                match self.publish_for(key, session, *publication) {
                    Ok(Some((topic, sequence))) => {
                        self.unanswered.push(Unanswered { key, command, topic, sequence });
                    }
                    Ok(None) => session.on_published(command, Ok(()), context),
                    Err(error) => session.on_published(command, Err(error), context),
                }
            }
            Action::History(history) => {
                let page = history.span.read(&self.hub, &history.topic);
                session.on_history(&history, Ok(page), context);
            }
            Action::Presence(command, topic) => {
                session.on_presence(command, self.members_of(&topic), context);
            }
            Action::PresenceStats(command, topic) => {
                session.on_presence_stats(command, self.headcount_of(&topic), context);
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
        let is_replayed =
            joined.recovered == Some(true) || matches!(subscribe.start, Start::Last(_));
        let way = joined.position.zip(joined.newest).filter(|_| is_replayed);
        let missed = way.and_then(|(from, to)| missed(&topic, from.offset, to.offset));
        let outbox = self.connections[key.index as usize].outbox.as_ref();
        let subscribed = Subscribed {
            topic: topic.name().clone(),
            top: joined.newest,
            missed,
            waiting_len: outbox.map_or(0, |outbox| outbox.len()),
        };
        Ok((Seat { index: key.index, slot }, subscribed))
    }

    fn close_subscription(&mut self, key: ConnectionKey, topic: &TopicName) {
        if let Some((slot, _)) = self.member_on(key, |known| known.name() == topic) {
            self.unsubscribe(Seat { index: key.index, slot }, Parting::Unsubscribed);
        }
    }

    /// The subscription of a connection to the topic that `is_it` picks. Linear in its
    /// subscriptions.
    fn member_on(
        &self,
        key: ConnectionKey,
        is_it: impl Fn(&Topic) -> bool,
    ) -> Option<(u32, Member)> {
        let connection = self.connections.get(key.index as usize)?;
        let mut members = connection.members.iter().filter(|_| connection.key(key.index) == key);
        members.find(|(_, member)| is_it(&self.topics[member.topic as usize].topic))
    }

    /// Publishes for a session. Returns what its client is to get before the reply, if it
    /// subscribes to the topic: everything up to that place in it.
    fn publish_for(
        &mut self,
        key: ConnectionKey,
        session: &Session,
        publication: Publication,
    ) -> Result<Option<(TopicId, u64)>, ErrorCode> {
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
        let own = self.member_on(key, |known| *known.name() == topic);
        let own = own.map(|(_, member)| Arc::clone(&self.topics[member.topic as usize].topic));
        let published = match &own {
            Some(topic) => self.hub.publish_to(topic, draft, options),
            None => self.hub.publish(&topic, &draft, options),
        };
        match published {
            Ok(accepted) => {
                self.metrics.count_publication(session.wire().codec().door(), len);
                if accepted.overrun {
                    self.pause(key);
                }
                Ok(own.map(|topic| (topic.id(), accepted.sequence)))
            }
            Err(PublishError::Overrun) => Err(ErrorCode::TooManyRequests),
            Err(_) => Err(ErrorCode::Internal),
        }
    }

    /// Replies to publishers who have been handed their own push, or never will be.
    pub(super) fn answer_publishers(&mut self) {
        let unanswered = std::mem::take(&mut self.unanswered);
        let (ripe, unripe) = unanswered.into_iter().partition::<Vec<_>, _>(|one| self.is_ripe(one));
        self.unanswered = unripe;
        for of_one in ripe.chunk_by(|one, next| one.key == next.key) {
            let key = of_one[0].key;
            let phase = self.get(key).map(|connection| connection.phase);
            // Behind a close frame nothing is written.
            if matches!(phase, Some(Phase::Open | Phase::Closing)) {
                self.drive(key, &mut Commands::none(), |session, context| {
                    for Unanswered { command, .. } in of_one {
                        session.on_published(*command, Ok(()), context);
                    }
                });
            }
        }
    }

    fn is_ripe(&self, &Unanswered { key, topic, sequence, .. }: &Unanswered) -> bool {
        let member = self.member_on(key, |known| known.id() == topic);
        member.is_none_or(|(_, member)| {
            self.topics[member.topic as usize].served_to(member) >= sequence
        })
    }

    /// Tells the sessions that lost publications of a topic, which then subscribe again.
    pub(super) fn tell_gaps(&mut self) {
        for (key, topic) in std::mem::take(&mut self.output.gaps) {
            let Some(local) = self.topics.get(topic as usize) else { continue };
            let (name, has_positions) = (local.topic.name().clone(), local.topic.has_history());
            if self.get(key).is_some_and(|connection| connection.phase == Phase::Open) {
                if has_positions {
                    self.drop_waiting(key, topic);
                }
                self.drive(key, &mut Commands::none(), |session, _| {
                    session.end(&name, UnsubscribeCode::InsufficientState);
                });
            }
        }
    }

    /// Drops what waits for a client behind a gap: it would take up its position there, and never
    /// ask for what it lost.
    fn drop_waiting(&mut self, key: ConnectionKey, topic: u32) {
        let Some(outbox) = self.get(key).and_then(|connection| connection.outbox.as_mut()) else {
            return;
        };
        let before = outbox.len();
        outbox.clear_topic(topic);
        let change = (outbox.len() as u64).wrapping_sub(before as u64);
        self.metrics.outbox_bytes.add(change);
    }
}

/// What a topic kept after one offset and up to another, as far as a reply may hold it; `None` = it
/// is not whole any more.
fn missed(topic: &Topic, from: u64, to: u64) -> Option<Vec<Arc<hub::Publication>>> {
    let since = Since { epoch: None, offset: from };
    let mut missed = topic.page(Some(since), PAGE_COUNT_MAX + 1).publications;
    // What another thread published since then comes live.
    missed.retain(|publication| publication.offset <= to);
    // It may have pushed the oldest out, too.
    let wanted = usize::try_from(to - from).unwrap_or(usize::MAX);
    (missed.len() == wanted.min(PAGE_COUNT_MAX + 1)).then_some(missed)
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

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::super::tests::idle_worker_of;
    use super::super::{ConnectionKey, Opening, Pending, Pick, Subscription, WorkerHandle};
    use crate::auth::{Identity, Rights};
    use crate::hub::{Start, TopicName, VariantId};
    use crate::id::Door;
    use crate::outbox::SLICES_MAX;
    use crate::protocol::centrifugo::{self, Codec, Commands, Pings, Wire};
    use crate::protocol::chunk;

    const PUSH: &str = "{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":1}}}\n";
    const REPLY: &str = "{\"id\":3,\"publish\":{}}\n";

    /// A publisher behind two other subscribers of its topic, of which a turn serves one.
    struct Crowd {
        handle: WorkerHandle,
        others: Vec<Pending>,
        publisher: Pending,
    }

    impl Crowd {
        fn new() -> Self {
            let (handle, _hub) = idle_worker_of(1);
            handle.with(|worker| worker.portions.writes = 1);
            let opening = |door, session| Opening {
                rights: Rights::ALL,
                grant: None,
                door,
                deflate: None,
                session,
            };
            let others = (0..2).map(|_| {
                let subscription = Subscription {
                    topic: TopicName::new("a", 255).expect("a topic name"),
                    start: Start::Live,
                    variant: VariantId::NATIVE,
                    pick: Pick::All,
                };
                handle.open(opening(Door::Plain, None), subscription, |_| None).0
            });
            let others = others.collect();
            let session = centrifugo::Opening {
                wire: Wire::JsonBody,
                caller: Some(Identity::SERVER.into()),
                pings: Pings::Messages,
                name: None,
            };
            let commands =
                "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}";
            let opening = opening(Door::CentrifugoJson, Some(session));
            let publisher =
                handle.open_session(opening, b"", Commands::new(Codec::Json, commands.as_bytes()));
            let crowd = Self { handle, others, publisher };
            assert!(crowd.got().contains("\"subscribe\""));
            crowd
        }

        fn key(&self) -> ConnectionKey {
            self.handle.with(|worker| {
                let mut connections = worker.connections.iter();
                let found = connections.find(|(_, one)| one.has_session());
                let (index, one) = found.expect("the publisher is there");
                one.key(u32::try_from(index).expect("few"))
            })
        }

        fn say(&self, command: &str) {
            let key = self.key();
            self.handle.with(|worker| worker.on_commands(key, command.as_bytes()));
        }

        /// What the publisher got since it was last asked; without what differs from run to run.
        fn got(&self) -> String {
            let key = self.key();
            self.handle.with(|worker| {
                let outbox = worker.get(key).and_then(|connection| connection.outbox.take());
                let outbox = outbox.unwrap_or_default();
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = outbox.slices(&mut slices);
                let contents = slices[..count].iter().flat_map(|chunk| chunk::contents(chunk));
                String::from_utf8_lossy(&contents.flatten().copied().collect::<Vec<_>>()).into()
            })
        }

        fn turn(&self) {
            self.handle.with(|worker| worker.turn(&mio::Events::with_capacity(1), 0));
        }

        /// How many recoveries are counted, and how many that could not be.
        fn recoveries(&self) -> (u64, u64) {
            self.handle.with(|worker| {
                let metrics = &worker.metrics;
                (metrics.recovered.get(), metrics.not_recovered.get())
            })
        }

        fn unanswered(&self) -> usize {
            self.handle.with(|worker| worker.unanswered.len())
        }
    }

    /// A push as far as it is the same each time.
    fn plainly(got: &str) -> String {
        let Some((before, after)) = got.split_once(",\"info\"") else { return got.to_owned() };
        let (_, reply) = after.split_once('\n').expect("a line end");
        format!("{before}}}}}}}\n{reply}")
    }

    #[test]
    fn a_reply_waits_for_the_publishers_own_push_also_through_a_pause() {
        let crowd = Crowd::new();
        crowd.say("{\"id\":3,\"publish\":{\"channel\":\"a\",\"data\":1}}");
        for _ in 0..2 {
            crowd.turn();
            assert_eq!((crowd.got().as_str(), crowd.unanswered()), ("", 1));
        }
        crowd.say("{\"id\":4,\"publish\":{\"channel\":\"b\",\"data\":1}}");
        let other = "{\"id\":4,\"publish\":{}}\n";
        assert_eq!(crowd.got(), other, "it does not subscribe to that topic");
        crowd.turn();
        assert_eq!(plainly(&crowd.got()), [PUSH, REPLY].concat());
        assert_eq!(crowd.unanswered(), 0);
    }

    #[test]
    fn a_publisher_that_unsubscribes_meanwhile_gets_its_reply() {
        let crowd = Crowd::new();
        crowd.say("{\"id\":3,\"publish\":{\"channel\":\"a\",\"data\":1}}");
        crowd.turn();
        crowd.say("{\"id\":4,\"unsubscribe\":{\"channel\":\"a\"}}");
        crowd.turn();
        assert_eq!(crowd.got(), ["{\"id\":4,\"unsubscribe\":{}}\n", REPLY].concat());
        assert_eq!(crowd.unanswered(), 0);
    }

    #[test]
    fn a_publisher_that_breaks_the_protocol_next_gets_its_reply_before_the_end() {
        let crowd = Crowd::new();
        crowd.say("{\"id\":3,\"publish\":{\"channel\":\"a\",\"data\":1}}\nnonsense");
        for _ in 0..3 {
            crowd.turn();
        }
        let got = plainly(&crowd.got());
        let end = "{\"push\":{\"disconnect\":{\"code\":3501,\"reason\":\"bad request\"}}}\n";
        assert_eq!(got, [PUSH, REPLY, end].concat());
    }

    #[test]
    fn who_recovers_more_than_may_wait_is_told_so_and_not_sent_away() {
        let crowd = Crowd::new();
        let data = "x".repeat(60_000);
        for (topic, _) in (0..4).flat_map(|topic| (0..8).map(move |number| (topic, number))) {
            crowd.say(&format!(
                "{{\"id\":3,\"publish\":{{\"channel\":\"{topic}\",\"data\":\"{data}\"}}}}"
            ));
            assert_eq!(crowd.got(), REPLY);
        }
        let recover = (0..4).map(|topic| {
            format!("{{\"id\":4,\"subscribe\":{{\"channel\":\"{topic}\",\"recover\":true}}}}")
        });
        crowd.say(&recover.collect::<Vec<_>>().join("\n"));
        assert_eq!(crowd.recoveries(), (1, 3), "a reply of 480 KB is all that may wait");
        let got = crowd.got();
        assert_eq!(got.matches("\"was_recovering\":true").count(), 4);
        assert_eq!(got.matches("\"recovered\":true").count(), 1);
        crowd.say("{\"id\":3,\"publish\":{\"channel\":\"b\",\"data\":1}}");
        assert_eq!(crowd.got(), REPLY, "it goes on");
    }

    #[test]
    fn a_recovery_is_counted_as_its_client_is_told() {
        let crowd = Crowd::new();
        // All of it is kept, but it is more than half an outbox holds.
        let data = "x".repeat(60_000);
        for _ in 0..9 {
            crowd.say(&format!(
                "{{\"id\":3,\"publish\":{{\"channel\":\"b\",\"data\":\"{data}\"}}}}"
            ));
            assert_eq!(crowd.got(), REPLY);
        }
        for (offset, flag, told, expected) in [
            (0, 0, "\"was_recovering\":true", (0, 1)),
            (1, 0, "\"recovered\":true", (1, 1)),
            (0, 2, "\"code\":112", (1, 2)),
        ] {
            let ask = format!(
                "{{\"channel\":\"b\",\"recover\":true,\"offset\":{offset},\"flag\":{flag}}}"
            );
            crowd.say(&format!("{{\"id\":4,\"subscribe\":{ask}}}"));
            let got = crowd.got();
            assert!(got.contains(told), "{told}");
            assert_eq!(crowd.recoveries(), expected, "{told}");
            crowd.say("{\"id\":5,\"unsubscribe\":{\"channel\":\"b\"}}");
            crowd.got();
        }
        crowd.say("{\"id\":4,\"subscribe\":{\"channel\":\"b\"}}");
        assert_eq!(crowd.recoveries(), (1, 2), "it did not ask");
    }

    #[test]
    fn nobody_waits_for_a_publisher_that_is_gone() {
        let crowd = Crowd::new();
        crowd.say("{\"id\":3,\"publish\":{\"channel\":\"a\",\"data\":1}}");
        crowd.turn();
        let Crowd { handle, others, publisher } = crowd;
        drop(publisher);
        handle.with(|worker| worker.turn(&mio::Events::with_capacity(1), 0));
        assert_eq!(handle.with(|worker| worker.unanswered.len()), 0);
        drop(others);
    }
}
