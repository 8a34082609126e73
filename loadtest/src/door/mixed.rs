//! Fanwire's own doors side by side: what does it cost to encode a publication for all of them?
//!
//! Subscribers come in turn as plain WebSocket, WebSocket with JSON objects, event stream and
//! ndjson. What comes back tells by its first bytes which it is: payloads are letters.

use std::cell::Cell;

use memchr::{memchr, memmem};

use super::{
    Coding, Door, Found, Next, Opening, Plain, Role, Sse, plain::path, sse::block, websocket::frame,
};
use crate::http::{self, Answer, EVENT_STREAM, NDJSON, Site};

/// The first byte of every whole frame has this bit; no text begins with it.
const FRAME_BIT: u8 = 0x80;
/// A line that has not ended by then never will.
const LINE_LEN_MAX: usize = 64 << 20;

/// The doors in turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mixed {
    /// Subscribers so far.
    count: Cell<usize>,
}

impl Door for Mixed {
    const SUBSCRIBERS_PUBLISH: bool = false;

    fn open(&self, site: &Site, topic: &str, role: Role) -> Opening {
        if role == Role::Publisher {
            return Plain.open(site, topic, role);
        }
        let number = self.count.get();
        self.count.set(number + 1);
        let path = path(site, topic, role);
        Opening::single(match number % 4 {
            0 => http::handshake(site, &path, None),
            1 => http::handshake(site, &format!("{path}?format=json"), None),
            2 => http::stream(site, &path, EVENT_STREAM),
            _ => http::stream(site, &path, NDJSON),
        })
    }

    fn answer(&self, received: &[u8]) -> Answer {
        if received.starts_with(b"HTTP/1.1 101") {
            Plain.answer(received)
        } else {
            http::stream_answer(received, &[EVENT_STREAM, NDJSON])
        }
    }

    fn coding(&self, answer: &[u8]) -> Coding {
        Sse.coding(answer)
    }

    #[inline]
    fn next(&self, received: &[u8], on: &mut impl FnMut(Found<'_>)) -> Next {
        match received.first() {
            Some(byte) if byte & FRAME_BIT != 0 => frame(received, on, |payload, on| {
                found(payload, on);
                Ok(())
            }),
            Some(b'{') => line(received, on),
            _ => block(received, on),
        }
    }
}

#[inline]
fn line(received: &[u8], on: &mut impl FnMut(Found<'_>)) -> Next {
    match memchr(b'\n', received) {
        Some(len) => {
            found(&received[..len], on);
            Next::Taken(len + 1)
        }
        None if received.len() > LINE_LEN_MAX => Next::End("line over 64 MiB".to_owned()),
        None => Next::ShortLine,
    }
}

/// A payload, bare or in a publication object; control objects are left out. What an object has
/// no place for shows as lost.
#[inline]
fn found(message: &[u8], on: &mut impl FnMut(Found<'_>)) {
    if message.first() != Some(&b'{') {
        return on(Found::Publication(message));
    }
    let data = memmem::find(message, br#","data":""#).map(|at| &message[at + 9..]);
    let payload = data.and_then(|data| Some(&data[..memchr(b'"', data)?]));
    if let Some(payload) = payload.filter(|_| message.starts_with(br#"{"topic":"#)) {
        on(Found::Publication(payload));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Sender, TEXT, push_head};

    const OBJECT: &str = r#"{"topic":"t","offset":1,"epoch":"e","time":9,"data":"hello"}"#;

    fn read(bytes: &[u8]) -> (Next, Vec<String>) {
        let mut payloads = Vec::new();
        let next = Mixed::default().next(bytes, &mut |one| match one {
            Found::Publication(payload) => {
                payloads.push(String::from_utf8_lossy(payload).into_owned());
            }
            other => panic!("{other:?}"),
        });
        (next, payloads)
    }

    #[test]
    fn every_door_is_told_by_its_first_bytes() {
        let framed = |text: &str| {
            let mut bytes = Vec::new();
            push_head(&mut bytes, TEXT, text.len(), Sender::Server);
            bytes.extend_from_slice(text.as_bytes());
            bytes
        };
        let subscribed = r#"{"subscribed":{"topic":"t","offset":0,"epoch":"e"}}"#;
        for (bytes, payloads) in [
            (framed("hello"), &["hello"][..]),
            (framed(OBJECT), &["hello"]),
            (framed(subscribed), &[]),
            (format!("{OBJECT}\n").into_bytes(), &["hello"]),
            (format!("{subscribed}\n").into_bytes(), &[]),
            (b"{\"ping\":{}}\n".to_vec(), &[]),
            (b"id: e:1\ndata: hello\n\n".to_vec(), &["hello"]),
            (b"retry: 1000\n\n".to_vec(), &[]),
        ] {
            let (next, found) = read(&bytes);
            assert_eq!(next, Next::Taken(bytes.len()), "{bytes:?}");
            assert_eq!(found, payloads, "{bytes:?}");
        }
        assert_eq!(read(OBJECT.as_bytes()), (Next::ShortLine, Vec::new()));
    }

    #[test]
    fn subscribers_come_in_turn_and_publishers_stay_plain() {
        let door = Mixed::default();
        let request = |role| {
            let text = door.open(&Site::named("host"), "t", role).request;
            String::from_utf8(text).expect("text")
        };
        for expected in [
            "GET /topics/t HTTP/1.1\r\nHost: host\r\nUpgrade",
            "?format=json",
            EVENT_STREAM,
            NDJSON,
        ] {
            assert!(request(Role::Subscriber).contains(expected), "{expected}");
            assert!(request(Role::Publisher).contains("?echo=false"));
        }
    }
}
