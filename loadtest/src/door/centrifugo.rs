//! The Centrifugo door: JSON commands and replies on `/connection/websocket`, version 2 of that
//! protocol. Several objects may come in one frame, a line each.
//!
//! Payloads travel as JSON strings; the tester's need no escapes.

use std::cell::Cell;

use memchr::{memchr, memchr2};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Door, Found, Next, Opening, Role, Topic,
    websocket::{frame, push_text},
};
use crate::http::{self, Site};

/// Command numbers: each kind has one, so that an answer tells by its number what it answers.
const CONNECT: u32 = 1;
const SUBSCRIBE: u32 = 2;
const PUBLISH: u32 = 3;

const PUBLISHED: &[u8] = br#"{"id":3,"publish":{}}"#;
const PUSH: &[u8] = br#"{"push":{"channel":""#;
const DATA: &[u8] = br#","pub":{"data":""#;
const PONG: &str = "{}";

/// The Centrifugo door. Publishers connect and do not subscribe.
#[derive(Debug, Clone, Default)]
pub(crate) struct Centrifugo {
    /// Whether the server, in its answers to `connect`, asked for pongs: it ends a connection
    /// that sends one unasked.
    wants_pongs: Cell<bool>,
}

impl Door for Centrifugo {
    const ACKNOWLEDGES: bool = true;

