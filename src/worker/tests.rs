//! Members who join and leave while a pass is paused: everyone gets every batch, once.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use slab::Slab;

use super::connection::{Carrier, Connection, Extra, Inflow, Phase, Transport};
use super::member::{Member, Members, Pick, Place, Seat};
use super::pass::Pass;
use super::timer::{Deadlines, Verdict, judge};
use super::topic::LocalTopic;
use super::wheel::Tick;
use super::{Gate, Opening, Pending, Portions, Subscription, WorkerHandle, WorkerParts};
use crate::admission::{Admission as Admissions, Entrance};
use crate::auth::{Access, AuthConfig, Expiry, Grant, Rights};
use crate::hub::{
    Admission, Draft, Hub, HubParts, Inbox, Joined, Payload, PayloadKind, Publication, Publish,
    Start, TopicName, VariantId, Variants,
};
use crate::id::{Door, WorkerId};
use crate::limits::Limits;
use crate::metrics::{Memory, MemoryKind};
use crate::protocol::centrifugo::{self, Settings};
use crate::reason::CloseReason;
use crate::session::Session;
use crate::time::Stamp;
use crate::tls::Socket;
use crate::ws::Reading;

#[derive(Debug, Clone)]
enum Step {
    /// A subscriber joins, of this list.
    Join(u8),
    /// The subscriber at this place of the living leaves.
    Leave(usize),
    /// A publication arrives.
    Arrive,
    /// So many members are served.
    Serve(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..2).prop_map(Step::Join),
        2 => any::<usize>().prop_map(Step::Leave),
        3 => Just(Step::Arrive),
        3 => (1_usize..6).prop_map(Step::Serve),
    ]
}

fn topic() -> LocalTopic {
    let memory = Arc::new(Memory::new(u64::MAX));
    let hub = Hub::new(HubParts {
        rules: Vec::new(),
        meta_ttl: Duration::ZERO,
        inboxes: vec![Arc::new(Inbox::new(Arc::clone(&memory), || {}))],
        variants: Arc::new(Variants::new([])),
        memory,
    });
    let name = TopicName::new("a", 255).expect("a topic name");
    LocalTopic::new(hub.subscribe(&name, WorkerId(0), Start::Live, |_| 0).0)
}

fn publication(sequence: u64) -> Arc<Publication> {
    let payload = Payload::from_framed(Bytes::from_static(b"x"), 0, PayloadKind::Text);
    let draft = Draft::new(payload);
    let memory = Arc::new(Memory::new(u64::MAX));
    Arc::new(Publication::new((sequence, None), Stamp::now(), draft, memory))
}

fn connection() -> Connection {
    Connection {
        generation: 0,
        seen: Tick::default(),
        pinged: Tick::default(),
        progress: Tick::default(),
        unacknowledged: 0,
        deadline: Tick::default(),
        members: Members::default(),
        transport: Transport::Pending,
        session: Session::new(Rights::NONE),
        grant: None,
        reading: Reading::default(),
        outbox: None,
        extra: None,
        permit: None,
        door: Door::Plain,
        carrier: Carrier::WebSocket,
        phase: Phase::Open,
        awaits_pong: false,
        deflate: None,
        inflow: Inflow::default(),
    }
}

/// The worker's part of a pass, with a log in place of sockets.
#[derive(Debug)]
struct Model {
    topic: LocalTopic,
    connections: Slab<Connection>,
    /// Sequences that each living member got, after the one it joined at.
    got: BTreeMap<u32, (u64, Vec<u64>)>,
    top: u64,
}

impl Model {
    fn join(&mut self, list: u8) {
        let pick = if list == 0 { Pick::All } else { Pick::Others };
        let (topic, variant) = (0, VariantId::new(list));
        let member = Member { topic, variant, pick, place: Place::CatchingUp };
        let mut connection = connection();
        if pick == Pick::Others {
            // It has another subscription before this one.
            connection.members.add(Member { topic: 1, ..member });
        }
        let slot = connection.members.add(member);
        let index = u32::try_from(self.connections.insert(connection)).expect("few");
        self.topic.count += 1;
        let member = self.connections[index as usize].members.at(slot);
        self.topic.join(Seat { index, slot }, member, self.top + 1);
        self.got.insert(index, (self.top, Vec::new()));
    }

