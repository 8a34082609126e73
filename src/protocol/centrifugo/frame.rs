//! Messages in what carries them: frames of commands in, frames of replies out.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::Bytes;
use prost::Message as _;

use super::code::Disconnect;
use super::json::Json;
use super::message::{self, Command, EmulationRequest, Push, Reply};
use crate::hub::VariantId;
use crate::protocol::{self, chunk};
use crate::ws::{self, MessageKind};

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// JSON, one message per line.
    Json,
    /// Protobuf, each message behind its length.
    Protobuf,
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
}

impl Wire {
    /// Every wire, in the order of their variants.
    pub const ALL: [Self; 5] =
        [Self::JsonFrames, Self::ProtobufFrames, Self::JsonBody, Self::ProtobufBody, Self::Events];

    /// How messages are written, in both directions.
    pub fn codec(self) -> Codec {
        match self {
            Self::JsonFrames | Self::JsonBody | Self::Events => Codec::Json,
            Self::ProtobufFrames | Self::ProtobufBody => Codec::Protobuf,
        }
    }

    /// Whether messages are the body of an answer.
    pub fn is_body(self) -> bool {
        match self {
            Self::JsonFrames | Self::ProtobufFrames => false,
            Self::JsonBody | Self::ProtobufBody | Self::Events => true,
        }
    }

    /// Whether what the client sends comes by requests of their own.
    pub fn is_emulated(self) -> bool {
        match self {
            Self::JsonFrames | Self::ProtobufFrames => false,
            Self::JsonBody | Self::ProtobufBody | Self::Events => true,
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
        }
    }

    /// The last message of a session, where the transport does not tell why it ends; `reason` is in
    /// words.
    pub fn farewell(self, disconnect: Disconnect, reason: &str) -> Option<Box<[u8]>> {
        if !self.is_emulated() {
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
            Wire::JsonBody => (b"", b"\n"),
            Wire::Events => (b"data: ", b"\n\n"),
            Wire::ProtobufFrames | Wire::ProtobufBody => (b"", b""),
        };
        self.body.extend_from_slice(before);
        match self.wire.codec() {
            Codec::Json => reply.write(&mut self.body).expect("a vector takes what it is given"),
            Codec::Protobuf => {
                reply.encode_length_delimited(&mut self.body).expect("a vector grows");
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
            Wire::JsonBody | Wire::ProtobufBody | Wire::Events => chunk::of(&body),
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
pub struct Commands<'a> {
    codec: Codec,
    /// `None` = all are read.
    rest: Option<&'a [u8]>,
}

impl<'a> Commands<'a> {
    /// The commands of a frame's payload, or of a request's body. A frame has at least one.
    pub fn new(codec: Codec, frame: &'a [u8]) -> Self {
        Self { codec, rest: Some(frame) }
    }

    /// No commands: for actions that no frame brought about.
    pub fn none() -> Self {
        Self { codec: Codec::Json, rest: None }
    }

    /// Takes the next message off the front.
    fn split(&mut self) -> Option<Result<&'a [u8], Malformed>> {
        let rest = self.rest.take()?;
        let split = match self.codec {
            Codec::Json => split_line(rest),
            Codec::Protobuf => split_delimited(rest),
        };
        Some(split.map(|(message, after)| {
            self.rest = (!after.is_empty()).then_some(after);
            message
        }))
    }
}

impl Iterator for Commands<'_> {
    type Item = Result<Command, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let codec = self.codec;
        let command = self.split()?.and_then(|message| decode(codec, message));
        if command.is_err() {
            self.rest = None;
        }
        Some(command)
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
