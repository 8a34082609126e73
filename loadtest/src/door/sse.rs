//! The SSE door: subscribers read an event stream, publishers stay on the plain door.

use memchr::memchr;

use super::{Chunked, Coding, Door, Found, Next, Opening, Plain, Role, plain::path};
use crate::http::{self, Answer, EVENT_STREAM, Site};

/// A block that has not ended by then never will.
const BLOCK_LEN_MAX: usize = 64 << 20;
/// The first byte of every WebSocket frame that ends its message has this bit; a block begins
/// with the name of a field, a colon or a line end.
const FRAME_BIT: u8 = 0x80;

/// The SSE door.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sse;

impl Door for Sse {
    const SUBSCRIBERS_PUBLISH: bool = false;

    fn open(&self, site: &Site, topic: &str, role: Role) -> Opening {
        match role {
            Role::Publisher => Plain.open(site, topic, role),
            Role::Subscriber => {
                let path = path(site, topic, role);
                Opening::single(http::stream(site, &path, EVENT_STREAM))
            }
        }
    }

    fn answer(&self, received: &[u8]) -> Answer {
        if received.starts_with(b"HTTP/1.1 101") {
            Plain.answer(received)
        } else {
            http::stream_answer(received, &[EVENT_STREAM])
        }
    }

    fn coding(&self, answer: &[u8]) -> Coding {
        if http::is_chunked(answer) {
            Coding::Chunked(Chunked::default())
        } else {
            Coding::Identity
        }
    }

    #[inline]
    fn next(&self, received: &[u8], on: &mut impl FnMut(Found<'_>)) -> Next {
        match received.first() {
            Some(byte) if byte & FRAME_BIT != 0 => Plain.next(received, on),
            _ => block(received, on),
        }
    }
}

/// The block that `received` starts with. A payload of one line, as the tester's are, is found as
/// it is; one of several keeps what stands between them, and so differs from what was sent.
#[inline]
pub(super) fn block(received: &[u8], on: &mut impl FnMut(Found<'_>)) -> Next {
    let (mut data, mut at, mut named) = (None, 0, false);
    while let Some(line_len) = memchr(b'\n', &received[at..]) {
        let (begin, end) = (at, at + line_len);
        let line = &received[begin..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        at = end + 1;
        if line.is_empty() {
            if let Some((first, last)) = data.filter(|_| !named) {
                on(Found::Publication(&received[first..last]));
            }
            return Next::Taken(at);
        }
        if line.starts_with(b"data:") {
            let value = begin + 5 + usize::from(line.get(5) == Some(&b' '));
            let first = data.map_or(value, |(first, _)| first);
            data = Some((first, begin + line.len()));
        }
        // Binary payloads are never sent; `reset` and `skipped` show as what is missing.
        named |= line.starts_with(b"event:");
    }
    if received.len() > BLOCK_LEN_MAX {
        return Next::End("block over 64 MiB".to_owned());
    }
    Next::ShortLine
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::{Cutter, Found};

    const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                          Transfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn blocks_are_read_by_their_fields() {
        let publication = |payload: &[u8], len| (Next::Taken(len), Some(payload.to_vec()));
        let control = |len| (Next::Taken(len), None);
        for (bytes, expected) in [
            ("id: e:1\ndata: hello\n\n", publication(b"hello", 21)),
            ("data:hello\n\ndata: more", publication(b"hello", 12)),
            ("data: hello\r\nid: e:1\r\n\r\n", publication(b"hello", 24)),
            ("data:\n\n", publication(b"", 7)),
            ("data: a\ndata: b\n\n", publication(b"a\ndata: b", 17)),
            ("retry: 1632\n\n", control(13)),
            ("id: e:0\n\n", control(9)),
            (":\n\n", control(3)),
            ("\n", control(1)),
            ("event: reset\ndata: {}\n\n", control(23)),
            ("event: binary\ndata: aGk=\n\n", control(26)),
            ("data: hello\n", (Next::ShortLine, None)),
            ("data: hel", (Next::ShortLine, None)),
        ] {
            let mut found = None;
            let next = Sse.next(bytes.as_bytes(), &mut |publication| match publication {
                Found::Publication(payload) => found = Some(payload.to_vec()),
                other => panic!("{bytes:?}: {other:?}"),
            });
            assert_eq!((next, found), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_publishers_connection_is_a_websocket() {
        assert_eq!(
            Sse.open(&Site::named("host"), "t", Role::Publisher),
            Plain.open(&Site::named("host"), "t", Role::Publisher)
        );
        assert_eq!(Sse.answer(&http::accepted()), Answer::Open(http::accepted().len()));
        assert!(matches!(Sse.coding(&http::accepted()), Coding::Identity));
        let close = b"\x88\x04\x03\xF4hi";
        assert_eq!(Sse.next(close, &mut |_| ()), Plain.next(close, &mut |_| ()));
        let mut found = Vec::new();
        let next = Sse.next(b"\x89\x00", &mut |reply| {
            found.push(matches!(reply, Found::Reply(_)));
        });
        assert_eq!((next, &found[..]), (Next::Taken(2), &[true][..]));
    }

    #[test]
    fn only_an_event_stream_is_an_answer() {
        assert_eq!(Sse.answer(ANSWER.as_bytes()), Answer::Open(ANSWER.len()));
        assert!(matches!(Sse.coding(ANSWER.as_bytes()), Coding::Chunked(_)));
        assert_eq!(Sse.answer(&ANSWER.as_bytes()[..40]), Answer::Partial);
        for refused in ["HTTP/1.1 406 No\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Type: x\r\n\r\n"] {
            assert!(matches!(Sse.answer(refused.as_bytes()), Answer::Refused(_)), "{refused}");
        }
    }

    #[test]
    fn any_split_of_a_chunked_stream_finds_the_same_payloads() {
        let long = "x".repeat(5_000);
        let blocks =
            format!("retry: 9\n\nid: e:0\n\n:\n\nid: e:1\ndata: hello\n\ndata: {long}\n\n");
        let expected = [b"hello".to_vec(), long.into_bytes()];
        // Chunks keep to no block: these end anywhere.
        for chunk_len in [1, 7, 30, 4_096, blocks.len()] {
            let mut bytes = Vec::new();
            for chunk in blocks.as_bytes().chunks(chunk_len) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            for piece_len in [1, 2, 3, 64, 1_000, bytes.len()] {
                let mut cutter = Cutter::new(Sse.coding(ANSWER.as_bytes()));
                let mut payloads = Vec::new();
                for piece in bytes.chunks(piece_len) {
                    let fed = cutter.feed(&Sse, piece, &mut |found: Found<'_>| match found {
                        Found::Publication(payload) => payloads.push(payload.to_vec()),
                        other => panic!("nobody asked: {other:?}"),
                    });
                    assert_eq!(fed, Ok(()));
                }
                assert!(payloads == expected, "chunks of {chunk_len}, pieces of {piece_len}");
            }
            let mut cutter = Cutter::new(Sse.coding(ANSWER.as_bytes()));
            bytes.extend_from_slice(b"0\r\n\r\n");
            let fed = cutter.feed(&Sse, &bytes, &mut |_: Found<'_>| ());
            assert_eq!(fed, Err("the server ended the stream".to_owned()));
        }
    }
}