    fn leave(&mut self, at: usize) {
        let Some(index) = self.got.keys().copied().nth(at % self.got.len().max(1)) else { return };
        let served_to = |model: &Self| model.topic.served_to(model.seat(index).1);
        while served_to(self) < self.top {
            self.serve(1);
        }
        self.check_complete(index);
        let (seat, member) = self.seat(index);
        // As a worker does: the connection no longer knows it.
        self.connections[index as usize].members.remove(seat.slot);
        self.topic.remove(seat, member, &mut self.connections);
        self.connections.remove(index as usize);
        self.got.remove(&index);
    }

    /// The one subscription of a connection to the topic.
    fn seat(&self, index: u32) -> (Seat, Member) {
        let mut members = self.connections[index as usize].members.iter();
        let (slot, member) = members.find(|(_, one)| one.topic == 0).expect("it subscribes");
        (Seat { index, slot }, member)
    }

    fn take(&mut self, index: u32, sequence: u64) {
        let (_, got) = self.got.get_mut(&index).expect("only the living are served");
        got.push(sequence);
    }

    fn check_complete(&self, index: u32) {
        let (joined, got) = &self.got[&index];
        assert!(got.iter().copied().eq(joined + 1..=self.top), "{joined} {} {got:?}", self.top);
    }

    fn serve(&mut self, mut budget: usize) {
        if self.topic.pass.is_none() {
            if self.topic.pending.is_empty() {
                return;
            }
            self.topic.pass = Some(Box::new(Pass::take(&mut self.topic, 3)));
            let batch = self.batch();
            for late in 0..self.topic.late.len() {
                let late_one = self.topic.late[late];
                let wanted = batch.iter().filter(|one| **one >= late_one.next);
                for sequence in wanted.copied().collect::<Vec<_>>() {
                    self.take(late_one.seat.index, sequence);
                    self.topic.late[late].next = sequence + 1;
                }
            }
        }
        let batch = self.batch();
        while let Some((list, cursor)) = self.topic.pass.as_ref().map(|one| (one.list, one.cursor))
        {
            let next = self.topic.lists.get(list).map(|list| list.members.get(cursor).copied());
            let pass = self.topic.pass.as_mut().expect("it is there");
            match next {
                None => {
                    self.topic.pass = None;
                    self.topic.lists.retain(|list| !list.members.is_empty());
                    self.topic.promote(&mut self.connections);
                }
                Some(None) => (pass.list, pass.cursor) = (list + 1, 0),
                Some(Some(_)) if budget == 0 => return,
                Some(Some(seat)) => {
                    pass.cursor += 1;
                    budget -= 1;
                    for sequence in &batch {
                        self.take(seat.index, *sequence);
                    }
                }
            }
        }
    }

    fn batch(&self) -> Vec<u64> {
        let pass = self.topic.pass.as_ref();
        pass.map_or(Vec::new(), |pass| pass.publications().iter().map(|one| one.sequence).collect())
    }
}

proptest! {
    #[test]
    fn nobody_is_skipped_or_served_twice(steps in prop::collection::vec(step(), 0..120)) {
        let (topic, connections) = (topic(), Slab::new());
        let mut model = Model { topic, connections, got: BTreeMap::new(), top: 0 };
        for step in steps {
            match step {
                Step::Join(list) => model.join(list),
                Step::Leave(at) => model.leave(at),
                Step::Arrive if !model.got.is_empty() => {
                    model.top += 1;
                    model.topic.arrived = model.top;
                    model.topic.pending.push_back(publication(model.top));
                }
                Step::Arrive => {}
                Step::Serve(budget) => model.serve(budget),
            }
        }
        while model.topic.pass.is_some() || !model.topic.pending.is_empty() {
            model.serve(usize::MAX);
        }
        prop_assert!(model.topic.late.is_empty(), "everyone is listed when all is quiet");
        model.got.keys().for_each(|index| model.check_complete(*index));
    }
}

