//! The heads of client frames (RFC 6455 section 5.2), with every rule that a head alone can break.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use fastwebsockets::OpCode;

use super::message::{Coding, Progress};
use super::{DecodeError, DecoderLimits};
use crate::reason::ProtocolFault;
use crate::ws::{CONTROL_LEN_MAX, RSV1};

/// Longest head that a client can send.
const CLIENT_HEAD_LEN_MAX: usize = 14;

/// What decides whether a head may stand where it does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) limits: DecoderLimits,
    /// The fragmented message that the frame stands in.
    pub(super) message: Option<Progress>,
    /// Reserved bits that the first frame of a message may have.
    pub(super) extension_bits: u8,
}

/// The head of one client frame.
///
/// Invariant: its frame may stand where it was read, and its payload is within the limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientHead {
    pub(super) opcode: OpCode,
    /// Whether its frame is the last of its message.
    pub(super) is_final: bool,
    /// That of its message.
    pub(super) coding: Coding,
    pub(super) mask: [u8; 4],
    pub(super) payload_len: usize,
    /// Length of the head itself.
    pub(super) len: usize,
}

impl ClientHead {
    /// Reads a head from the start of `bytes`, `None` while it is incomplete.
    ///
    /// Each fault shows with the first byte that settles it, so that the answer does not depend on
    /// how the bytes were split.
    pub(super) fn parse(bytes: &[u8], rules: Rules) -> Result<Option<Self>, DecodeError> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let is_final = first & 0x80 != 0;
        let opcode = checked_opcode(first, rules)?;
        let progress = rules.message.unwrap_or_else(|| {
            let coding = if first & RSV1 == 0 { Coding::Plain } else { Coding::Deflated };
            Progress { coding, ..Progress::default() }
        });

        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        let is_control = opcode as u8 & 0x08 != 0;
        let short_len = second & 0x7f;
        if second & 0x80 == 0 {
            return Err(ProtocolFault::Unmasked.into());
        }
        if is_control && usize::from(short_len) > CONTROL_LEN_MAX {
            return Err(ProtocolFault::ControlTooLong.into());
        }

        let Some((payload_len, rest)) = announced_len(short_len, rest)? else { return Ok(None) };
        let payload_len = if is_control {
            usize::from(short_len)
        } else {
            limited_len(payload_len, rules.limits, progress)?
        };

        let Some((&mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let len = bytes.len().saturating_sub(rest.len());
        let coding = progress.coding;
        Ok(Some(Self { opcode, is_final, coding, mask, payload_len, len }))
    }

    /// Whether the frame is a ping, a pong or a close.
    pub(super) fn is_control(&self) -> bool {
        self.opcode as u8 & 0x08 != 0
    }
}

/// The start of a head whose rest has not come.
#[derive(Debug, Default)]
pub(super) struct PartialHead {
    bytes: [u8; CLIENT_HEAD_LEN_MAX],
    len: usize,
}

impl PartialHead {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What is kept and what follows it, as far as a head can reach.
    pub(super) fn followed_by(&mut self, bytes: &[u8]) -> &[u8] {
        for (slot, byte) in self.bytes.iter_mut().skip(self.len).zip(bytes) {
            *slot = *byte;
        }
        let len = self.len.saturating_add(bytes.len());
        self.bytes.get(..len).unwrap_or(&self.bytes)
    }

    /// Keeps bytes that do not complete the head.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.len = self.followed_by(bytes).len();
    }
}

/// Reads a head's first byte.
fn checked_opcode(first: u8, rules: Rules) -> Result<OpCode, ProtocolFault> {
    // Fragments and control frames have no bits of their own (RFC 7692 section 6).
    let allowed_bits = match first & 0x0f {
        0x1 | 0x2 => rules.extension_bits,
        _ => 0,
    };
    if first & 0x70 & !allowed_bits != 0 {
        return Err(ProtocolFault::ReservedBits);
    }
    let opcode = OpCode::try_from(first & 0x0f).map_err(|_| ProtocolFault::ReservedOpcode)?;
    let is_final = first & 0x80 != 0;
    match (opcode, rules.message) {
        (OpCode::Close | OpCode::Ping | OpCode::Pong, _) if !is_final => {
            Err(ProtocolFault::ControlFragmented)
        }
        (OpCode::Continuation, None) => Err(ProtocolFault::ContinuationUnexpected),
        (OpCode::Text | OpCode::Binary, Some(_)) => Err(ProtocolFault::MessageInterrupted),
        _ => Ok(opcode),
    }
}

/// Reads the rest of the payload's length: the length, and what follows it.
fn announced_len(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, ProtocolFault> {
    match short {
        126 => {
            let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
            match u16::from_be_bytes(*len) {
                ..126 => Err(ProtocolFault::LengthNotMinimal),
                len => Ok(Some((len.into(), rest))),
            }
        }
        127 => {
            let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
            match u64::from_be_bytes(*len) {
                ..0x1_0000 => Err(ProtocolFault::LengthNotMinimal),
                0x8000_0000_0000_0000.. => Err(ProtocolFault::LengthTooLarge),
                len => Ok(Some((len, rest))),
            }
        }
        len => Ok(Some((len.into(), rest))),
    }
}

/// Checks a data frame against what its message has left.
fn limited_len(len: u64, limits: DecoderLimits, message: Progress) -> Result<usize, DecodeError> {
    if message.fragments >= limits.fragments_max {
        return Err(DecodeError::TooManyFragments { limit: limits.fragments_max });
    }
    let limit = message.coding.len_max(limits);
    match usize::try_from(len) {
        Ok(len) if len <= limit.saturating_sub(message.len) => Ok(len),
        _ => Err(DecodeError::TooLong { limit }),
    }
}
