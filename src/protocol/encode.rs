//! Bytes of exactly the length that is written: history keeps encodings for as long as payloads.

use std::io::{self, Write};

use bytes::Bytes;

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
    with_head(|_| ([0; 10], 0), content)
}

/// As [`exact`], behind a head of some bytes that must know the length of the content.
pub(super) fn with_head(
    head: impl FnOnce(usize) -> ([u8; 10], u8),
    content: impl Fn(&mut dyn Write) -> io::Result<()>,
) -> Bytes {
    let mut count = Count(0);
    content(&mut count).expect(INFALLIBLE);
    let Count(content_len) = count;
    let (head, head_len) = head(content_len);
    let head = &head[..usize::from(head_len)];
    let len = head.len() + content_len;
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(head);
    content(&mut bytes).expect(INFALLIBLE);
    debug_assert_eq!(bytes.len(), len, "both runs write the same");
    Bytes::from(bytes)
}
