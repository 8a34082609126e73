//! The proxy's loop: one thread, one poller, timers in order.

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind},
    net::SocketAddr,
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use mio::{
    Events, Interest, Poll, Token,
    event::Event,
    net::{TcpListener, TcpStream},
    unix::SourceFd,
};
use nix::{errno::Errno, sys::signalfd::SignalFd};
use slab::Slab;
use socket2::SockRef;

use super::{
    connection::{Breaks, Connection, Life},
    line::Shape,
};

const LISTENER: Token = Token(usize::MAX);
const SIGNAL: Token = Token(usize::MAX - 1);
const EVENTS_MAX: usize = 256;
const READ_LEN: usize = 16 * 1024;
/// Nothing is lost by looking again so late, and no timeout grows beyond what a poller takes.
const NAP_MAX: Duration = Duration::from_mins(1);
/// When to look again for a descriptor.
const STARVED_NAP_MAX: Duration = Duration::from_millis(100);

/// What happens to every connection, and where it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) to: SocketAddr,
    pub(super) shape: Shape,
    pub(super) breaks: Breaks,
    pub(super) seed: u64,
}

#[derive(Debug)]
pub(super) struct Server {
    listener: TcpListener,
    plan: Plan,
    poll: Poll,
    connections: Slab<Connection>,
    /// Connections by the time of their next turn; each at most once.
    timers: BTreeSet<(Instant, usize)>,
    /// Connections accepted so far.
    accepted: u64,
    /// No descriptor was left for a client that waits.
    starved: bool,
    buf: Vec<u8>,
}

impl Server {
    pub(super) fn new(mut listener: TcpListener, plan: Plan) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            listener,
            plan,
            poll,
            connections: Slab::new(),
            timers: BTreeSet::new(),
            accepted: 0,
            starved: false,
            buf: vec![0; READ_LEN],
        })
    }

    /// Turns until a signal comes.
    pub(super) fn serve(mut self, signals: &SignalFd) -> io::Result<()> {
        let signals = signals.as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&signals), SIGNAL, Interest::READABLE)?;
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            match self.poll.poll(&mut events, Some(self.nap())) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                match event.token() {
                    SIGNAL => return Ok(()),
                    LISTENER => self.accept()?,
                    Token(token) => self.ready(token, event),
                }
            }
            let now = Instant::now();
            let due = self.timers.range(..=(now, usize::MAX)).map(|(_, key)| *key);
            for key in due.collect::<Vec<_>>() {
                self.turn(key);
            }
            if self.starved {
                self.accept()?;
            }
        }
    }

    fn nap(&self) -> Duration {
        let nap_max = if self.starved { STARVED_NAP_MAX } else { NAP_MAX };
        let first = self.timers.first();
        first.map_or(nap_max, |(at, _)| at.saturating_duration_since(Instant::now()).min(nap_max))
    }

    fn accept(&mut self) -> io::Result<()> {
        self.starved = false;
        loop {
            let client = match self.listener.accept() {
                Ok((client, _)) => client,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if is_starved(&error) => {
                    self.starved = true;
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            self.add(client)?;
        }
    }

    /// A client that cannot be led on, now or when the server has answered, is reset.
    fn add(&mut self, client: TcpStream) -> io::Result<()> {
        let Ok(server) = TcpStream::connect(self.plan.to) else {
            return SockRef::from(&client).set_linger(Some(Duration::ZERO));
        };
        let mut streams = [client, server];
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        for (side, stream) in streams.iter_mut().enumerate() {
            stream.set_nodelay(true)?;
            self.poll.registry().register(stream, Token(2 * key + side), interest)?;
        }
        let Plan { shape, breaks, seed, .. } = self.plan;
        let seed = seed.wrapping_add(self.accepted);
        self.accepted += 1;
        entry.insert(Connection::new(streams, shape, breaks, seed, Instant::now()));
        self.turn(key);
        Ok(())
    }

    fn ready(&mut self, token: usize, event: &Event) {
        let (key, side) = (token / 2, token % 2);
        // One that left earlier in this turn may still have an event.
        let Some(connection) = self.connections.get_mut(key) else { return };
        let gone = event.is_read_closed() || event.is_error();
        if gone && connection.both_gone(side) {
            self.remove(key);
        } else {
            self.turn(key);
        }
    }

    fn turn(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if connection.turn(&mut self.buf) == Life::Over {
            self.remove(key);
            return;
        }
        let next = connection.next_wake();
        let before = std::mem::replace(&mut connection.wake, next);
        if before != next {
            before.map(|at| self.timers.remove(&(at, key)));
            next.map(|at| self.timers.insert((at, key)));
        }
    }

    fn remove(&mut self, key: usize) {
        let connection = self.connections.remove(key);
        connection.wake.map(|at| self.timers.remove(&(at, key)));
    }
}

fn is_starved(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE))
}
