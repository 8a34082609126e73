//! Streams as connections: how their end is told, what their clients send, what they cost.

use std::thread;

use serde_json::json;

use crate::harness::{Emulated, Request, Server, Stream, Wire};
use crate::invariant::Position;

/// Bytes that no buffer between two sockets holds.
const FLOOD_LEN: usize = 16 << 20;

fn http_stream() -> Request {
    Request::post("/connection/http_stream", r#"{"id":1,"connect":{}}"#)
}

/// A request for a stream of every kind.
fn requests() -> [Request; 4] {
    [
        Request::get("/topics/a"),
        Request::sse("/topics/a"),
        Request::sse("/topics?topic=a&topic=b"),
        http_stream(),
    ]
}

#[test]
fn the_end_of_a_stream_is_the_last_chunk_and_then_the_connection() {
    let server = Server::start("[drain]\nwindow = \"100ms\"\n");
    let open = |request: &Request| Stream::open(server.wire(), request);
    let mut streams = requests().each_ref().map(open);
    for stream in &mut streams {
        assert_eq!(stream.head.header("transfer-encoding"), Some("chunked"));
        assert_eq!(stream.head.header("connection"), Some("close"));
    }
    server.process.signal("TERM");
    for stream in &mut streams {
        // Ends with a failure if the last chunk does not come.
        while stream.line().is_some() {}
        assert_eq!(stream.wire.rest(), b"");
    }
}

#[test]
fn a_stream_that_is_cut_off_has_no_last_chunk() {
    let server = Server::start("");
    let mut stream = server.ndjson("/topics/a");
    server.publish("a", "1");
    assert!(stream.json().get("subscribed").is_some());
    assert_eq!(stream.json()["data"], "1");
    server.process.signal("KILL");
    assert_eq!(stream.wire.rest(), b"", "neither more nor an end");
}

#[test]
fn clients_of_http_1_0_get_a_body_that_ends_with_the_connection() {
    let server = Server::start("[drain]\nwindow = \"100ms\"\n");
    let open = |request: Request| Stream::open(server.wire(), &request.version("HTTP/1.0"));
    let [mut lines, mut events, mut several, client] = requests().map(open);
    for stream in [&lines, &events, &several, &client] {
        assert_eq!(stream.head.header("transfer-encoding"), None);
        assert_eq!(stream.head.header("connection"), Some("close"));
    }
    let mut client = Emulated::after_connect(client);
    let subscribe = json!({"id": 2, "subscribe": {"channel": "a"}});
    assert_eq!(client.send(&server, &[subscribe]).status, 204);
    assert_eq!(client.message()["id"], 2);
    assert!(lines.json().get("subscribed").is_some());
    let a = server.publish("a", "one\ntwo");
    let b = server.publish("b", "three");
    assert_eq!(lines.json()["data"], "one\ntwo");
    let event = events.event();
    assert_eq!((event.id, event.data.as_deref()), (Some(a.to_string()), Some("one\ntwo")));
    let before = Position { offset: 0, ..b.clone() };
    assert_eq!(several.event().id, Some(format!("{a},{before}")));
    assert_eq!(several.event().id, Some(format!("{a},{b}")));
    assert_eq!(client.message()["push"]["pub"]["data"], "one\ntwo");
    server.process.signal("TERM");
    client.assert_ended(3001, "shutdown");
    for stream in [&mut lines, &mut events, &mut several] {
        while stream.line().is_some() {}
    }
}

#[test]
fn a_slow_client_of_http_1_0_gets_a_long_replay_and_what_follows_whole() {
    const COUNT: usize = 100;
    let server = Server::start(
        "[[topic]]\nmatch = \"*\"\nhistory_size = 1000\nhistory_bytes_max = 8388608\n",
    );
    let payload = |number: usize| format!("{number} {}", "x".repeat(20_000));
    for number in 0..COUNT {
        server.publish("a", &payload(number));
    }
    let request = Request::sse("/topics/a?since=0").version("HTTP/1.0");
    let mut stream = Stream::open(Wire::connect_small(server.addr), &request);
    thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            for number in COUNT..2 * COUNT {
                server.publish("a", &payload(number));
            }
        });
        for number in 0..COUNT {
            assert_eq!(stream.event().data, Some(payload(number)));
        }
        publisher.join().unwrap();
    });
    for number in COUNT..2 * COUNT {
        assert_eq!(stream.event().data, Some(payload(number)));
    }
}

#[test]
fn what_the_client_of_a_stream_sends_is_thrown_away() {
    let server = Server::start("");
    for request in requests() {
        let mut stream = Stream::open(server.wire(), &request);
        stream.wire.send(&Request::post("/topics/a", "pipelined").to_bytes());
        stream.wire.send(&vec![b'x'; FLOOD_LEN]);
        let mut socket = server.websocket("/topics/a");
        socket.text("live");
        assert_eq!(socket.next_text(), "live");
        if request.to_bytes().starts_with(b"GET") {
            while stream.line().is_some_and(|line| !line.contains("live")) {}
        }
        drop(stream);
        server.await_metric("fanwire_subscriptions", &[], 1);
    }
    assert_eq!(server.metric("fanwire_publications_total", &[("door", "http")]), 0);
}

#[test]
fn a_client_that_sends_no_more_has_left_its_stream() {
    let server = Server::start("");
    for request in requests() {
        let stream = Stream::open(server.wire(), &request);
        stream.wire.finish_sending();
        server.await_metric("fanwire_subscriptions", &[], 0);
        let stream = Stream::open(server.wire(), &request);
        stream.wire.reset();
        server.await_metric("fanwire_subscriptions", &[], 0);
    }
    for door in ["sse", "ndjson", "centrifugo_json"] {
        server.await_metric("fanwire_connections", &[("door", door)], 0);
    }
    let labels = [("code", "1006"), ("reason", "abnormal")];
    assert_eq!(server.metric("fanwire_closes_total", &labels), 0, "it has no other way to leave");
}

#[test]
fn an_idle_stream_is_held_as_an_idle_websocket_is() {
    const COUNT: usize = 50;
    let server = Server::start("");
    let held = || server.metric("fanwire_memory_bytes", &[("kind", "connections")]);
    let http = [("door", "http")];
    let before = held();
    let streams: Vec<_> = (0..COUNT).map(|_| server.sse("/topics/a")).collect();
    server.await_metric("fanwire_connections", &http, 0);
    let streams_len = held() - before;
    drop(streams);
    server.await_metric("fanwire_connections", &[("door", "sse")], 0);
    let _sockets: Vec<_> = (0..COUNT).map(|_| server.websocket("/topics/a")).collect();
    server.await_metric("fanwire_connections", &http, 0);
    assert_eq!(streams_len, held() - before, "on the memory account");
}
