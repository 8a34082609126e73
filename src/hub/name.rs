//! The name of a topic: checked once, then carried by the type.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest name that any configuration can allow, in bytes.
pub const TOPIC_NAME_LEN_MAX: usize = 255;

/// A checked topic name, cheap to clone.
///
/// Invariant: 1 to 255 bytes of UTF-8, not `.` or `..`, without `*`, control characters (Cc),
/// U+2028, U+2029 and the bidirectional controls U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

/// The bytes are not a topic name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Longer than the limit.
    #[error("a topic name has at most {limit} bytes")]
    TooLong {
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// Not UTF-8 after decoding, or a `%` without two hexadecimal digits.
    #[error("a topic name is percent-encoded UTF-8")]
    Encoding,
    /// Empty, `.`, `..`, or with a character that is refused.
    #[error(
        "a topic name is not empty, `.` or `..` and has no control characters, bidi controls or `*`"
    )]
    Refused,
}

impl TopicName {
    /// Checks a decoded name.
    ///
    /// # Errors
    /// [`NameError`] says which rule `name` breaks.
    pub fn new(name: &str, len_max: usize) -> Result<Self, NameError> {
        let limit = len_max.min(TOPIC_NAME_LEN_MAX);
        if name.len() > limit {
            return Err(NameError::TooLong { limit });
        }
        if matches!(name, "" | "." | "..") || name.chars().any(is_refused) {
            return Err(NameError::Refused);
        }
        Ok(Self(Arc::from(name)))
    }

    /// Decodes one path segment exactly once and checks it.
    ///
    /// # Errors
    /// [`NameError`] says which rule the segment breaks; a bad escape is an error, not text.
    pub fn from_segment(segment: &str, len_max: usize) -> Result<Self, NameError> {
        let name = decode_strict(segment).ok_or(NameError::Encoding)?;
        Self::new(&name, len_max)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_refused(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '*' | '\u{2028}'
                | '\u{2029}'
                | '\u{200E}'
                | '\u{200F}'
                | '\u{202A}'..='\u{202E}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// Percent-decodes `text`; `None` for a bad escape or when the result is not UTF-8.
pub fn decode_strict(text: &str) -> Option<String> {
    let mut escapes = text.bytes();
    while let Some(byte) = escapes.next() {
        if byte == b'%' {
            let digits = [escapes.next()?, escapes.next()?];
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
        }
    }
    let bytes = percent_encoding::percent_decode_str(text);
    bytes.decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::{NameError, TopicName};

    #[test]
    fn a_segment_is_decoded_once_and_checked() {
        for (segment, expected) in [
            ("news", Ok("news")),
            ("a%2Fb", Ok("a/b")),
            ("a+b", Ok("a+b")),
            ("%2541", Ok("%41")),
            ("caf%C3%A9", Ok("caf\u{e9}")),
            ("", Err(NameError::Refused)),
            (".", Err(NameError::Refused)),
            ("%2E%2e", Err(NameError::Refused)),
            ("a%00b", Err(NameError::Refused)),
            ("a%0Ab", Err(NameError::Refused)),
            ("a*", Err(NameError::Refused)),
            ("%E2%80%AE", Err(NameError::Refused)),
            ("%E2%80%A8", Err(NameError::Refused)),
            ("%C2%85", Err(NameError::Refused)),
            ("%", Err(NameError::Encoding)),
            ("%4", Err(NameError::Encoding)),
            ("%zz", Err(NameError::Encoding)),
            ("%FF", Err(NameError::Encoding)),
            ("%C0%AF", Err(NameError::Encoding)),
            ("%ED%A0%80", Err(NameError::Encoding)),
        ] {
            let got = TopicName::from_segment(segment, 255);
            assert_eq!(
                got.as_ref().map(TopicName::as_str),
                expected.as_ref().copied(),
                "{segment}"
            );
        }
    }

    #[test]
    fn a_name_of_255_bytes_is_the_longest() {
        assert!(TopicName::new(&"a".repeat(255), 255).is_ok());
        assert_eq!(TopicName::new(&"a".repeat(256), 255), Err(NameError::TooLong { limit: 255 }));
        assert_eq!(TopicName::new("abcde", 4), Err(NameError::TooLong { limit: 4 }));
    }
}
