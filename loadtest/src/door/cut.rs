//! Cuts a byte stream into messages, whatever pieces it arrives in.

use memchr::memchr;

use super::{Coding, Door, Found, Next};

/// The unfinished message of one connection; empty, and without memory, nearly always.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    /// Invariant: no more than the message's first bytes; it is completed, never overfilled.
    partial: Vec<u8>,
    coding: Coding,
}

impl Cutter {
    pub(crate) fn new(coding: Coding) -> Self {
        Self { partial: Vec::new(), coding }
    }

    /// Whether what comes next is the first byte of a message.
    #[inline]
    pub(crate) fn is_between(&self) -> bool {
        self.partial.is_empty() && self.coding.is_identity()
    }

    /// Passes every message that is complete with `received` to `on`. Each byte is copied at most
    /// once, and only those of messages that arrive in pieces.
    ///
    /// # Errors
    /// Tells why when the stream has ended or makes no sense; it is of no use then.
    #[inline]
    pub(crate) fn feed<D: Door>(
        &mut self,
        door: &D,
        mut received: &[u8],
        mut on: impl FnMut(Found<'_>),
    ) -> Result<(), String> {
        while let Some(body) = self.coding.unwrap(&mut received)? {
            self.feed_unwrapped(door, body, &mut on)?;
        }
        Ok(())
    }

    #[inline]
    fn feed_unwrapped<D: Door>(
        &mut self,
        door: &D,
        mut received: &[u8],
        mut on: impl FnMut(Found<'_>),
    ) -> Result<(), String> {
        while !self.partial.is_empty() {
            let missing = match door.next(&self.partial, &mut on) {
                Next::Taken(_) => {
                    self.partial.clear();
                    break;
                }
                Next::Short(needed) => needed - self.partial.len(),
                Next::ShortLine => memchr(b'\n', received).map_or(usize::MAX, |at| at + 1),
                Next::End(reason) => return Err(reason),
            };
            let Some((head, rest)) = received.split_at_checked(missing) else {
                self.partial.extend_from_slice(received);
                return Ok(());
            };
            self.partial.extend_from_slice(head);
            received = rest;
        }
        while !received.is_empty() {
            match door.next(received, &mut on) {
                Next::Taken(len) => received = &received[len..],
                Next::Short(_) | Next::ShortLine => {
                    self.partial.extend_from_slice(received);
                    return Ok(());
                }
                Next::End(reason) => return Err(reason),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        door::Plain,
        frame::{CLOSE, PING, Sender, TEXT, push_head},
    };

    fn stream() -> (Vec<u8>, Vec<Vec<u8>>) {
        let payloads: Vec<Vec<u8>> = [0, 5, 125, 126, 700, 66_000, 3]
            .iter()
            .map(|len| (0..*len).map(|index| b'a' + u8::try_from(index % 26).expect("small")))
            .map(Iterator::collect)
            .collect();
        let mut bytes = Vec::new();
        for payload in &payloads {
            push_head(&mut bytes, TEXT, payload.len(), Sender::Server);
            bytes.extend_from_slice(payload);
            push_head(&mut bytes, PING, 2, Sender::Server);
            bytes.extend_from_slice(b"hi");
        }
        (bytes, payloads)
    }

    #[test]
    fn any_split_finds_the_same_messages() {
        let (bytes, expected) = stream();
        for piece_len in [1, 2, 3, 7, 127, 128, 1000, 65_536, bytes.len()] {
            let (mut cutter, mut payloads, mut replies) = (Cutter::default(), Vec::new(), 0);
            for piece in bytes.chunks(piece_len) {
                let fed = cutter.feed(&Plain, piece, |found| match found {
                    Found::Publication(payload) => payloads.push(payload.to_vec()),
                    Found::Reply(_) => replies += 1,
                    Found::Accepted => panic!("nothing was asked"),
                });
                assert_eq!(fed, Ok(()));
            }
            assert!(payloads == expected, "pieces of {piece_len}");
            assert_eq!(replies, expected.len());
            assert!(cutter.partial.is_empty());
        }
    }

    #[test]
    fn a_close_frame_ends_the_stream_and_tells_its_code() {
        let mut bytes = Vec::new();
        push_head(&mut bytes, CLOSE, 10, Sender::Server);
        bytes.extend_from_slice(b"\x03\xF5overflow");
        let fed = Cutter::default().feed(&Plain, &bytes, |_| ());
        assert_eq!(fed, Err("closed with 1013 overflow".to_owned()));
    }
}
