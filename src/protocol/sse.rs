//! The SSE door: blocks of an event stream (WHATWG HTML, section 9.2).
//!
//! A text payload becomes one `data:` line per line. The format knows three line ends (LF, CR LF,
//! CR) and gives all of them back as LF: only `format=json` carries a CR through.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;

use super::{encode, object};
use crate::hub::{PayloadKind, Position, Publication, TopicName};

/// A block whose data is the payload; binary payloads are `event: binary` in base64.
pub fn publication(publication: &Publication, _topic: &TopicName) -> Bytes {
    let data = publication.payload().data();
    match publication.payload().kind() {
        PayloadKind::Text => block(position(publication), |out| {
            lines(object::text(data)).try_for_each(|line| writeln!(out, "data: {line}"))
        }),
        PayloadKind::Binary => block(position(publication), |out| {
            write!(out, "event: binary\ndata: {}\n", object::base64(data))
        }),
    }
}

/// A block whose data is the publication object.
pub fn publication_object(publication: &Publication, topic: &TopicName) -> Bytes {
    block(position(publication), |out| {
        out.write_all(b"data: ")?;
        object::publication(out, publication, topic)?;
        out.write_all(b"\n")
    })
}

/// What opens a stream: how long to wait before reconnecting, and where the stream begins.
///
/// The second block has no data: a client takes its id and shows nothing.
pub fn opening(retry: Duration, position: Option<Position>) -> Bytes {
    encode::exact(|out| {
        write!(out, "retry: {}\n\n", retry.as_millis())?;
        match position {
            Some(position) => write!(out, "id: {position}\n\n"),
            None => Ok(()),
        }
    })
}

/// Tells that the position asked for could not be recovered, and where the stream begins instead.
pub fn reset(topic: &TopicName, position: Option<Position>) -> Bytes {
    block(position, |out| {
        out.write_all(b"event: reset\ndata: ")?;
        object::subscribed(out, topic, position, Some(false))?;
        out.write_all(b"\n")
    })
}

/// Tells that publications were left out because the client reads too slowly.
pub fn skipped(count: u64) -> Bytes {
    block(None, |out| {
        out.write_all(b"event: skipped\ndata: ")?;
        object::skipped(out, count)?;
        out.write_all(b"\n")
    })
}

/// A comment, due in silence: proxies and clients see that the stream is alive.
pub fn comment() -> Bytes {
    Bytes::from_static(b":\n\n")
}

fn position(publication: &Publication) -> Option<Position> {
    let offset = publication.sequence;
    publication.epoch.map(|epoch| Position { epoch, offset })
}

/// An `id:` where there is one, the lines of `content`, and the empty line that dispatches them.
fn block(id: Option<Position>, content: impl Fn(&mut dyn Write) -> io::Result<()>) -> Bytes {
    encode::exact(|out| {
        if let Some(id) = id {
            writeln!(out, "id: {id}")?;
        }
        content(out)?;
        out.write_all(b"\n")
    })
}

/// The lines of `text`, at least one. A line end at the very end begins an empty last line, so
/// that the client gets it back.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let (line, after) = text.split_at(end);
        rest = after.strip_prefix("\r\n").or_else(|| after.get(1..));
        Some(line)
    })
}
