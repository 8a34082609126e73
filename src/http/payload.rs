//! Whether the body of a POST is text or binary.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::hub::PayloadKind;
use crate::reason::{Refusal, Refused};

/// What the head says about the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// Must be UTF-8.
    Text,
    /// Any bytes.
    Binary,
    /// Text if it is UTF-8.
    Unknown,
}

impl Declared {
    /// Reads the head, so that a body that cannot be taken is never read.
    ///
    /// # Errors
    /// 415 `content_encoding_unsupported`: bodies are published as they are.
    pub fn read(headers: &HeaderMap) -> Result<Self, Refused> {
        let encoded = headers.get_all(CONTENT_ENCODING).iter().any(|line| {
            let mut codings = line.as_bytes().split(|byte| *byte == b',');
            codings.any(|coding| !is_identity(coding.trim_ascii()))
        });
        if encoded {
            return Err(Refusal::ContentEncodingUnsupported.into());
        }
        let content_type = headers.get(CONTENT_TYPE).and_then(|line| line.to_str().ok());
        Ok(content_type.map_or(Self::Unknown, Self::of_type))
    }

    /// The kind of a body that was declared so. Linear in `body`, except for binary.
    ///
    /// # Errors
    /// 400 `payload_not_utf8` where text was promised.
    pub fn kind(self, body: &[u8]) -> Result<PayloadKind, Refused> {
        let is_text = || simdutf8::basic::from_utf8(body).is_ok();
        match self {
            Self::Binary => Ok(PayloadKind::Binary),
            _ if is_text() => Ok(PayloadKind::Text),
            Self::Unknown => Ok(PayloadKind::Binary),
            Self::Text => Err(Refusal::PayloadNotUtf8.into()),
        }
    }

    fn of_type(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        match essence.split_once('/') {
            Some(("image" | "audio" | "video", _) | ("application", "octet-stream")) => {
                Self::Binary
            }
            Some(("text", _) | ("application", "json")) => Self::Text,
            Some((_, subtype)) if subtype.ends_with("+json") => Self::Text,
            _ => Self::Unknown,
        }
    }
}

fn is_identity(coding: &[u8]) -> bool {
    coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
}

#[cfg(test)]
mod tests {
    use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
    use http::{HeaderMap, HeaderValue};

    use super::Declared;
    use crate::hub::PayloadKind::{self, Binary, Text};
    use crate::reason::Refusal;

    fn kind(content_type: Option<&'static str>, body: &[u8]) -> Result<PayloadKind, Refusal> {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        let declared = Declared::read(&headers).expect("no content encoding");
        declared.kind(body).map_err(|refused| refused.refusal)
    }

    #[test]
    fn the_content_type_says_text_or_binary() {
        let refused = Err(Refusal::PayloadNotUtf8);
        for (content_type, of_text, of_bytes) in [
            (None, Ok(Text), Ok(Binary)),
            (Some(""), Ok(Text), Ok(Binary)),
            (Some("nonsense"), Ok(Text), Ok(Binary)),
            (Some("application/x-www-form-urlencoded"), Ok(Text), Ok(Binary)),
            (Some("multipart/form-data; boundary=x"), Ok(Text), Ok(Binary)),
            (Some("application/xml"), Ok(Text), Ok(Binary)),
            (Some("text/plain"), Ok(Text), refused),
            (Some("Text/HTML; charset=utf-8"), Ok(Text), refused),
            (Some("application/json"), Ok(Text), refused),
            (Some("application/json;charset=utf-8"), Ok(Text), refused),
            (Some("application/ld+json"), Ok(Text), refused),
            (Some("application/octet-stream"), Ok(Binary), Ok(Binary)),
            (Some("image/png"), Ok(Binary), Ok(Binary)),
            (Some("IMAGE/svg+xml"), Ok(Binary), Ok(Binary)),
            (Some("image/x+json"), Ok(Binary), Ok(Binary)),
            (Some("audio/ogg"), Ok(Binary), Ok(Binary)),
            (Some("video/mp4"), Ok(Binary), Ok(Binary)),
        ] {
            for text in ["", "not json", "caf\u{e9}"] {
                assert_eq!(kind(content_type, text.as_bytes()), of_text, "{content_type:?}");
            }
            assert_eq!(kind(content_type, b"\xff"), of_bytes, "{content_type:?}");
        }
    }

    #[test]
    fn a_content_encoding_is_refused() {
        for (coding, allowed) in [
            ("identity", true),
            ("Identity", true),
            ("", true),
            ("gzip", false),
            ("identity, gzip", false),
            ("br", false),
            ("aws-chunked", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
            let refusal = Declared::read(&headers).map_err(|refused| refused.refusal);
            let expected = if allowed {
                Ok(Declared::Unknown)
            } else {
                Err(Refusal::ContentEncodingUnsupported)
            };
            assert_eq!(refusal, expected, "{coding}");
        }
    }
}
