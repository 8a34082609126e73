//! The server side of RFC 6455 and of RFC 7692: bytes in, events out; payloads in, frames out.
//!
//! Nothing here does I/O, knows a topic or a runtime. Peer bytes enter through [`Decoder`] only.

mod close;
mod decoder;
mod deflate;
mod frame;
mod inflate;
mod mask;
mod offer;

pub use decoder::{DecodeError, Decoder, DecoderLimits, Event, Input, Reading};
pub use deflate::Deflater;
pub use frame::{FrameHead, HEAD_LEN_MAX, close_frame, data_frame, ping_frame, pong_frame};
pub use inflate::Inflater;
pub use mask::unmask_in_place;
pub use offer::{Agreement, Window};

/// Longest payload of a control frame (RFC 6455 section 5.5).
pub const CONTROL_LEN_MAX: usize = 125;

/// Bit of a frame's first byte that says: the message is deflated (RFC 7692 section 6).
const RSV1: u8 = 0x40;

/// Whether a message is text or binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}
