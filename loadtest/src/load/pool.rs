//! All connections of a run behind one poller.

use std::{
    io::{self, ErrorKind, Write as _},
    mem,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    ops::AddAssign,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use mio::{Events, Interest, Poll, Token, event::Event, net::TcpStream};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{
    clock::Clock,
    door::{Cutter, Door, Found, Receiver, Role},
    http::{Answer, Target},
    load::{
        transport::{Buffers, Received, Transport},
        unsent::Unsent,
    },
};

/// Few, so that the run looks at its schedule often.
const EVENTS_MAX: usize = 64;
const OPENING_MAX: usize = 256;
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
/// More connections of one source address make the kernel search long for a free port.
const PER_SOURCE_MAX: usize = 8_000;
/// Descriptors for everything that is not a measured connection.
const SPARE_DESCRIPTORS: u64 = 64;

/// What a turn reports of a connection.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    /// With the head of the server's answer.
    Opened(&'a [u8]),
    Publication(&'a [u8]),
    /// The connection is gone, and why.
    Ended(String),
}

/// Who takes what a turn finds, by the connection's index.
pub(crate) trait Sink {
    fn see(&mut self, index: usize, now: u64, seen: Seen<'_>);

    /// Takes what it knows by heart of `bytes`, which begin with a message. Returns how many bytes.
    #[inline]
    fn recall(&mut self, _index: usize, _now: u64, _bytes: &[u8]) -> usize {
        0
    }

    /// What was seen since the last call was all that is in `message`; `None` = there was more.
    #[inline]
    fn learn(&mut self, _index: usize, _message: Option<&[u8]>) {}
}

/// A function that sees everything.
struct Watch<F>(F);

impl<F: FnMut(usize, u64, Seen<'_>)> Sink for Watch<F> {
    #[inline]
    fn see(&mut self, index: usize, now: u64, seen: Seen<'_>) {
        self.0(index, now, seen);
    }
}

/// Where what one connection receives goes.
struct To<'a, S> {
    index: usize,
    sink: &'a mut S,
}

impl<S: Sink> To<'_, S> {
    #[inline]
    fn see(&mut self, now: u64, seen: Seen<'_>) {
        self.sink.see(self.index, now, seen);
    }
}

/// Whether a turn may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// While measuring.
    Spin,
    Sleep(Duration),
}

/// An opening's commands that are still to be sent.
type Commands = std::vec::IntoIter<Vec<u8>>;

#[derive(Debug)]
enum Stage {
    /// The answer as far as it has come, and what to send after it.
    Opening {
        answer: Vec<u8>,
        commands: Commands,
    },
    /// Behind the whole answer: one command waits to be accepted, these come after it.
    Entering {
        answer: Vec<u8>,
        commands: Commands,
    },
    Open,
    Ended,
}

#[derive(Debug)]
struct Connection {
    transport: Transport,
    stage: Stage,
    cutter: Cutter,
    unsent: Unsent,
}

/// The connections, numbered in the order they were opened in.
#[derive(Debug)]
pub(crate) struct Pool<D> {
    door: D,
    target: Target,
    clock: Clock,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    buffers: Buffers,
    tally: Tally,
    /// Number in the run of the first connection.
    first: usize,
}

/// What was counted over all connections.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// Publications that the server said yes to.
    acknowledged: u64,
    /// Pings and the like that were answered.
    replies: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.replies += other.replies;
    }
}

impl<D: Door> Pool<D> {
    /// A pool for up to `count` connections.
    ///
    /// # Errors
    /// This process may not open that many descriptors.
    pub(crate) fn new(door: D, target: Target, clock: Clock, count: usize) -> anyhow::Result<Self> {
        raise_descriptor_limit(count)?;
        Ok(Self {
            door,
            target,
            clock,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            connections: Vec::with_capacity(count),
            buffers: Buffers::new(),
            tally: Tally::default(),
            first: 0,
        })
    }

    /// The same as one of several pools of a run: its first connection is that run's `first`, so
    /// that all of them spread their source addresses.
    pub(crate) fn numbered_from(mut self, first: usize) -> Self {
        self.first = first;
        self
    }

    /// Connections that were begun to open.
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Opens one connection for each topic of `wanted`, and returns how long all took.
    ///
    /// # Errors
    /// One was refused, or none opened for 10 s.
    pub(crate) fn open(
        &mut self,
        wanted: impl ExactSizeIterator<Item = String>,
        role: Role,
    ) -> anyhow::Result<Duration> {
        self.open_observed(wanted, role, |_, _, _| (), |_| ())
    }

