//! The doors that a server can be measured through: bytes in, messages out, no sockets.
//!
//! A new door is one implementation of [`Door`]; scenarios never ask which one they use.

mod centrifugo;
mod coding;
mod cut;
mod deflate;
mod mixed;
mod mqtt;
mod nats;
mod plain;
mod sse;
mod websocket;

pub(crate) use centrifugo::Centrifugo;
pub(crate) use coding::{Chunked, Coding};
pub(crate) use cut::{Cutter, Receiver};
pub(crate) use deflate::Deflate;
pub(crate) use mixed::Mixed;
pub(crate) use mqtt::Mqtt;
pub(crate) use nats::Nats;
pub(crate) use plain::Plain;
pub(crate) use sse::Sse;

use std::fmt;

use clap::ValueEnum;

use self::websocket::push_text;
use crate::http::{self, Answer, Site};

/// The doors by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// A WebSocket, one frame per publication
    Plain,
    /// The plain door with permessage-deflate; publishers do not deflate
    Deflate,
    /// An event stream; publishers stay on the plain door
    Sse,
    /// The Centrifugo protocol in JSON, as Centrifugo itself speaks it
    Centrifugo,
    /// Fanwire's plain, json, sse and ndjson doors in turn; publishers stay on the plain door
    Mixed,
    /// A NATS server's WebSocket listener
    Nats,
    /// MQTT 3.1.1 behind a broker's WebSocket listener
    Mqtt,
}

impl Name {
    /// What a report's shape says of it; the plain door goes without saying.
    pub(crate) fn note(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Deflate => ", deflate",
            Self::Sse => ", SSE",
            Self::Centrifugo => ", Centrifugo",
            Self::Mixed => ", mixed doors",
            Self::Nats => ", NATS",
            Self::Mqtt => ", MQTT",
        }
    }
}

/// Calls `$call` with the door that `$name` names: the one place that lists them all, so that each
/// scenario is compiled once for each door.
macro_rules! through {
    ($name:expr, $door:ident => $call:expr) => {
        match $name {
            $crate::door::Name::Plain => {
                let $door = $crate::door::Plain;
                $call
            }
            $crate::door::Name::Deflate => {
                let $door = $crate::door::Deflate::default();
                $call
            }
            $crate::door::Name::Sse => {
                let $door = $crate::door::Sse;
                $call
            }
            $crate::door::Name::Centrifugo => {
                let $door = $crate::door::Centrifugo::default();
                $call
            }
            $crate::door::Name::Mixed => {
                let $door = $crate::door::Mixed::default();
                $call
            }
            $crate::door::Name::Nats => {
                let $door = $crate::door::Nats;
                $call
            }
            $crate::door::Name::Mqtt => {
                let $door = $crate::door::Mqtt;
                $call
            }
        }
    };
}
pub(crate) use through;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Publisher,
    Subscriber,
}

/// A topic of the run by its number; shows as its name on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Topic(pub(crate) u32);

impl fmt::Display for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "bench-{}", self.0)
    }
}

/// How a connection is opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    /// The first bytes; [`Door::answer`] reads what the server says to them.
    pub(crate) request: Vec<u8>,
    /// What is sent then, each when the one before was [`Found::Accepted`].
    pub(crate) commands: Vec<Vec<u8>>,
}

impl Opening {
    /// One that a single answer completes.
    pub(crate) fn single(request: Vec<u8>) -> Self {
        Self { request, commands: Vec::new() }
    }
}

/// What a message has in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A publication's payload.
    Publication(&'a [u8]),
    /// The server agrees to the oldest command or publication that it has not answered yet.
    Accepted,
    /// To be sent back.
    Reply(Vec<u8>),
}

/// The first message of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It was this long, with all that surrounds it.
    Taken(usize),
    /// At least this many bytes, counted from the message's first, are needed.
    Short(usize),
    /// More is needed, up to and including the next line feed.
    ShortLine,
    /// The server ended the connection, refused something or broke the protocol.
    End(String),
}

/// A client protocol. A door has no state of single connections: what one needs to remember is
/// its opening's commands and its [`Coding`].
pub(crate) trait Door {
    /// Whether a subscriber's connection can publish, too.
    const SUBSCRIBERS_PUBLISH: bool = true;
    /// Whether the server answers each publication with what is [`Found::Accepted`].
    const ACKNOWLEDGES: bool = false;

    /// How to open a connection to `topic` on `site`: subprotocol and commands are the door's own,
    /// and so is the path, unless the site has one.
    fn open(&self, site: &Site, topic: &str, role: Role) -> Opening;

    /// Reads the server's answer to the opening's request.
    fn answer(&self, received: &[u8]) -> Answer {
        http::answer(received)
    }

    /// How what follows the whole `answer` is wrapped.
    fn coding(&self, _answer: &[u8]) -> Coding {
        Coding::Identity
    }

    /// Appends one publication on `topic` whose payload, of `payload_len` bytes, `push` appends: a
    /// text frame, unless the door has its own way.
    fn encode(
        &self,
        out: &mut Vec<u8>,
        _topic: Topic,
        payload_len: usize,
        push: impl FnOnce(&mut Vec<u8>),
    ) {
        push_text(out, payload_len, push);
    }

    /// Reads the message that `received` starts with, if it is whole, and passes what is in it to
    /// `on`.
    fn next(&self, received: &[u8], on: &mut impl FnMut(Found<'_>)) -> Next;
}

#[cfg(test)]
mod tests {
    use super::{Door, Found, Next};
    use crate::frame::{BINARY, Sender, push_head};

    /// What a frame of `body` from the server holds for `door`, in short.
    pub(super) fn read(door: &impl Door, body: &[u8]) -> Result<Vec<String>, String> {
        let mut bytes = Vec::new();
        push_head(&mut bytes, BINARY, body.len(), Sender::Server);
        bytes.extend_from_slice(body);
        let mut found = Vec::new();
        let next = door.next(&bytes, &mut |one| {
            found.push(match one {
                Found::Publication(payload) => String::from_utf8_lossy(payload).into_owned(),
                Found::Accepted => "accepted".to_owned(),
                Found::Reply(_) => "reply".to_owned(),
            });
        });
        match next {
            Next::Taken(len) if len == bytes.len() => Ok(found),
            Next::End(reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }
}
