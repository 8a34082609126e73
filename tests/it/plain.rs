//! The plain door: frames in, frames out, one order for everybody.

use std::thread;
use std::time::SystemTime;

use crate::harness::{
    BINARY, CONTINUATION, FIN, Request, Server, TEXT, WebSocket, eventually, frame,
};
use crate::invariant::Position;

#[test]
fn a_sender_gets_its_own_publication() {
    let server = Server::start("");
    let mut socket = server.websocket("/topics/a");
    socket.text("hello");
    assert_eq!(socket.next_text(), "hello");
}

#[test]
fn echo_false_leaves_out_only_what_this_connection_sent() {
    let server = Server::start("");
    let mut quiet = server.websocket("/topics/a?echo=false");
    let mut other = server.websocket("/topics/a");
    quiet.text("mine");
    assert_eq!(other.next_text(), "mine");
    other.text("theirs");
    assert_eq!(quiet.next_text(), "theirs");
    assert_eq!(other.next_text(), "theirs");
}

#[test]
fn text_stays_text_and_binary_stays_binary() {
    let server = Server::start("");
    let mut publisher = server.websocket("/topics/a?echo=false");
    let mut subscriber = server.websocket("/topics/a");
    let long = vec![0xFF; 65536];
    for (opcode, payload) in [
        (TEXT, "gr\u{fc}\u{df}e".as_bytes()),
        (BINARY, b"text as binary"),
        (BINARY, &[0x00, 0xFF, 0xC3][..]),
        (BINARY, &[7; 125]),
        (BINARY, &[7; 126]),
        (BINARY, &long[1..]),
        (BINARY, &long),
    ] {
        publisher.send(opcode, payload);
        let got = subscriber.message();
        assert_eq!((got.opcode, got.payload.as_slice()), (opcode, payload));
    }
}

#[test]
fn an_empty_message_is_a_publication() {
    let server = Server::start("");
    let mut socket = server.websocket("/topics/a");
    for opcode in [TEXT, BINARY] {
        socket.send(opcode, b"");
        let got = socket.message();
        assert_eq!((got.opcode, got.payload.len()), (opcode, 0));
    }
    assert_eq!(server.publish("a", "").offset, 3);
    assert_eq!(socket.next_text(), "");
}

#[test]
fn a_fragmented_message_arrives_as_one_frame() {
    let server = Server::start("");
    let mut socket = server.websocket("/topics/a");
    // The middle fragment splits a character: only the whole message must be UTF-8.
    let fragments =
        [(TEXT, &b"gr\xC3"[..]), (CONTINUATION, b"\xBC\xC3\x9F"), (FIN | CONTINUATION, b"e")];
    for (first, payload) in fragments {
        socket.wire.send(&frame(first, payload));
    }
    assert_eq!(socket.next_text(), "gr\u{fc}\u{df}e");
}

#[test]
fn all_subscribers_see_two_publishers_in_one_order() {
    const EACH: usize = 500;
    let server = Server::start_with("", &["--workers", "2"]);
    let mut subscribers: Vec<_> = (0..8).map(|_| server.websocket("/topics/a")).collect();
    // Both are there before either publishes: each waits for the other's last.
    let publishers = ["x", "y"].map(|name| (name, server.websocket("/topics/a?echo=false")));
    thread::scope(|scope| {
        for (publisher, mut socket) in publishers {
            scope.spawn(move || {
                for index in 0..EACH {
                    socket.text(&format!("{publisher}{index}"));
                }
                // The other's publications must be taken too, or this one is slow.
                while !socket.next_text().ends_with(&(EACH - 1).to_string()) {}
            });
        }
    });
    let order = sequence(&mut subscribers[0], 2 * EACH);
    for subscriber in &mut subscribers[1..] {
        assert_eq!(sequence(subscriber, 2 * EACH), order);
    }
    for publisher in ['x', 'y'] {
        let own: Vec<_> = order.iter().filter(|t| t.starts_with(publisher)).collect();
        let expected: Vec<_> = (0..EACH).map(|i| format!("{publisher}{i}")).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>());
    }
}

fn sequence(socket: &mut WebSocket, count: usize) -> Vec<String> {
    (0..count).map(|_| socket.next_text()).collect()
}

#[test]
fn topics_do_not_mix() {
    let server = Server::start("");
    let mut a = server.websocket("/topics/a");
    let mut b = server.websocket("/topics/b");
    a.text("for a");
    b.text("for b");
    assert_eq!(a.next_text(), "for a");
    assert_eq!(b.next_text(), "for b");
}

#[test]
fn names_are_case_sensitive_and_decoded_once() {
    let server = Server::start("");
    for (one, other) in [("News", "news"), ("%2541", "A"), ("a%2Fb", "a%252Fb"), ("a+b", "a%20b")] {
        let mut socket = server.websocket(&format!("/topics/{one}"));
        server.publish(other, "not here");
        server.publish(one, "here");
        assert_eq!(socket.next_text(), "here", "{one}");
    }
}

