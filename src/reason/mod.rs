//! The stable words for everything that is refused or closed.
//!
//! One word is the JSON error code, the close reason and the metric label; each word has one home here.
//! Nothing in this module acts: callers answer, close and count.

mod disconnect;

use std::borrow::Cow;

pub use disconnect::Disconnect;

/// Why a request was refused: HTTP status and stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is its own word, listed in README")]
pub enum Refusal {
    TopicNameInvalid,
    SinceInvalid,
    QueryInvalid,
    PayloadNotUtf8,
    HandshakeInvalid,
    TokenRequired,
    TokenInvalid,
    TokenExpired,
    PermissionDenied,
    OriginNotAllowed,
    HostNotAllowed,
    NotFound,
    HistoryOff,
    PresenceOff,
    MethodNotAllowed,
    NotAcceptable,
    MessageTooLarge,
    ContentEncodingUnsupported,
    WebsocketVersionUnsupported,
    PublisherOverrun,
    AddressLimit,
    RateLimit,
    ConnectionsLimit,
    MemoryLimit,
    Draining,
    EngineUnavailable,
    Internal,
}

impl Refusal {
    /// Every refusal, in the order of the discriminants; metrics index by position.
    pub const ALL: [Self; 27] = [
        Self::TopicNameInvalid,
        Self::SinceInvalid,
        Self::QueryInvalid,
        Self::PayloadNotUtf8,
        Self::HandshakeInvalid,
        Self::TokenRequired,
        Self::TokenInvalid,
        Self::TokenExpired,
        Self::PermissionDenied,
        Self::OriginNotAllowed,
        Self::HostNotAllowed,
        Self::NotFound,
        Self::HistoryOff,
        Self::PresenceOff,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::MessageTooLarge,
        Self::ContentEncodingUnsupported,
        Self::WebsocketVersionUnsupported,
        Self::PublisherOverrun,
        Self::AddressLimit,
        Self::RateLimit,
        Self::ConnectionsLimit,
        Self::MemoryLimit,
        Self::Draining,
        Self::EngineUnavailable,
        Self::Internal,
    ];

    /// HTTP status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::TopicNameInvalid
            | Self::SinceInvalid
            | Self::QueryInvalid
            | Self::PayloadNotUtf8
            | Self::HandshakeInvalid => 400,
            Self::TokenRequired | Self::TokenInvalid | Self::TokenExpired => 401,
            Self::PermissionDenied | Self::OriginNotAllowed | Self::HostNotAllowed => 403,
            Self::NotFound | Self::HistoryOff | Self::PresenceOff => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::MessageTooLarge => 413,
            Self::ContentEncodingUnsupported => 415,
            Self::WebsocketVersionUnsupported => 426,
            Self::PublisherOverrun | Self::AddressLimit | Self::RateLimit => 429,
            Self::ConnectionsLimit
            | Self::MemoryLimit
            | Self::Draining
            | Self::EngineUnavailable => 503,
            Self::Internal => 500,
        }
    }

    /// Stable code of the JSON error, and the metric label.
    pub fn code(self) -> &'static str {
        match self {
            Self::TopicNameInvalid => "topic_name_invalid",
            Self::SinceInvalid => "since_invalid",
            Self::QueryInvalid => "query_invalid",
            Self::PayloadNotUtf8 => "payload_not_utf8",
            Self::HandshakeInvalid => "handshake_invalid",
            Self::TokenRequired => "token_required",
            Self::TokenInvalid => "token_invalid",
            Self::TokenExpired => "token_expired",
            Self::PermissionDenied => "permission_denied",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::HostNotAllowed => "host_not_allowed",
            Self::NotFound => "not_found",
            Self::HistoryOff => "history_off",
            Self::PresenceOff => "presence_off",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NotAcceptable => "not_acceptable",
            Self::MessageTooLarge => "message_too_large",
            Self::ContentEncodingUnsupported => "content_encoding_unsupported",
            Self::WebsocketVersionUnsupported => "websocket_version_unsupported",
            Self::PublisherOverrun => "publisher_overrun",
            Self::AddressLimit => "address_limit",
            Self::RateLimit => "rate_limit",
            Self::ConnectionsLimit => "connections_limit",
            Self::MemoryLimit => "memory_limit",
            Self::Draining => "draining",
            Self::EngineUnavailable => "engine_unavailable",
            Self::Internal => "internal",
        }
    }

    /// What a person can do about it, where nothing closer to the cause is known.
    pub fn message(self) -> &'static str {
        match self {
            Self::TopicNameInvalid => "not a topic name: 1 to 255 bytes of percent-encoded UTF-8",
            Self::SinceInvalid => "`since` is EPOCH:OFFSET or OFFSET",
            Self::QueryInvalid => "a query parameter is malformed or given twice",
            Self::PayloadNotUtf8 => "the content type says text, but the body is not UTF-8",
            Self::HandshakeInvalid => "not a WebSocket handshake (RFC 6455 section 4.2.1)",
            Self::TokenRequired => {
                "send a credential: a token, or an API key (Authorization, X-API-Key)"
            }
            Self::TokenInvalid => "the credential is not valid here",
            Self::TokenExpired => "the token has expired; get a new one",
            Self::PermissionDenied => "this client may not do that on this topic",
            Self::OriginNotAllowed => "add the page's origin to websocket.allowed_origins",
            Self::HostNotAllowed => "reach the server as localhost or by its IP address",
            Self::NotFound => "there is nothing here; topics are at /topics/{topic}",
            Self::HistoryOff => "this topic keeps no history (history_size = 0)",
            Self::PresenceOff => "this topic has no presence",
            Self::MethodNotAllowed => "the Allow header names the methods of this path",
            Self::NotAcceptable => "accept text/event-stream or application/x-ndjson",
            Self::MessageTooLarge => "the message is longer than limits.message_bytes_max",
            Self::ContentEncodingUnsupported => "send the body without a Content-Encoding",
            Self::WebsocketVersionUnsupported => "only WebSocket version 13 is spoken here",
            Self::PublisherOverrun => "publishing is faster than delivery; try again later",
            Self::AddressLimit => "too many connections from this address",
            Self::RateLimit => "publishing is faster than limits.publish_rate_max",
            Self::ConnectionsLimit => "the server holds all the connections it can",
            Self::MemoryLimit => "the server is short of memory; try again later",
            Self::Draining => "the server is going away; try again elsewhere",
            Self::EngineUnavailable => "the engine is away; try again later",
            Self::Internal => "a fault of the server; its log has more",
        }
    }

    /// Refuses with a message that is closer to the cause.
    pub fn because(self, message: impl Into<Cow<'static, str>>) -> Refused {
        Refused { refusal: self, message: message.into() }
    }

    /// Seconds for `Retry-After`, where trying again later can help.
    pub fn retry_after(self) -> Option<u32> {
        match self.status() {
            429 | 503 => Some(1),
            _ => None,
        }
    }
}

