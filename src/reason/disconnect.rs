//! Closes in the words of the Centrifugo protocol.

use super::CloseReason;

/// Why the server ends a connection of that protocol: close code and reason of a WebSocket, a push
/// elsewhere.
///
/// SDKs reconnect after 3000 to 3499 and 4000 to 4499, and give up after the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disconnect {
    /// The server is going away.
    Shutdown,
    /// Our own fault.
    ServerError,
    /// The connection's token ran out and was not renewed.
    Expired,
    /// The time of a server-side subscription is over.
    SubscriptionExpired,
    /// The client reads slower than its topics publish.
    Slow,
    /// The client took nothing for too long.
    WriteError,
    /// Publications of a server-side subscription were lost, or its token's topics changed.
    InsufficientState,
    /// The client did not answer a ping in time.
    NoPong,
    /// The client sends faster than is allowed.
    TooManyRequests,
    /// A token that is forged, of another user or for something else.
    InvalidToken,
    /// Not the protocol.
    BadRequest,
    /// No successful `connect` in time.
    Stale,
    /// The application asked for it.
    ForceNoReconnect,
    /// More server-side subscriptions than a session can have.
    SubscriptionLimit,
    /// The client may not connect.
    PermissionDenied,
    /// Something without a reply is not offered here.
    NotAvailable,
    /// A code of the application's choice, 3000 to 4999; its reason goes beside it.
    Custom(u16),
}

impl Disconnect {
    /// Every one in a fixed order; metrics index by it.
    pub const ALL: [Self; 17] = [
        Self::Shutdown,
        Self::ServerError,
        Self::Expired,
        Self::SubscriptionExpired,
        Self::Slow,
        Self::WriteError,
        Self::InsufficientState,
        Self::NoPong,
        Self::TooManyRequests,
        Self::InvalidToken,
        Self::BadRequest,
        Self::Stale,
        Self::ForceNoReconnect,
        Self::SubscriptionLimit,
        Self::PermissionDenied,
        Self::NotAvailable,
        Self::Custom(0),
    ];

    /// Position in [`Disconnect::ALL`].
    pub(super) fn index(self) -> usize {
        let found = Self::ALL.iter().position(|one| *one == self);
        found.unwrap_or(Self::ALL.len() - 1)
    }

    /// The close code.
    pub fn code(self) -> u16 {
        match self {
            Self::Custom(code) => code,
            other => other.label().parse().unwrap_or(3000),
        }
    }

    /// The close code as a metric label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Shutdown => "3001",
            Self::ServerError => "3004",
            Self::Expired => "3005",
            Self::SubscriptionExpired => "3006",
            Self::Slow => "3008",
            Self::WriteError => "3009",
            Self::InsufficientState => "3010",
            Self::NoPong => "3012",
            Self::TooManyRequests => "3013",
            Self::InvalidToken => "3500",
            Self::BadRequest => "3501",
            Self::Stale => "3502",
            Self::ForceNoReconnect => "3503",
            Self::SubscriptionLimit => "3505",
            Self::PermissionDenied => "3507",
            Self::NotAvailable => "3508",
            Self::Custom(_) => "other",
        }
    }

    /// The close reason.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::ServerError => "internal server error",
            Self::Expired => "connection expired",
            Self::SubscriptionExpired => "subscription expired",
            Self::Slow => "slow",
            Self::WriteError => "write error",
            Self::InsufficientState => "insufficient state",
            Self::NoPong => "no pong",
            Self::TooManyRequests => "too many requests",
            Self::InvalidToken => "invalid token",
            Self::BadRequest => "bad request",
            Self::Stale => "stale",
            Self::ForceNoReconnect => "force disconnect",
            Self::SubscriptionLimit => "channel limit",
            Self::PermissionDenied => "permission denied",
            Self::NotAvailable => "not available",
            Self::Custom(_) => "application",
        }
    }

    /// What the protocol says for a close that the engine decided; `None` where it has no words of
    /// its own: a close of RFC 6455, or one that cannot be told.
    pub fn of(reason: CloseReason) -> Option<Self> {
        Some(match reason {
            CloseReason::PermissionDenied => Self::PermissionDenied,
            CloseReason::TokenExpired => Self::Expired,
            CloseReason::RateLimit => Self::TooManyRequests,
            CloseReason::Internal | CloseReason::MemoryLimit => Self::ServerError,
            CloseReason::PongTimeout => Self::NoPong,
            CloseReason::Draining => Self::Shutdown,
            CloseReason::OutboxOverflow => Self::Slow,
            CloseReason::WriteTimeout => Self::WriteError,
            CloseReason::Centrifugo(disconnect) => disconnect,
            CloseReason::ClientNormal
            | CloseReason::ClientGoingAway
            | CloseReason::ClientOther(_)
            | CloseReason::Abnormal
            | CloseReason::Protocol
            | CloseReason::Utf8
            | CloseReason::MessageTooLarge => return None,
        })
    }
}
