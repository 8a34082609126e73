//! Chunks of a response body (RFC 9112 section 7.1): they carry the messages of a stream as frames
//! carry those of a WebSocket.
//!
//! A chunk is a whole publication or a whole notice, so that what is shared needs no more bytes
//! around it, and a stream that was cut off shows.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::io::Write;

/// What ends a body: the client knows that nothing is missing.
pub const LAST: &[u8] = b"0\r\n\r\n";

const LINE_END: &[u8] = b"\r\n";

/// Room for the digits of any length, and a line end.
const HEAD_LEN_MAX: usize = 2 * size_of::<usize>() + LINE_END.len();

/// `content` as one chunk, exactly sized; nothing if it is empty, which would end the body.
///
/// # Panics
/// Never: no length has more digits than there is room for.
pub fn of(content: &[u8]) -> Vec<u8> {
    if content.is_empty() {
        return Vec::new();
    }
    let mut head = [0; HEAD_LEN_MAX];
    let mut room = head.as_mut_slice();
    write!(room, "{:x}\r\n", content.len()).expect("a length and a line end fit");
    let head_len = HEAD_LEN_MAX.saturating_sub(room.len());
    [head.get(..head_len).unwrap_or_default(), content, LINE_END].concat()
}

/// What is in chunks that [`of`] made, one after the other.
pub fn contents(mut chunks: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let at = chunks.windows(LINE_END.len()).position(|two| two == LINE_END)?;
        let (digits, rest) = chunks.split_at_checked(at)?;
        let len = usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        let (content, rest) = rest.get(LINE_END.len()..)?.split_at_checked(len)?;
        chunks = rest.get(LINE_END.len()..)?;
        (len > 0).then_some(content)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LAST, contents, of};

    #[test]
    fn a_chunk_is_its_length_its_content_and_a_line_end() {
        for (content, chunk) in [
            ("", String::new()),
            (":\n\n", "3\r\n:\n\n\r\n".to_owned()),
            (&"x".repeat(15), format!("f\r\n{}\r\n", "x".repeat(15))),
            (&"x".repeat(16), format!("10\r\n{}\r\n", "x".repeat(16))),
            (&"x".repeat(0xabc), format!("abc\r\n{}\r\n", "x".repeat(0xabc))),
        ] {
            let got = of(content.as_bytes());
            assert_eq!(String::from_utf8_lossy(&got), chunk);
            assert_eq!(got.capacity(), got.len(), "exactly sized");
        }
    }

    #[test]
    fn the_last_chunk_has_no_content() {
        assert_eq!(contents(LAST).count(), 0);
        assert_eq!(contents(&[&of(b"a"), LAST].concat()).collect::<Vec<_>>(), [b"a"]);
    }

    proptest! {
        #[test]
        fn contents_come_out_as_they_went_in(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..5),
        ) {
            let chunks: Vec<u8> = parts.iter().flat_map(|part| of(part)).collect();
            let expected: Vec<&[u8]> =
                parts.iter().map(Vec::as_slice).filter(|part| !part.is_empty()).collect();
            prop_assert_eq!(contents(&chunks).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn any_bytes_can_be_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(contents(&bytes).all(|content| content.len() < bytes.len()));
        }
    }
}
