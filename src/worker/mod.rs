//! One thread's share of the server: its connections, its subscriber lists, its turns.
//!
//! Nothing on the delivery path is shared between workers but the immutable publication. A worker
//! is never borrowed across an await; other threads reach it through its inbox only.

mod bookmark;
mod catch_up;
mod centrifugo;
mod connection;
mod emulation;
mod errand;
mod gate;
mod handle;
mod leave;
mod member;
mod output;
mod pass;
mod poller;
mod post;
mod presence;
mod read;
mod rewrite;
mod run;
mod shed;
mod timer;
mod topic;
mod unacknowledged;
mod users;
mod wheel;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use slab::Slab;

use centrifugo::Unanswered;
use connection::{Carrier, Connection, Inflow, Phase, Transport};
use member::{Member, Members, Place, Replay, Seat};
use output::Output;
use timer::Deadlines;
use topic::LocalTopic;
use users::Users;
use wheel::{Tick, Wheel};

pub use bookmark::Bookmark;
pub use connection::ConnectionKey;
pub use emulation::Undelivered;
pub use errand::{Errand, Headcount, Whom};
pub use gate::Gate;
pub use handle::{HttpGuard, Pending, Stage, TaskGuard, WorkerHandle};
pub use member::Pick;
pub use rewrite::Coding;
pub use run::{WAKE, run};

use crate::admission::Permit;
use crate::auth::{Grant, Rights};
use crate::drain::Drain;
use crate::hub::{Hub, Inbox, Joined, Parting, Start, TopicName, VariantId, Variants};
use crate::id::{Door, WorkerId};
use crate::limits::Limits;
use crate::metrics::{MemoryKind, WorkerMetrics};
use crate::protocol::{self, centrifugo as centrifugo_protocol};
use crate::session::Session;
use crate::time::Stamp;
use crate::ws::{Decoder, Inflater, Reading, Window};

/// What a worker is made of.
#[derive(Debug)]
pub struct WorkerParts {
    /// Its place.
    pub id: WorkerId,
    /// All topics.
    pub hub: Arc<Hub>,
    /// The limits in force.
    pub limits: Arc<Limits>,
    /// Its counters.
    pub metrics: Arc<WorkerMetrics>,
    /// Where it registers its sockets.
    pub registry: Registry,
    /// The way out.
    pub drain: Arc<Drain>,
    /// Who knows topics and tokens, for sessions with commands.
    pub gate: Arc<Gate>,
    /// What it does at a time.
    pub portions: Portions,
}

/// What a worker does at a time before others have their turn. A test with few members and short
/// histories gets passes and replays that pause from small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portions {
    /// Writes of fan-out in a turn; at least 1.
    pub writes: usize,
    /// Bytes that a session that catches up reads from history, or else one publication.
    pub replay_len: usize,
}

impl Default for Portions {
    fn default() -> Self {
        Self { writes: 512, replay_len: 64 * 1024 }
    }
}

/// A session that a client asks for.
#[derive(Debug)]
pub struct Opening {
    /// What the client may do on its topic.
    pub rights: Rights,
    /// What its token gave it, where it has one.
    pub grant: Option<Arc<Grant>>,
    /// The front door, for the metrics.
    pub door: Door,
    /// Window to deflate its messages with, where the two sides agreed on compression.
    pub deflate: Option<Window>,
    /// How its session begins, where its messages are commands.
    pub session: Option<centrifugo_protocol::Opening>,
}

/// A subscription that a client asks for.
#[derive(Debug)]
pub struct Subscription {
    /// The topic.
    pub topic: TopicName,
    /// Where the stream begins.
    pub start: Start,
    /// How publications are encoded.
    pub variant: VariantId,
    /// Which publications it gets.
    pub pick: Pick,
}

/// The state of one worker. See the module's files for its parts of a turn, in order: `read`,
/// `pass`, `catch_up`, `leave`, `timer`.
#[derive(Debug)]
pub struct Worker {
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    variants: Arc<Variants>,
    limits: Arc<Limits>,
    metrics: Arc<WorkerMetrics>,
    drain: Arc<Drain>,
    gate: Arc<Gate>,
    portions: Portions,
    random: fastrand::Rng,
    registry: Registry,
    connections: Slab<Connection>,
    topics: Slab<LocalTopic>,
    /// Whose connections these are, as far as that is known.
    users: Users,
    output: Output,
    decoder: Decoder,
    deadlines: Deadlines,
    clock: Stamp,
    generation: u32,
    /// Connections whose session goes on.
    present: usize,
    /// Sessions when the drain began, and the next slot to ask to leave.
    leaving: Option<(usize, usize)>,
    /// Sockets that may have something to read.
    ready: VecDeque<ConnectionKey>,
    /// Topics with something to deliver.
    dirty: VecDeque<u32>,
    /// Topics whose listeners have not been told all news.
    untold: Vec<u32>,
    /// Sessions that read history and are not waiting for their client.
    catching: VecDeque<ConnectionKey>,
    /// Publishers that are not read until the inboxes have room.
    paused: Vec<ConnectionKey>,
    /// Publications whose publishers are told when they have got them, in order.
    unanswered: Vec<Unanswered>,
    read_buf: Box<[u8]>,
    /// Made for the first client that may deflate.
    inflater: Option<Box<Inflater>>,
    /// Answers to the pings of the read that is handled.
    pongs: Vec<u8>,
    due: Vec<(Tick, ConnectionKey)>,
    /// The last round in which it gave sessions for memory.
    shed_round: u32,
}

