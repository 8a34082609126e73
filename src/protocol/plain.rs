//! The plain door: payloads as WebSocket frames.

use bytes::Bytes;

use crate::hub::{Payload, PayloadKind};
use crate::ws::{FrameHead, MessageKind};

/// A payload inside the frame that carries it to subscribers: unmasked, with the shortest head.
///
/// The caller has checked that text is UTF-8.
pub fn payload(kind: PayloadKind, data: &[u8]) -> Payload {
    let head = head(kind, data.len());
    let framed = [head.as_slice(), data].concat();
    Payload::from_framed(Bytes::from(framed), head.len(), kind)
}

/// Head of the frame that carries a payload of `len` bytes.
pub(super) fn head(kind: PayloadKind, len: usize) -> FrameHead {
    let kind = match kind {
        PayloadKind::Text => MessageKind::Text,
        PayloadKind::Binary => MessageKind::Binary,
    };
    FrameHead::data(kind, len)
}