    fn open(&self, site: &Site, topic: &str, role: Role) -> Opening {
        let connect = format!(r#"{{"id":{CONNECT},"connect":{{"name":"loadtest"}}}}"#);
        let subscribe = format!(r#"{{"id":{SUBSCRIBE},"subscribe":{{"channel":"{topic}"}}}}"#);
        let mut commands = vec![message(&connect)];
        if role == Role::Subscriber {
            commands.push(message(&subscribe));
        }
        let path = site.path(topic, || "/connection/websocket".to_owned());
        Opening { request: http::handshake(site, &path, None), commands }
    }

    fn encode(
        &self,
        out: &mut Vec<u8>,
        topic: Topic,
        payload_len: usize,
        push: impl FnOnce(&mut Vec<u8>),
    ) {
        let before = format!(r#"{{"id":{PUBLISH},"publish":{{"channel":"{topic}","data":""#);
        let after = r#""}}"#;
        push_text(out, before.len() + payload_len + after.len(), |out| {
            out.extend_from_slice(before.as_bytes());
            push(out);
            out.extend_from_slice(after.as_bytes());
        });
    }

    #[inline]
    fn next(&self, received: &[u8], on: &mut impl FnMut(Found<'_>)) -> Next {
        frame(received, on, |mut lines, on| {
            while !lines.is_empty() {
                let len = if let Some((payload, len)) = publication(lines) {
                    on(Found::Publication(payload));
                    len
                } else {
                    let len = memchr(b'\n', lines).unwrap_or(lines.len());
                    self.other(&lines[..len], on)?;
                    len
                };
                lines = lines.get(len + 1..).unwrap_or_default();
            }
            Ok(())
        })
    }
}

fn message(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    push_text(&mut out, text.len(), |out| out.extend_from_slice(text.as_bytes()));
    out
}

/// The payload of the publication that `lines` start with, and the length of its line; `None` if
/// they start with something else, or with one that is written another way than servers do.
#[inline]
fn publication(lines: &[u8]) -> Option<(&[u8], usize)> {
    let rest = lines.strip_prefix(PUSH)?;
    let rest = rest[memchr(b'"', rest)? + 1..].strip_prefix(DATA)?;
    let (payload, rest) = rest.split_at(memchr2(b'"', b'\\', rest)?);
    let end = memchr(b'\n', rest).unwrap_or(rest.len());
    (rest[0] == b'"' && rest[..end].ends_with(b"}}}"))
        .then_some((payload, lines.len() - rest.len() + end))
}

/// What is read of an object; each has one of the three, a ping none.
#[derive(Debug, Deserialize)]
struct Object {
    #[serde(default)]
    id: u32,
    error: Option<Refusal>,
    connect: Option<Connected>,
    push: Option<Push>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    code: u32,
    #[serde(default)]
    message: String,
}

#[derive(Debug, Deserialize)]
struct Connected {
    #[serde(default)]
    pong: bool,
}

#[derive(Debug, Deserialize)]
struct Push {
    #[serde(rename = "pub")]
    publication: Option<Publication>,
    unsubscribe: Option<Notice>,
    disconnect: Option<Notice>,
}

#[derive(Debug, Deserialize)]
struct Publication {
    data: Value,
}

#[derive(Debug, Deserialize)]
struct Notice {
    code: u32,
    #[serde(default)]
    reason: String,
}

impl Centrifugo {
    /// Reads an object that is no publication, or one that is written in an unusual way.
    ///
    /// # Errors
    /// Tells why when the server refused a command or ended something.
    fn other(&self, line: &[u8], on: &mut impl FnMut(Found<'_>)) -> Result<(), String> {
        if line == PUBLISHED {
            on(Found::Accepted);
            return Ok(());
        }
        let object: Object = serde_json::from_slice(line)
            .map_err(|error| format!("{error} in {}", String::from_utf8_lossy(line)))?;
        match object {
            Object { push: Some(push), .. } => pushed(push, on)?,
            Object { id, error: Some(Refusal { code, message }), .. } => {
                return Err(format!("{} was refused: {code} {message}", command(id)));
            }
            Object { id: 0, .. } if self.wants_pongs.get() => on(Found::Reply(message(PONG))),
            Object { id: 0, .. } => {}
            Object { id: CONNECT..=PUBLISH, connect, .. } => {
                if let Some(Connected { pong }) = connect {
                    self.wants_pongs.set(pong);
                }
                on(Found::Accepted);
            }
            Object { id, .. } => return Err(format!("an answer to {}", command(id))),
        }
        Ok(())
    }
}

fn pushed(push: Push, on: &mut impl FnMut(Found<'_>)) -> Result<(), String> {
    let notice = |what, Notice { code, reason }| Err(format!("{what} with {code} {reason}"));
    match push {
        Push { unsubscribe: Some(told), .. } => notice("unsubscribed", told),
        Push { disconnect: Some(told), .. } => notice("disconnected", told),
        Push { publication: Some(Publication { data }), .. } => {
            let text = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
            on(Found::Publication(text.as_bytes()));
            Ok(())
        }
        // Who joins and leaves, and what else a server tells.
        Push { .. } => Ok(()),
    }
}

fn command(id: u32) -> &'static str {
    match id {
        CONNECT => "connect",
        SUBSCRIBE => "subscribe",
        PUBLISH => "publish",
        _ => "a command that was never sent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        door::{Coding, Cutter},
        frame::{CLOSE, Sender, TEXT, push_head},
    };

    const FIRST: &str =
        r#"{"push":{"channel":"bench-0","pub":{"data":"abc","offset":1,"epoch":"x"}}}"#;
    const SECOND: &str = r#"{"push":{"channel":"bench-0","pub":{"data":"de","offset":2}}}"#;

    fn sent(opcode: u8, payload: &str) -> Vec<u8> {
        let mut frame = Vec::new();
        push_head(&mut frame, opcode, payload.len(), Sender::Server);
        frame.extend_from_slice(payload.as_bytes());
        frame
    }

    /// What is found in one frame, or how the connection ends.
    fn found(door: &Centrifugo, text: &str) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let bytes = sent(TEXT, text);
        let next = door.next(&bytes, &mut |one| {
            found.push(match one {
                Found::Publication(payload) => String::from_utf8_lossy(payload).into_owned(),
                Found::Accepted => "accepted".to_owned(),
                Found::Reply(reply) => format!("reply {}", String::from_utf8_lossy(&reply[6..])),
            });
        });
        match next {
            Next::End(reason) => Err(reason),
            next => {
                assert_eq!(next, Next::Taken(bytes.len()));
                Ok(found)
            }
        }
    }

    #[test]
    fn objects_are_read_by_the_line() {
        let door = Centrifugo::default();
        for (text, expected) in [
            (FIRST.to_owned(), &["abc"][..]),
            (format!("{FIRST}\n{SECOND}"), &["abc", "de"]),
            (format!("{FIRST}\n{SECOND}\n"), &["abc", "de"]),
            (
                format!("{SECOND}\n{}\n{FIRST}", r#"{"id":3,"publish":{}}"#),
                &["de", "accepted", "abc"],
            ),
            (r#"{"publish":{},"id":3}"#.to_owned(), &["accepted"]),
            (r#"{"id":2,"subscribe":{"epoch":"x","offset":4}}"#.to_owned(), &["accepted"]),
            // Nothing obliges a server to write as all do.
            (r#"{ "push": {"pub":{"data":"abc"},"channel":"c"}}"#.to_owned(), &["abc"]),
            (r#"{"push":{"channel":"c\"","pub":{"data":"a\u0062c"}}}"#.to_owned(), &["abc"]),
            (r#"{"push":{"channel":"c","pub":{"data":{"a":1}}}}"#.to_owned(), &[r#"{"a":1}"#]),
            (r#"{"push":{"channel":"c","join":{"info":{}}}}"#.to_owned(), &[]),
            (String::new(), &[]),
        ] {
            let expected: Vec<String> = expected.iter().map(|one| (*one).to_owned()).collect();
            assert_eq!(found(&door, &text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_ends_a_connection_is_told_in_the_servers_words() {
        let door = Centrifugo::default();
        for (text, reason) in [
            (
                r#"{"id":1,"error":{"code":109,"message":"token expired"}}"#,
                "connect was refused: 109",
            ),
            (
                r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#,
                "subscribe was refused: 103 permission denied",
            ),
            (
                r#"{"id":3,"error":{"code":111,"message":"too many requests"}}"#,
                "publish was refused: 111",
            ),
            (
                r#"{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#,
                "unsubscribed with 2500 insufficient state",
            ),
            (
                r#"{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}"#,
                "disconnected with 3001 shutdown",
            ),
            (r#"{"push":{"channel":"c","pub":{"data":"abc","#, "EOF"),
            ("hello", "expected value"),
            (r#"{"id":7,"publish":{}}"#, "an answer to a command that was never sent"),
        ] {
            let told = found(&door, text).expect_err(text);
            assert!(told.starts_with(reason), "{text}: {told}");
        }
        let closed = door.next(&sent(CLOSE, "\r\u{bd}bad request"), &mut |_| ());
        assert!(matches!(closed, Next::End(reason) if reason.ends_with("bad request")));
    }

    #[test]
    fn pings_are_answered_where_the_server_asked_for_it() {
        let door = Centrifugo::default();
        assert_eq!(found(&door, "{}"), Ok(Vec::new()));
        let connected = r#"{"id":1,"connect":{"client":"a","ping":25,"pong":true}}"#;
        assert_eq!(found(&door, connected), Ok(vec!["accepted".to_owned()]));
        assert_eq!(found(&door, "{}"), Ok(vec!["reply {}".to_owned()]));
    }

    #[test]
    fn what_is_sent_is_json() {
        let texts = |commands: Vec<Vec<u8>>| -> Vec<Value> {
            let text = |frame: Vec<u8>| serde_json::from_slice(&frame[6..]).expect("JSON");
            commands.into_iter().map(text).collect()
        };
        let door = Centrifugo::default();
        let subscriber =
            texts(door.open(&Site::named("host"), "bench-7", Role::Subscriber).commands);
        assert_eq!(subscriber[0]["connect"], serde_json::json!({"name": "loadtest"}));
        assert_eq!(
            subscriber[1],
            serde_json::json!({"id": 2, "subscribe": {"channel": "bench-7"}})
        );
        assert_eq!(
            texts(door.open(&Site::named("host"), "bench-7", Role::Publisher).commands),
            subscriber[..1]
        );
        let mut out = Vec::new();
        door.encode(&mut out, Topic(12), 5, |out| out.extend_from_slice(b"hello"));
        let expected =
            serde_json::json!({"id": 3, "publish": {"channel": "bench-12", "data": "hello"}});
        assert_eq!(texts(vec![out]), [expected]);
    }

    #[test]
    fn any_split_finds_the_same_publications() {
        let bytes = [sent(TEXT, &format!("{FIRST}\n{SECOND}")), sent(TEXT, FIRST)].concat();
        for piece_len in 1..=bytes.len() {
            let (mut cutter, mut payloads) = (Cutter::new(Coding::Identity), Vec::new());
            for piece in bytes.chunks(piece_len) {
                let fed =
                    cutter.feed(
                        &Centrifugo::default(),
                        piece,
                        &mut |found: Found<'_>| match found {
                            Found::Publication(payload) => payloads.push(payload.to_vec()),
                            other => panic!("{other:?}"),
                        },
                    );
                assert_eq!(fed, Ok(()));
            }
            assert_eq!(payloads, [&b"abc"[..], b"de", b"abc"], "pieces of {piece_len}");
        }
    }
}
