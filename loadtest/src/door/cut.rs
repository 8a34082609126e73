//! Cuts a byte stream into messages, whatever pieces it arrives in.

use memchr::memchr;

use super::{Coding, Door, Found, Next};

/// Who takes what a stream is cut into; a function takes what is found in the messages.
pub(crate) trait Receiver {
    fn take(&mut self, found: Found<'_>);

    /// Takes what it knows by heart from the front of `bytes`, which begin with a message or a chunk.
    /// Returns its length: whole ones.
    #[inline]
    fn recall(&mut self, _bytes: &[u8]) -> usize {
        0
    }

    /// Everything taken since the last call was in this message, or chunk of messages; `None` = not
    /// all of it came in one piece.
    #[inline]
    fn end(&mut self, _message: Option<&[u8]>) {}
}

impl<F: FnMut(Found<'_>)> Receiver for F {
    #[inline]
    fn take(&mut self, found: Found<'_>) {
        self(found);
    }
}

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

    /// Passes every message that is complete with `received` to `to`. Each byte is copied at most
    /// once, and only those of messages that arrive in pieces.
    ///
    /// # Errors
    /// Tells why when the stream has ended or makes no sense; it is of no use then.
    #[inline]
    pub(crate) fn feed<D: Door>(
        &mut self,
        door: &D,
        mut received: &[u8],
        to: &mut impl Receiver,
    ) -> Result<(), String> {
        let Self { partial, coding } = self;
        let Coding::Chunked(chunked) = coding else {
            return feed_messages(partial, door, received, to);
        };
        while !received.is_empty() {
            let begins = chunked.is_between() && partial.is_empty();
            let known = if begins { to.recall(received) } else { 0 };
            if known > 0 {
                received = &received[known..];
                continue;
            }
            let chunk = received;
            if let Some(body) = chunked.unwrap(&mut received)? {
                feed_messages(partial, door, body, &mut |found: Found<'_>| to.take(found))?;
            }
            let is_whole = begins && chunked.is_between() && partial.is_empty();
            to.end(is_whole.then(|| &chunk[..chunk.len() - received.len()]));
        }
        Ok(())
    }
}

/// Passes every message that is complete with `received` to `to`; `partial` is of the one before.
#[inline]
fn feed_messages<D: Door>(
    partial: &mut Vec<u8>,
    door: &D,
    mut received: &[u8],
    to: &mut impl Receiver,
) -> Result<(), String> {
    while !partial.is_empty() {
        let missing = match door.next(partial, &mut |found: Found<'_>| to.take(found)) {
            Next::Taken(_) => {
                to.end(Some(partial));
                partial.clear();
                break;
            }
            Next::Short(needed) => needed - partial.len(),
            Next::ShortLine => memchr(b'\n', received).map_or(usize::MAX, |at| at + 1),
            Next::End(reason) => return Err(reason),
        };
        let Some((head, rest)) = received.split_at_checked(missing) else {
            partial.extend_from_slice(received);
            return Ok(());
        };
        partial.extend_from_slice(head);
        received = rest;
    }
    loop {
        let known = to.recall(received);
        received = &received[known..];
        if received.is_empty() {
            return Ok(());
        }
        if known > 0 {
            continue;
        }
        match door.next(received, &mut |found: Found<'_>| to.take(found)) {
            Next::Taken(len) => {
                let (message, rest) = received.split_at(len);
                to.end(Some(message));
                received = rest;
            }
            Next::Short(_) | Next::ShortLine => {
                partial.extend_from_slice(received);
                return Ok(());
            }
            Next::End(reason) => return Err(reason),
        }
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
                let fed = cutter.feed(&Plain, piece, &mut |found: Found<'_>| match found {
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

    /// Knows the messages that have come before, by heart.
    #[derive(Default)]
    struct Pupil {
        known: Vec<Vec<u8>>,
        /// Messages so far: known, and taken apart.
        recalled: Vec<u8>,
        ended: Vec<u8>,
    }

    impl Receiver for Pupil {
        fn take(&mut self, _: Found<'_>) {}

        fn recall(&mut self, bytes: &[u8]) -> usize {
            let known = self.known.iter().find(|known| bytes.starts_with(known));
            let len = known.map_or(0, Vec::len);
            self.recalled.extend_from_slice(&bytes[..len]);
            len
        }

        fn end(&mut self, message: Option<&[u8]>) {
            let message = message.expect("there are no chunks");
            self.ended.extend_from_slice(message);
            self.known.push(message.to_vec());
        }
    }

    #[test]
    fn whole_messages_are_recalled_or_ended_whatever_the_pieces() {
        let (bytes, _) = stream();
        let twice = bytes.repeat(2);
        for piece_len in [1, 2, 3, 7, 127, 128, 1000, 65_536, twice.len()] {
            let (mut cutter, mut pupil) = (Cutter::default(), Pupil::default());
            for piece in twice.chunks(piece_len) {
                assert_eq!(cutter.feed(&Plain, piece, &mut pupil), Ok(()));
            }
            assert_eq!(pupil.recalled.len() + pupil.ended.len(), twice.len(), "{piece_len}");
            assert!(piece_len > 1 || pupil.recalled.is_empty(), "none is whole in one piece");
        }
        let (mut cutter, mut pupil) = (Cutter::default(), Pupil::default());
        assert_eq!(cutter.feed(&Plain, &bytes, &mut pupil), Ok(()));
        pupil.ended.clear();
        assert_eq!(cutter.feed(&Plain, &bytes, &mut pupil), Ok(()));
        assert!(pupil.ended.is_empty() && pupil.recalled.ends_with(&bytes));
    }

    #[test]
    fn a_close_frame_ends_the_stream_and_tells_its_code() {
        let mut bytes = Vec::new();
        push_head(&mut bytes, CLOSE, 10, Sender::Server);
        bytes.extend_from_slice(b"\x03\xF5overflow");
        let fed = Cutter::default().feed(&Plain, &bytes, &mut |_: Found<'_>| ());
        assert_eq!(fed, Err("closed with 1013 overflow".to_owned()));
    }
}
