//! Clients: what they write into their socket, and what they make of the bytes that come back.
//!
//! The codecs here are written apart from the server's: a fault must not be repeated by its test.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::invariant::Position;
use crate::record::Answer;
use crate::setup::Pace;
use crate::wire::{self, Frame, Head};

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x40;

/// What clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Plain,
    Json,
    Sse,
    SseJson,
    Ndjson,
    /// Another protocol, as it comes: frames, or chunks of a body.
    Foreign,
}

/// How a client breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offence {
    Unmasked,
    ReservedBits,
    Utf8,
    TooLarge,
}

/// What a client saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Head {
        status: u16,
        position: Option<Position>,
        recovered: Option<bool>,
    },
    Subscribed {
        position: Option<Position>,
        recovered: Option<bool>,
    },
    Publication {
        position: Option<Position>,
        payload: Vec<u8>,
    },
    Skipped(u64),
    Close(u16, String),
    /// The server's side ended; a stream's body as it should, or cut.
    End(End),
    /// Bytes that mean nothing.
    Garbled(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    Cut,
}

/// What the rest of the bytes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Frames,
    /// Chunks of a stream.
    Chunks,
    /// A body of known length.
    Whole(u16, usize),
    Over,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Option<UnixStream>,
    door: Door,
    pace: Pace,
    /// What may still be read before the next step.
    allowance: usize,
    /// Written one piece per step, so that requests and frames come in parts.
    pieces: VecDeque<Piece>,
    stage: Stage,
    input: Vec<u8>,
    /// The part of a stream's body that is not a whole line or block yet.
    body: Vec<u8>,
    has_closed: bool,
    events: Vec<Event>,
    answer: Option<Answer>,
}

/// Bytes to write.
#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    /// Whether something else may go before it.
    is_start: bool,
}

/// What a WebSocket handshake needs.
pub(crate) const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// What a connection begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) line: &'a str,
    pub(crate) headers: &'a str,
    pub(crate) body: &'a [u8],
}

impl Request<'_> {
    fn to_bytes(self) -> Vec<u8> {
        let Self { line, headers, body } = self;
        let head = format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n");
        [head.as_bytes(), body].concat()
    }
}

impl Client {
    pub(crate) fn new(socket: UnixStream, door: Door, request: Request<'_>) -> Self {
        let mut client = Self {
            socket: Some(socket),
            door,
            pace: Pace::Prompt,
            allowance: 0,
            pieces: VecDeque::new(),
            stage: Stage::Head,
            input: Vec::new(),
            body: Vec::new(),
            has_closed: false,
            events: Vec::new(),
            answer: None,
        };
        client.push(request.to_bytes());
        client
    }

    /// A client that asks once.
    pub(crate) fn ask(socket: UnixStream, request: Request<'_>) -> Self {
        Self::new(socket, Door::Ndjson, request)
    }

    /// Whether messages can be sent.
    pub(crate) fn is_websocket(&self) -> bool {
        self.stage == Stage::Frames && self.socket.is_some()
    }

    /// Whether its client still holds the socket.
    pub(crate) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether something waits to be written.
    pub(crate) fn has_more(&self) -> bool {
        self.is_open() && !self.pieces.is_empty()
    }

    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn take_answer(&mut self) -> Option<Answer> {
        self.answer.take()
    }

    fn push(&mut self, bytes: Vec<u8>) {
        self.pieces.push_back(Piece { bytes, is_start: true });
    }

    /// Sends a text message, in pieces of `piece` bytes, but not in very many.
    pub(crate) fn send(&mut self, text: &str, piece: usize) {
        let bytes = wire::frame(FIN | TEXT, text.as_bytes());
        let piece = piece.max(bytes.len() / 8);
        for (index, bytes) in bytes.chunks(piece).enumerate() {
            self.pieces.push_back(Piece { bytes: bytes.to_vec(), is_start: index == 0 });
        }
    }

