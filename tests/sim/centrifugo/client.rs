//! A client of the protocol: commands that wait to be sent, and what waits for an answer.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;

use fanwire::protocol::centrifugo::fossil;
use serde_json::{Value, json};

use super::protobuf::{self, COMMAND, EMULATION, REPLY};
use super::setup::{Codec, Deltas, Guise, Transport};
use crate::client::{Client, Door, Event, HANDSHAKE, Request};

/// What a command asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    Connect,
    /// The stay of that number.
    Subscribe(usize),
    Unsubscribe(usize),
    /// The payload of that number.
    Publish(usize),
    /// The look of that number.
    Presence(usize),
}

/// What the server said.
#[derive(Debug)]
pub(crate) enum Said {
    /// A message.
    Message(Value),
    /// The connection ended so.
    Ended(String),
}

/// One connection and what its client knows.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) line: Client,
    transport: Transport,
    codec: Codec,
    commands: Vec<Value>,
    /// The part of a body that is not a whole message yet.
    input: Vec<u8>,
    /// By the command's id.
    pub(crate) asked: BTreeMap<u64, Asked>,
    next_id: u64,
    /// Session and node, which requests beside a body name.
    name: Option<(String, String)>,
    /// The request under way; the next waits for its answer.
    errand: Option<Client>,
    /// The payload from which the next delta of a stay is made.
    states: BTreeMap<usize, String>,
}

impl Peer {
    /// Asks for a connection over `socket`, with a token where there is one.
    pub(crate) fn new(socket: UnixStream, guise: Guise, token: Option<String>) -> Self {
        let Guise { transport, codec, pace, .. } = guise;
        let connect = token.map_or_else(|| json!({}), |token| json!({ "token": token }));
        let connect = json!({ "id": 1, "connect": connect });
        let mut line = match transport {
            Transport::WebSocket => {
                let line = match codec {
                    Codec::Json => "GET /connection/websocket",
                    Codec::Protobuf => "GET /connection/websocket?format=protobuf",
                };
                Client::new(socket, Door::Foreign, Request { line, headers: HANDSHAKE, body: &[] })
            }
            Transport::HttpStream => {
                let body = codec.frame(&[&connect]);
                let headers = codec.headers(&body);
                let line = "POST /connection/http_stream";
                let request = Request { line, headers: &headers, body: &body };
                Client::new(socket, Door::Foreign, request)
            }
        };
        line.set_pace(pace);
        let is_websocket = transport == Transport::WebSocket;
        Self {
            line,
            transport,
            codec,
            commands: is_websocket.then_some(connect).into_iter().collect(),
            input: Vec::new(),
            asked: BTreeMap::from([(1, Asked::Connect)]),
            next_id: 2,
            name: None,
            errand: None,
            states: BTreeMap::new(),
        }
    }

    /// Gives a command to be sent.
    pub(crate) fn command(&mut self, asked: Asked, name: &str, request: &Value) {
        self.commands.push(json!({ "id": self.next_id, name: request }));
        self.asked.insert(self.next_id, asked);
        self.next_id += 1;
    }

    pub(crate) fn pong(&mut self) {
        self.commands.push(json!({}));
    }

    pub(crate) fn connected(&mut self, reply: &Value) {
        let word = |name: &str| reply[name].as_str().map(str::to_owned);
        self.name = word("session").zip(word("node"));
    }

    /// Sends what waits, if it can be sent; `connect` gives a socket for a request, if there can be
    /// one. Returns whether something left.
    pub(crate) fn flush(&mut self, connect: impl FnOnce() -> Option<UnixStream>) -> bool {
        if self.commands.is_empty() || !self.line.is_open() {
            return false;
        }
        if self.transport == Transport::WebSocket {
            if !self.line.is_websocket() {
                return false;
            }
            let commands = std::mem::take(&mut self.commands);
            let together = if self.next_id.is_multiple_of(2) { commands.len() } else { 1 };
            for commands in commands.chunks(together) {
                let frame = self.codec.frame(&commands.iter().collect::<Vec<_>>());
                match self.codec {
                    Codec::Json => self.line.send(&String::from_utf8_lossy(&frame), usize::MAX),
                    Codec::Protobuf => self.line.send_bytes(&frame),
                }
            }
            self.line.write_all();
            return true;
        }
        let (Some((session, node)), None) = (&self.name, &self.errand) else { return false };
        let Some(socket) = connect() else { return false };
        let commands = std::mem::take(&mut self.commands);
        let data = self.codec.frame(&commands.iter().collect::<Vec<_>>());
        let body = match self.codec {
            Codec::Json => {
                let data = String::from_utf8_lossy(&data);
                json!({ "session": session, "node": node, "data": data }).to_string().into_bytes()
            }
            Codec::Protobuf => {
                let whom = EMULATION.encode(&json!({ "session": session, "node": node }));
                [whom, protobuf::field(3, &data)].concat()
            }
        };
        let headers = self.codec.headers(&body);
        let (line, headers) = ("POST /emulation", headers.as_str());
        let mut errand = Client::ask(socket, Request { line, headers, body: &body });
        errand.write_all();
        self.errand = Some(errand);
        true
    }

