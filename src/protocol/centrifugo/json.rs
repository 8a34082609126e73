//! JSON as this protocol uses it: members with zero values are left out, `null` counts as absent,
//! unknown members are ignored, and fields of bytes hold any JSON value as it was written.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::frame::Malformed;
use crate::protocol::object;

/// Deepest nesting of a value that is passed on: parsers of some clients recurse.
pub const DEPTH_MAX: usize = 128;

/// A value's way from and to JSON.
pub(super) trait Json {
    /// Whether a member of this value is left out.
    fn is_zero(&self) -> bool;

    /// Writes the value.
    fn write(&self, out: &mut dyn Write) -> io::Result<()>;

    /// Takes the value that `text` is, which is one well-formed value other than `null`.
    fn read(&mut self, text: &str) -> Result<(), Malformed>;
}

/// Whether a member with a zero value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// The rule.
    IfSet,
    /// The exception, for members that SDKs read without asking.
    Always,
}

/// Writes the members of one object.
pub(super) struct Object<'a> {
    out: &'a mut dyn Write,
    opening: u8,
}

impl<'a> Object<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, opening: b'{' }
    }

    pub(super) fn member(&mut self, name: &str, value: &impl Json, show: Show) -> io::Result<()> {
        if value.is_zero() && show == Show::IfSet {
            return Ok(());
        }
        write!(self.out, "{}\"{name}\":", char::from(self.opening))?;
        self.opening = b',';
        value.write(self.out)
    }

    pub(super) fn end(self) -> io::Result<()> {
        let closing: &[u8] = if self.opening == b'{' { b"{}" } else { b"}" };
        self.out.write_all(closing)
    }
}

/// A member's name, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Gives each member of the object `text` to `each`, but those that are `null`.
pub(super) fn members(
    text: &str,
    each: impl FnMut(&str, &str) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    struct Members<F>(F);

    impl<'de, F: FnMut(&str, &str) -> Result<(), Malformed>> Visitor<'de> for Members<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some(Name(name)) = map.next_key()? {
                let value = map.next_value::<&'de RawValue>()?.get();
                if value != "null" {
                    (self.0)(&name, value).map_err(serde::de::Error::custom)?;
                }
            }
            Ok(())
        }
    }

    whole(text, |deserializer| deserializer.deserialize_map(Members(each)))
}

/// Gives each item of the array `text` to `each`.
fn items(text: &str, each: impl FnMut(&str) -> Result<(), Malformed>) -> Result<(), Malformed> {
    struct Items<F>(F);

    impl<'de, F: FnMut(&str) -> Result<(), Malformed>> Visitor<'de> for Items<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
            while let Some(item) = seq.next_element::<&'de RawValue>()? {
                (self.0)(item.get()).map_err(serde::de::Error::custom)?;
            }
            Ok(())
        }
    }

    whole(text, |deserializer| deserializer.deserialize_seq(Items(each)))
}

/// Parses all of `text`: nothing may follow the value.
fn whole<'de>(
    text: &'de str,
    parse: impl FnOnce(
        &mut serde_json::Deserializer<serde_json::de::StrRead<'de>>,
    ) -> serde_json::Result<()>,
) -> Result<(), Malformed> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    parse(&mut deserializer).and_then(|()| deserializer.end()).map_err(|_| Malformed)
}

/// Whether `text` is one JSON value, no deeper than [`DEPTH_MAX`]. Linear in `text`.
pub(super) fn is_value(text: &str) -> bool {
    is_shallow(text) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Whether brackets outside strings nest at most [`DEPTH_MAX`] deep.
fn is_shallow(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth = depth.saturating_add(1),
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return false;
        }
    }
    true
}

/// `data` as a JSON value on one line: as it is where it is one, else as a string. What is not
/// even text becomes a string of base64.
pub(super) fn value(data: &Bytes) -> Bytes {
    match str::from_utf8(data) {
        Ok(text) if !is_value(text) => string(text),
        // Between the tokens of a value a line end is but space; inside a string it is escaped.
        Ok(_) if data.iter().any(|byte| is_line_end(*byte)) => {
            data.iter().copied().filter(|byte| !is_line_end(*byte)).collect()
        }
        Ok(_) => data.clone(),
        Err(_) => base64(data),
    }
}

/// `data` as a string of base64.
pub(super) fn base64(data: &[u8]) -> Bytes {
    Bytes::from(format!("\"{}\"", object::base64(data)))
}

/// `text` as a string.
pub(super) fn string(text: &str) -> Bytes {
    Bytes::from(serde_json::Value::from(text).to_string())
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

macro_rules! plain_values {
    ($($kind:ty),*) => {$(
        impl Json for $kind {
            fn is_zero(&self) -> bool {
                *self == Self::default()
            }

            fn write(&self, out: &mut dyn Write) -> io::Result<()> {
                serde_json::to_writer(out, self).map_err(io::Error::from)
            }

            fn read(&mut self, text: &str) -> Result<(), Malformed> {
                *self = serde_json::from_str(text).map_err(|_| Malformed)?;
                Ok(())
            }
        }
    )*};
}

plain_values!(bool, u32, u64, i32, i64, String);

/// Bytes of a message are a JSON value on one line wherever it is written as JSON (see [`value`]).
impl Json for Bytes {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        debug_assert!(str::from_utf8(self).is_ok_and(is_value), "embedded bytes are JSON");
        out.write_all(self)
    }

    fn read(&mut self, text: &str) -> Result<(), Malformed> {
        if !is_shallow(text) {
            return Err(Malformed);
        }
        *self = Self::copy_from_slice(text.as_bytes());
        Ok(())
    }
}

impl<T: Json + Default> Json for Option<T> {
    fn is_zero(&self) -> bool {
        self.is_none()
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.as_ref().map_or(Ok(()), |value| value.write(out))
    }

    fn read(&mut self, text: &str) -> Result<(), Malformed> {
        self.get_or_insert_default().read(text)
    }
}

impl<T: Json + Default> Json for Vec<T> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut opening: &[u8] = b"[";
        for item in self {
            out.write_all(opening)?;
            item.write(out)?;
            opening = b",";
        }
        out.write_all(if self.is_empty() { b"[]" } else { b"]" })
    }

    fn read(&mut self, text: &str) -> Result<(), Malformed> {
        items(text, |text| {
            let mut item = T::default();
            item.read(text)?;
            self.push(item);
            Ok(())
        })
    }
}

impl<T: Json + Default> Json for BTreeMap<String, T> {
    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut opening: &[u8] = b"{";
        for (name, value) in self {
            out.write_all(opening)?;
            name.write(out)?;
            out.write_all(b":")?;
            value.write(out)?;
            opening = b",";
        }
        out.write_all(if self.is_empty() { b"{}" } else { b"}" })
    }

    fn read(&mut self, text: &str) -> Result<(), Malformed> {
        members(text, |name, text| self.entry(name.to_owned()).or_default().read(text))
    }
}
