//! The plain door: payloads as WebSocket frames.

use bytes::Bytes;

use crate::hub::{Payload, PayloadKind};

/// The first byte of an unfragmented data frame (RFC 6455 section 5.2).
const FIN_TEXT: u8 = 0x81;
const FIN_BINARY: u8 = 0x82;

/// A payload inside the frame that carries it to subscribers: unmasked, with the shortest head.
///
/// The caller has checked that text is UTF-8.
pub fn payload(kind: PayloadKind, data: &[u8]) -> Payload {
    let (head, head_len) = head(kind, data.len());
    let head = &head[..usize::from(head_len)];
    let mut framed = Vec::with_capacity(head.len() + data.len());
    framed.extend_from_slice(head);
    framed.extend_from_slice(data);
    Payload::from_framed(Bytes::from(framed), head_len, kind)
}

/// Head of a server's data frame of `len` bytes, and how many bytes of it count.
pub(super) fn head(kind: PayloadKind, len: usize) -> ([u8; 10], u8) {
    let mut head = [0; 10];
    head[0] = match kind {
        PayloadKind::Text => FIN_TEXT,
        PayloadKind::Binary => FIN_BINARY,
    };
    let head_len = if let Some(short) = u8::try_from(len).ok().filter(|len| *len < 126) {
        head[1] = short;
        2
    } else if let Ok(medium) = u16::try_from(len) {
        head[1] = 126;
        head[2..4].copy_from_slice(&medium.to_be_bytes());
        4
    } else {
        head[1] = 127;
        head[2..].copy_from_slice(&(len as u64).to_be_bytes());
        10
    };
    (head, head_len)
}
