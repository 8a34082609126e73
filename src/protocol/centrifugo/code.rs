//! The protocol's numbers: errors of commands, ends of subscriptions, ends of connections.

use super::message;

pub use crate::reason::Disconnect;

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
    /// Every one, in the order of their numbers; metrics index by it.
    pub const ALL: [Self; 11] = [
        Self::Internal,
        Self::UnknownTopic,
        Self::PermissionDenied,
        Self::AlreadySubscribed,
        Self::LimitExceeded,
        Self::BadRequest,
        Self::NotAvailable,
        Self::TokenExpired,
        Self::Expired,
        Self::TooManyRequests,
        Self::UnrecoverablePosition,
    ];

    /// The number, as a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Internal => "100",
            Self::UnknownTopic => "102",
            Self::PermissionDenied => "103",
            Self::AlreadySubscribed => "105",
            Self::LimitExceeded => "106",
            Self::BadRequest => "107",
            Self::NotAvailable => "108",
            Self::TokenExpired => "109",
            Self::Expired => "110",
            Self::TooManyRequests => "111",
            Self::UnrecoverablePosition => "112",
        }
    }

    /// The number on the wire.
    pub fn code(self) -> u32 {
        self.label().parse().unwrap_or(100)
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

    /// What ends a connection whose client sends no commands that the error could answer.
    pub fn disconnect(self) -> Disconnect {
        match self {
            Self::TokenExpired | Self::Expired => Disconnect::Expired,
            Self::TooManyRequests => Disconnect::TooManyRequests,
            Self::PermissionDenied => Disconnect::PermissionDenied,
            Self::Internal
            | Self::UnknownTopic
            | Self::AlreadySubscribed
            | Self::LimitExceeded
            | Self::BadRequest
            | Self::NotAvailable
            | Self::UnrecoverablePosition => Disconnect::ServerError,
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
