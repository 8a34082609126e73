//! Positions in a topic's stream: epoch and offset.

use std::fmt;

/// One incarnation of a topic.
///
/// Invariant: 1 to 16 bytes of `[0-9A-Za-z]`, padded with zero bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch([u8; 16]);

const EPOCH_LEN: usize = 8;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl Epoch {
    /// A new random epoch of 8 characters (47 bits).
    pub fn random(random: &mut fastrand::Rng) -> Self {
        let mut bytes = [0; 16];
        for byte in &mut bytes[..EPOCH_LEN] {
            *byte = ALPHABET[random.usize(..ALPHABET.len())];
        }
        Self(bytes)
    }

    /// Parses 1 to 16 characters of `[0-9A-Za-z]`.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.is_empty() || bytes.len() > 16 || !bytes.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let mut epoch = [0; 16];
        epoch[..bytes.len()].copy_from_slice(bytes);
        Some(Self(epoch))
    }

    /// The epoch's characters.
    ///
    /// # Panics
    /// Never: an epoch holds ASCII only.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..len]).expect("an epoch holds ASCII only")
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A point in a topic's stream: everything up to and with `offset` is before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The incarnation that `offset` counts in.
    pub epoch: Epoch,
    /// The number of the last publication before the point; 0 = the beginning.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

/// Where a subscriber wants its stream to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the top: live publications only.
    #[default]
    Live,
    /// After a position; recovered exactly or told that it is not.
    Since(Since),
    /// With up to this many of the newest kept publications, without a claim.
    Last(usize),
    /// A position was asked that nobody can have: never recovered.
    Unknown,
}

/// A position that a client asks for; without an epoch it means the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// `None` = the current epoch, whichever it is.
    pub epoch: Option<Epoch>,
    /// The last offset that the client has.
    pub offset: u64,
}

impl Since {
    /// Parses `EPOCH:OFFSET` or `OFFSET`, decimal without sign or padding rules.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, offset) = match text.split_once(':') {
            Some((epoch, offset)) => (Some(Epoch::parse(epoch)?), offset),
            None => (None, text),
        };
        if offset.is_empty() || !offset.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Self { epoch, offset: offset.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::{Epoch, Since};

    #[test]
    fn since_is_an_offset_with_or_without_epoch() {
        let epoch = Epoch::parse("aZ9");
        for (text, expected) in [
            ("aZ9:0", Some(Since { epoch, offset: 0 })),
            ("17", Some(Since { epoch: None, offset: 17 })),
            ("18446744073709551615", Some(Since { epoch: None, offset: u64::MAX })),
            ("18446744073709551616", None),
            ("", None),
            (":1", None),
            ("aZ9:", None),
            ("aZ9:+1", None),
            ("aZ9:-1", None),
            ("aZ9:1:2", None),
            ("a_9:1", None),
            ("0123456789abcdefg:1", None),
        ] {
            assert_eq!(Since::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn an_epoch_prints_as_it_was_parsed() {
        for text in ["a", "0123456789abcdef"] {
            assert_eq!(Epoch::parse(text).map(|epoch| epoch.to_string()).as_deref(), Some(text));
        }
        let epoch = Epoch::random(&mut fastrand::Rng::with_seed(1));
        assert_eq!(Epoch::parse(&epoch.to_string()), Some(epoch));
    }
}
