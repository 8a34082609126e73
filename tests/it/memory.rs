//! The memory limit holds for everybody, and what is held for clients is on the account.

use std::collections::VecDeque;

use crate::harness::{BINARY, CLOSE, Request, Server, close_payload};

const PAYLOAD_LEN: usize = 60_000;

/// A limit that takes so many payloads at most.
const LIMIT: &str = "[limits]\nmemory_bytes_max = 1000000\n";
const FITTING_MAX: u64 = 1_000_000 / PAYLOAD_LEN as u64 + 1;

fn history_bytes(server: &Server) -> u64 {
    server.metric("fanwire_memory_bytes", &[("kind", "history")])
}

#[test]
fn publishers_over_websocket_are_closed_with_1013_at_the_memory_limit() {
    let server = Server::start(LIMIT);
    let sockets = (0..20).map(|topic| server.websocket(&format!("/topics/{topic}")));
    let (mut sockets, mut accepted) = (sockets.collect::<VecDeque<_>>(), 0);
    // Ends: what is accepted stays, so everybody is refused sooner or later.
    while let Some(mut socket) = sockets.pop_front() {
        socket.send(BINARY, &vec![1; PAYLOAD_LEN]);
        let frame = socket.message();
        if frame.opcode == CLOSE {
            assert_eq!(frame.payload, close_payload(1013, "memory_limit"));
        } else {
            accepted += 1;
            assert!(accepted <= FITTING_MAX, "{accepted} publications in a memory of {LIMIT:?}");
            sockets.push_back(socket);
        }
    }
    server.await_close_counted("1013", "memory_limit", 20);
    assert_eq!(server.metric("fanwire_publications_total", &[("door", "plain")]), accepted);
}

#[test]
fn a_refused_post_makes_no_topic() {
    let server = Server::start(LIMIT);
    let accepted = (0..).take_while(|topic| {
        server.post(&format!("/topics/{topic}"), vec![1; PAYLOAD_LEN]).status == 200
    });
    let accepted = u64::try_from(accepted.count()).unwrap();
    assert!((1..=FITTING_MAX).contains(&accepted), "{accepted}");
    let topics = server.metric("fanwire_topics", &[]);
    let mut wire = server.wire();
    for topic in 0..50 {
        let request = Request::post(&format!("/topics/refused{topic}"), "x");
        wire.request(&request).assert_refused(503, "memory_limit");
    }
    assert_eq!(topics, accepted, "the first refusal made none either");
    assert_eq!(server.metric("fanwire_topics", &[]), topics);
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