#[test]
fn an_idle_connection_takes_few_bytes() {
    assert!(size_of::<Connection>() <= 128, "{}", size_of::<Connection>());
    assert!(size_of::<LocalTopic>() <= 136, "{}", size_of::<LocalTopic>());
}

#[test]
fn an_idle_session_of_commands_takes_few_bytes_more() {
    // An allocation of 48 bytes takes as much.
    assert!(size_of::<Extra>() <= 56, "{}", size_of::<Extra>());
    assert!(size_of::<centrifugo::Session>() <= 224, "{}", size_of::<centrifugo::Session>());
}

#[test]
fn silence_is_answered_by_kind_of_connection() {
    let deadlines = Deadlines { ping: 25, pong: 10, write: 10, stream: 15, linger: 2 };
    let at = |ticks| Tick::default().plus(ticks);
    let judged = |now, change: fn(&mut Connection)| {
        let mut connection = connection();
        let (listener, _peer) = sockets();
        connection.transport = Transport::Socket(Socket::Plain(listener));
        change(&mut connection);
        judge(&connection, connection.seen, at(now), deadlines)
    };
    assert_eq!(judged(24, |_| {}), Verdict::Later(at(25)));
    assert_eq!(judged(25, |_| {}), Verdict::Ping);
    assert_eq!(judged(34, |one| one.awaits_pong = true), Verdict::End(CloseReason::PongTimeout));
    assert_eq!(judged(9, |one| one.awaits_pong = true), Verdict::Later(at(10)));
    let still_taking = |one: &mut Connection| {
        one.awaits_pong = true;
        one.progress = Tick::default().plus(30);
    };
    assert_eq!(judged(34, still_taking), Verdict::Later(at(40)), "it has not seen the ping yet");
    assert_eq!(judged(99, |one| one.inflow.is_paused = true), Verdict::Later(at(124)));
    assert_eq!(judged(99, |one| one.transport = Transport::Pending), Verdict::Later(at(124)));
    assert_eq!(judged(9, |one| one.outbox = Some(Box::default())), Verdict::Later(at(10)));
    let stalled = Verdict::End(CloseReason::WriteTimeout);
    assert_eq!(judged(10, |one| one.outbox = Some(Box::default())), stalled);
    assert_eq!(judged(14, |one| one.carrier = Carrier::Stream), Verdict::Later(at(15)));
    assert_eq!(judged(15, |one| one.carrier = Carrier::Stream), Verdict::Ping);
    assert_eq!(judged(1, |one| one.phase = Phase::Lingering), Verdict::Later(at(2)));
    assert_eq!(judged(2, |one| one.phase = Phase::Lingering), Verdict::Remove);
}

fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let peer = TcpStream::connect(listener.local_addr().expect("bound"));
    (listener.accept().expect("it connected").0, peer.expect("it listens"))
}

/// A worker that nobody runs, and its hub.
fn idle_worker() -> (WorkerHandle, Arc<Hub>) {
    idle_worker_of(1)
}

pub(super) fn idle_worker_of(workers: usize) -> (WorkerHandle, Arc<Hub>) {
    let memory = Arc::new(Memory::new(u64::MAX));
    let hub = Arc::new(Hub::new(HubParts {
        rules: Vec::new(),
        meta_ttl: Duration::ZERO,
        inboxes: (0..workers).map(|_| Arc::new(Inbox::new(Arc::clone(&memory), || {}))).collect(),
        variants: Arc::new(crate::protocol::variants(None)),
        memory,
    }));
    let poll = mio::Poll::new().expect("a poller");
    let access = Access::new(&AuthConfig::default(), None, &[]);
    let settings = Settings::new(&Limits::default(), "node");
    let handle = WorkerHandle::new(WorkerParts {
        id: WorkerId(0),
        hub: Arc::clone(&hub),
        limits: Arc::default(),
        metrics: Arc::default(),
        registry: poll.registry().try_clone().expect("a descriptor"),
        drain: Arc::default(),
        gate: Arc::new(Gate::new(Arc::clone(&hub), Arc::new(access), settings)),
        portions: Portions::default(),
    });
    (handle, hub)
}

