//! The plain door with `format=json`: every object is a text frame.

use std::io::{self, Write};

use bytes::Bytes;

use super::{encode, object};
use crate::hub::{Position, Publication, TopicName};

/// A text frame with the publication object.
pub fn publication(publication: &Publication, topic: &TopicName) -> Bytes {
    frame(|out| object::publication(out, publication, topic))
}

/// A text frame with the `subscribed` object.
pub fn subscribed(topic: &TopicName, position: Option<Position>, recovered: Option<bool>) -> Bytes {
    frame(|out| object::subscribed(out, topic, position, recovered))
}

/// A text frame with the `skipped` object.
pub fn skipped(count: u64) -> Bytes {
    frame(|out| object::skipped(out, count))
}

fn frame(content: impl Fn(&mut dyn Write) -> io::Result<()>) -> Bytes {
    encode::text_frame(content)
}
