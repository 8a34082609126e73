//! The server side of RFC 6455: bytes in, events out; payloads in, frames out.
//!
//! Nothing here does I/O, knows a topic or a runtime. Peer bytes enter through [`Decoder`] only.

mod close;
mod decoder;
mod frame;
mod mask;

pub use decoder::{DecodeError, Decoder, DecoderLimits, Event, Input, Reading};
pub use frame::{FrameHead, HEAD_LEN_MAX, close_frame, data_frame, ping_frame, pong_frame};
pub use mask::unmask_in_place;

/// Longest payload of a control frame (RFC 6455 section 5.5).
pub const CONTROL_LEN_MAX: usize = 125;

/// Whether a message is text or binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}
