//! Bytes of exactly the length that is written: history keeps encodings for as long as payloads.

use std::io::{self, Write};

use bytes::Bytes;

use super::plain;
use crate::hub::PayloadKind;

/// Why the results of writing below are not looked at any closer.
const INFALLIBLE: &str = "writing to memory cannot fail";

/// Counts what it is given.
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes that `content` writes. It runs twice, first to learn the length: a second look at the
/// payload costs less than growing, and less than memory kept unused.
pub(super) fn exact(content: impl Fn(&mut dyn Write) -> io::Result<()>) -> Bytes {
    behind(&[], count(&content), content)
}

/// As [`exact`], as the payload of a text frame.
pub(super) fn text_frame(content: impl Fn(&mut dyn Write) -> io::Result<()>) -> Bytes {
    let len = count(&content);
    behind(plain::head(PayloadKind::Text, len).as_slice(), len, content)
}

fn count(content: impl Fn(&mut dyn Write) -> io::Result<()>) -> usize {
    let mut count = Count(0);
    content(&mut count).expect(INFALLIBLE);
    count.0
}

/// `content` of `len` bytes behind `head`.
fn behind(
    head: &[u8],
    len: usize,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Bytes {
    let len = head.len() + len;
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(head);
    content(&mut bytes).expect(INFALLIBLE);
    debug_assert_eq!(bytes.len(), len, "both runs write the same");
    Bytes::from(bytes)
}