/// A refusal with the sentence that tells a person what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// Status and stable code.
    pub refusal: Refusal,
    /// For people only; its wording may change.
    pub message: Cow<'static, str>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        refusal.because(refusal.message())
    }
}

/// Number of closes in the words of RFC 6455.
const RFC_6455_COUNT: usize = 16;

/// Why a WebSocket connection ends: close code and reason (RFC 6455 section 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client closed with 1000 or without a code.
    ClientNormal,
    /// The client closed with 1001.
    ClientGoingAway,
    /// The client closed with any other valid code, which is echoed.
    ClientOther(u16),
    /// The socket ended without a close frame; nothing can be sent.
    Abnormal,
    /// A frame broke RFC 6455.
    Protocol,
    /// A text message or a close reason is not UTF-8.
    Utf8,
    /// The client may not do that on this topic.
    PermissionDenied,
    /// The client's token ran out.
    TokenExpired,
    /// The client publishes faster than `publish_rate_max`.
    RateLimit,
    /// A message is over `message_bytes_max` or `fragments_max`.
    MessageTooLarge,
    /// Our own fault.
    Internal,
    /// The client did not answer a ping within `pong_timeout`.
    PongTimeout,
    /// The server is going away; reconnect elsewhere.
    Draining,
    /// The client reads slower than its reliable topic publishes.
    OutboxOverflow,
    /// The client took nothing for `write_timeout`.
    WriteTimeout,
    /// The server is short of memory.
    MemoryLimit,
    /// Told in the words of the Centrifugo protocol.
    Centrifugo(Disconnect),
}

impl CloseReason {
    /// Every reason in a fixed order; metrics index by [`CloseReason::index`].
    pub const ALL: [Self; RFC_6455_COUNT + Disconnect::ALL.len()] = {
        let mut all = [Self::Centrifugo(Disconnect::Custom(0)); _];
        let mut index = 0;
        while index < all.len() {
            all[index] = match index.checked_sub(RFC_6455_COUNT) {
                None => Self::RFC_6455[index],
                Some(index) => Self::Centrifugo(Disconnect::ALL[index]),
            };
            index += 1;
        }
        all
    };

    /// Those in the words of RFC 6455.
    const RFC_6455: [Self; RFC_6455_COUNT] = [
        Self::ClientNormal,
        Self::ClientGoingAway,
        Self::ClientOther(0),
        Self::Abnormal,
        Self::Protocol,
        Self::Utf8,
        Self::PermissionDenied,
        Self::TokenExpired,
        Self::RateLimit,
        Self::MessageTooLarge,
        Self::Internal,
        Self::PongTimeout,
        Self::Draining,
        Self::OutboxOverflow,
        Self::WriteTimeout,
        Self::MemoryLimit,
    ];