fn subscribe(handle: &WorkerHandle, name: &TopicName) -> (Pending, Joined) {
    subscribe_with(handle, name, None)
}

fn subscribe_with(
    handle: &WorkerHandle,
    name: &TopicName,
    grant: Option<Arc<Grant>>,
) -> (Pending, Joined) {
    let (rights, door) = (Rights::ALL, Door::Plain);
    let opening = Opening { rights, grant, door, deflate: None, session: None };
    let (topic, start) = (name.clone(), Start::Live);
    let subscription = Subscription { topic, start, variant: VariantId::NATIVE, pick: Pick::All };
    handle.open(opening, subscription, |_| None)
}

/// Gives a socket to a session. Returns its client's, which does not block.
fn activate(pending: Pending) -> TcpStream {
    let (socket, peer) = sockets();
    for socket in [&socket, &peer] {
        socket.set_nonblocking(true).expect("a socket");
    }
    let Entrance::Admitted(permit) = Arc::new(Admissions::new(9, &Limits::default())).enter(None)
    else {
        panic!("there is room");
    };
    pending.activate(Socket::Plain(socket), Vec::new(), permit);
    peer
}

#[tokio::test(start_paused = true)]
async fn a_stream_says_that_it_is_alive_when_nothing_came_for_it() {
    const PING: &str = "c\r\n{\"ping\":{}}\n\r\n";
    let (handle, hub) = idle_worker();
    let name = TopicName::new("a", 255).expect("a topic name");
    let opening = Opening {
        rights: Rights::ALL,
        grant: None,
        door: Door::Ndjson,
        deflate: None,
        session: None,
    };
    let (topic, start) = (name.clone(), Start::Live);
    let variant = crate::protocol::NDJSON;
    let subscription = Subscription { topic, start, variant, pick: Pick::All };
    let mut peer = activate(handle.open(opening, subscription, |_| None).0);
    // What the client has got by a time.
    let mut got = async |seconds| {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        handle.with(|worker| worker.turn(&mio::Events::with_capacity(1), 0));
        let mut buf = [0; 1000];
        let len = peer.read(&mut buf).unwrap_or(0);
        String::from_utf8_lossy(&buf[..len]).into_owned()
    };
    assert_eq!(got(14).await, "");
    let payload = crate::protocol::plain::payload(PayloadKind::Text, b"x");
    let options = Publish::new(Stamp::now(), Admission::IfRoom);
    hub.publish(&name, &Draft::new(payload), options).expect("there is room");
    assert!(got(0).await.contains("\"data\":\"x\""));
    assert_eq!(got(14).await, "", "since it came");
    assert_eq!(got(4).await, PING);
    assert_eq!(got(14).await, "");
    assert_eq!(got(4).await, PING);
}

#[test]
fn a_newcomer_gets_nothing_that_was_on_its_way_to_those_before_it() {
    let (handle, hub) = idle_worker();
    let name = TopicName::new("a", 255).expect("a topic name");
    let publish = |data: &[u8]| {
        let payload = crate::protocol::plain::payload(PayloadKind::Text, data);
        let draft = Draft::new(payload);
        let (now, admission) = (Stamp::now(), Admission::IfRoom);
        let published = hub.publish(&name, &draft, Publish::new(now, admission));
        published.expect("there is room").position.expect("history is on").offset
    };
    // What waits for the only connection.
    let waiting = || {
        handle.with(|worker| {
            worker.drain_inbox();
            worker.flush_topics();
            let one = worker.connections.iter().next().expect("one connection").1;
            one.outbox.as_ref().map_or(0, |outbox| outbox.len())
        })
    };
    let (first, before) = subscribe(&handle, &name);
    publish(b"old");
    drop(first);
    let (_second, after) = subscribe(&handle, &name);
    assert_eq!(after.local, before.local, "the number is used again, for the same topic");
    assert_eq!(after.position.map(|position| position.offset), Some(1));
    assert_eq!(waiting(), 0, "older than its position");
    assert_eq!(publish(b"new"), 2);
    assert_eq!(waiting(), b"new".len() + 2, "one frame");
    assert_eq!(hub.memory().held(MemoryKind::Inbox), 0, "the old one is off the account too");
}

