//! Bytes in, whole lines out.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::cli::client::ClientError;

/// Longest line: more than any publication with all of its characters escaped is worth.
const LINE_LEN_MAX: usize = 1 << 30;

/// Cuts a stream into lines.
///
/// Invariant: the first `searched` bytes of `pending` hold no line end.
#[derive(Debug)]
pub(super) struct Lines {
    pending: BytesMut,
    searched: usize,
}

impl Lines {
    pub(super) fn new(pending: BytesMut) -> Self {
        Self { pending, searched: 0 }
    }

    /// Takes more of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        if self.pending.len() + bytes.len() > LINE_LEN_MAX {
            return Err(ClientError::Foreign("a line is too long"));
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole line, without its end.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let rest = &self.pending[self.searched..];
        let Some(len) = rest.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.pending.len();
            return None;
        };
        let line = self.pending.split_to(self.searched + len).freeze();
        self.pending.advance(1);
        self.searched = 0;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::Lines;

    #[test]
    fn any_split_of_the_stream_gives_the_same_lines() {
        let text = b"one\n\ntwo and more\nthree\nunfinished";
        for len in 1..=text.len() {
            let mut lines = Lines::new(BytesMut::new());
            let mut seen = Vec::new();
            for chunk in text.chunks(len) {
                lines.push(chunk).expect("a short line");
                seen.extend(std::iter::from_fn(|| lines.next()));
            }
            assert_eq!(seen, ["one", "", "two and more", "three"], "{len}");
        }
    }
}
