//! S7: handshakes that are none (RFC 6455 section 4.2.1): never 101, never a stream.

use crate::harness::{FIN, Request, Response, Server, TEXT, WebSocket, frame};

fn handshake() -> Request {
    Request::handshake("/topics/a")
}

fn answer(server: &Server, request: &Request) -> Response {
    server.request(request)
}

#[test]
fn a_faulty_handshake_is_400_and_counted() {
    let server = Server::start("");
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let cases = [
        ("HTTP/1.0", handshake().version("HTTP/1.0")),
        ("no Host", handshake().without("Host")),
        ("two Hosts", handshake().header("Host", "127.0.0.1")),
        ("no Upgrade", handshake().without("Upgrade")),
        ("another Upgrade", handshake().replace("Upgrade", "h2c")),
        ("no Connection", handshake().without("Connection")),
        ("Connection without the token", handshake().replace("Connection", "keep-alive")),
        ("no key", handshake().without("Sec-WebSocket-Key")),
        ("two keys", handshake().header("Sec-WebSocket-Key", key)),
        ("short key", handshake().replace("Sec-WebSocket-Key", "x")),
        ("key of 15 bytes", handshake().replace("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAA")),
        ("key not base64", handshake().replace("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZ!==")),
        ("a body", handshake().header("Content-Length", "5").raw_body("hello")),
        ("chunked body", handshake().header("Transfer-Encoding", "chunked").raw_body("0\r\n\r\n")),
        ("only Upgrade", Request::get("/topics/a").header("Upgrade", "websocket")),
        ("only a subprotocol", Request::get("/topics/a").header("Sec-WebSocket-Protocol", "x")),
    ];
    for (index, (name, request)) in (1..).zip(&cases) {
        let response = answer(&server, request);
        let expected = (400, "handshake_invalid".to_owned());
        assert_eq!(response.refusal(), expected, "{name}");
        let labels = [("reason", "handshake_invalid")];
        server.await_metric("fanwire_requests_refused_total", &labels, index);
    }
    assert_eq!(server.metric("fanwire_connections_total", &[("door", "plain")]), 0);
}

#[test]
fn a_handshake_that_names_no_topics_stream_is_400() {
    let server = Server::start("");
    for target in ["/topics/a/history", "/topics/a/presence", "/"] {
        let response = answer(&server, &Request::handshake(target));
        assert_eq!(response.refusal(), (400, "handshake_invalid".to_owned()), "{target}");
    }
}

#[test]
fn content_length_beside_transfer_encoding_is_400() {
    let server = Server::start("");
    let request = handshake()
        .header("Content-Length", "5")
        .header("Transfer-Encoding", "chunked")
        .raw_body("0\r\n\r\n");
    assert_eq!(answer(&server, &request).status, 400);
}

#[test]
fn other_methods_are_405() {
    let server = Server::start("");
    for method in ["POST", "PUT", "DELETE"] {
        let response = answer(&server, &handshake().method(method));
        response.assert_refused(405, "method_not_allowed");
        assert!(response.header("allow").is_some(), "{method}");
    }
    let mut wire = server.wire();
    wire.send(&handshake().method("HEAD").to_bytes());
    assert_eq!(wire.head().status, 405);
}

#[test]
fn other_versions_are_426_and_told_the_right_one() {
    let server = Server::start("");
    for version in ["8", "14"] {
        let request = handshake().replace("Sec-WebSocket-Version", version);
        let response = answer(&server, &request);
        response.assert_refused(426, "websocket_version_unsupported");
        assert_eq!(response.header("sec-websocket-version"), Some("13"));
    }
}

#[test]
fn a_handshake_to_a_bad_topic_or_path_is_refused_like_any_request() {
    let server = Server::start("");
    answer(&server, &Request::handshake("/topics/a%00")).assert_refused(400, "topic_name_invalid");
    answer(&server, &Request::handshake("/topics/")).assert_refused(404, "not_found");
    answer(&server, &Request::handshake("/nowhere")).assert_refused(404, "not_found");
    let since = Request::handshake("/topics/a?since=x:y");
    answer(&server, &since).assert_refused(400, "since_invalid");
}

#[test]
fn tokens_are_found_in_lists_and_in_any_case() {
    let server = Server::start("");
    let request =
        handshake().replace("Connection", "keep-alive, UPGRADE").replace("Upgrade", "WebSocket");
    WebSocket::open(server.wire(), &request);
    let two_lines = handshake().replace("Connection", "keep-alive").header("Connection", "upgrade");
    WebSocket::open(server.wire(), &two_lines);
}

#[test]
fn a_connection_still_serves_after_a_refused_handshake() {
    let server = Server::start("");
    let mut wire = server.wire();
    let refused = wire.request(&handshake().replace("Sec-WebSocket-Version", "8"));
    assert_eq!(refused.status, 426);
    let mut socket = WebSocket::open(wire, &handshake());
    socket.text("still here");
    assert_eq!(socket.next_text(), "still here");
}

#[test]
fn bytes_that_came_with_the_handshake_are_the_first_frames() {
    let server = Server::start("");
    let mut wire = server.wire();
    let mut bytes = Request::handshake("/topics/a").to_bytes();
    for text in ["one", "two", "three"] {
        bytes.extend(frame(FIN | TEXT, text.as_bytes()));
    }
    // The last frame is cut: its end comes after the 101.
    let end = bytes.split_off(bytes.len() - 2);
    wire.send(&bytes);
    let mut socket = WebSocket::after_request(wire);
    socket.wire.send(&end);
    for text in ["one", "two", "three"] {
        assert_eq!(socket.next_text(), text);
    }
}
