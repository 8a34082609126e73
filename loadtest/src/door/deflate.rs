//! The plain door with permessage-deflate (RFC 7692), no context taken over by either side.
//!
//! All subscribers get the same frame of a publication, so each distinct frame is inflated once: a
//! tester that inflated every delivery would measure itself. Publishers do not deflate.

use std::cell::RefCell;

use flate2::{Decompress, FlushDecompress, Status};

use super::{Door, Found, Next, Opening, Role, plain::path, websocket::frame_allowing};
use crate::{
    frame::RSV1,
    http::{self, Answer, Site},
};

const OFFER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// What a sender leaves out at the end of each message (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];
/// Frames that are remembered: more than publications that are on their way at a time.
const KEPT_COUNT: usize = 256;
/// A longer payload is a fault of the server.
const PAYLOAD_LEN_MAX: usize = 64 << 20;

/// The plain door, deflated. A clone has inflated nothing yet.
#[derive(Debug, Default)]
pub(crate) struct Deflate {
    inflated: RefCell<Inflated>,
}

impl Clone for Deflate {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Door for Deflate {
    fn open(&self, site: &Site, topic: &str, role: Role) -> Opening {
        let offer = Some(("Sec-WebSocket-Extensions", OFFER));
        Opening::single(http::handshake(site, &path(site, topic, role), offer))
    }

    fn answer(&self, received: &[u8]) -> Answer {
        match http::answer(received) {
            Answer::Open(len) if !is_agreed(&received[..len]) => {
                Answer::Refused("the server does not agree to permessage-deflate".to_owned())
            }
            answer => answer,
        }
    }

    #[inline]
    fn next(&self, received: &[u8], on: &mut impl FnMut(Found<'_>)) -> Next {
        frame_allowing(RSV1, received, on, |payload, on| {
            if received[0] & RSV1 == 0 {
                on(Found::Publication(payload));
            } else {
                on(Found::Publication(self.inflated.borrow_mut().payload(payload)?));
            }
            Ok(())
        })
    }
}

/// Whether an answer agrees to deflate every message by itself.
fn is_agreed(answer: &[u8]) -> bool {
    let agreed = http::field(answer, "sec-websocket-extensions").unwrap_or_default();
    let mut words = agreed.split(';').map(str::trim);
    words.next() == Some("permessage-deflate")
        && words.any(|word| word == "server_no_context_takeover")
}

/// The frames that came last, with their payloads.
#[derive(Debug)]
struct Inflated {
    kept: Vec<Message>,
    /// Where the last one looked for was found, and where the next new one goes.
    found: usize,
    oldest: usize,
    inflater: Decompress,
}

#[derive(Debug)]
struct Message {
    deflated: Vec<u8>,
    payload: Vec<u8>,
}

impl Default for Inflated {
    fn default() -> Self {
        Self { kept: Vec::new(), found: 0, oldest: 0, inflater: Decompress::new(false) }
    }
}

impl Inflated {
    /// The payload of a deflated message.
    ///
    /// # Errors
    /// It cannot be inflated.
    #[inline]
    fn payload(&mut self, deflated: &[u8]) -> Result<&[u8], String> {
        // Subscribers get the same frames in the same order: it is the one before, the next one,
        // or, with another subscriber, one not far back.
        let count = self.kept.len();
        let near = [self.found, self.found + 1].into_iter();
        let back = (1..count).map(|steps| self.found + count - steps);
        let mut places = near.chain(back).take(count).map(|place| place % count);
        let is_it = |place: &usize| self.kept[*place].deflated == deflated;
        self.found = match places.find(is_it) {
            Some(place) => place,
            None => self.add(deflated)?,
        };
        Ok(&self.kept[self.found].payload)
    }

