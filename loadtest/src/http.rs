//! The opening handshake (RFC 6455 section 4), both sides of it, and where it goes.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context as _, bail};

use crate::tls::{Security, Trust};

/// The key of every handshake: the RFC's own example, so that its answer is known beforehand.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// What stands for a topic's name in a URL.
const TOPIC: &str = "{topic}";
/// A longer head, of either side, is refused.
pub(crate) const HEAD_LEN_MAX: usize = 16 * 1024;

/// What requests to a server name.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// For the `Host` field.
    pub(crate) authority: String,
    /// Where topics are, if not where the door expects them.
    path: Option<String>,
}

impl Site {
    /// The path of `topic`, which is where the URL says, or else the `usual` one.
    pub(crate) fn path(&self, topic: &str, usual: impl FnOnce() -> String) -> String {
        self.path.as_ref().map_or_else(usual, |path| path.replace(TOPIC, topic))
    }
}

/// A server to measure.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) site: Site,
    pub(crate) address: SocketAddr,
    /// For `https://` and `wss://`.
    pub(crate) security: Option<Security>,
}

impl Target {
    /// Reads `http://HOST:PORT` (or `ws://`, `https://`, `wss://`), perhaps with a path, and resolves
    /// it.
    ///
    /// # Errors
    /// It is something else, or leads nowhere, or needs a `trust` and has none.
    pub(crate) fn parse(url: &str, trust: Option<Trust<'_>>) -> anyhow::Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let default_port = match scheme {
            "http" | "ws" => 80,
            "https" | "wss" => 443,
            _ => bail!("{url}: only http://, ws://, https:// and wss:// are spoken"),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            bail!("{url}: a path has neither blanks nor `#`, and %XX for all that is not ASCII");
        }
        let path = (!matches!(path, "" | "/")).then(|| path.to_owned());
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if let Ok(port) = port.parse() => (host, port),
            _ => (authority, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = (host, port)
            .to_socket_addrs()
            .with_context(|| format!("{url} does not resolve"))?
            .next()
            .with_context(|| format!("{url} has no address"))?;
        let security = match (default_port, trust) {
            (443, Some(trust)) => Some(Security::new(host, trust)?),
            (443, None) => bail!("{url}: name the certificate to trust with --ca, or --insecure"),
            (_, Some(_)) => bail!("{url}: --ca and --insecure are for https:// and wss://"),
            (_, None) => None,
        };
        let site = Site { authority: authority.to_owned(), path };
        Ok(Self { site, address, security })
    }
}

/// How far a server's answer to an opening request has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// More bytes are needed.
    Partial,
    /// The connection is open; the answer took this many bytes.
    Open(usize),
    Refused(String),
}

/// A client's request for a WebSocket, with a field that offers something if there is one.
pub(crate) fn handshake(site: &Site, path: &str, offer: Option<(&str, &str)>) -> Vec<u8> {
    let authority = &site.authority;
    let offer = offer.map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{offer}\r\n"
    )
    .into_bytes()
}

/// Reads a server's answer to [`handshake`].
pub(crate) fn answer(received: &[u8]) -> Answer {
    read_answer(received, "101", |head| match head.field("sec-websocket-accept") {
        Some(ACCEPT) => Ok(()),
        _ => Err("101 with a wrong Sec-WebSocket-Accept"),
    })
}

fn read_answer(
    received: &[u8],
    status: &str,
    check: impl FnOnce(&Head<'_>) -> Result<(), &'static str>,
) -> Answer {
    let Some(head) = Head::read(received) else {
        if received.len() > HEAD_LEN_MAX {
            return Answer::Refused("answer's head over 16 KiB".to_owned());
        }
        return Answer::Partial;
    };
    if head.first_line.split(' ').nth(1) != Some(status) {
        let body = String::from_utf8_lossy(&received[head.len..]);
        return Answer::Refused(format!("{} {body}", head.first_line));
    }
    match check(&head) {
        Ok(()) => Answer::Open(head.len),
        Err(reason) => Answer::Refused(reason.to_owned()),
    }
}

/// Media types of streams.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// A client's request for a stream of type `media`.
pub(crate) fn stream(site: &Site, path: &str, media: &str) -> Vec<u8> {
    let authority = &site.authority;
    format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: {media}\r\n\r\n").into_bytes()
}

/// Reads a server's answer to [`stream`], for one of the types `media`.
pub(crate) fn stream_answer(received: &[u8], media: &[&str]) -> Answer {
    read_answer(received, "200", |head| match head.field("content-type") {
        Some(found) if media.iter().any(|media| found.starts_with(media)) => Ok(()),
        _ => Err("200 with another Content-Type than was asked for"),
    })
}

/// Whether what follows the whole `answer` comes in chunks.
pub(crate) fn is_chunked(answer: &[u8]) -> bool {
    let coding = Head::read(answer).and_then(|head| head.field("transfer-encoding"));
    coding.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
}

/// What a request to the bare server asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    Partial,
    /// The path with its query, and the length of the request.
    Handshake(&'a str, usize),
    /// The same, for an event stream.
    Stream(&'a str, usize),
    Invalid,
}

/// Reads a request made by [`handshake`] or [`event_stream`]; nobody else's key is understood.
pub(crate) fn request(received: &[u8]) -> Request<'_> {
    let Some(head) = Head::read(received) else {
        let over = received.len() > HEAD_LEN_MAX;
        return if over { Request::Invalid } else { Request::Partial };
    };
    let path = head.first_line.strip_prefix("GET ").and_then(|line| line.split(' ').next());
    match (path, head.field("sec-websocket-key"), head.field("accept")) {
        (Some(path), Some(KEY), _) => Request::Handshake(path, head.len),
        (Some(path), None, Some("text/event-stream")) => Request::Stream(path, head.len),
        _ => Request::Invalid,
    }
}

/// The server's answer to [`handshake`].
pub(crate) fn accepted() -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
    .into_bytes()
}

