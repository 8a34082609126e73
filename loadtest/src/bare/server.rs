//! The bare loop itself.

use std::{collections::HashMap, io::ErrorKind, mem, sync::Arc};

use mio::{Events, Interest, Poll, Token, event::Event, net::TcpListener};
use rustls::ServerConfig;
use slab::Slab;

use super::{
    Mode,
    connection::{Connection, Life, Stage, messages},
    door::{self, Command, Door},
    sabotage::{Kind, Sabotage},
};
use crate::{
    frame::TEXT,
    http::{self, Request},
    load::transport::{Buffers, Received, Transport},
};

const LISTENER: Token = Token(usize::MAX);
const EVENTS_MAX: usize = 1024;

#[derive(Debug, Default)]
struct Topic {
    name: String,
    /// By door.
    lists: [List; Door::ALL.len()],
}

/// Who subscribed to a topic through one door.
#[derive(Debug, Default)]
struct List {
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
    /// Topics and doors with something joined.
    dirty: Vec<(usize, Door)>,
    /// Connections whose send failed; they leave after the pass.
    gone: Vec<usize>,
    accepted: Vec<u8>,
    security: Option<Arc<ServerConfig>>,
    buffers: Buffers,
    /// One publication, and what carries it.
    unit: Vec<u8>,
    wrapped: Vec<u8>,
}