    #[cold]
    fn add(&mut self, deflated: &[u8]) -> Result<usize, String> {
        let payload = inflate(&mut self.inflater, &[deflated, &TAIL].concat())?;
        let (place, message) = (self.oldest, Message { deflated: deflated.to_vec(), payload });
        self.oldest = (place + 1) % KEPT_COUNT;
        match self.kept.get_mut(place) {
            Some(oldest) => *oldest = message,
            None => self.kept.push(message),
        }
        Ok(place)
    }
}

/// Inflates a message, its tail included.
fn inflate(inflater: &mut Decompress, mut deflated: &[u8]) -> Result<Vec<u8>, String> {
    inflater.reset(false);
    let mut payload = Vec::new();
    // Ends: each round takes something in or puts something out.
    while !deflated.is_empty() || payload.len() == payload.capacity() {
        if payload.len() > PAYLOAD_LEN_MAX {
            return Err("a message over 64 MiB when inflated".to_owned());
        }
        payload.reserve(payload.len().max(1024));
        let before = (inflater.total_in(), payload.len());
        let status = inflater.decompress_vec(deflated, &mut payload, FlushDecompress::Sync);
        let taken = usize::try_from(inflater.total_in() - before.0).unwrap_or(deflated.len());
        deflated = &deflated[taken..];
        match status {
            Ok(Status::StreamEnd) => break,
            Ok(_) if taken > 0 || payload.len() > before.1 => {}
            // Full to the byte, and nothing was left to come.
            Ok(_) if deflated.is_empty() => break,
            _ => return Err("a message that does not inflate".to_owned()),
        }
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;
    use crate::{
        door::{Coding, Cutter},
        frame::{PING, Sender, TEXT, push_head},
    };

    fn deflate(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(payload.len() + 1000);
        let mut deflater = Compress::new(Compression::fast(), false);
        deflater.compress_vec(payload, &mut out, FlushCompress::Sync).expect("room");
        out.truncate(out.len() - TAIL.len());
        out
    }

    fn deflated_frame(payload: &[u8]) -> Vec<u8> {
        let (deflated, mut frame) = (deflate(payload), Vec::new());
        push_head(&mut frame, TEXT, deflated.len(), Sender::Server);
        frame[0] |= RSV1;
        frame.extend_from_slice(&deflated);
        frame
    }

    fn plain_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        push_head(&mut frame, opcode, payload.len(), Sender::Server);
        frame.extend_from_slice(payload);
        frame
    }

    fn payload(number: usize) -> Vec<u8> {
        format!("{number} {}", "abcdefgh".repeat(number * 7 % 300)).into_bytes()
    }

    #[test]
    fn any_split_finds_the_same_publications_deflated_or_not() {
        let long = vec![b'x'; 300_000];
        let frames = [
            deflated_frame(b"one"),
            plain_frame(TEXT, b"two"),
            plain_frame(PING, b"hi"),
            deflated_frame(b""),
            deflated_frame(&long),
        ];
        let bytes = frames.concat();
        for piece_len in [1, 2, 3, 7, 100, bytes.len()] {
            let (mut cutter, mut payloads, mut replies) =
                (Cutter::new(Coding::Identity), Vec::new(), 0);
            let door = Deflate::default();
            for piece in bytes.chunks(piece_len) {
                let fed = cutter.feed(&door, piece, &mut |found: Found<'_>| match found {
                    Found::Publication(payload) => payloads.push(payload.to_vec()),
                    Found::Reply(_) => replies += 1,
                    Found::Accepted => panic!("nothing was asked"),
                });
                assert_eq!(fed, Ok(()));
            }
            assert!(payloads == [&b"one"[..], b"two", b"", &long], "pieces of {piece_len}");
            assert_eq!(replies, 1);
        }
    }

    #[test]
    fn each_of_many_frames_is_its_own_payload_however_often_it_comes() {
        let mut inflated = Inflated::default();
        // More than are kept, by several subscribers, a window at a time.
        let total = 3 * KEPT_COUNT + 20;
        for window in (0..total).collect::<Vec<_>>().chunks(50) {
            for _subscriber in 0..3 {
                for number in window {
                    let got = inflated.payload(&deflate(&payload(*number))).map(<[u8]>::to_vec);
                    assert_eq!(got, Ok(payload(*number)));
                }
            }
        }
        assert_eq!(inflated.kept.len(), KEPT_COUNT);
        assert_eq!(inflated.oldest, 20, "each was inflated once");
        inflated.payload(&deflate(&payload(total - 1))).expect("it is known");
        assert_eq!(inflated.oldest, 20);
        inflated.payload(&deflate(&payload(0))).expect("it is forgotten, and good");
        assert_eq!(inflated.oldest, 21);
    }

    #[test]
    fn what_does_not_inflate_ends_the_connection() {
        let door = Deflate::default();
        let mut frame = plain_frame(TEXT, b"\xFF\xFF\xFFno deflate");
        frame[0] |= RSV1;
        for _again in 0..2 {
            let next = door.next(&frame, &mut |found| panic!("{found:?}"));
            assert_eq!(next, Next::End("a message that does not inflate".to_owned()));
        }
        let mut ping = plain_frame(PING, b"");
        ping[0] |= RSV1;
        let next = door.next(&ping, &mut |_| ());
        assert_eq!(next, Next::End("reserved bits set".to_owned()));
    }

    #[test]
    fn a_server_that_does_not_agree_is_refused() {
        let answer = |extensions: &str| {
            let accepted = String::from_utf8(http::accepted()).expect("text");
            let head = accepted.strip_suffix("\r\n").expect("an empty line");
            Deflate::default().answer(format!("{head}{extensions}\r\n").as_bytes())
        };
        let field = "Sec-WebSocket-Extensions: permessage-deflate";
        let agreed = format!("{field}; client_no_context_takeover; server_no_context_takeover\r\n");
        assert!(matches!(answer(&agreed), Answer::Open(_)));
        for other in [String::new(), format!("{field}\r\n"), "X: permessage-deflate\r\n".to_owned()]
        {
            assert!(matches!(answer(&other), Answer::Refused(_)), "{other}");
        }
    }
}