/// The value of a field in an answer's head.
pub(crate) fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    Head::read(head)?.field(name)
}

struct Head<'a> {
    first_line: &'a str,
    fields: &'a str,
    /// With the empty line at its end.
    len: usize,
}

impl<'a> Head<'a> {
    fn read(received: &'a [u8]) -> Option<Self> {
        let end = received.windows(4).position(|four| four == b"\r\n\r\n")?;
        let text = std::str::from_utf8(&received[..end]).ok()?;
        let (first_line, fields) = text.split_once("\r\n").unwrap_or((text, ""));
        Some(Self { first_line, fields, len: end + 4 })
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        self.fields
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

#[cfg(test)]
impl Site {
    /// The server `authority`, with the usual paths.
    pub(crate) fn named(authority: &str) -> Self {
        Self { authority: authority.to_owned(), path: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_sides_understand_each_other() {
        let site = Site::named("127.0.0.1:8080");
        let sent = handshake(&site, "/topics/bench-7?echo=false", None);
        let expected = Request::Handshake("/topics/bench-7?echo=false", sent.len());
        assert_eq!(request(&sent), expected);
        for cut in 0..sent.len() {
            assert_eq!(request(&sent[..cut]), Request::Partial);
        }
        let stream = stream(&site, "/topics/a", EVENT_STREAM);
        assert_eq!(request(&stream), Request::Stream("/topics/a", stream.len()));
        let mut back = accepted();
        let len = back.len();
        back.extend_from_slice(b"\x81\x00");
        assert_eq!(answer(&back), Answer::Open(len), "frames may follow at once");
    }

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let refused = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\ndraining";
        let expected = "HTTP/1.1 503 Service Unavailable draining".to_owned();
        assert_eq!(answer(refused), Answer::Refused(expected));
        let wrong = b"HTTP/1.1 101 OK\r\nSec-WebSocket-Accept: x\r\n\r\n";
        assert!(matches!(answer(wrong), Answer::Refused(_)));
        assert_eq!(request(b"POST / HTTP/1.1\r\n\r\n"), Request::Invalid);
    }

    #[test]
    fn targets_are_servers_and_where_their_topics_are() {
        let parse = |url| Target::parse(url, None);
        let target = parse("http://127.0.0.1:8080/").expect("good");
        assert_eq!(target.site.authority, "127.0.0.1:8080");
        assert_eq!(target.address.port(), 8080);
        assert_eq!(parse("ws://127.0.0.1").expect("good").address.port(), 80);
        assert!(parse("http://[::1]:8080").expect("good").address.is_ipv6());
        let usual = || "/usual".to_owned();
        for (url, expected) in [
            ("ws://127.0.0.1:80", "/usual"),
            ("ws://127.0.0.1:80/", "/usual"),
            ("ws://127.0.0.1:80/chat", "/chat"),
            ("ws://127.0.0.1/chat/{topic}?key=1", "/chat/bench-1?key=1"),
        ] {
            let site = parse(url).expect("good").site;
            assert_eq!(site.path("bench-1", usual), expected, "{url}");
        }
        for bad in ["127.0.0.1:80", "ftp://127.0.0.1", "http://127.0.0.1:1/a b", "ws://[::1]/#a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whom_to_trust_is_said_where_it_matters_and_only_there() {
        let target = Target::parse("wss://localhost", Some(Trust::Anyone)).expect("good");
        assert_eq!(target.address.port(), 443);
        assert!(target.security.is_some());
        let told = |url, trust| Target::parse(url, trust).expect_err(url).to_string();
        assert!(told("https://127.0.0.1", None).contains("--ca"));
        assert!(told("http://127.0.0.1", Some(Trust::Anyone)).contains("https://"));
    }
}
