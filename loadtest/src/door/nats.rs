//! The NATS door: the client protocol of a NATS server behind its WebSocket listener, to measure
//! that server. Lines of text with payloads between them; a frame holds any number, each whole.

use memchr::{memchr, memrchr};

use super::{
    Door, Found, Next, Opening, Role, Topic,
    websocket::{frame, push_text},
};
use crate::http::{self, Site};

/// No answer to each publication, and no longer errors than needed.
const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"name\":\"loadtest\",\"lang\":\"x\",\
     \"version\":\"1\",\"protocol\":1}\r\n";

/// The NATS door.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nats;

impl Door for Nats {
    fn open(&self, site: &Site, topic: &str, role: Role) -> Opening {
        let subscribe = match role {
            Role::Publisher => String::new(),
            Role::Subscriber => format!("SUB {topic} 1\r\n"),
        };
        // The answer to PING says that what came before it is done.
        let commands = vec![message(&format!("{CONNECT}{subscribe}PING\r\n"))];
        let path = site.path(topic, || "/".to_owned());
        Opening { request: http::handshake(site, &path, None), commands }
    }

    fn encode(
        &self,
        out: &mut Vec<u8>,
        topic: Topic,
        payload_len: usize,
        push: impl FnOnce(&mut Vec<u8>),
    ) {
        let before = format!("PUB {topic} {payload_len}\r\n");
        push_text(out, before.len() + payload_len + 2, |out| {
            out.extend_from_slice(before.as_bytes());
            push(out);
            out.extend_from_slice(b"\r\n");
        });
    }

    #[inline]
    fn next(&self, received: &[u8], on: &mut impl FnMut(Found<'_>)) -> Next {
        frame(received, on, |mut rest, on| {
            while !rest.is_empty() {
                let (line, behind) = line(rest).ok_or("a line that goes on in another frame")?;
                rest = behind;
                if line.starts_with(b"MSG ") {
                    let (payload, behind) =
                        payload(line, rest).ok_or("MSG without all of its payload")?;
                    on(Found::Publication(payload));
                    rest = behind;
                } else {
                    other(line, on)?;
                }
            }
            Ok(())
        })
    }
}

/// The first line, without its end, and what follows it.
#[inline]
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b'\n', bytes)?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), &bytes[end + 1..]))
}

/// The payload behind `MSG subject sid [reply] length`, and what follows it.
#[inline]
fn payload<'a>(line: &[u8], rest: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let digits = &line[memrchr(b' ', line)? + 1..];
    let len: usize = str::from_utf8(digits).ok()?.parse().ok()?;
    let (payload, rest) = rest.split_at_checked(len)?;
    Some((payload, rest.strip_prefix(b"\r\n")?))
}

#[cold]
fn other(line: &[u8], on: &mut impl FnMut(Found<'_>)) -> Result<(), String> {
    match line {
        b"PONG" => on(Found::Accepted),
        b"PING" => on(Found::Reply(message("PONG\r\n"))),
        b"+OK" => {}
        info if info.starts_with(b"INFO ") => {}
        error => return Err(String::from_utf8_lossy(error).into_owned()),
    }
    Ok(())
}

fn message(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    push_text(&mut out, text.len(), |out| out.extend_from_slice(text.as_bytes()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::tests::read;

    #[test]
    fn a_frame_holds_any_number_of_lines_and_payloads() {
        for (text, expected) in [
            ("INFO {\"a\":\"MSG \"}\r\n", &[][..]),
            ("PONG\r\n", &["accepted"]),
            ("PING\r\n+OK\r\n", &["reply"]),
            ("MSG bench-1 1 5\r\nhello\r\n", &["hello"]),
            ("MSG t 1 reply.to 2\r\n\r\n\r\nMSG t 1 0\r\n\r\nPING\r\n", &["\r\n", "", "reply"]),
        ] {
            assert_eq!(read(&Nats, text.as_bytes()).expect(text), expected, "{text}");
        }
    }

    #[test]
    fn errors_and_halves_end_the_connection() {
        for (text, reason) in [
            ("-ERR 'Slow Consumer'\r\n", "-ERR 'Slow Consumer'"),
            ("PING", "a line that goes on in another frame"),
            ("MSG t 1 9\r\nhello\r\n", "MSG without all of its payload"),
            ("MSG t 1 4\r\nhello\r\n", "MSG without all of its payload"),
            ("MSG t 1 x\r\nhello\r\n", "MSG without all of its payload"),
        ] {
            assert_eq!(read(&Nats, text.as_bytes()), Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn only_subscribers_subscribe_and_publications_tell_their_length() {
        let command = |role| {
            let opening = Nats.open(&Site::named("host"), "bench-1", role);
            String::from_utf8_lossy(&opening.commands[0]).into_owned()
        };
        assert!(command(Role::Subscriber).ends_with("}\r\nSUB bench-1 1\r\nPING\r\n"));
        assert!(command(Role::Publisher).ends_with("}\r\nPING\r\n"));
        let mut out = Vec::new();
        Nats.encode(&mut out, Topic(7), 2, |out| out.extend_from_slice(b"hi"));
        assert!(out.ends_with(b"PUB bench-7 2\r\nhi\r\n"));
    }
}