    /// The same, and tells `watch` after every turn how many connections of the pool are open.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_watched(
        &mut self,
        wanted: impl ExactSizeIterator<Item = String>,
        role: Role,
        watch: impl FnMut(usize),
    ) -> anyhow::Result<Duration> {
        self.open_observed(wanted, role, |_, _, _| (), watch)
    }

    /// As [`Pool::open`], and passes what comes meanwhile to `on`, as a turn does.
    ///
    /// # Errors
    /// One was refused, or none opened for 10 s.
    pub(crate) fn open_with(
        &mut self,
        wanted: impl ExactSizeIterator<Item = String>,
        role: Role,
        on: impl FnMut(usize, u64, Seen<'_>),
    ) -> anyhow::Result<Duration> {
        self.open_observed(wanted, role, on, |_| ())
    }

    fn open_observed(
        &mut self,
        wanted: impl ExactSizeIterator<Item = String>,
        role: Role,
        mut on: impl FnMut(usize, u64, Seen<'_>),
        mut watch: impl FnMut(usize),
    ) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let total = self.connections.len() + wanted.len();
        let mut wanted = wanted.peekable();
        let (mut opened, mut progress) = (self.connections.len(), begun);
        while opened < total {
            while self.connections.len() - opened < OPENING_MAX
                && let Some(topic) = wanted.next()
            {
                self.start(&topic, role).with_context(|| self.failed())?;
            }
            let mut ended = None;
            let before = opened;
            self.turn(Wait::Spin, |index, now, seen| {
                match &seen {
                    Seen::Opened(_) => opened += 1,
                    Seen::Publication(_) => {}
                    Seen::Ended(reason) => ended = Some(reason.clone()),
                }
                on(index, now, seen);
            })?;
            watch(opened);
            if let Some(reason) = ended {
                bail!("{}: {reason}", self.failed());
            }
            if opened > before {
                progress = Instant::now();
            } else if progress.elapsed() > OPENING_TIMEOUT {
                bail!("{}: no answer for 10 s", self.failed());
            }
        }
        Ok(begun.elapsed())
    }

    fn failed(&self) -> String {
        format!("opening connection {} to {}", self.connections.len(), self.target.site.authority)
    }

    fn start(&mut self, topic: &str, role: Role) -> io::Result<()> {
        self.start_at(self.connections.len(), topic, role)
    }

    /// Begins to open connection `index`: the next one, or in place of one that has ended.
    pub(crate) fn start_at(&mut self, index: usize, topic: &str, role: Role) -> io::Result<()> {
        let mut stream = connect(self.target.address, self.first + index)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index), interest)?;
        let mut unsent = Unsent::default();
        let opening = self.door.open(&self.target.site, topic, role);
        unsent.push(&opening.request);
        let commands = opening.commands.into_iter();
        let stage = Stage::Opening { answer: Vec::new(), commands };
        let transport = Transport::client(stream, self.target.security.as_ref())?;
        let connection = Connection { transport, stage, cutter: Cutter::default(), unsent };
        match self.connections.get_mut(index) {
            Some(ended) => *ended = connection,
            None => self.connections.push(connection),
        }
        Ok(())
    }

    /// Looks at the sockets once: passes what came to `on`, with the connection's number and the
    /// time it was read; returns how many sockets had something.
    #[inline]
    pub(crate) fn turn(
        &mut self,
        wait: Wait,
        on: impl FnMut(usize, u64, Seen<'_>),
    ) -> io::Result<usize> {
        self.turn_to(wait, &mut Watch(on))
    }

    /// As [`Pool::turn`], for a sink that remembers.
    pub(crate) fn turn_to(&mut self, wait: Wait, sink: &mut impl Sink) -> io::Result<usize> {
        let timeout = match wait {
            Wait::Spin => Duration::ZERO,
            Wait::Sleep(timeout) => timeout,
        };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(0),
            result => result?,
        }
        let mut count = 0;
        for event in &self.events {
            count += 1;
            let index = event.token().0;
            let connection = &mut self.connections[index];
            let mut to = To { index, sink: &mut *sink };
            let with = With {
                door: &self.door,
                clock: self.clock,
                buffers: &mut self.buffers,
                tally: &mut self.tally,
            };
            if let Err(reason) = connection.ready(event, with, &mut to) {
                connection.stage = Stage::Ended;
                to.see(self.clock.now(), Seen::Ended(reason));
            }
        }
        Ok(count)
    }

    /// Sends `bytes` on connection `index`. One that has ended takes them in silence: a turn
    /// reported its end, or will.
    pub(crate) fn send(&mut self, index: usize, bytes: &[u8]) {
        let Connection { transport, stage, unsent, .. } = &mut self.connections[index];
        if !matches!(stage, Stage::Ended) && unsent.write(transport, bytes).is_err() {
            // Reading will meet the same error, and report it.
            *unsent = Unsent::default();
        }
    }

    /// Bytes that connection `index` could not send yet.
    pub(crate) fn unsent_len(&self, index: usize) -> usize {
        self.connections[index].unsent.len()
    }

    /// Publications that the server said yes to.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.tally.acknowledged
    }

    /// Pings and the like that were answered.
    pub(crate) fn replies(&self) -> u64 {
        self.tally.replies
    }

    pub(crate) fn door(&self) -> &D {
        &self.door
    }
}

