//! The front doors' encodings: a publication or a control object in, bytes out.
//!
//! Nothing here knows sockets or requests. Every encoding is made once and shared by all its
//! subscribers, so each is exactly as long as its allocation.

pub mod deflate;
mod encode;
pub mod json;
pub mod ndjson;
pub mod object;
pub mod plain;
pub mod sse;

use crate::hub::{Variant, VariantId, Variants};
use crate::id::Door;

/// The plain door: one WebSocket frame with exactly the payload.
pub const NATIVE: VariantId = VariantId::NATIVE;
/// The plain door with `format=json`: a text frame with the publication object.
pub const JSON: VariantId = VariantId::new(1);
/// Server-sent events with the payload as their data.
pub const SSE: VariantId = VariantId::new(2);
/// Server-sent events with `format=json`: their data is the publication object.
pub const SSE_JSON: VariantId = VariantId::new(3);
/// The publication object on a line of its own.
pub const NDJSON: VariantId = VariantId::new(4);

/// The encodings of all front doors, in the order of the constants above; then, with compression,
/// the deflated ones, which leave payloads under `deflate_len_min` bytes as they are (0: none).
pub fn variants(deflate_len_min: Option<usize>) -> Variants {
    let whole = [
        Variant::new("plain", |publication, _| publication.payload().framed().clone()),
        Variant::new("json", json::publication),
        Variant::new("sse", sse::publication),
        Variant::new("sse_json", sse::publication_object),
        Variant::new("ndjson", ndjson::publication),
    ];
    let twins = deflate_len_min.map(deflate::twins);
    Variants::new(whole.into_iter().chain(twins.into_iter().flatten()))
}

/// Tells a subscriber of `variant` that it lost `count` publications; `None` = it has no words
/// for that.
pub fn skipped(variant: VariantId, count: u64) -> Option<Box<[u8]>> {
    let notice = match deflate::base(variant) {
        JSON => json::skipped(count),
        SSE | SSE_JSON => sse::skipped(count),
        NDJSON => ndjson::skipped(count),
        _ => return None,
    };
    Some(notice.as_ref().into())
}

/// What a stream of `door` says in silence; `None` = the transport has its own pings.
pub fn keepalive(door: Door) -> Option<Box<[u8]>> {
    let words = match door {
        Door::Sse => sse::comment(),
        Door::Ndjson => ndjson::ping(),
        Door::Plain | Door::Http => return None,
    };
    Some(words.as_ref().into())
}

#[cfg(test)]
mod tests;
