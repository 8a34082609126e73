//! Messages in what carries them: frames of commands in, frames of replies out.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::Bytes;
use prost::Message as _;

use super::code::Disconnect;
use super::json::Json;
use super::message::{self, Command, ConnectRequest, EmulationRequest, Push, Reply};
use crate::hub::VariantId;
use crate::id::Door;
use crate::protocol;
use crate::ws::{self, MessageKind};

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// JSON, one message per line.
    Json,
    /// Protobuf, each message behind its length.
    Protobuf,
}

impl Codec {
    /// The door of sessions whose messages are written so.
    pub fn door(self) -> Door {
        match self {
            Self::Json => Door::CentrifugoJson,
            Self::Protobuf => Door::CentrifugoProtobuf,
        }
    }
}

/// How messages are written, and what carries them to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Text frames of a WebSocket, messages joined by line ends.
    JsonFrames,
    /// Binary frames of a WebSocket.
    ProtobufFrames,
    /// A response body, each message ended by a line end.
    JsonBody,
    /// A response body of protobuf messages.
    ProtobufBody,
    /// Server-sent events with a message each.
    Events,
    /// As [`Wire::JsonFrames`] to a client that only listens: bare pushes, one in each frame.
    UniFrames,
    /// As [`Wire::JsonBody`] to a client that only listens: bare pushes.
    UniBody,
    /// As [`Wire::Events`] to a client that only listens: bare pushes.
    UniEvents,
}

impl Wire {
    /// Every wire, in the order of their variants.
    pub const ALL: [Self; 8] = [
        Self::JsonFrames,
        Self::ProtobufFrames,
        Self::JsonBody,
        Self::ProtobufBody,
        Self::Events,
        Self::UniFrames,
        Self::UniBody,
        Self::UniEvents,
    ];

    /// How messages are written, in both directions.
    pub fn codec(self) -> Codec {
        match self {
            Self::JsonFrames
            | Self::JsonBody
            | Self::Events
            | Self::UniFrames
            | Self::UniBody
            | Self::UniEvents => Codec::Json,
            Self::ProtobufFrames | Self::ProtobufBody => Codec::Protobuf,
        }
    }

    /// Whether what the client sends comes by requests of their own.
    pub fn is_emulated(self) -> bool {
        match self {
            Self::JsonBody | Self::ProtobufBody | Self::Events => true,
            Self::JsonFrames
            | Self::ProtobufFrames
            | Self::UniFrames
            | Self::UniBody
            | Self::UniEvents => false,
        }
    }

    /// Whether the client sends nothing but its request to connect, and gets pushes only.
    pub fn is_unidirectional(self) -> bool {
        match self {
            Self::UniFrames | Self::UniBody | Self::UniEvents => true,
            Self::JsonFrames
            | Self::ProtobufFrames
            | Self::JsonBody
            | Self::ProtobufBody
            | Self::Events => false,
        }
    }

    /// The encoding of publications for subscribers on this wire.
    pub fn variant(self) -> VariantId {
        match self {
            Self::JsonFrames => protocol::CENTRIFUGO_JSON,
            Self::ProtobufFrames => protocol::CENTRIFUGO_PROTOBUF,
            Self::JsonBody => protocol::CENTRIFUGO_JSON_BODY,
            Self::ProtobufBody => protocol::CENTRIFUGO_PROTOBUF_BODY,
            Self::Events => protocol::CENTRIFUGO_EVENTS,
            Self::UniFrames => protocol::CENTRIFUGO_UNI_FRAMES,
            Self::UniBody => protocol::CENTRIFUGO_UNI_BODY,
            Self::UniEvents => protocol::CENTRIFUGO_UNI_EVENTS,
        }
    }

    /// The last message of a session, where the transport does not tell why it ends or the client
    /// reads messages only; `reason` is in words.
    pub fn farewell(self, disconnect: Disconnect, reason: &str) -> Option<Box<[u8]>> {
        if matches!(self, Self::JsonFrames | Self::ProtobufFrames) {
            return None;
        }
        let code = disconnect.code().into();
        let reason = reason.to_owned();
        let disconnect = Some(message::Disconnect { code, reason });
        let push = Some(Push { disconnect, ..Push::default() });
        let mut frame = Frame::new(self);
        frame.push(&Reply { push, ..Reply::default() });
        Some(frame.take())
    }

    /// A frame with one message, exactly sized.
    pub(super) fn frame(self, reply: &Reply) -> Bytes {
        // What JSON adds to the fields of a short message.
        const NAMES_LEN: usize = 64;
        let mut frame = Frame::new(self);
        frame.body.reserve_exact(reply.encoded_len().saturating_add(NAMES_LEN));
        frame.push(reply);
        Bytes::from(frame.take())
    }
}

/// A frame of replies, filled as they come.
#[derive(Debug)]
pub(super) struct Frame {
    wire: Wire,
    body: Vec<u8>,
}

