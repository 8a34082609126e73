//! The doors of the bare loop: how each wraps a publication for its subscribers.

use std::io::Write as _;

use serde::Deserialize;

use crate::frame::{Sender, TEXT, push_head};

/// What ends a stream's answer and begins its chunks.
pub(super) const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                                   Transfer-Encoding: chunked\r\n\r\n";

/// How subscribers came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Plain,
    Sse,
    Centrifugo,
}

impl Door {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::Sse, Self::Centrifugo];

    /// Appends a publication as it stands beside others, with what parts it from those before.
    #[inline]
    pub(super) fn push(self, units: &mut Vec<u8>, topic: &str, (opcode, payload): (u8, &[u8])) {
        match self {
            Self::Plain => {
                push_head(units, opcode, payload.len(), Sender::Server);
                units.extend_from_slice(payload);
            }
            Self::Sse => units.extend([b"data: ", payload, b"\n\n"].into_iter().flatten()),
            Self::Centrifugo => {
                if !units.is_empty() {
                    units.push(b'\n');
                }
                write!(units, r#"{{"push":{{"channel":"{topic}","pub":{{"data":""#)
                    .expect("to memory");
                units.extend([payload, br#""}}}"#].into_iter().flatten());
            }
        }
    }

    /// The bytes that carry `units` to a subscriber; `out` is where they may be made.
    #[inline]
    pub(super) fn wrap<'a>(self, units: &'a [u8], out: &'a mut Vec<u8>) -> &'a [u8] {
        out.clear();
        match self {
            Self::Plain => return units,
            Self::Sse => {
                write!(out, "{:x}\r\n", units.len()).expect("to memory");
                out.extend([units, b"\r\n"].into_iter().flatten());
            }
            Self::Centrifugo => {
                push_head(out, TEXT, units.len(), Sender::Server);
                out.extend_from_slice(units);
            }
        }
        out
    }

    /// Bytes behind the payload of a single wrapped publication.
    pub(super) fn tail_len(self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Sse | Self::Centrifugo => 4,
        }
    }
}

/// One command of a Centrifugo client: what the tester sends, and no more.
#[derive(Debug, Deserialize)]
pub(super) struct Command<'a> {
    #[serde(default)]
    pub(super) id: u32,
    #[serde(borrow, flatten)]
    pub(super) request: Request<'a>,
}

/// What it asks for.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request<'a> {
    Connect {},
    Subscribe { channel: &'a str },
    Publish { channel: &'a str, data: &'a str },
}

/// A frame that answers command `id`.
pub(super) fn reply(id: u32, result: &str) -> Vec<u8> {
    let text = format!(r#"{{"id":{id},{result}}}"#);
    let mut frame = Vec::new();
    push_head(&mut frame, TEXT, text.len(), Sender::Server);
    frame.extend_from_slice(text.as_bytes());
    frame
}
