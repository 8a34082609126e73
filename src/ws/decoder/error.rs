//! Why decoding a connection ends.

use crate::reason::{CloseReason, ProtocolFault};

/// What ends the decoding of a connection for good; the close frame to send follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The peer broke RFC 6455 or RFC 7692.
    #[error("a frame breaks RFC 6455: {}", .0.word())]
    Protocol(ProtocolFault),
    /// A message is longer than allowed, known from a frame's head or while inflating.
    #[error("a message is over the limit of {limit} bytes")]
    TooLong {
        /// The limit in force.
        limit: usize,
    },
    /// A message comes in more fragments than allowed.
    #[error("a message is over the limit of {limit} fragments")]
    TooManyFragments {
        /// The limit in force.
        limit: u32,
    },
    /// The memory account is at its limit.
    #[error("there is no memory to inflate a message")]
    Memory,
}

impl DecodeError {
    /// How the protocol was broken, if that is what happened.
    pub fn fault(self) -> Option<ProtocolFault> {
        match self {
            Self::Protocol(fault) => Some(fault),
            Self::TooLong { .. } | Self::TooManyFragments { .. } | Self::Memory => None,
        }
    }

    /// The close that answers it.
    pub fn close_reason(self) -> CloseReason {
        match self {
            Self::Protocol(fault) => fault.close_reason(),
            Self::TooLong { .. } | Self::TooManyFragments { .. } => CloseReason::MessageTooLarge,
            Self::Memory => CloseReason::MemoryLimit,
        }
    }
}

impl From<ProtocolFault> for DecodeError {
    fn from(fault: ProtocolFault) -> Self {
        Self::Protocol(fault)
    }
}