impl Worker {
    fn new(parts: WorkerParts) -> Self {
        let WorkerParts { id, hub, limits, metrics, registry, drain, gate, portions } = parts;
        let clock = Stamp::now();
        let shortest = limits.ping_interval.min(limits.pong_timeout).min(limits.write_timeout);
        let wheel = Wheel::new(shortest, clock.instant);
        let deadlines = Deadlines::new(&limits, &wheel);
        let output = Output {
            worker: id,
            limits: Arc::clone(&limits),
            metrics: Arc::clone(&metrics),
            memory: Arc::clone(hub.memory()),
            now: wheel.tick(clock.instant),
            wheel,
            ending: Vec::new(),
            spare: Vec::new(),
            gaps: Vec::new(),
        };
        Self {
            inbox: Arc::clone(hub.inbox(id)),
            variants: Arc::clone(hub.variants()),
            decoder: Decoder::new((&*limits).into()),
            hub,
            limits,
            metrics,
            drain,
            gate,
            portions,
            random: fastrand::Rng::new(),
            registry,
            connections: Slab::new(),
            topics: Slab::new(),
            users: Users::default(),
            output,
            deadlines,
            clock,
            generation: 0,
            present: 0,
            leaving: None,
            ready: VecDeque::new(),
            dirty: VecDeque::new(),
            untold: Vec::new(),
            catching: VecDeque::new(),
            paused: Vec::new(),
            unanswered: Vec::new(),
            read_buf: vec![0; read::READ_LEN].into(),
            inflater: None,
            pongs: Vec::new(),
            due: Vec::new(),
            shed_round: 0,
        }
    }

    /// Looks at the clock: what happens outside of a turn has its own time.
    fn read_clock(&mut self) {
        self.clock = Stamp::now();
        self.output.now = self.output.wheel.tick(self.clock.instant);
    }

    fn get(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(key.index as usize)?;
        (connection.key(key.index) == key).then_some(connection)
    }

    /// Begins the session of a connection that is not there yet: until it is, everything waits for
    /// it.
    fn open(&mut self, opening: Opening) -> ConnectionKey {
        let Opening { rights, grant, door, deflate, session } = opening;
        let carrier = Carrier::of(door, session.as_ref().map(|session| session.wire));
        let index = u32::try_from(self.connections.vacant_key()).expect("indices are u32");
        self.generation = self.generation.wrapping_add(1);
        let now = self.output.now;
        self.connections.insert(Connection {
            generation: self.generation,
            seen: now,
            pinged: now,
            progress: now,
            unacknowledged: 0,
            deadline: Tick::NEVER,
            members: Members::default(),
            transport: Transport::Pending,
            session: Session::new(rights),
            grant,
            reading: Reading::default(),
            outbox: None,
            extra: None,
            permit: None,
            door,
            carrier,
            phase: Phase::Open,
            awaits_pong: false,
            deflate,
            inflow: Inflow::default(),
        });
        if deflate.is_some() && self.inflater.is_none() {
            self.inflater = Some(Box::new(Inflater::new(Arc::clone(&self.output.memory))));
        }
        let Self { connections, output, .. } = self;
        let first_look = now.plus(self.deadlines.ping.min(self.deadlines.stream));
        let connection = &mut connections[index as usize];
        let first_look = first_look.min(output.expiry_tick(connection, self.clock));
        output.expect_by(index, connection, first_look);
        let held_len = connection.held_len();
        self.count_opened(door, held_len);
        let key = ConnectionKey::new(index, self.generation);
        match session {
            Some(session) => self.begin_session(key, session),
            None => self.add_user(key),
        }
        key
    }

    /// Subscribes a connection. From here on it misses nothing of the topic.
    fn subscribe(&mut self, key: ConnectionKey, subscription: Subscription) -> Joined {
        let (slot, joined) = self.count_in(key, subscription);
        self.enter_by_grant(key, slot);
        if joined.next > joined.top {
            self.join(key, slot, joined.next);
        } else {
            let replays = &mut self.connections[key.index as usize].extra().replays;
            replays.push(Replay { slot, next: joined.next });
            // One place in the queue serves them all.
            if replays.len() == 1 {
                self.catching.push_back(key);
            }
        }
        joined
    }

    /// Lets a member in that gets everything from `next` on, as it comes.
    fn join(&mut self, key: ConnectionKey, slot: u32, next: u64) {
        let member = self.connections[key.index as usize].members.at(slot);
        let seat = Seat { index: key.index, slot };
        self.topics[member.topic as usize].join(seat, member, next);
    }