    /// Sends a binary message.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.push(wire::frame(FIN | BINARY, bytes));
    }

    pub(crate) fn ping(&mut self, count: usize) {
        for number in 0..count {
            self.push(wire::frame(FIN | PING, number.to_string().as_bytes()));
        }
    }

    pub(crate) fn close(&mut self, code: u16) {
        self.push(wire::frame(FIN | CLOSE, &code.to_be_bytes()));
    }

    /// Breaks RFC 6455 or a limit.
    pub(crate) fn offend(&mut self, offence: Offence, message_bytes_max: usize) {
        let bytes = match offence {
            Offence::Unmasked => vec![FIN | TEXT, 1, b'x'],
            Offence::ReservedBits => wire::frame(FIN | RESERVED | TEXT, b"x"),
            Offence::Utf8 => wire::frame(FIN | TEXT, &[0xFF]),
            Offence::TooLarge => wire::frame(FIN | TEXT, &vec![b'x'; message_bytes_max + 1]),
        };
        self.push(bytes);
    }

    /// Shuts our side.
    pub(crate) fn shut(&mut self) {
        self.write_all();
        if let Some(socket) = &self.socket {
            // The server may have closed already.
            let _ = socket.shutdown(Shutdown::Write);
        }
    }

    /// Closes the socket without a word.
    pub(crate) fn vanish(&mut self) {
        self.socket = None;
        self.stage = Stage::Over;
    }

    pub(crate) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
        self.allowance = match pace {
            Pace::Prompt => usize::MAX,
            Pace::Slow(len) => len,
            Pace::Stopped => 0,
        };
    }

    /// A step begins: another piece may leave, and a slow reader reads on.
    pub(crate) fn begin_step(&mut self) {
        self.set_pace(self.pace);
        self.write();
    }

    /// Writes everything that waits.
    pub(crate) fn write_all(&mut self) {
        while self.write() {}
    }

    /// Writes the next piece, as far as the kernel takes it. Returns whether there may be more.
    fn write(&mut self) -> bool {
        let (Some(socket), Some(piece)) = (&mut self.socket, self.pieces.front_mut()) else {
            return false;
        };
        match socket.write(&piece.bytes) {
            Ok(len) if len == piece.bytes.len() => {
                self.pieces.pop_front();
                true
            }
            Ok(len) => {
                piece.bytes.drain(..len);
                piece.is_start = false;
                false
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                // The server is gone; what it said before can still be read.
                self.pieces.clear();
                false
            }
        }
    }

    /// Reads what its pace allows. Returns whether something came or was written.
    pub(crate) fn act(&mut self) -> bool {
        let Some(socket) = &mut self.socket else { return false };
        // An answer's head is always read: whether there is a session decides what comes next.
        let allowance = match self.stage {
            Stage::Frames | Stage::Chunks => self.allowance,
            _ => usize::MAX,
        };
        let mut buf = [0; 16 * 1024];
        let len = allowance.min(buf.len());
        if len == 0 {
            return false;
        }
        match socket.read(&mut buf[..len]) {
            Ok(0) => self.end(),
            Ok(len) => {
                self.allowance = self.allowance.saturating_sub(len);
                self.input.extend_from_slice(&buf[..len]);
                self.parse();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => self.end(),
        }
        true
    }

    fn end(&mut self) {
        let is_whole = match self.stage {
            Stage::Over => return self.vanish(),
            _ => self.input.is_empty() && self.has_closed,
        };
        self.events.push(Event::End(if is_whole { End::Whole } else { End::Cut }));
        self.vanish();
    }

    fn parse(&mut self) {
        loop {
            let before = (self.input.len(), self.stage);
            match self.stage {
                Stage::Head => self.parse_head(),
                Stage::Frames => self.parse_frame(),
                Stage::Chunks => self.parse_chunk(),
                Stage::Whole(status, len) => self.parse_whole(status, len),
                Stage::Over => self.input.clear(),
            }
            if (self.input.len(), self.stage) == before {
                return;
            }
        }
    }

    fn parse_head(&mut self) {
        let Some(head) = wire::take_head(&mut self.input) else { return };
        let Head { status, position, recovered, len, is_chunked } = head;
        self.stage = match (status, len) {
            (101, _) => Stage::Frames,
            (204, _) => Stage::Whole(status, 0),
            (_, Some(len)) => Stage::Whole(status, len),
            _ if is_chunked => Stage::Chunks,
            _ => Stage::Over,
        };
        self.events.push(Event::Head { status, position, recovered });
    }

    fn parse_whole(&mut self, status: u16, len: usize) {
        if self.input.len() < len {
            return;
        }
        let body = serde_json::from_slice(&self.input[..len]).unwrap_or(Value::Null);
        self.answer = Some(Answer { status, body });
        self.vanish();
    }

    fn parse_frame(&mut self) {
        match wire::take_frame(&mut self.input) {
            Ok(Some(frame)) => self.on_frame(frame),
            Ok(None) => {}
            Err(why) => self.garble(why),
        }
    }

    fn on_frame(&mut self, Frame { opcode, payload }: Frame) {
        match opcode {
            PING => {
                // The answer leaves at once, but not in the middle of a frame.
                let at = self.pieces.iter().position(|piece| piece.is_start);
                let bytes = wire::frame(FIN | PONG, &payload);
                let at = at.unwrap_or(self.pieces.len());
                self.pieces.insert(at, Piece { bytes, is_start: true });
                if at == 0 {
                    self.write();
                }
            }
            PONG => {}
            CLOSE => {
                let (code, reason) = wire::close(&payload);
                self.has_closed = true;
                self.events.push(Event::Close(code, reason));
                self.push(wire::frame(FIN | CLOSE, &payload[..payload.len().min(2)]));
                self.write_all();
            }
            _ if self.door == Door::Json => {
                let object = String::from_utf8_lossy(&payload).into_owned();
                self.on_object(&object);
            }
            _ => self.events.push(Event::Publication { position: None, payload }),
        }
    }

    fn parse_chunk(&mut self) {
        let Some(chunk) = wire::take_chunk(&mut self.input) else { return };
        if chunk.is_empty() {
            let is_whole = self.body.is_empty();
            self.events.push(Event::End(if is_whole { End::Whole } else { End::Cut }));
            return self.vanish();
        }
        if self.door == Door::Foreign {
            return self.events.push(Event::Publication { position: None, payload: chunk });
        }
        self.body.extend_from_slice(&chunk);
        let end: &[u8] = match self.door {
            Door::Ndjson => b"\n",
            _ => b"\n\n",
        };
        while let Some(part) = wire::take_until(&mut self.body, end) {
            match self.door {
                Door::Ndjson => self.on_object(part.trim_end()),
                _ => self.on_block(&part),
            }
        }
    }

    fn on_block(&mut self, block: &str) {
        let mut position = None;
        let (mut event, mut data) = ("", None);
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.split_once(": ").unwrap_or((line, "")) {
                ("id", id) => position = wire::position(id),
                ("event", name) => event = name,
                ("data", text) => data = Some(text),
                ("retry" | ":", _) => {}
                _ => return self.garble(format!("not a block: {block:?}")),
            }
        }
        match (event, data) {
            ("", None) if position.is_some() => {
                self.events.push(Event::Subscribed { position, recovered: None });
            }
            ("", None) => {}
            ("", Some(data)) if self.door == Door::Sse => {
                let payload = data.as_bytes().to_vec();
                self.events.push(Event::Publication { position, payload });
            }
            (_, Some(data)) => self.on_object(data),
            _ => self.garble(format!("not a block: {block:?}")),
        }
    }

    fn on_object(&mut self, text: &str) {
        let object = serde_json::from_str::<Value>(text).unwrap_or_default();
        match event(&object) {
            Some(event) => self.events.push(event),
            None if object.get("ping").is_some() => {}
            None => self.garble(format!("not an object: {text:?}")),
        }
    }

    fn garble(&mut self, why: impl Into<String>) {
        self.events.push(Event::Garbled(why.into()));
        self.vanish();
    }
}

/// What an object of a stream tells.
fn event(object: &Value) -> Option<Event> {
    if let Some(data) = object.get("data") {
        let payload = data.as_str()?.as_bytes().to_vec();
        return Some(Event::Publication { position: wire::place(object), payload });
    }
    if let Some(subscribed) = object.get("subscribed") {
        let recovered = subscribed.get("recovered").and_then(Value::as_bool);
        return Some(Event::Subscribed { position: wire::place(subscribed), recovered });
    }
    Some(Event::Skipped(object.get("skipped")?.get("count")?.as_u64()?))
}
