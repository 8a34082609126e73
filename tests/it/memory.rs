//! The memory limit holds for everybody, and what is held for clients is on the account.

use crate::harness::{
    BINARY, FIN, LEN_16_BITS, MASKED, Request, Server, WebSocket, Wire, eventually,
};

const PAYLOAD_LEN: usize = 60_000;

/// A budget of which less than a sixteenth is left with so many open HTTP connections, and nothing
/// with a few more.
const LIMIT: &str = "[limits]\nmemory_bytes_max = 1000000\nhandshake_timeout = \"1m\"\n";
const SCARCE_COUNT: usize = 46;
const EXHAUSTED_COUNT: usize = 50;

/// Opens connections that ask nothing until so many are there; what they hold cannot be let go.
fn hold(server: &Server, held: &mut Vec<Wire>, count: usize) {
    held.extend((held.len()..count).map(|_| server.wire()));
    let open = || server.metric("fanwire_connections", &[("door", "http")]);
    eventually("all are in", || (open() >= count as u64).then_some(()));
}

fn shed(server: &Server, what: &str) -> u64 {
    server.metric("fanwire_memory_shed_total", &[("what", what)])
}

fn history_bytes(server: &Server) -> u64 {
    server.metric("fanwire_memory_bytes", &[("kind", "history")])
}

#[test]
fn idempotency_keys_are_charged_to_the_account() {
    // One publication is kept: what grows beside it are the keys.
    let server = Server::start("[[topic]]\nmatch = \"*\"\nhistory_size = 1\n");
    let mut wire = server.wire();
    let mut post = |number: u64| {
        let key = format!("{number:0100}");
        let request = Request::post("/topics/a", "x").header("Idempotency-Key", &key);
        assert_eq!(wire.request(&request).status, 200);
    };
    post(0);
    let one = history_bytes(&server);
    (1..=500).for_each(&mut post);
    let grown = history_bytes(&server) - one;
    assert!(grown >= 500 * 100, "{grown} bytes for 500 keys of 100 bytes");
    (1..=500).for_each(&mut post);
    assert_eq!(history_bytes(&server) - one, grown, "a repeat is charged nothing");
}

#[test]
fn encodings_are_charged_to_the_account_and_given_back_with_the_publication() {
    let server = Server::start("[[topic]]\nmatch = \"*\"\nhistory_size = 1\n");
    let payload = "x".repeat(PAYLOAD_LEN);
    let mut plain = server.websocket("/topics/a");
    server.publish("a", &payload);
    assert_eq!(plain.next_text(), payload);
    let alone = history_bytes(&server);
    let mut json = server.websocket("/topics/a?format=json&last=1");
    json.json();
    assert_eq!(json.json()["data"], payload.as_str());
    let mut events = server.sse("/topics/a?last=1");
    assert_eq!(events.event().data.as_deref(), Some(payload.as_str()));
    let encoded = history_bytes(&server) - alone;
    assert!(encoded >= 2 * PAYLOAD_LEN as u64, "{encoded}");
    drop((json, events));
    server.await_metric("fanwire_subscriptions", &[], 1);
    server.publish("a", &payload);
    assert_eq!(plain.next_text(), payload);
    server.await_metric("fanwire_memory_bytes", &[("kind", "history")], alone);
}

#[test]
fn when_memory_is_scarce_nobody_new_is_let_in_until_others_leave() {
    let server = Server::start(LIMIT);
    let (mut reader, mut wire) = (server.websocket("/topics/a"), server.wire());
    assert_eq!(wire.request(&Request::post("/topics/a", "before")).status, 200);
    let mut held = Vec::new();
    hold(&server, &mut held, SCARCE_COUNT);
    for request in [Request::post("/topics/a", "x"), Request::handshake("/topics/a")] {
        let refused = server.request(&request);
        refused.assert_refused(503, "memory_limit");
        assert!(refused.header("retry-after").is_some());
        assert_eq!(refused.header("connection"), Some("close"));
    }
    server.await_refused("memory_limit", 2);
    assert_eq!(wire.request(&Request::post("/topics/a", "meanwhile")).status, 200);
    wire.answer(&Request::handshake("/topics/a")).assert_refused(503, "memory_limit");
    for text in ["before", "meanwhile"] {
        assert_eq!(reader.next_text(), text, "who is in is served on");
    }
    drop(held);
    eventually("there is room", || (server.post("/topics/a", "x").status == 200).then_some(()));
}

