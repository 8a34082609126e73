//! The SSE door: blocks of an event stream (WHATWG HTML, section 9.2).
//!
//! A text payload becomes one `data:` line per line. The format knows three line ends (LF, CR LF,
//! CR) and gives all of them back as LF: only `format=json` carries a CR through.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;

use super::{encode, object};
use crate::hub::{PayloadKind, Position, Publication, TopicName};

/// A block whose data is the payload; binary payloads are `event: binary` in base64.
pub fn publication(publication: &Publication, _topic: &TopicName) -> Bytes {
    block(Id::of(&position(publication)), |out| payload_lines(out, publication))
}

/// As [`publication`], without the id, which each reader of several topics gets in front.
pub fn publication_of_several(publication: &Publication, _topic: &TopicName) -> Bytes {
    block(None, |out| payload_lines(out, publication))
}

/// A block whose data is the publication object.
pub fn publication_object(publication: &Publication, topic: &TopicName) -> Bytes {
    block(Id::of(&position(publication)), |out| object_line(out, publication, topic))
}

/// As [`publication_object`], without the id, which each reader of several topics gets in front.
pub fn publication_object_of_several(publication: &Publication, topic: &TopicName) -> Bytes {
    block(None, |out| object_line(out, publication, topic))
}

/// What opens a stream: how long to wait before reconnecting, and where the stream begins.
///
/// The second block has no data: a client takes its id and shows nothing.
pub fn opening(retry: Duration, positions: &[Option<Position>]) -> Bytes {
    encode::exact(|out| {
        write!(out, "retry: {}\n\n", retry.as_millis())?;
        match Id::of(positions) {
            Some(id) => write!(out, "id: {id}\n\n"),
            None => Ok(()),
        }
    })
}

/// Tells that the position asked for could not be recovered, and where the stream begins instead;
/// `positions` are those of all topics of the stream.
pub fn reset(
    topic: &TopicName,
    position: Option<Position>,
    positions: &[Option<Position>],
) -> Bytes {
    block(Id::of(positions), |out| {
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

/// Writes the `id:` of a reader of several topics, if there is any to write.
///
/// # Panics
/// Never: a vector takes what it is given.
pub fn push_id(out: &mut Vec<u8>, positions: &[Option<Position>]) {
    if let Some(id) = Id::of(positions) {
        writeln!(out, "id: {id}").expect("a vector takes what it is given");
    }
}

/// Positions as one id: joined by `,`, with nothing in the place of a topic without history.
#[derive(Clone, Copy)]
struct Id<'a>(&'a [Option<Position>]);

impl<'a> Id<'a> {
    /// `None` = no topic has a position.
    fn of(positions: &'a [Option<Position>]) -> Option<Self> {
        positions.iter().any(Option::is_some).then_some(Self(positions))
    }
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, position) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if let Some(position) = position {
                write!(f, "{position}")?;
            }
        }
        Ok(())
    }
}

fn position(publication: &Publication) -> [Option<Position>; 1] {
    let offset = publication.offset;
    [publication.epoch.map(|epoch| Position { epoch, offset })]
}

fn payload_lines(out: &mut dyn Write, publication: &Publication) -> io::Result<()> {
    let data = publication.payload().data();
    match publication.payload().kind() {
        PayloadKind::Text => {
            lines(object::text(data)).try_for_each(|line| writeln!(out, "data: {line}"))
        }
        PayloadKind::Binary => write!(out, "event: binary\ndata: {}\n", object::base64(data)),
    }
}

fn object_line(
    out: &mut dyn Write,
    publication: &Publication,
    topic: &TopicName,
) -> io::Result<()> {
    out.write_all(b"data: ")?;
    object::publication(out, publication, topic)?;
    out.write_all(b"\n")
}

/// An `id:` where there is one, the lines of `content`, and the empty line that dispatches them.
fn block(id: Option<Id<'_>>, content: impl Fn(&mut dyn Write) -> io::Result<()>) -> Bytes {
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