    /// Reads what there is. Returns whether something came.
    pub(crate) fn act(&mut self) -> bool {
        let mut has_moved = self.line.act();
        if let Some(errand) = &mut self.errand {
            has_moved |= errand.act();
            if errand.take_answer().is_some() || !errand.is_open() {
                self.errand = None;
            }
        }
        has_moved
    }

    /// What came since the last time.
    pub(crate) fn take_said(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        for event in self.line.take_events() {
            match event {
                Event::Head { status: 101 | 200, .. } => {}
                Event::Publication { payload, .. } => {
                    self.input.extend(payload);
                    if (self.transport, self.codec) == (Transport::WebSocket, Codec::Json) {
                        // Lines of a frame are joined, those of a body ended.
                        self.input.push(b'\n');
                    }
                    let garbled = || Said::Ended("garbled".to_owned());
                    let messages = self.codec.take(&mut self.input).into_iter();
                    said.extend(messages.map(|one| one.map_or_else(garbled, Said::Message)));
                    // Chunks of a body may end anywhere, frames only with a message.
                    if self.transport == Transport::WebSocket && !self.input.is_empty() {
                        said.push(garbled());
                    }
                }
                Event::Close(code, reason) => said.push(Said::Ended(format!("{code} {reason}"))),
                other => said.push(Said::Ended(format!("{other:?}"))),
            }
        }
        said
    }

    /// The payload of a publication on a stay; `None` if it makes no sense.
    pub(crate) fn content(
        &mut self,
        stay: usize,
        publication: &Value,
        deltas: Deltas,
    ) -> Option<String> {
        let data = publication["data"].as_str()?;
        let is_delta = publication["delta"] == true;
        let text = match deltas {
            Deltas::Off => (!is_delta).then(|| data.to_owned())?,
            Deltas::On if is_delta => {
                let before = self.states.get(&stay)?;
                let text = fossil::decode(before.as_bytes(), data.as_bytes(), 1 << 20).ok()?;
                String::from_utf8(text).ok()?
            }
            Deltas::On => data.to_owned(),
        };
        let is_json = match self.codec {
            Codec::Json => deltas == Deltas::On,
            // As it was published: by clients that speak JSON as a string of it.
            Codec::Protobuf => text.starts_with('"'),
        };
        let content = if is_json { serde_json::from_str(&text).ok() } else { Some(text.clone()) };
        if deltas == Deltas::On {
            self.states.insert(stay, text);
        }
        content
    }
}

impl Codec {
    /// Commands in one frame.
    fn frame(self, commands: &[&Value]) -> Vec<u8> {
        match self {
            Self::Json => {
                let lines: Vec<_> = commands.iter().map(ToString::to_string).collect();
                lines.join("\n").into_bytes()
            }
            Self::Protobuf => {
                let messages = commands.iter().map(|command| COMMAND.encode(command));
                messages.flat_map(|message| protobuf::delimited(&message)).collect()
            }
        }
    }

    /// Takes the messages that are whole; `None` for one that makes no sense.
    fn take(self, input: &mut Vec<u8>) -> Vec<Option<Value>> {
        match self {
            Self::Json => {
                let whole = input.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let whole: Vec<u8> = input.drain(..whole).collect();
                let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                lines.map(|line| serde_json::from_slice(line).ok()).collect()
            }
            Self::Protobuf => {
                let (mut messages, mut rest) = (Vec::new(), input.as_slice());
                while let Some((message, after)) = protobuf::split(rest) {
                    messages.push(REPLY.decode(message));
                    rest = after;
                }
                *input = rest.to_vec();
                messages
            }
        }
    }

    /// What a request with such a body says of it.
    fn headers(self, body: &[u8]) -> String {
        let kind = match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/octet-stream",
        };
        format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len())
    }
}
