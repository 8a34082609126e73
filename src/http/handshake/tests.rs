//! Handshakes, good and bad; each case changes one thing in a good one.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Version};

use super::{Handshake, PLAIN};
use crate::reason::Refusal;

const GOOD: [(&str, &str); 5] = [
    ("host", "fanwire.example"),
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
];

fn good() -> Parts {
    let mut request = Request::builder().uri("/topics/a");
    for (name, value) in GOOD {
        request = request.header(name, value);
    }
    request.body(()).expect("a request").into_parts().0
}

/// A good request with other lines for one field; no lines leave it out.
fn with(name: &'static str, lines: &[&'static str]) -> Parts {
    let mut parts = good();
    let name = HeaderName::from_static(name);
    parts.headers.remove(&name);
    for line in lines {
        let value = HeaderValue::from_bytes(line.as_bytes()).expect("a value");
        parts.headers.append(&name, value);
    }
    parts
}

fn refusal(parts: &Parts) -> Option<Refusal> {
    match Handshake::check(parts) {
        Ok(handshake) => {
            assert!(handshake.is_some(), "a handshake never becomes a stream");
            None
        }
        Err(refused) => Some(refused.refusal),
    }
}

fn handshake(protocols: &[&'static str]) -> Handshake {
    let checked = Handshake::check(&with("sec-websocket-protocol", protocols));
    checked.expect("a good request").expect("a handshake")
}

#[test]
fn the_accept_key_is_that_of_the_rfc() {
    assert_eq!(handshake(&[]).accept_key(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn each_field_is_there_once_and_well_formed() {
    let invalid = Some(Refusal::HandshakeInvalid);
    let version = Some(Refusal::WebsocketVersionUnsupported);
    for (name, lines, expected) in [
        ("host", &["a.example:8080"][..], None),
        ("host", &["[::1]:8080"], None),
        ("host", &[], invalid),
        ("host", &[""], invalid),
        ("host", &["a", "a"], invalid),
        ("host", &["a b"], invalid),
        ("host", &["user@a"], invalid),
        ("upgrade", &["WebSocket"], None),
        ("upgrade", &["h2c, websocket"], None),
        ("upgrade", &["h2c", "websocket"], None),
        ("upgrade", &[], invalid),
        ("upgrade", &["h2c"], invalid),
        ("upgrade", &["websocket/13"], invalid),
        ("upgrade", &["websockets"], invalid),
        ("upgrade", &["websocket, websocket"], invalid),
        ("upgrade", &["websocket", "websocket"], invalid),
        ("connection", &["upgrade"], None),
        ("connection", &["keep-alive, Upgrade"], None),
        ("connection", &["keep-alive,,UPGRADE ,"], None),
        ("connection", &["keep-alive", "Upgrade"], None),
        ("connection", &[], invalid),
        ("connection", &["keep-alive"], invalid),
        ("connection", &["close"], invalid),
        ("connection", &["Upgraded"], invalid),
        ("connection", &["Upgrade", "Upgrade"], invalid),
        ("connection", &["Upgrade\u{e9}"], invalid),
        ("sec-websocket-key", &[], invalid),
        ("sec-websocket-key", &[""], invalid),
        ("sec-websocket-key", &["YQ=="], invalid),
        ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ"], invalid),
        ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZTE="], invalid),
        ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25j!Q=="], invalid),
        ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="], invalid),
        ("sec-websocket-version", &[], invalid),
        ("sec-websocket-version", &[""], invalid),
        ("sec-websocket-version", &["13", "13"], invalid),
        ("sec-websocket-version", &["13, 8"], invalid),
        ("sec-websocket-version", &["+13"], invalid),
        ("sec-websocket-version", &["013"], invalid),
        ("sec-websocket-version", &["256"], invalid),
        ("sec-websocket-version", &["x"], invalid),
        ("sec-websocket-version", &["8"], version),
        ("sec-websocket-version", &["0"], version),
        ("sec-websocket-version", &["14"], version),
        ("content-length", &["0"], None),
        ("content-length", &["1"], invalid),
        ("content-length", &["00"], invalid),
        ("content-length", &["0", "5"], invalid),
        ("transfer-encoding", &["chunked"], invalid),
        ("transfer-encoding", &["identity"], invalid),
        ("sec-websocket-extensions", &["permessage-deflate"], None),
        ("sec-websocket-extensions", &["nonsense; ="], None),
        ("sec-websocket-protocol", &["x, y"], None),
    ] {
        assert_eq!(refusal(&with(name, lines)), expected, "{name}: {lines:?}");
    }
}

#[test]
fn content_length_with_transfer_encoding_is_refused() {
    let mut parts = with("content-length", &["0"]);
    let chunked = HeaderValue::from_static("chunked");
    parts.headers.insert("transfer-encoding", chunked);
    assert_eq!(refusal(&parts), Some(Refusal::HandshakeInvalid));
}

#[test]
fn the_method_is_looked_at_first_and_the_version_last() {
    for method in [Method::POST, Method::HEAD, Method::OPTIONS, Method::PUT] {
        let mut parts = with("sec-websocket-key", &["short"]);
        parts.method = method;
        parts.version = Version::HTTP_10;
        assert_eq!(refusal(&parts), Some(Refusal::MethodNotAllowed));
    }
    for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2] {
        let mut parts = with("sec-websocket-version", &["8"]);
        parts.version = version;
        assert_eq!(refusal(&parts), Some(Refusal::HandshakeInvalid));
    }
    let mut parts = with("sec-websocket-version", &["8"]);
    parts.headers.remove("host");
    assert_eq!(refusal(&parts), Some(Refusal::HandshakeInvalid));
}

#[test]
fn anything_of_a_handshake_makes_it_one() {
    for (name, value, expected) in [
        ("sec-websocket-key", "x", true),
        ("sec-websocket-version", "13", true),
        ("sec-websocket-protocol", "x", true),
        ("sec-websocket-extensions", "x", true),
        ("sec-websocket-accept", "x", true),
        ("sec-websocket-x", "", true),
        ("upgrade", "websocket", true),
        ("upgrade", "h2c, WebSocket", true),
        ("upgrade", "websocket/13", true),
        ("upgrade", "h2c", false),
        ("connection", "Upgrade", false),
        ("sec-fetch-mode", "websocket", false),
        ("accept", "text/event-stream", false),
    ] {
        let request = Request::builder().header("host", "a").header(name, value);
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        match Handshake::check(&parts) {
            Ok(handshake) => {
                assert!(handshake.is_none() && !expected, "{name}: {value}");
            }
            Err(refused) => {
                assert!(expected, "{name}: {value}");
                assert_eq!(refused.refusal, Refusal::HandshakeInvalid);
            }
        }
    }
}

#[test]
fn the_plain_protocol_or_the_used_bearer_is_selected() {
    for (offered, used_bearer, expected) in [
        (&[][..], None, None),
        (&["fanwire.plain"], None, Some("fanwire.plain")),
        (&["x, fanwire.plain"], None, Some("fanwire.plain")),
        (&["bearer.a", "fanwire.plain"], Some("bearer.a"), Some("fanwire.plain")),
        (&["x, bearer.a"], Some("bearer.a"), Some("bearer.a")),
        (&["bearer.a"], None, None),
        (&["bearer.a"], Some("bearer.b"), None),
        (&["mqtt, Fanwire.Plain"], None, None),
    ] {
        let selected = handshake(offered).select_protocol(&[PLAIN], used_bearer);
        assert_eq!(selected, expected.map(HeaderValue::from_static), "{offered:?}");
    }
    let handshake = handshake(&["b, a", "c"]);
    assert_eq!(handshake.protocols().collect::<Vec<_>>(), ["b", "a", "c"]);
}
