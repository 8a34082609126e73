//! The JSON objects that json, ndjson and SSE streams carry; none contains a line end.

use std::io::{self, Write};

use base64::display::Base64Display;
use base64::prelude::BASE64_STANDARD;

use crate::hub::{PayloadKind, Position, Publication, TopicName};

/// Writes `{"topic","offset","epoch","time","data"|"data64","user"}`.
///
/// Offset and epoch are left out where the topic keeps no history, the user where nobody knows it.
///
/// # Errors
/// Those of `out`.
pub fn publication<W: Write + ?Sized>(
    out: &mut W,
    publication: &Publication,
    topic: &TopicName,
) -> io::Result<()> {
    out.write_all(b"{\"topic\":")?;
    string(out, topic.as_str())?;
    if let Some(epoch) = publication.epoch {
        let offset = publication.offset;
        place(out, Position { epoch, offset })?;
    }
    write!(out, ",\"time\":{}", publication.time)?;
    let data = publication.payload().data();
    match publication.payload().kind() {
        PayloadKind::Text => {
            out.write_all(b",\"data\":")?;
            string(out, text(data))?;
        }
        PayloadKind::Binary => write!(out, ",\"data64\":\"{}\"", base64(data))?,
    }
    let publisher = publication.draft.publisher.as_ref();
    if let Some(user) = publisher.map(|one| &*one.user).filter(|user| !user.is_empty()) {
        out.write_all(b",\"user\":")?;
        string(out, user)?;
    }
    out.write_all(b"}")
}

/// Writes `{"subscribed":{"topic","offset","epoch","recovered"}}`: where the stream begins.
///
/// `recovered` is `None` where no position was asked for.
///
/// # Errors
/// Those of `out`.
pub fn subscribed<W: Write + ?Sized>(
    out: &mut W,
    topic: &TopicName,
    position: Option<Position>,
    recovered: Option<bool>,
) -> io::Result<()> {
    out.write_all(b"{\"subscribed\":{\"topic\":")?;
    string(out, topic.as_str())?;
    if let Some(position) = position {
        place(out, position)?;
    }
    if let Some(recovered) = recovered {
        write!(out, ",\"recovered\":{recovered}")?;
    }
    out.write_all(b"}}")
}

/// Writes `{"skipped":{"count"}}`: so many publications were left out for a slow subscriber.
///
/// # Errors
/// Those of `out`.
pub fn skipped<W: Write + ?Sized>(out: &mut W, count: u64) -> io::Result<()> {
    write!(out, "{{\"skipped\":{{\"count\":{count}}}}}")
}

/// Text payloads were checked when they came in.
pub(super) fn text(data: &[u8]) -> &str {
    str::from_utf8(data).unwrap_or_else(|_| {
        debug_assert!(false, "a text payload is UTF-8");
        ""
    })
}

pub(super) fn base64(data: &[u8]) -> impl std::fmt::Display {
    Base64Display::new(data, &BASE64_STANDARD)
}

fn place<W: Write + ?Sized>(out: &mut W, position: Position) -> io::Result<()> {
    let Position { epoch, offset } = position;
    write!(out, ",\"offset\":{offset},\"epoch\":\"{epoch}\"")
}

fn string<W: Write + ?Sized>(out: &mut W, text: &str) -> io::Result<()> {
    serde_json::to_writer(out, text).map_err(io::Error::from)
}
