//! Small identities that several layers name.

/// A session, unique for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

/// A worker, by its place; one thread each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkerId(pub u16);

/// The front doors, as metrics label them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// WebSocket, payloads as they are; also with `format=json`.
    Plain,
    /// Server-sent events.
    Sse,
    /// One JSON object per line.
    Ndjson,
    /// Plain HTTP requests: publish, history.
    Http,
    /// The Centrifugo protocol in JSON.
    CentrifugoJson,
    /// The Centrifugo protocol in protobuf.
    CentrifugoProtobuf,
}

impl Door {
    /// Number of doors.
    pub const COUNT: usize = 6;
    /// Every door, by index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Plain,
        Self::Sse,
        Self::Ndjson,
        Self::Http,
        Self::CentrifugoJson,
        Self::CentrifugoProtobuf,
    ];

    /// Place in [`Door::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Metric label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Sse => "sse",
            Self::Ndjson => "ndjson",
            Self::Http => "http",
            Self::CentrifugoJson => "centrifugo_json",
            Self::CentrifugoProtobuf => "centrifugo_protobuf",
        }
    }
}
