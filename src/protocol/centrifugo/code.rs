//! The protocol's numbers: errors of commands, ends of subscriptions, ends of connections.

use super::message;
use crate::reason::CloseReason;

/// Why a command was not carried out. The connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// Our own fault; trying again can help.
    Internal,
    /// There is no topic of that name, and there cannot be.
    UnknownTopic,
    /// The client may not do that.
    PermissionDenied,
    /// The client has this subscription, or is about to.
    AlreadySubscribed,
    /// More subscriptions than a session can have.
    LimitExceeded,
    /// A name or a value that cannot be.
    BadRequest,
    /// Switched off, or not offered here.
    NotAvailable,
    /// The token has run out: the client gets a new one and tries again.
    TokenExpired,
    /// What was to be granted has run out already.
    Expired,
    /// Faster than is allowed; trying again later can help.
    TooManyRequests,
    /// History does not reach back to the position, or is of another epoch.
    UnrecoverablePosition,
}

impl ErrorCode {
    /// The number on the wire.
    pub fn code(self) -> u32 {
        match self {
            Self::Internal => 100,
            Self::UnknownTopic => 102,
            Self::PermissionDenied => 103,
            Self::AlreadySubscribed => 105,
            Self::LimitExceeded => 106,
            Self::BadRequest => 107,
            Self::NotAvailable => 108,
            Self::TokenExpired => 109,
            Self::Expired => 110,
            Self::TooManyRequests => 111,
            Self::UnrecoverablePosition => 112,
        }
    }

    /// The words beside the number, as SDKs and their users know them.
    pub fn message(self) -> &'static str {
        match self {
            Self::Internal => "internal server error",
            Self::UnknownTopic => "unknown channel",
            Self::PermissionDenied => "permission denied",
            Self::AlreadySubscribed => "already subscribed",
            Self::LimitExceeded => "limit exceeded",
            Self::BadRequest => "bad request",
            Self::NotAvailable => "not available",
            Self::TokenExpired => "token expired",
            Self::Expired => "expired",
            Self::TooManyRequests => "too many requests",
            Self::UnrecoverablePosition => "unrecoverable position",
        }
    }

    /// Whether the same command can succeed later.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::Internal | Self::TooManyRequests)
    }
}

impl From<ErrorCode> for message::Error {
    fn from(error: ErrorCode) -> Self {
        let message = error.message().to_owned();
        Self { code: error.code(), message, temporary: error.is_temporary() }
    }
}

/// Why the server ended a subscription. From 2500 on, an SDK subscribes again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsubscribeCode {
    /// The application asked for it.
    Server,
    /// Publications were lost on the way: the client recovers from its position.
    InsufficientState,
    /// The subscription's token ran out and was not renewed.
    Expired,
}

impl UnsubscribeCode {
    /// The number on the wire.
    pub fn code(self) -> u32 {
        match self {
            Self::Server => 2000,
            Self::InsufficientState => 2500,
            Self::Expired => 2501,
        }
    }

    /// The words beside the number.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Server => "server unsubscribe",
            Self::InsufficientState => "insufficient state",
            Self::Expired => "subscription expired",
        }
    }
}

/// Why the server ends the connection: close code and reason of a WebSocket, a push elsewhere.
///
/// SDKs reconnect after 3000 to 3499 and 4000 to 4499, and give up after the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disconnect {
    /// The server is going away.
    Shutdown,
    /// Our own fault.
    ServerError,
    /// The connection's token ran out and was not renewed.
    Expired,
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
    /// A code and a reason of the application's choice.
    Custom {
        /// 3000 to 4999.
        code: u16,
        /// At most 123 bytes reach the client.
        reason: Box<str>,
    },
}

impl Disconnect {
    /// The close code.
    pub fn code(&self) -> u16 {
        match self {
            Self::Shutdown => 3001,
            Self::ServerError => 3004,
            Self::Expired => 3005,
            Self::Slow => 3008,
            Self::WriteError => 3009,
            Self::InsufficientState => 3010,
            Self::NoPong => 3012,
            Self::TooManyRequests => 3013,
            Self::InvalidToken => 3500,
            Self::BadRequest => 3501,
            Self::Stale => 3502,
            Self::ForceNoReconnect => 3503,
            Self::SubscriptionLimit => 3505,
            Self::PermissionDenied => 3507,
            Self::NotAvailable => 3508,
            Self::Custom { code, .. } => *code,
        }
    }

    /// The close reason.
    pub fn reason(&self) -> &str {
        match self {
            Self::Shutdown => "shutdown",
            Self::ServerError => "internal server error",
            Self::Expired => "connection expired",
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
            Self::Custom { reason, .. } => reason,
        }
    }

    /// What this protocol says for a close that the engine decided; `None` where it has no words
    /// of its own: a close of RFC 6455, or one that cannot be told.
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
