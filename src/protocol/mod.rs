//! The front doors' encodings: a publication or a control object in, bytes out.
//!
//! Nothing here knows sockets or requests. Every encoding is made once and shared by all its
//! subscribers, so each is exactly as long as its allocation.

pub mod centrifugo;
pub mod deflate;
pub mod delta;
mod encode;
pub mod json;
pub mod ndjson;
pub mod object;
pub mod plain;
pub mod sse;

use centrifugo::{Wire, publication};

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
/// The Centrifugo door: a text frame of a WebSocket with a push.
pub const CENTRIFUGO_JSON: VariantId = VariantId::new(5);
/// The Centrifugo door in protobuf: a binary frame of a WebSocket with a push.
pub const CENTRIFUGO_PROTOBUF: VariantId = VariantId::new(6);
/// The Centrifugo door over `http_stream`: a push on a line of its own.
pub const CENTRIFUGO_JSON_BODY: VariantId = VariantId::new(7);
/// The Centrifugo door over `http_stream` in protobuf: a push behind its length.
pub const CENTRIFUGO_PROTOBUF_BODY: VariantId = VariantId::new(8);
/// The Centrifugo door over server-sent events, a push each.
pub const CENTRIFUGO_EVENTS: VariantId = VariantId::new(9);

/// As [`SSE`], for readers of several topics, whose ids are their own.
pub const SSE_SEVERAL: VariantId = VariantId::new(10);
/// As [`SSE_JSON`], for readers of several topics, whose ids are their own.
pub const SSE_JSON_SEVERAL: VariantId = VariantId::new(11);

/// The Centrifugo door to those who only listen: a text frame of a WebSocket with a bare push.
pub const CENTRIFUGO_UNI_FRAMES: VariantId = VariantId::new(12);
/// The same over an answer's body: a bare push on a line of its own.
pub const CENTRIFUGO_UNI_BODY: VariantId = VariantId::new(13);
/// The same over server-sent events, a bare push each.
pub const CENTRIFUGO_UNI_EVENTS: VariantId = VariantId::new(14);

/// The encodings of all front doors, in the order of the constants above; those with deltas; then, with compression,
/// the deflated ones, which leave payloads under `deflate_len_min` bytes as they are (0: none).
pub fn variants(deflate_len_min: Option<usize>) -> Variants {
    let whole = [
        Variant::new("plain", |publication, _| publication.payload().framed().clone()),
        Variant::new("json", json::publication),
        Variant::new("sse", sse::publication),
        Variant::new("sse_json", sse::publication_object),
        Variant::new("ndjson", ndjson::publication),
        Variant::new("centrifugo_json", |it, at| publication(Wire::JsonFrames, it, at)),
        Variant::new("centrifugo_protobuf", |it, at| publication(Wire::ProtobufFrames, it, at)),
        Variant::new("centrifugo_json_body", |it, at| publication(Wire::JsonBody, it, at)),
        Variant::new("centrifugo_protobuf_body", |it, at| publication(Wire::ProtobufBody, it, at)),
        Variant::new("centrifugo_events", |it, at| publication(Wire::Events, it, at)),
        Variant::new("sse_several", sse::publication_of_several),
        Variant::new("sse_json_several", sse::publication_object_of_several),
        Variant::new("centrifugo_uni_frames", |it, at| publication(Wire::UniFrames, it, at)),
        Variant::new("centrifugo_uni_body", |it, at| publication(Wire::UniBody, it, at)),
        Variant::new("centrifugo_uni_events", |it, at| publication(Wire::UniEvents, it, at)),
    ];
    let twins = deflate_len_min.map(deflate::twins);
    let own = whole.into_iter().chain(delta::variants());
    Variants::new(own.chain(twins.into_iter().flatten()))
}

/// Tells a subscriber of `variant` that it lost `count` publications; `None` = it has no words
/// for that.
pub fn skipped(variant: VariantId, count: u64) -> Option<Box<[u8]>> {
    let notice = match deflate::base(variant) {
        JSON => json::skipped(count),
        SSE | SSE_JSON | SSE_SEVERAL | SSE_JSON_SEVERAL => sse::skipped(count),
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
        Door::Plain | Door::Http | Door::CentrifugoJson | Door::CentrifugoProtobuf => return None,
    };
    Some(words.as_ref().into())
}

#[cfg(test)]
mod tests;
