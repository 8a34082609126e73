//! The doors that a server can be measured through: bytes in, messages out, no sockets.
//!
//! A new door is one implementation of [`Door`]; scenarios never ask which one they use.

mod coding;
mod cut;
mod plain;
mod sse;

pub(crate) use coding::{Chunked, Coding};
pub(crate) use cut::{Cutter, Found};
pub(crate) use plain::Plain;
pub(crate) use sse::Sse;

use clap::ValueEnum;

use crate::http::Answer;

/// The doors by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// A WebSocket, one frame per publication
    Plain,
    /// An event stream; publishers stay on the plain door
    Sse,
}

impl Name {
    /// What a report's shape says of it; the plain door goes without saying.
    pub(crate) fn note(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Sse => ", SSE",
        }
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Publisher,
    Subscriber,
}

/// The first message of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// A publication's payload, `len` bytes with all that surrounds it.
    Publication { payload: &'a [u8], len: usize },
    /// Something else, `len` bytes; `reply` is to be sent back.
    Control { reply: Option<Vec<u8>>, len: usize },
    /// At least this many bytes, counted from the message's first, are needed.
    Short(usize),
    /// More is needed, up to and including the next line feed.
    ShortLine,
    /// The server ended the connection or broke the protocol.
    End(String),
}

/// A client protocol.
pub(crate) trait Door {
    /// Whether a subscriber's connection can publish, too.
    const SUBSCRIBERS_PUBLISH: bool = true;

    /// The bytes that open a connection to `topic` on the server called `authority`.
    fn open(&self, authority: &str, topic: &str, role: Role) -> Vec<u8>;

    /// Reads the server's answer to [`Door::open`].
    fn answer(&self, received: &[u8]) -> Answer;

    /// How what follows the whole `answer` is wrapped.
    fn coding(&self, _answer: &[u8]) -> Coding {
        Coding::Identity
    }

    /// Appends one publication whose payload, of `payload_len` bytes, `push` appends.
    fn encode(&self, out: &mut Vec<u8>, payload_len: usize, push: impl FnOnce(&mut Vec<u8>));

    /// Reads the message that `received` starts with.
    fn next<'a>(&self, received: &'a [u8]) -> Next<'a>;
}