impl Frame {
    /// An empty frame, which holds no memory.
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, body: Vec::new() }
    }

    /// What carries it.
    pub(super) fn wire(&self) -> Wire {
        self.wire
    }

    /// Bytes of the messages in it.
    pub(super) fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether there is nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Adds a message.
    ///
    /// # Panics
    /// Never: writing to memory cannot fail.
    pub(super) fn push(&mut self, reply: &Reply) {
        let (before, after): (&[u8], &[u8]) = match self.wire {
            Wire::JsonFrames if self.body.is_empty() => (b"", b""),
            Wire::JsonFrames => (b"\n", b""),
            Wire::JsonBody | Wire::UniBody => (b"", b"\n"),
            Wire::Events | Wire::UniEvents => (b"data: ", b"\n\n"),
            Wire::ProtobufFrames | Wire::ProtobufBody | Wire::UniFrames => (b"", b""),
        };
        self.body.extend_from_slice(before);
        match self.wire {
            Wire::JsonFrames | Wire::JsonBody | Wire::Events => {
                reply.write(&mut self.body).expect("a vector takes what it is given");
            }
            Wire::ProtobufFrames | Wire::ProtobufBody => {
                reply.encode_length_delimited(&mut self.body).expect("a vector grows");
            }
            Wire::UniBody | Wire::UniEvents => write_push(reply, &mut self.body),
            // Its client parses a frame as one message.
            Wire::UniFrames => {
                let mut push = Vec::new();
                write_push(reply, &mut push);
                self.body.extend_from_slice(&ws::data_frame(MessageKind::Text, &push));
            }
        }
        self.body.extend_from_slice(after);
    }

    /// The bytes to send, which are taken out.
    pub(super) fn take(&mut self) -> Box<[u8]> {
        let body = std::mem::take(&mut self.body);
        let frame = match self.wire {
            Wire::JsonFrames => ws::data_frame(MessageKind::Text, &body),
            Wire::ProtobufFrames => ws::data_frame(MessageKind::Binary, &body),
            Wire::JsonBody
            | Wire::ProtobufBody
            | Wire::Events
            | Wire::UniFrames
            | Wire::UniBody
            | Wire::UniEvents => body,
        };
        frame.into_boxed_slice()
    }
}

/// The bytes are not commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a command of the protocol")]
pub struct Malformed;

/// The commands of one frame, decoded one by one: what is malformed later does not undo what came
/// before.
#[derive(Debug)]
pub struct Commands<'a>(Rest<'a>);

/// What is left of a frame.
#[derive(Debug)]
enum Rest<'a> {
    /// At least one message.
    Frame(Codec, &'a [u8]),
    /// A request to connect.
    Request(Result<ConnectRequest, Malformed>),
    /// Nothing.
    Empty,
}

impl<'a> Commands<'a> {
    /// The commands of a frame's payload, or of a request's body. A frame has at least one.
    pub fn new(codec: Codec, frame: &'a [u8]) -> Self {
        Self(Rest::Frame(codec, frame))
    }

    /// The one command of a client that only listens: its request, or that it sent none.
    pub fn connect(request: Result<ConnectRequest, Malformed>) -> Self {
        Self(Rest::Request(request))
    }

    /// No commands: for actions that no frame brought about.
    pub fn none() -> Self {
        Self(Rest::Empty)
    }

    /// Decodes the message in front of `frame`.
    fn split(&mut self, codec: Codec, frame: &'a [u8]) -> Result<Command, Malformed> {
        let (message, after) = match codec {
            Codec::Json => split_line(frame),
            Codec::Protobuf => split_delimited(frame),
        }?;
        let command = decode(codec, message)?;
        if !after.is_empty() {
            self.0 = Rest::Frame(codec, after);
        }
        Ok(command)
    }
}

impl Iterator for Commands<'_> {
    type Item = Result<Command, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        match std::mem::replace(&mut self.0, Rest::Empty) {
            Rest::Frame(codec, frame) => Some(self.split(codec, frame)),
            // Its answer is a push, which carries no number.
            Rest::Request(request) => Some(request.map(|request| Command {
                id: 1,
                connect: Some(request),
                ..Command::default()
            })),
            Rest::Empty => None,
        }
    }
}

impl ConnectRequest {
    /// Decodes what a client that only listens says first.
    ///
    /// # Errors
    /// [`Malformed`] when it is no such request in JSON.
    pub fn parse(text: &[u8]) -> Result<Self, Malformed> {
        decode(Codec::Json, text)
    }
}

impl EmulationRequest {
    /// Decodes the body of a request to `/emulation`; its `data` are a frame of commands for
    /// [`Commands::new`], in the codec of the session that it names.
    ///
    /// # Errors
    /// [`Malformed`] when it is not such a body.
    pub fn parse(codec: Codec, body: &[u8]) -> Result<Self, Malformed> {
        let mut request: Self = decode(codec, body)?;
        if codec == Codec::Json {
            // The commands are a string here, not a value.
            let data = serde_json::from_slice::<String>(&request.data).map_err(|_| Malformed)?;
            request.data = data.into();
        }
        Ok(request)
    }
}

/// Writes what a client that only listens gets of a reply; without a push it is a ping.
fn write_push(reply: &Reply, out: &mut Vec<u8>) {
    match &reply.push {
        Some(push) => push.write(out).expect("a vector takes what it is given"),
        None => out.extend_from_slice(b"{}"),
    }
}

fn decode<T: Json + prost::Message + Default>(codec: Codec, bytes: &[u8]) -> Result<T, Malformed> {
    match codec {
        Codec::Json => {
            let text = simdutf8::basic::from_utf8(bytes).map_err(|_| Malformed)?;
            let mut message = T::default();
            message.read(text)?;
            Ok(message)
        }
        Codec::Protobuf => T::decode(bytes).map_err(|_| Malformed),
    }
}

/// A line and what follows its end. One line end may close the last line.
fn split_line(frame: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let end = frame.iter().position(|byte| *byte == b'\n');
    let (line, after) = match end {
        Some(end) => frame.split_at_checked(end).ok_or(Malformed)?,
        None => (frame, frame.get(frame.len()..).ok_or(Malformed)?),
    };
    Ok((line, after.strip_prefix(b"\n").unwrap_or(after)))
}

/// A message behind its length, and what follows it.
fn split_delimited(mut frame: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let len = prost::decode_length_delimiter(&mut frame).map_err(|_| Malformed)?;
    frame.split_at_checked(len).ok_or(Malformed)
}