impl<D> Drop for Pool<D> {
    /// Resets instead of closing: no port waits out its minute, the next run may begin at once.
    fn drop(&mut self) {
        for connection in &mut self.connections {
            let stream = connection.transport.stream();
            SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).ok();
        }
    }
}

/// What the pool lends to a connection that reads.
struct With<'a, D> {
    door: &'a D,
    clock: Clock,
    buffers: &'a mut Buffers,
    tally: &'a mut Tally,
}

impl Connection {
    #[inline]
    fn ready<D: Door, S: Sink>(
        &mut self,
        event: &Event,
        with: With<'_, D>,
        to: &mut To<'_, S>,
    ) -> Result<(), String> {
        if matches!(self.stage, Stage::Ended) {
            return Ok(());
        }
        if event.is_writable() && (!self.unsent.is_empty() || self.transport.wants_write()) {
            let flushed = self.transport.flush();
            flushed
                .and_then(|()| self.unsent.flush(&mut self.transport))
                .map_err(|error| error.to_string())?;
        }
        if !event.is_readable() && !event.is_read_closed() {
            return Ok(());
        }
        let With { door, clock, buffers, tally } = with;
        loop {
            let Received { bytes, has_more } = match self.transport.read(buffers) {
                Ok(Some(received)) => received,
                Ok(None) => return Err("ended by the server without a close frame".to_owned()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            };
            *tally += self.received(door, bytes, clock.now(), to)?;
            // A short read has emptied the socket; only an end that came with it would be missed.
            if !has_more && !event.is_read_closed() {
                return Ok(());
            }
        }
    }

    /// Returns what there was to count in `bytes`.
    #[inline]
    fn received<D: Door, S: Sink>(
        &mut self,
        door: &D,
        bytes: &[u8],
        now: u64,
        to: &mut To<'_, S>,
    ) -> Result<Tally, String> {
        if matches!(self.stage, Stage::Opening { .. }) {
            return self.answered(door, bytes, now, to);
        }
        self.cut(door, bytes, now, to)
    }

    /// Reads more of the answer to the opening's request.
    #[cold]
    fn answered<D: Door, S: Sink>(
        &mut self,
        door: &D,
        bytes: &[u8],
        now: u64,
        to: &mut To<'_, S>,
    ) -> Result<Tally, String> {
        let Stage::Opening { answer, commands } = &mut self.stage else {
            return Ok(Tally::default());
        };
        answer.extend_from_slice(bytes);
        let rest = match door.answer(answer) {
            Answer::Partial => return Ok(Tally::default()),
            Answer::Refused(reason) => return Err(reason),
            Answer::Open(len) => answer.split_off(len),
        };
        self.cutter = Cutter::new(door.coding(answer));
        let (answer, commands) = (mem::take(answer), mem::take(commands));
        self.stage = Stage::Entering { answer, commands };
        self.stage.enter(&mut self.unsent, &mut self.transport, |seen| to.see(now, seen));
        self.cut(door, &rest, now, to)
    }

    #[inline]
    fn cut<D: Door, S: Sink>(
        &mut self,
        door: &D,
        bytes: &[u8],
        now: u64,
        to: &mut To<'_, S>,
    ) -> Result<Tally, String> {
        let Self { transport, stage, cutter, unsent } = self;
        let tally = Tally::default();
        let mut intake = Intake { transport, stage, unsent, to, now, tally, is_plain: true };
        cutter.feed(door, bytes, &mut intake)?;
        Ok(intake.tally)
    }
}

/// What one connection's messages do to it and its sink.
struct Intake<'a, 'b, S> {
    transport: &'a mut Transport,
    stage: &'a mut Stage,
    unsent: &'a mut Unsent,
    to: &'a mut To<'b, S>,
    now: u64,
    tally: Tally,
    /// Whether the message has had nothing but publications in it.
    is_plain: bool,
}

impl<S: Sink> Receiver for Intake<'_, '_, S> {
    #[inline]
    fn recall(&mut self, bytes: &[u8]) -> usize {
        match self.stage {
            Stage::Open => self.to.sink.recall(self.to.index, self.now, bytes),
            _ => 0,
        }
    }

