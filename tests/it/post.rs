//! Publishing over HTTP, and the requests that are refused.

use std::thread;

use serde_json::json;

use crate::harness::{BINARY, Request, Server, TEXT};
use crate::invariant::Position;

#[test]
fn an_answer_tells_topic_epoch_and_offset() {
    let server = Server::start("");
    let first = server.post("/topics/a%2Fb", "x").json();
    let epoch = first["epoch"].clone();
    let epoch_text = epoch.as_str().unwrap();
    assert!((1..=16).contains(&epoch_text.len()), "{epoch_text}");
    assert!(epoch_text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_eq!(first, json!({"topic": "a/b", "epoch": epoch, "offset": 1}));
    let second = server.post("/topics/a%2fb", "x").json();
    assert_eq!(second, json!({"topic": "a/b", "epoch": epoch, "offset": 2}));
}

#[test]
fn without_history_an_answer_tells_the_topic_only() {
    let server = Server::start("[[topic]]\nmatch = \"*\"\nhistory_size = 0\n");
    assert_eq!(server.post("/topics/a", "x").json(), json!({"topic": "a"}));
}

#[test]
fn the_body_type_decides_between_text_and_binary() {
    let server = Server::start("");
    let mut subscriber = server.websocket("/topics/a");
    let bad_utf8 = &b"\xFF"[..];
    for (content_type, body, opcode) in [
        ("application/octet-stream", &b"x"[..], BINARY),
        ("image/png", b"x", BINARY),
        ("audio/ogg", b"x", BINARY),
        ("video/mp4", b"x", BINARY),
        ("text/plain", b"x", TEXT),
        ("Text/HTML; charset=utf-8", b"x", TEXT),
        ("application/json", b"not JSON", TEXT),
        ("application/vnd.api+json", b"x", TEXT),
        ("application/x-www-form-urlencoded", b"x", TEXT),
        ("application/x-www-form-urlencoded", bad_utf8, BINARY),
        ("application/wasm", b"x", TEXT),
        ("", b"x", TEXT),
        ("", bad_utf8, BINARY),
        ("", b"", TEXT),
    ] {
        let mut request = Request::post("/topics/a", body);
        if !content_type.is_empty() {
            request = request.header("Content-Type", content_type);
        }
        assert_eq!(server.request(&request).status, 200, "{content_type}");
        let got = subscriber.message();
        assert_eq!((got.opcode, got.payload.as_slice()), (opcode, body), "{content_type}");
    }
}

#[test]
fn text_that_is_not_utf8_is_400() {
    let server = Server::start("");
    for content_type in ["text/plain", "application/json", "application/ld+json"] {
        let request = Request::post("/topics/a", b"\xFF").header("Content-Type", content_type);
        server.request(&request).assert_refused(400, "payload_not_utf8");
    }
    assert_eq!(server.publish("a", "x").offset, 1);
}

#[test]
fn a_chunked_body_is_a_body() {
    let server = Server::start("");
    let mut subscriber = server.websocket("/topics/a");
    let request = Request::new("POST", "/topics/a")
        .header("Transfer-Encoding", "chunked")
        .raw_body("3\r\nhal\r\n2\r\nlo\r\n0\r\n\r\n");
    assert_eq!(server.request(&request).status, 200);
    assert_eq!(subscriber.next_text(), "hallo");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start("");
    let mut wire = server.wire();
    let requests: Vec<u8> = (0..20)
        .flat_map(|index| Request::post("/topics/a", index.to_string()).to_bytes())
        .collect();
    wire.send(&requests);
    for offset in 1..=20 {
        assert_eq!(Position::of(&wire.response().json()).offset, offset);
    }
}

fn keyed(topic: &str, key: &str) -> Request {
    Request::post(&format!("/topics/{topic}"), "x").header("Idempotency-Key", key)
}

#[test]
fn a_repeated_idempotency_key_publishes_once() {
    let server = Server::start("");
    let first = server.request(&keyed("a", "k")).json();
    let again = server.request(&keyed("a", "k")).json();
    assert!(first.get("duplicate").is_none());
    assert_eq!(again["duplicate"], true);
    assert_eq!(Position::of(&first), Position::of(&again));
    let other = server.request(&keyed("b", "k")).json();
    assert!(other.get("duplicate").is_none(), "a key is per topic");
    assert_eq!(server.publish("a", "next").offset, 2);
}

#[test]
fn an_idempotency_key_used_at_once_publishes_once() {
    let server = Server::start_with("", &["--workers", "2"]);
    for round in 1..=20 {
        let key = round.to_string();
        let answers = thread::scope(|scope| {
            [(); 4]
                .map(|()| scope.spawn(|| server.request(&keyed("a", &key)).json()))
                .map(|answer| answer.join().unwrap())
        });
        for answer in &answers {
            assert_eq!(Position::of(answer).offset, round);
        }
        let duplicates = answers.iter().filter(|answer| answer["duplicate"] == true);
        assert_eq!(duplicates.count(), 3);
    }
}

#[test]
fn an_idempotency_key_has_at_most_128_bytes() {
    let server = Server::start("");
    assert_eq!(server.request(&keyed("a", &"k".repeat(128))).status, 200);
    let long = server.request(&keyed("a", &"k".repeat(129)));
    long.assert_refused(400, "query_invalid");
}

#[test]
fn other_methods_are_405_and_told_the_right_ones() {
    let server = Server::start("");
    for method in ["DELETE", "PUT", "PATCH"] {
        let response = server.request(&Request::new(method, "/topics/a"));
        response.assert_refused(405, "method_not_allowed");
        let allowed = response.header("allow").unwrap();
        for method in ["GET", "POST", "OPTIONS"] {
            assert!(allowed.contains(method), "{allowed}");
        }
    }
    let mut wire = server.wire();
    wire.send(&Request::new("HEAD", "/topics/a").to_bytes());
    let head = wire.head();
    assert_eq!(head.status, 405);
    assert!(head.header("allow").is_some());
    let history = server.post("/topics/a/history", "x");
    history.assert_refused(405, "method_not_allowed");
    assert!(!history.header("allow").unwrap().contains("POST"));
}

#[test]
fn unknown_paths_are_404() {
    let server = Server::start("");
    for path in [
        "/nowhere",
        "/topics/",
        "/topics//",
        "/topics//history",
        "/topics/a/",
        "/topics/a/b",
        "/topics/a/history/",
        "/Topics/a",
    ] {
        server.get(path).assert_refused(404, "not_found");
        assert_eq!(server.post(path, "x").status, 404, "{path}");
    }
}

#[test]
fn refused_requests_are_counted_by_reason() {
    let server = Server::start("");
    server.get("/nowhere");
    server.post("/topics/%00", "x");
    for reason in ["not_found", "topic_name_invalid"] {
        let labels = [("reason", reason)];
        server.await_metric("fanwire_requests_refused_total", &labels, 1);
    }
}
