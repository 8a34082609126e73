//! A client of the protocol: commands that wait to be sent, and what waits for an answer.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;

use fanwire::protocol::centrifugo::fossil;
use serde_json::{Value, json};

use super::setup::{Deltas, Transport};
use crate::client::{Client, Door, Event, HANDSHAKE, Request};
use crate::setup::Pace;

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
    commands: Vec<String>,
    /// By the command's id.
    pub(crate) asked: BTreeMap<u64, Asked>,
    next_id: u64,
    /// Session and node, which requests beside a body name.
    name: Option<(String, String)>,
    /// The request under way; the next waits for its answer.
    errand: Option<Client>,
    /// Requests that were not accepted.
    pub(crate) refusals: usize,
    /// The payload from which the next delta of a stay is made.
    states: BTreeMap<usize, String>,
}

impl Peer {
    /// Asks for a connection over `socket`.
    pub(crate) fn new(socket: UnixStream, transport: Transport, pace: Pace) -> Self {
        let connect = json!({ "id": 1, "connect": {} }).to_string();
        let mut line = match transport {
            Transport::WebSocket => {
                let headers = HANDSHAKE;
                let line = "GET /connection/websocket";
                Client::new(socket, Door::Lines, Request { line, headers, body: &[] })
            }
            Transport::HttpStream => {
                let headers = format!("Content-Length: {}\r\n", connect.len());
                let line = "POST /connection/http_stream";
                let request = Request { line, headers: &headers, body: connect.as_bytes() };
                Client::new(socket, Door::Lines, request)
            }
        };
        line.set_pace(pace);
        let is_websocket = transport == Transport::WebSocket;
        Self {
            line,
            transport,
            commands: is_websocket.then_some(connect).into_iter().collect(),
            asked: BTreeMap::from([(1, Asked::Connect)]),
            next_id: 2,
            name: None,
            errand: None,
            refusals: 0,
            states: BTreeMap::new(),
        }
    }

    /// Gives a command to be sent.
    pub(crate) fn command(&mut self, asked: Asked, name: &str, request: &Value) {
        self.commands.push(json!({ "id": self.next_id, name: request }).to_string());
        self.asked.insert(self.next_id, asked);
        self.next_id += 1;
    }

    pub(crate) fn pong(&mut self) {
        self.commands.push("{}".to_owned());
    }

    pub(crate) fn connected(&mut self, reply: &Value) {
        let word = |name: &str| reply[name].as_str().map(str::to_owned);
        self.name = word("session").zip(word("node"));
    }

    /// Sends what waits, if it can be sent; `connect` gives a socket for a request. Returns whether
    /// something left.
    pub(crate) fn flush(&mut self, connect: impl FnOnce() -> UnixStream) -> bool {
        if self.commands.is_empty() || !self.line.is_open() {
            return false;
        }
        if self.transport == Transport::WebSocket {
            if !self.line.is_websocket() {
                return false;
            }
            let commands = std::mem::take(&mut self.commands);
            if self.next_id.is_multiple_of(2) {
                self.line.send(&commands.join("\n"), usize::MAX);
            } else {
                for command in commands {
                    self.line.send(&command, usize::MAX);
                }
            }
            self.line.write_all();
            return true;
        }
        let (Some((session, node)), None) = (&self.name, &self.errand) else { return false };
        let data = std::mem::take(&mut self.commands).join("\n");
        let body = json!({ "session": session, "node": node, "data": data }).to_string();
        let headers =
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        let (line, headers) = ("POST /emulation", headers.as_str());
        let mut errand = Client::ask(connect(), Request { line, headers, body: body.as_bytes() });
        errand.write_all();
        self.errand = Some(errand);
        true
    }

    /// Reads what there is. Returns whether something came.
    pub(crate) fn act(&mut self) -> bool {
        let mut has_moved = self.line.act();
        if let Some(errand) = &mut self.errand {
            has_moved |= errand.act();
            if let Some(answer) = errand.take_answer() {
                self.refusals += usize::from(answer.status != 204);
                self.errand = None;
            } else if !errand.is_open() {
                self.errand = None;
            }
        }
        has_moved
    }

    /// What came since the last time.
    pub(crate) fn take_said(&mut self) -> Vec<Said> {
        let said = self.line.take_events().into_iter().filter_map(|event| match event {
            Event::Head { status: 101 | 200, .. } => None,
            Event::Publication { payload, .. } => Some(
                payload
                    .split(|byte| *byte == b'\n')
                    .filter(|line| !line.is_empty())
                    .map(|line| match serde_json::from_slice(line) {
                        Ok(message) => Said::Message(message),
                        Err(error) => Said::Ended(format!("garbled: {error}")),
                    })
                    .collect(),
            ),
            Event::Close(code, reason) => Some(vec![Said::Ended(format!("{code} {reason}"))]),
            other => Some(vec![Said::Ended(format!("{other:?}"))]),
        });
        said.flatten().collect()
    }

    /// The payload of a publication on a stay; `None` if it makes no sense.
    pub(crate) fn content(
        &mut self,
        stay: usize,
        publication: &Value,
        deltas: Deltas,
    ) -> Option<String> {
        let data = publication["data"].as_str()?;
        if deltas == Deltas::Off {
            return publication.get("delta").is_none().then(|| data.to_owned());
        }
        let text = if publication["delta"] == true {
            let before = self.states.get(&stay)?;
            String::from_utf8(fossil::decode(before.as_bytes(), data.as_bytes(), 1 << 20).ok()?)
                .ok()?
        } else {
            data.to_owned()
        };
        let content = serde_json::from_str(&text).ok();
        self.states.insert(stay, text);
        content
    }
}
