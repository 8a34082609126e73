//! Frames from a client to the server, decoded as their bytes come.
//!
//! A connection keeps bytes only while a frame or a fragmented message is incomplete. What is kept
//! grows with the bytes received, never with a length announced, and limits are checked before. The
//! events are the same however the bytes were split into reads.
//!
//! A deflated message is collected as it comes, and inflated when it is whole: it is shorter so,
//! and an inflater per unfinished message would hold some 40 KB before the first byte.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod error;
mod head;
mod message;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::mem;

use fastwebsockets::OpCode;

pub use self::error::DecodeError;
use self::head::{ClientHead, PartialHead, Rules};
use self::message::{Coding, PartialMessage, Progress};
use super::{Inflater, MessageKind, RSV1, close, unmask_in_place};
use crate::limits::Limits;
use crate::reason::ProtocolFault;

/// Limits on what a client sends.
#[derive(Debug, Clone, Copy)]
pub struct DecoderLimits {
    /// Bytes of a whole message, all its fragments together.
    pub message_len_max: usize,
    /// Frames of a message, empty ones too. At least 1.
    pub fragments_max: u32,
}

impl From<&Limits> for DecoderLimits {
    fn from(limits: &Limits) -> Self {
        Self { message_len_max: limits.message_bytes_max, fragments_max: limits.fragments_max }
    }
}

/// Bytes of one client, in the order received, from which [`Decoder::next_event`] takes the front.
#[derive(Debug)]
pub struct Input<'a> {
    rest: &'a mut [u8],
}

impl<'a> Input<'a> {
    /// All of `bytes`, which are unmasked in place as they are decoded.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not decoded yet.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything is decoded.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Cuts up to `len` bytes off the front.
    fn take(&mut self, len: usize) -> &'a mut [u8] {
        let len = len.min(self.rest.len());
        self.rest.split_off_mut(..len).unwrap_or_default()
    }
}

/// What a client sent. Bytes are unmasked; they are borrowed from the input where it held them whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole message.
    Message {
        /// Text or binary.
        kind: MessageKind,
        /// The payload, checked to be UTF-8 if text.
        data: Cow<'a, [u8]>,
    },
    /// A ping, to be answered by a pong with the same payload.
    Ping(Cow<'a, [u8]>),
    /// A pong.
    Pong(Cow<'a, [u8]>),
    /// The client's close with its code. Whatever follows it is not to be decoded.
    Close(Option<u16>),
}

/// Decodes the frames of any number of clients; what belongs to one client is its [`Reading`].
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    limits: DecoderLimits,
}

impl Decoder {
    /// A decoder with these limits.
    pub fn new(limits: DecoderLimits) -> Self {
        Self { limits }
    }

    /// Decodes up to the next event and moves `input` past the bytes used, `None` when it has none
    /// left. Call it again with the rest, at once or later, or drop the rest.
    ///
    /// `inflater` is for connections that agreed on permessage-deflate, and only for those.
    ///
    /// # Errors
    /// When the client broke the protocol or a limit. Neither `reading` nor the rest of `input` may be
    /// decoded any further then: answer with a close frame.
    pub fn next_event<'a: 'b, 'b>(
        &self,
        reading: &mut Reading,
        input: &mut Input<'a>,
        inflater: Option<&'b mut Inflater>,
    ) -> Result<Option<Event<'b>>, DecodeError> {
        let extension_bits = if inflater.is_some() { RSV1 } else { 0 };
        while let Some(piece) = self.next_piece(reading, input, extension_bits)? {
            if piece.head.is_control() {
                let event = control_event(reading, &piece)?;
                reading.free_if_done();
                if event.is_some() {
                    return Ok(event);
                }
                continue;
            }
            let message = self.message(reading, &piece)?;
            reading.free_if_done();
            let Some((kind, data)) = message else { continue };
            return match (piece.head.coding, inflater) {
                (Coding::Deflated, Some(inflater)) => self.inflate((kind, &data), inflater),
                _ => Ok(Some(Event::Message { kind, data })),
            };
        }
        Ok(None)
    }

    /// Inflates a whole message.
    fn inflate<'a>(
        &self,
        (kind, payload): (MessageKind, &[u8]),
        inflater: &'a mut Inflater,
    ) -> Result<Option<Event<'a>>, DecodeError> {
        let data = inflater.inflate(payload, self.limits.message_len_max)?;
        if kind == MessageKind::Text && simdutf8::basic::from_utf8(data).is_err() {
            return Err(ProtocolFault::Utf8.into());
        }
        Ok(Some(Event::Message { kind, data: Cow::Borrowed(data) }))
    }

    /// Takes what `input` has of the current frame's payload, and unmasks it.
    fn next_piece<'a>(
        &self,
        reading: &mut Reading,
        input: &mut Input<'a>,
        extension_bits: u8,
    ) -> Result<Option<Piece<'a>>, DecodeError> {
        let frame = match reading.0.as_mut().and_then(|partial| partial.frame.take()) {
            Some(frame) => frame,
            None => match self.next_head(reading, input, extension_bits)? {
                Some(head) => PartialFrame { head, received_len: 0 },
                None => return Ok(None),
            },
        };
        let PartialFrame { head, received_len: offset } = frame;
        let missing_len = head.payload_len.saturating_sub(offset);
        let bytes = input.take(missing_len);
        let is_last = bytes.len() == missing_len;
        if !is_last {
            let received_len = offset.saturating_add(bytes.len());
            reading.partial().frame = Some(PartialFrame { head, received_len });
            if bytes.is_empty() {
                return Ok(None);
            }
        }
        unmask_in_place(bytes, head.mask, offset);
        Ok(Some(Piece { head, offset, bytes, is_last }))
    }

    /// Takes the next head, or keeps what there is of it.
    fn next_head(
        &self,
        reading: &mut Reading,
        input: &mut Input<'_>,
        extension_bits: u8,
    ) -> Result<Option<ClientHead>, DecodeError> {
        let kept_len = reading.0.as_ref().map_or(0, |partial| partial.head.len());
        let rules = Rules { limits: self.limits, message: reading.progress(), extension_bits };
        let head = if kept_len == 0 {
            ClientHead::parse(input.rest, rules)?
        } else {
            let bytes = reading.partial().head.followed_by(input.rest);
            ClientHead::parse(bytes, rules)?
        };
        if let Some(head) = head {
            input.take(head.len.saturating_sub(kept_len));
            if kept_len > 0 {
                reading.partial().head = PartialHead::default();
            }
        } else if !input.is_empty() {
            reading.partial().head.keep(input.take(usize::MAX));
        }
        Ok(head)
    }

    /// Hands out a message that lies whole in the input, or adds to the one under way. What is
    /// not deflated is checked.
    fn message<'a>(
        &self,
        reading: &mut Reading,
        piece: &Piece<'a>,
    ) -> Result<Option<Whole<'a>>, DecodeError> {
        let Piece { head, offset, bytes, is_last } = *piece;
        let kind = match head.opcode {
            OpCode::Text => MessageKind::Text,
            _ => MessageKind::Binary,
        };
        if head.is_final && head.opcode != OpCode::Continuation && piece.is_whole() {
            let is_plain_text = kind == MessageKind::Text && head.coding == Coding::Plain;
            if is_plain_text && simdutf8::basic::from_utf8(bytes).is_err() {
                return Err(ProtocolFault::Utf8.into());
            }
            return Ok(Some((kind, Cow::Borrowed(bytes))));
        }

        let message = &mut reading.partial().message;
        let under_way = message.get_or_insert_with(|| PartialMessage::new(kind, head.coding));
        if offset == 0 {
            under_way.begin_fragment();
        }
        let more_len_max = if head.is_final {
            head.payload_len.saturating_sub(offset)
        } else {
            head.coding.len_max(self.limits).saturating_sub(under_way.progress().len)
        };
        under_way.append(bytes, more_len_max)?;

        let ends_here = head.is_final && is_last;
        let Some(whole) = message.take_if(|_| ends_here) else { return Ok(None) };
        let (kind, data) = whole.finish()?;
        Ok(Some((kind, Cow::Owned(data))))
    }
}