#[test]
fn the_subscription_is_in_force_when_the_101_arrives() {
    let server = Server::start_with("", &["--workers", "2"]);
    let mut publisher = server.websocket("/topics/a?echo=false");
    for index in 0..100 {
        let mut socket = server.websocket("/topics/a");
        assert_eq!(Position::of_head(&socket.head).offset, index);
        publisher.text(&index.to_string());
        assert_eq!(socket.next_text(), index.to_string());
    }
}

#[test]
fn the_101_tells_the_position_and_whether_it_recovered() {
    let server = Server::start("");
    let top = server.publish_numbers("a", 3);
    let live = server.websocket("/topics/a");
    assert_eq!(Position::of_head(&live.head), top);
    assert_eq!(live.head.header("fanwire-recovered"), None);

    let since = format!("/topics/a?since={}:1", top.epoch);
    let mut recovered = server.websocket(&since);
    assert_eq!(Position::of_head(&recovered.head).offset, 1);
    assert_eq!(recovered.head.header("fanwire-recovered"), Some("true"));
    assert_eq!(sequence(&mut recovered, 2), ["2", "3"]);

    let lost = server.websocket("/topics/a?since=elsewhere:1");
    assert_eq!(Position::of_head(&lost.head), top);
    assert_eq!(lost.head.header("fanwire-recovered"), Some("false"));
}

#[test]
fn without_history_the_101_tells_no_position() {
    let server = Server::start("[[topic]]\nmatch = \"*\"\nhistory_size = 0\n");
    let socket = server.websocket("/topics/a?since=abc:1");
    assert_eq!(socket.head.header("fanwire-epoch"), None);
    assert_eq!(socket.head.header("fanwire-offset"), None);
    assert_eq!(socket.head.header("fanwire-recovered"), Some("false"));
}

#[test]
fn only_the_plain_subprotocol_is_selected() {
    let server = Server::start("");
    for (offered, selected) in [
        ("fanwire.plain", Some("fanwire.plain")),
        ("chat, fanwire.plain, superchat", Some("fanwire.plain")),
        ("chat, superchat", None),
    ] {
        let request = Request::handshake("/topics/a").header("Sec-WebSocket-Protocol", offered);
        let socket = WebSocket::open(server.wire(), &request);
        assert_eq!(socket.head.header("sec-websocket-protocol"), selected);
    }
}

#[test]
fn extensions_are_not_negotiated_while_compression_is_off() {
    let server = Server::start("");
    let request =
        Request::handshake("/topics/a").header("Sec-WebSocket-Extensions", "permessage-deflate");
    let mut socket = WebSocket::open(server.wire(), &request);
    assert_eq!(socket.head.header("sec-websocket-extensions"), None);
    socket.text("plain");
    assert_eq!(socket.next_text(), "plain");
}

#[test]
fn format_json_wraps_what_arrives_and_publishes_what_is_sent_raw() {
    let server = Server::start("");
    let mut json = server.websocket("/topics/a?format=json");
    let subscribed = json.json();
    let start = Position::of(&subscribed["subscribed"]);
    assert_eq!(start, Position::of_head(&json.head));
    assert_eq!(subscribed["subscribed"]["topic"], "a");
    assert!(subscribed["subscribed"].get("recovered").is_none());
    let mut raw = server.websocket("/topics/a");
    json.text("{\"raw\":1}");
    assert_eq!(raw.next_text(), "{\"raw\":1}");
    let publication = json.json();
    assert_eq!(publication["data"], "{\"raw\":1}");
    assert_eq!(Position::of(&publication), start.plus(1));
    raw.send(BINARY, &[0xFF]);
    assert_eq!(json.json()["data64"], "/w==");
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("it is later than 1970");
    u64::try_from(since.as_millis()).unwrap()
}

#[test]
fn what_comes_right_behind_the_handshake_has_the_time_of_its_arrival() {
    let server = Server::start_with("[limits]\nping_interval = \"1h\"\n", &["--workers", "1"]);
    server.publish("other", "the worker has looked at the clock");
    // Nothing happens on the worker meanwhile: a time that it read before is told from the true one.
    let idle_until = now() + 100;
    let sent = eventually("the clock to move on", || Some(now()).filter(|at| *at > idle_until));
    let mut wire = server.wire();
    let handshake = Request::handshake("/topics/a?format=json").to_bytes();
    wire.send(&[handshake, frame(FIN | TEXT, b"first")].concat());
    let mut socket = WebSocket::after_request(wire);
    assert!(socket.json()["subscribed"].is_object());
    let first = socket.json();
    assert_eq!(first["data"], "first");
    let time = first["time"].as_u64().expect("a time");
    let received = now();
    assert!((sent..=received).contains(&time), "{sent} <= {time} <= {received}");
}