#[test]
fn at_the_memory_limit_nothing_is_accepted_through_any_door() {
    let server = Server::start(LIMIT);
    let mut wire = server.wire();
    assert_eq!(wire.request(&Request::post("/topics/a", "x")).status, 200);
    let [mut publisher, mut sender] = [(); 2].map(|()| server.websocket("/topics/a?echo=false"));
    let mut held = Vec::new();
    hold(&server, &mut held, EXHAUSTED_COUNT);
    let topics = server.metric("fanwire_topics", &[]);
    for topic in 0..10 {
        let post = Request::post(&format!("/topics/refused{topic}"), "x");
        wire.request(&post).assert_refused(503, "memory_limit");
    }
    assert_eq!(server.metric("fanwire_topics", &[]), topics, "a refused post makes none");
    wire.request(&Request::get("/topics/a/history")).assert_refused(503, "memory_limit");
    publisher.send(BINARY, b"x");
    publisher.assert_closed(1013, "memory_limit");
    let begun = [&[FIN | BINARY, MASKED | LEN_16_BITS, 0x40, 0][..], b"mask and a part"].concat();
    sender.wire.send(&begun);
    sender.assert_closed(1013, "memory_limit");
    server.await_close_counted("1013", "memory_limit", 2);
    assert_eq!(server.metric("fanwire_publications_total", &[]), 1);
}

#[test]
fn history_makes_room_for_newer_publications() {
    let server = Server::start(
        "[limits]\nmemory_bytes_max = 3000000\n\
         [[topic]]\nmatch = \"*\"\nhistory_bytes_max = 100000000\n",
    );
    let mut wire = server.wire();
    for number in 0..200 {
        let post = Request::post(&format!("/topics/{}", number % 3), vec![1; PAYLOAD_LEN]);
        // At the limit it is refused for as long as it takes to look at the account.
        eventually("there is room", || (wire.request(&post).status == 200).then_some(()));
    }
    assert!(shed(&server, "publications") > 100);
    assert_eq!(shed(&server, "sessions"), 0);
    let held = history_bytes(&server);
    assert!((1_500_000..3_000_000).contains(&held), "{held} bytes of history");
    for topic in 0..3 {
        let page = server.get(&format!("/topics/{topic}/history?limit=1")).json();
        assert_eq!(page["publications"][0]["offset"], page["offset"], "the newest are kept");
    }
}

#[test]
fn sessions_that_hold_the_most_are_closed_when_history_is_used_up() {
    let server = Server::start(
        "[limits]\nmemory_bytes_max = 8000000\noutbox_bytes_max = 100000000\nwrite_timeout = \"1m\"\n\
         [[topic]]\nmatch = \"*\"\nhistory_size = 0\n",
    );
    let slow = |topic: &str| {
        let handshake = Request::handshake(&format!("/topics/{topic}"));
        WebSocket::open(Wire::connect_narrow(server.addr, 2048), &handshake)
    };
    let (mut small, mut large) = (slow("small"), slow("large"));
    let payload = "x".repeat(PAYLOAD_LEN);
    let mut wire = server.wire();
    let mut post = |topic: &str| wire.request(&Request::post(topic, &payload)).status;
    let outbox = || server.metric("fanwire_outbox_bytes", &[]);
    let mut count = 0;
    while outbox() == 0 {
        assert_eq!(post("/topics/small"), 200);
        count += 1;
    }
    let closed = [("code", "1013"), ("reason", "memory_limit")];
    while server.metric("fanwire_closes_total", &closed) == 0 {
        // At the limit it is refused for as long as it takes to look at the account.
        assert!([200, 503].contains(&post("/topics/large")));
    }
    assert_eq!(shed(&server, "sessions"), 1);
    large.wire.widen();
    let (frames, close) = large.drain();
    assert_eq!(&close[2..], b"memory_limit");
    assert!(frames.iter().all(|frame| frame.payload.len() == PAYLOAD_LEN), "whole frames only");
    small.wire.widen();
    for _ in 0..count {
        assert_eq!(small.next_text(), payload, "who holds less is left alone");
    }
}
