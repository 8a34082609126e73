//! Small identities that several layers name.

use std::fmt;

/// A session, unique for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// A client's name for other clients: random, unique, printed as a UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId([u8; 16]);

impl ClientId {
    /// A new one (RFC 9562 section 5.4).
    pub fn random(random: &mut fastrand::Rng) -> Self {
        let mut bytes = random.u128(..).to_be_bytes();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