impl Server {
    pub(super) fn new(
        mut listener: TcpListener,
        mode: Mode,
        security: Option<Arc<ServerConfig>>,
    ) -> anyhow::Result<Self> {
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
            security,
            buffers: Buffers::new(),
            unit: Vec::new(),
            wrapped: Vec::new(),
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
            let transport = Transport::server(stream, self.security.as_ref())?;
            entry.insert(Connection::new(transport));
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
        let mut buffers = mem::take(&mut self.buffers);
        loop {
            let Received { bytes, has_more } =
                match self.connections[key].transport.read(&mut buffers) {
                    Ok(Some(received)) => received,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Ok(None) | Err(_) => {
                        self.gone.push(key);
                        break;
                    }
                };
            if self.received(key, bytes) == Life::Gone {
                self.gone.push(key);
                break;
            }
            if !has_more && !event.is_read_closed() {
                break;
            }
        }
        self.buffers = buffers;
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
                    self.open(key, path)?;
                    Some(len)
                }
                Request::Stream(path, len) => {
                    self.subscribe(key, path.strip_prefix("/topics/")?, Door::Sse)?;
                    self.connections[key].stage = Stage::Stream;
                    self.send(key, door::STREAM).map(|()| len)
                }
            },
            Stage::Frames { topic } => messages(bytes, |opcode, payload| {
                self.publish(topic, (opcode, payload));
                Some(())
            }),
            Stage::Commands => messages(bytes, |_, payload| {
                payload.split(|byte| *byte == b'\n').try_for_each(|line| self.obey(key, line))
            }),
            Stage::Stream => Some(bytes.len()),
        }
    }

    fn send(&mut self, key: usize, bytes: &[u8]) -> Option<()> {
        (self.connections[key].send(bytes) == Life::Alive).then_some(())
    }

    fn open(&mut self, key: usize, path: &str) -> Option<()> {
        self.connections[key].stage = if path == "/connection/websocket" {
            Stage::Commands
        } else {
            let path = path.strip_prefix("/topics/")?;
            let (name, query) = path.split_once('?').unwrap_or((path, ""));
            if query != "echo=false" {
                self.subscribe(key, name, Door::Plain)?;
            }
            Stage::Frames { topic: self.topic(name) }
        };
        let accepted = mem::take(&mut self.accepted);
        let sent = self.send(key, &accepted);
        self.accepted = accepted;
        sent
    }

    /// The topic called `name`, known by then.
    fn topic(&mut self, name: &str) -> usize {
        if let Some(topic) = self.names.get(name) {
            return *topic;
        }
        self.topics.push(Topic { name: name.to_owned(), ..Topic::default() });
        self.names.insert(name.to_owned(), self.topics.len() - 1);
        self.topics.len() - 1
    }

    /// A connection subscribes once.
    fn subscribe(&mut self, key: usize, name: &str, door: Door) -> Option<()> {
        let topic = self.topic(name);
        let subscribed = &mut self.connections[key].subscribed;
        if subscribed.replace((topic, door)).is_some() {
            return None;
        }
        self.topics[topic].lists[door as usize].subscribers.push(key);
        Some(())
    }

    /// Does what one command of Centrifugo's says; `None` if it says nothing that is known.
    fn obey(&mut self, key: usize, line: &[u8]) -> Option<()> {
        let Command { id, request } = serde_json::from_slice(line).ok()?;
        let result = match request {
            door::Request::Connect {} => r#""connect":{"client":"bare"}"#,
            door::Request::Subscribe { channel } => {
                self.subscribe(key, channel, Door::Centrifugo)?;
                r#""subscribe":{}"#
            }
            door::Request::Publish { channel, data } => {
                let topic = self.topic(channel);
                self.publish(topic, (TEXT, data.as_bytes()));
                r#""publish":{}"#
            }
        };
        self.send(key, &door::reply(id, result))
    }

    #[inline]
    fn publish(&mut self, topic: usize, publication: (u8, &[u8])) {
        for door in Door::ALL {
            if !self.topics[topic].lists[door as usize].subscribers.is_empty() {
                self.publish_through(door, topic, publication);
            }
        }
    }

    #[inline]
    fn publish_through(&mut self, door: Door, topic: usize, publication: (u8, &[u8])) {
        let Self { mode, connections, topics, dirty, gone, unit, wrapped, .. } = self;
        let Topic { name, lists } = &mut topics[topic];
        let List { subscribers, joined, .. } = &mut lists[door as usize];
        if matches!(mode, Mode::Join) {
            if joined.is_empty() {
                dirty.push((topic, door));
            }
            door.push(joined, name, publication);
            return;
        }
        unit.clear();
        door.push(unit, name, publication);
        let bytes = door.wrap(unit, wrapped);
        let mut send = |key: usize, bytes: &[u8]| {
            if connections[key].send(bytes) == Life::Gone {
                gone.push(key);
            }
        };
        match mode {
            Mode::Sabotaged(sabotage) => sabotaged(sabotage, topics, (topic, door), bytes, send),
            Mode::Each | Mode::Join => subscribers.iter().for_each(|key| send(*key, bytes)),
        }
    }

    fn flush(&mut self) {
        while let Some((topic, door)) = self.dirty.pop() {
            let List { subscribers, joined, .. } = &mut self.topics[topic].lists[door as usize];
            let bytes = door.wrap(joined, &mut self.wrapped);
            for key in subscribers {
                if self.connections[*key].send(bytes) == Life::Gone {
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
        if let Some((topic, door)) = connection.subscribed {
            let subscribers = &mut self.topics[topic].lists[door as usize].subscribers;
            if let Some(index) = subscribers.iter().position(|subscriber| *subscriber == key) {
                subscribers.swap_remove(index);
            }
        }
        let mut transport = connection.transport;
        self.poll.registry().deregister(transport.stream()).ok();
    }
}

/// Delivers `bytes` to the subscribers of a topic through one door, but for the faults.
fn sabotaged(
    sabotage: &mut Sabotage,
    topics: &mut [Topic],
    (topic, door): (usize, Door),
    bytes: &[u8],
    mut send: impl FnMut(usize, &[u8]),
) {
    let other = (topic + 1) % topics.len();
    let stray = topics[other].lists[door as usize].subscribers.first().copied();
    let List { subscribers, held, .. } = &mut topics[topic].lists[door as usize];
    for key in &*subscribers {
        let late = held.take_if(|(from, _)| from == key);
        match sabotage.next() {
            Some(Kind::Drop) => {}
            Some(Kind::Reorder) if held.is_none() => *held = Some((*key, bytes.to_vec())),
            Some(Kind::Corrupt) => {
                let mut changed = bytes.to_vec();
                // Of the payload, the last.
                if let Some(byte) = changed.iter_mut().nth_back(door.tail_len()) {
                    *byte ^= 1;
                }
                send(*key, &changed);
            }
            Some(Kind::Duplicate) => {
                send(*key, bytes);
                send(*key, bytes);
            }
            Some(Kind::Misroute) => {
                send(*key, bytes);
                if let Some(stray) = stray {
                    send(stray, bytes);
                }
            }
            Some(Kind::Reorder) | None => send(*key, bytes),
        }
        if let Some((_, late)) = late {
            send(*key, &late);
        }
    }
}