    #[inline]
    fn take(&mut self, found: Found<'_>) {
        match found {
            Found::Publication(payload) => {
                self.to.see(self.now, Seen::Publication(payload));
                return;
            }
            Found::Accepted if matches!(self.stage, Stage::Open) => self.tally.acknowledged += 1,
            Found::Accepted => {
                let Self { transport, stage, unsent, to, now, .. } = self;
                stage.enter(unsent, transport, |seen| to.see(*now, seen));
            }
            // A failed reply shows again when the socket is read.
            Found::Reply(reply) => {
                self.tally.replies += 1;
                self.unsent.write(self.transport, &reply).unwrap_or_default();
            }
        }
        self.is_plain = false;
    }

    #[inline]
    fn end(&mut self, message: Option<&[u8]>) {
        let is_plain = mem::replace(&mut self.is_plain, true);
        self.to.sink.learn(self.to.index, message.filter(|_| is_plain));
    }
}

impl Stage {
    /// Sends the next command of one that is entering; behind the last one it is open.
    #[cold]
    fn enter(&mut self, unsent: &mut Unsent, to: &mut Transport, on: impl FnOnce(Seen<'_>)) {
        let Self::Entering { answer, commands } = self else {
            return;
        };
        if let Some(command) = commands.next() {
            // A failed write shows again when the socket is read.
            unsent.write(to, &command).unwrap_or_default();
        } else {
            on(Seen::Opened(answer));
            *self = Self::Open;
        }
    }
}

/// Begins to connect, from an address that has ports left for connection `index`.
fn connect(address: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source(address, index) {
        socket.bind(&SocketAddrV4::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => {
            Err(error)
        }
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Where connection `index` comes from: beyond the first [`PER_SOURCE_MAX`], and on loopback
/// only, another address of 127.0.0.0/8, by process so that several testers do not meet.
fn source(address: SocketAddr, index: usize) -> Option<Ipv4Addr> {
    let group = u8::try_from(index / PER_SOURCE_MAX).ok()?;
    let process = u8::try_from(std::process::id() % 250).ok()?;
    (group > 0 && address.is_ipv4() && address.ip().is_loopback())
        .then(|| Ipv4Addr::new(127, 1 + process, group, 1))
}

/// Allows as many descriptors as the host does.
///
/// # Errors
/// They are not enough for `count` connections.
pub(crate) fn raise_descriptor_limit(count: usize) -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    let connections_max = hard.saturating_sub(SPARE_DESCRIPTORS);
    if count as u64 > connections_max {
        bail!(
            "{count} connections asked, but this process may open {hard} descriptors: ask for at \
             most {connections_max}, or raise the hard limit (`ulimit -Hn`)"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_spread_on_loopback_only() {
        let loopback: SocketAddr = "127.0.0.1:80".parse().expect("address");
        assert_eq!(source(loopback, PER_SOURCE_MAX - 1), None);
        let spread = source(loopback, PER_SOURCE_MAX).expect("another address");
        assert!(spread.is_loopback());
        assert_ne!(source(loopback, 2 * PER_SOURCE_MAX), Some(spread));
        assert_eq!(source("10.0.0.1:80".parse().expect("address"), PER_SOURCE_MAX), None);
    }

    #[test]
    fn too_many_connections_are_refused_with_the_way_out() {
        let error = raise_descriptor_limit(usize::MAX).expect_err("no host has that many");
        assert!(error.to_string().contains("ulimit -Hn"));
    }
}