    /// Counts a member in. It stands nowhere yet.
    fn count_in(&mut self, key: ConnectionKey, subscription: Subscription) -> (u32, Joined) {
        let Subscription { topic, start, variant, pick } = subscription;
        let topics = &mut self.topics;
        let (_, joined) = self.hub.subscribe(&topic, self.output.worker, start, |topic| {
            let local = topics.insert(LocalTopic::new(Arc::clone(topic)));
            u32::try_from(local).expect("indices are u32")
        });
        let local = &mut self.topics[joined.local as usize];
        if local.count == 0 {
            local.arrived = joined.top;
        }
        local.count += 1;
        if protocol::delta::is_of_deltas(variant) {
            local.topic.begin_deltas();
        }
        let connection = &mut self.connections[key.index as usize];
        let place = Place::CatchingUp;
        let window = connection.deflate;
        let variant = window.map_or(variant, |window| protocol::deflate::twin(variant, window));
        let slot = connection.members.add(Member { topic: joined.local, variant, pick, place });
        self.metrics.subscriptions.add(1);
        (slot, joined)
    }

    fn count_opened(&mut self, door: Door, held_len: usize) {
        self.present += 1;
        self.metrics.connections[door.index()].add(1);
        self.metrics.connections_total[door.index()].add(1);
        self.output.memory.charge(MemoryKind::Connections, held_len);
    }

    /// Hands the socket to its slot, with what the client sent right behind its request.
    fn activate(
        &mut self,
        key: ConnectionKey,
        (transport, permit): (Transport, Permit),
        mut first: Vec<u8>,
    ) {
        let (Some(connection), Some(socket)) = (self.get(key), transport.socket()) else { return };
        connection.permit = Some(permit);
        let both = Interest::READABLE | Interest::WRITABLE;
        let source = socket.as_raw_fd();
        if self.registry.register(&mut SourceFd(&source), key.token(), both).is_err() {
            return self.remove(key.index);
        }
        let Self { connections, output, .. } = self;
        let connection = &mut connections[key.index as usize];
        connection.transport = transport;
        let carrier = connection.carrier;
        output.expect_room(key.index, connection);
        self.write_waiting(key);
        if carrier == Carrier::WebSocket {
            self.receive(key, &mut first);
        }
        // The registration tells edges only; what came before it must be asked for.
        self.mark_ready(key);
    }

    /// Writes what waits for a socket that takes something again.
    fn write_waiting(&mut self, key: ConnectionKey) {
        let Self { connections, output, .. } = self;
        if output.drain(key.index, &mut connections[key.index as usize]) {
            self.on_drained(key);
        }
    }

    /// Nothing waits for a connection any more.
    fn on_drained(&mut self, key: ConnectionKey) {
        let Some(connection) = self.get(key) else { return };
        if connection.phase == Phase::Leaving {
            self.finish(key);
        } else if connection.is_catching_up() {
            self.catching.push_back(key);
        }
    }

    /// The session of a connection is over: nothing more is for it.
    fn unsubscribe_all(&mut self, index: u32) {
        self.present -= 1;
        self.remove_user(index);
        while let Some(slot) = self.connections[index as usize].members.last() {
            self.unsubscribe(Seat { index, slot }, Parting::Disconnected);
        }
    }

    /// Takes a member out of its local topic, and the topic out when that was the last.
    fn unsubscribe(&mut self, seat: Seat, parting: Parting) {
        let connection = &mut self.connections[seat.index as usize];
        let Some(member) = connection.members.remove(seat.slot) else { return };
        if member.place == Place::CatchingUp {
            connection.extra().replays.retain(|replay| replay.slot != seat.slot);
            connection.shed_extra();
        }
        self.metrics.subscriptions.sub(1);
        self.part(seat, member.topic, parting);
        let local = &mut self.topics[member.topic as usize];
        if protocol::delta::is_of_deltas(member.variant) {
            local.topic.end_deltas();
        }
        local.remove(seat, member, &mut self.connections);
        let was_last = local.topic.unsubscribe(self.output.worker);
        debug_assert_eq!(was_last, local.count == 0, "hub and worker count alike");
        if was_last {
            for publication in self.topics.remove(member.topic as usize).undelivered() {
                self.release(&publication);
            }
        }
    }

    /// Forgets a connection; its socket closes.
    fn remove(&mut self, index: u32) {
        if self.connections[index as usize].is_present() {
            self.unsubscribe_all(index);
        }
        let connection = self.connections.remove(index as usize);
        self.metrics.connections[connection.door.index()].sub(1);
        let waiting = connection.outbox.as_ref().map_or(0, |outbox| outbox.len());
        self.metrics.outbox_bytes.sub(waiting as u64);
        self.output.memory.release(MemoryKind::Connections, connection.held_len());
        self.output.memory.release(MemoryKind::Reading, connection.reading.held_len());
        if let Some(socket) = connection.transport.socket() {
            // The descriptor closes with the connection, and with it the registration.
            let _ = self.registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
        }
    }
}
