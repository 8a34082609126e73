//! The ndjson door: every object is a line.

use std::io::{self, Write};

use bytes::Bytes;

use super::{encode, object};
use crate::hub::{Position, Publication, TopicName};

/// A line with the publication object.
pub fn publication(publication: &Publication, topic: &TopicName) -> Bytes {
    line(|out| object::publication(out, publication, topic))
}

/// A line with the `subscribed` object.
pub fn subscribed(topic: &TopicName, position: Option<Position>, recovered: Option<bool>) -> Bytes {
    line(|out| object::subscribed(out, topic, position, recovered))
}

/// A line with the `skipped` object.
pub fn skipped(count: u64) -> Bytes {
    line(|out| object::skipped(out, count))
}

/// A line with the `ping` object, due after silence.
pub fn ping() -> Bytes {
    Bytes::from_static(b"{\"ping\":{}}\n")
}

fn line(content: impl Fn(&mut dyn Write) -> io::Result<()>) -> Bytes {
    encode::exact(|out| {
        content(out)?;
        out.write_all(b"\n")
    })
}