#[test]
fn a_publisher_is_not_read_while_a_worker_is_overrun() {
    let (handle, hub) = idle_worker_of(2);
    let (elsewhere, own) = (WorkerId(1), WorkerId(0));
    let name = |text| TopicName::new(text, 255).expect("a topic name");
    let _subscribed = hub.subscribe(&name("other"), elsewhere, Start::Live, |_| 0);
    let payload =
        crate::protocol::plain::payload(PayloadKind::Binary, &vec![0; crate::hub::INBOX_LEN_MAX]);
    let draft = Draft::new(payload);
    let options = Publish::new(Stamp::now(), Admission::Always);
    hub.publish(&name("other"), &draft, options).expect("there was room when it came");
    let (pending, _) = subscribe(&handle, &name("a"));
    let mut peer = activate(pending);
    peer.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'x']).expect("it is open");
    let accepted = || {
        handle.with(|worker| {
            worker.turn(&mio::Events::with_capacity(1), 0);
            worker.metrics.publications[Door::Plain.index()].get()
        })
    };
    assert_eq!((accepted(), accepted()), (0, 0), "the other worker has no room");
    assert!(hub.inbox(own).publishers_wait(), "and knows who waits for it");
    let arrival = hub.inbox(elsewhere).pop().expect("it is there");
    assert!(hub.inbox(elsewhere).release(&arrival.publication));
    let read = (0..1000).find(|_| accepted() == 1);
    assert!(read.is_some(), "there is room again");
    assert!(!hub.inbox(own).publishers_wait());
}

#[test]
fn a_clock_that_jumps_ends_no_session_whose_token_is_good() {
    const HOUR: u64 = 3_600_000;
    let (handle, _hub) = idle_worker();
    let name = TopicName::new("a", 255).expect("a topic name");
    let start = handle.with(|worker| worker.clock);
    let until = |millis: u64| {
        let end = (start.wall + millis).div_ceil(1000);
        let expiry = Expiry::new(end, Duration::from_secs(10), start);
        let grant = Grant { publisher: None, caps: None, expiry };
        subscribe_with(&handle, &name, Some(Arc::new(grant)))
    };
    let _sessions = [until(60_000), until(HOUR), subscribe(&handle, &name)];
    // Sessions that are open then, and those whose token ran out.
    let look = |millis: u64, jump: i64| {
        handle.with(|worker| {
            let wall = (start.wall + millis).saturating_add_signed(jump);
            worker.clock = Stamp { wall, instant: start.instant + Duration::from_millis(millis) };
            worker.output.now = worker.output.wheel.tick(worker.clock.instant);
            worker.run_deadlines();
            let open = worker.connections.iter().filter(|(_, one)| one.phase == Phase::Open);
            let ending = worker.output.ending.iter();
            let expired = ending.filter(|ending| ending.reason == CloseReason::TokenExpired);
            (open.count(), expired.count())
        })
    };
    let hour = i64::try_from(HOUR).expect("it is small");
    for (seconds, jump) in [(1, 0), (2, hour), (3, -hour), (60, 2 * hour), (65, 0), (120, -hour)] {
        assert_eq!(look(seconds * 1000, jump), (3, 0), "{seconds} s, {jump} ms");
    }
    // Set right, the clock ends what should have ended, not later than it is looked at again.
    assert_eq!(look(140_000, 0), (2, 1));
    assert_eq!(look(200_000, 2 * hour), (2, 1));
    assert_eq!(look(HOUR + 12_000, hour), (1, 2));
}