/// Hands out a control frame that is complete; it is so short that its parts are just collected.
fn control_event<'a>(
    reading: &mut Reading,
    piece: &Piece<'a>,
) -> Result<Option<Event<'a>>, DecodeError> {
    let payload = if piece.is_whole() {
        Cow::Borrowed(piece.bytes)
    } else {
        let collected = &mut reading.partial().control;
        collected.extend_from_slice(piece.bytes);
        if !piece.is_last {
            return Ok(None);
        }
        Cow::Owned(mem::take(collected))
    };
    Ok(Some(match piece.head.opcode {
        OpCode::Ping => Event::Ping(payload),
        OpCode::Pong => Event::Pong(payload),
        _ => Event::Close(close::parse(&payload)?),
    }))
}

/// Where one connection stands: a null pointer between messages.
#[derive(Debug, Default)]
pub struct Reading(Option<Box<Partial>>);

impl Reading {
    /// Whether nothing is incomplete; then nothing is held.
    pub fn is_idle(&self) -> bool {
        self.0.is_none()
    }

    /// Heap bytes held for the connection: at most twice what it sent, and a small constant.
    pub fn held_len(&self) -> usize {
        self.0.as_ref().map_or(0, |partial| partial.held_len())
    }

    fn partial(&mut self) -> &mut Partial {
        self.0.get_or_insert_default()
    }

    fn progress(&self) -> Option<Progress> {
        self.0.as_ref()?.message.as_ref().map(PartialMessage::progress)
    }

    fn free_if_done(&mut self) {
        self.0.take_if(|partial| partial.is_done());
    }
}

/// What a connection holds while something is incomplete.
#[derive(Debug, Default)]
struct Partial {
    head: PartialHead,
    frame: Option<PartialFrame>,
    message: Option<PartialMessage>,
    /// The payload of a control frame so far.
    control: Vec<u8>,
}

impl Partial {
    fn is_done(&self) -> bool {
        self.head.len() == 0 && self.frame.is_none() && self.message.is_none()
    }

    fn held_len(&self) -> usize {
        let message_len = self.message.as_ref().map_or(0, PartialMessage::held_len);
        size_of::<Self>().saturating_add(message_len).saturating_add(self.control.capacity())
    }
}

/// A frame of which the head was taken, but not all of the payload.
#[derive(Debug, Clone, Copy)]
struct PartialFrame {
    head: ClientHead,
    received_len: usize,
}

/// A message as it came: deflated, if it is.
type Whole<'a> = (MessageKind, Cow<'a, [u8]>);

/// A run of unmasked payload bytes of one frame.
#[derive(Debug, Clone, Copy)]
struct Piece<'a> {
    head: ClientHead,
    /// Place of the first byte in the payload.
    offset: usize,
    bytes: &'a [u8],
    /// Whether the payload ends here.
    is_last: bool,
}

impl Piece<'_> {
    fn is_whole(&self) -> bool {
        self.offset == 0 && self.is_last
    }
}
