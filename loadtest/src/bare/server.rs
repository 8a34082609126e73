//! The bare loop itself.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read as _},
    mem,
};

use mio::{
    Events, Interest, Poll, Token,
    event::Event,
    net::{TcpListener, TcpStream},
};
use slab::Slab;

use super::{
    Mode,
    connection::{Connection, Life, Stage, publications},
    sabotage::{Kind, Sabotage},
};
use crate::http::{self, Request};

const LISTENER: Token = Token(usize::MAX);
const EVENTS_MAX: usize = 1024;
const READ_LEN: usize = 256 * 1024;

#[derive(Debug, Default)]
struct Topic {
    subscribers: Vec<usize>,
    /// What [`Mode::Join`] has joined in this turn.
    joined: Vec<u8>,
    /// What [`Kind::Reorder`] holds back, and from whom.
    held: Option<(usize, Vec<u8>)>,
}

#[derive(Debug)]
pub(super) struct Server {
    listener: TcpListener,
    mode: Mode,
    poll: Poll,
    connections: Slab<Connection>,
    topics: Vec<Topic>,
    names: HashMap<String, usize>,
    /// Topics with something joined.
    dirty: Vec<usize>,
    /// Connections whose send failed; they leave after the pass.
    gone: Vec<usize>,
    accepted: Vec<u8>,
    buf: Vec<u8>,
}

impl Server {
    pub(super) fn new(mut listener: TcpListener, mode: Mode) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            listener,
            mode,
            poll,
            connections: Slab::new(),
            topics: Vec::new(),
            names: HashMap::new(),
            dirty: Vec::new(),
            gone: Vec::new(),
            accepted: http::accepted(),
            buf: vec![0; READ_LEN],
        })
    }

    /// Turns until the poller fails.
    pub(super) fn serve<T>(mut self) -> anyhow::Result<T> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(key) if self.connections.contains(key) => self.ready(key, event),
                    // Closed earlier in this turn.
                    Token(_) => {}
                }
            }
            self.flush();
            while let Some(key) = self.gone.pop() {
                self.close(key);
            }
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error.into()),
            };
            stream.set_nodelay(true)?;
            let entry = self.connections.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(entry.key()), interest)?;
            entry.insert(Connection::new(stream));
        }
    }

    fn ready(&mut self, key: usize, event: &Event) {
        if event.is_writable() && self.connections[key].flush() == Life::Gone {
            self.gone.push(key);
            return;
        }
        if !event.is_readable() && !event.is_read_closed() {
            return;
        }
        let mut buf = mem::take(&mut self.buf);
        loop {
            let len = match self.connections[key].stream.read(&mut buf) {
                Ok(len @ 1..) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(_) | Err(_) => {
                    self.gone.push(key);
                    break;
                }
            };
            if self.received(key, &buf[..len]) == Life::Gone {
                self.gone.push(key);
                break;
            }
            if len < buf.len() && !event.is_read_closed() {
                break;
            }
        }
        self.buf = buf;
    }

    fn received(&mut self, key: usize, received: &[u8]) -> Life {
        let mut partial = mem::take(&mut self.connections[key].partial);
        let bytes = if partial.is_empty() {
            received
        } else {
            partial.extend_from_slice(received);
            &partial[..]
        };
        let Some(taken) = self.taken(key, bytes) else {
            return Life::Gone;
        };
        if taken < bytes.len() {
            self.connections[key].partial = bytes[taken..].to_vec();
        }
        Life::Alive
    }

    /// Handles what is whole in `bytes` and returns its length; `None` ends the connection.
    fn taken(&mut self, key: usize, bytes: &[u8]) -> Option<usize> {
        match self.connections[key].stage {
            Stage::Opening => match http::request(bytes) {
                Request::Partial => Some(0),
                Request::Invalid => None,
                Request::Handshake(path, len) => {
                    (self.open(key, path)? == Life::Alive).then_some(len)
                }
            },
            Stage::Publisher { topic } | Stage::Subscriber { topic } => {
                publications(bytes, |frame| self.publish(topic, frame))
            }
        }
    }

    fn open(&mut self, key: usize, path: &str) -> Option<Life> {
        let path = path.strip_prefix("/topics/")?;
        let (name, query) = path.split_once('?').unwrap_or((path, ""));
        let topic = if let Some(topic) = self.names.get(name) {
            *topic
        } else {
            self.topics.push(Topic::default());
            self.names.insert(name.to_owned(), self.topics.len() - 1);
            self.topics.len() - 1
        };
        let connection = &mut self.connections[key];
        connection.stage = if query == "echo=false" {
            Stage::Publisher { topic }
        } else {
            self.topics[topic].subscribers.push(key);
            Stage::Subscriber { topic }
        };
        Some(connection.send(&self.accepted))
    }

    #[inline]
    fn publish(&mut self, topic: usize, frame: &[u8]) {
        let Self { mode, connections, topics, dirty, gone, .. } = self;
        match mode {
            Mode::Each => {
                for key in &topics[topic].subscribers {
                    if connections[*key].send(frame) == Life::Gone {
                        gone.push(*key);
                    }
                }
            }
            Mode::Join => {
                let joined = &mut topics[topic].joined;
                if joined.is_empty() {
                    dirty.push(topic);
                }
                joined.extend_from_slice(frame);
            }
            Mode::Sabotaged(sabotage) => {
                sabotaged(sabotage, topics, topic, frame, |key, bytes| {
                    if connections[key].send(bytes) == Life::Gone {
                        gone.push(key);
                    }
                });
            }
        }
    }

    fn flush(&mut self) {
        while let Some(topic) = self.dirty.pop() {
            let Topic { subscribers, joined, .. } = &mut self.topics[topic];
            for key in subscribers {
                if self.connections[*key].send(joined) == Life::Gone {
                    self.gone.push(*key);
                }
            }
            joined.clear();
        }
    }

    fn close(&mut self, key: usize) {
        let Some(connection) = self.connections.try_remove(key) else {
            return;
        };
        if let Stage::Subscriber { topic } = connection.stage {
            let subscribers = &mut self.topics[topic].subscribers;
            if let Some(index) = subscribers.iter().position(|subscriber| *subscriber == key) {
                subscribers.swap_remove(index);
            }
        }
        let mut stream: TcpStream = connection.stream;
        self.poll.registry().deregister(&mut stream).ok();
    }
}

/// Delivers `frame` to the subscribers of `topic`, but for the faults.
fn sabotaged(
    sabotage: &mut Sabotage,
    topics: &mut [Topic],
    topic: usize,
    frame: &[u8],
    mut send: impl FnMut(usize, &[u8]),
) {
    let other = (topic + 1) % topics.len();
    let stray = topics[other].subscribers.first().copied();
    let Topic { subscribers, held, .. } = &mut topics[topic];
    for key in &*subscribers {
        let late = held.take_if(|(from, _)| from == key);
        match sabotage.next() {
            Some(Kind::Drop) => {}
            Some(Kind::Reorder) if held.is_none() => *held = Some((*key, frame.to_vec())),
            Some(Kind::Corrupt) => {
                let mut changed = frame.to_vec();
                if let Some(last) = changed.last_mut() {
                    *last ^= 1;
                }
                send(*key, &changed);
            }
            Some(Kind::Duplicate) => {
                send(*key, frame);
                send(*key, frame);
            }
            Some(Kind::Misroute) => {
                send(*key, frame);
                if let Some(stray) = stray {
                    send(stray, frame);
                }
            }
            Some(Kind::Reorder) | None => send(*key, frame),
        }
        if let Some((_, late)) = late {
            send(*key, &late);
        }
    }
}