    /// Position in [`CloseReason::ALL`].
    pub fn index(self) -> usize {
        match self {
            Self::ClientNormal => 0,
            Self::ClientGoingAway => 1,
            Self::ClientOther(_) => 2,
            Self::Abnormal => 3,
            Self::Protocol => 4,
            Self::Utf8 => 5,
            Self::PermissionDenied => 6,
            Self::TokenExpired => 7,
            Self::RateLimit => 8,
            Self::MessageTooLarge => 9,
            Self::Internal => 10,
            Self::PongTimeout => 11,
            Self::Draining => 12,
            Self::OutboxOverflow => 13,
            Self::WriteTimeout => 14,
            Self::MemoryLimit => 15,
            Self::Centrifugo(disconnect) => RFC_6455_COUNT + disconnect.index(),
        }
    }

    /// Close code to send; `None` where nothing can be sent.
    pub fn code(self) -> Option<u16> {
        Some(match self {
            Self::ClientNormal => 1000,
            Self::ClientGoingAway => 1001,
            Self::ClientOther(code) => code,
            Self::Abnormal => return None,
            Self::Protocol => 1002,
            Self::Utf8 => 1007,
            Self::PermissionDenied | Self::TokenExpired | Self::RateLimit => 1008,
            Self::MessageTooLarge => 1009,
            Self::Internal | Self::PongTimeout => 1011,
            Self::Draining => 1012,
            Self::OutboxOverflow | Self::WriteTimeout | Self::MemoryLimit => 1013,
            Self::Centrifugo(disconnect) => disconnect.code(),
        })
    }

    /// Reason text of the close frame; empty where the client began the close.
    pub fn word(self) -> &'static str {
        match self {
            Self::ClientNormal | Self::ClientGoingAway | Self::ClientOther(_) | Self::Abnormal => {
                ""
            }
            Self::Protocol => "protocol",
            Self::Utf8 => "utf8",
            Self::PermissionDenied => "permission_denied",
            Self::TokenExpired => "token_expired",
            Self::RateLimit => "rate_limit",
            Self::MessageTooLarge => "message_too_large",
            Self::Internal => "internal",
            Self::PongTimeout => "pong_timeout",
            Self::Draining => "draining",
            Self::OutboxOverflow => "outbox_overflow",
            Self::WriteTimeout => "write_timeout",
            Self::MemoryLimit => "memory_limit",
            Self::Centrifugo(disconnect) => disconnect.reason(),
        }
    }

    /// Metric labels `(code, reason)` of `fanwire_closes_total`; from closed sets only.
    pub fn labels(self) -> (&'static str, &'static str) {
        let code = match self {
            Self::ClientNormal => "1000",
            Self::ClientGoingAway => "1001",
            Self::ClientOther(_) => "other",
            Self::Abnormal => "1006",
            Self::Protocol => "1002",
            Self::Utf8 => "1007",
            Self::PermissionDenied | Self::TokenExpired | Self::RateLimit => "1008",
            Self::MessageTooLarge => "1009",
            Self::Internal | Self::PongTimeout => "1011",
            Self::Draining => "1012",
            Self::OutboxOverflow | Self::WriteTimeout | Self::MemoryLimit => "1013",
            Self::Centrifugo(disconnect) => disconnect.label(),
        };
        let reason = match self {
            Self::ClientNormal | Self::ClientGoingAway | Self::ClientOther(_) => "client",
            Self::Abnormal => "abnormal",
            _ => self.word(),
        };
        (code, reason)
    }
}

/// How a peer broke RFC 6455 or RFC 7692; the label `kind` of `fanwire_protocol_errors_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is its own word")]
pub enum ProtocolFault {
    ReservedBits,
    ReservedOpcode,
    Unmasked,
    LengthNotMinimal,
    LengthTooLarge,
    ControlFragmented,
    ControlTooLong,
    ContinuationUnexpected,
    MessageInterrupted,
    ClosePayload,
    CloseCode,
    Utf8,
    Deflate,
}

impl ProtocolFault {
    /// Every fault, by index.
    pub const ALL: [Self; 13] = [
        Self::ReservedBits,
        Self::ReservedOpcode,
        Self::Unmasked,
        Self::LengthNotMinimal,
        Self::LengthTooLarge,
        Self::ControlFragmented,
        Self::ControlTooLong,
        Self::ContinuationUnexpected,
        Self::MessageInterrupted,
        Self::ClosePayload,
        Self::CloseCode,
        Self::Utf8,
        Self::Deflate,
    ];

    /// Place in [`ProtocolFault::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Metric label.
    pub fn word(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved_bits",
            Self::ReservedOpcode => "reserved_opcode",
            Self::Unmasked => "unmasked",
            Self::LengthNotMinimal => "length_not_minimal",
            Self::LengthTooLarge => "length_too_large",
            Self::ControlFragmented => "control_fragmented",
            Self::ControlTooLong => "control_too_long",
            Self::ContinuationUnexpected => "continuation_unexpected",
            Self::MessageInterrupted => "message_interrupted",
            Self::ClosePayload => "close_payload",
            Self::CloseCode => "close_code",
            Self::Utf8 => "utf8",
            Self::Deflate => "deflate",
        }
    }

    /// Close that answers the fault.
    pub fn close_reason(self) -> CloseReason {
        match self {
            Self::Utf8 => CloseReason::Utf8,
            _ => CloseReason::Protocol,
        }
    }
}
