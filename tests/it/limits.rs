//! Every limit is kept, named and counted.

use crate::harness::{CLOSE, FIN, PING, PONG, Request, Server, TEXT, eventually, frame};

#[test]
fn an_idle_connection_outlives_handshake_timeout_and_ends_after_http_idle_timeout() {
    let config = "[limits]\nhandshake_timeout = \"200ms\"\nhttp_idle_timeout = \"2s\"\n";
    let server = Server::start(config);
    let history = Request::get("/topics/a/history");
    let mut kept = server.wire();
    assert_eq!(kept.request(&history).status, 200);
    // Opened later than the answer came: its end says that handshake_timeout has passed.
    let mut clock = server.wire();
    clock.send(b"GET");
    clock.wait_closed();
    assert_eq!(kept.request(&history).status, 200);
    kept.wait_closed();
}

#[test]
fn a_silent_client_is_pinged_and_closed_with_1011() {
    let server = Server::start("[limits]\nping_interval = \"100ms\"\npong_timeout = \"100ms\"\n");
    let mut silent = server.websocket("/topics/a");
    assert_eq!(silent.frame().opcode, PING);
    loop {
        let frame = silent.frame();
        if frame.opcode == CLOSE {
            let expected = [&1011_u16.to_be_bytes()[..], b"pong_timeout"].concat();
            assert_eq!(frame.payload, expected);
            break;
        }
        assert_eq!(frame.opcode, PING);
    }
    assert_eq!(silent.try_frame(), None);
    server.await_close_counted("1011", "pong_timeout", 1);
}

#[test]
fn a_client_that_answers_pings_stays() {
    let server = Server::start("[limits]\nping_interval = \"100ms\"\npong_timeout = \"5s\"\n");
    let mut socket = server.websocket("/topics/a");
    for _ in 0..5 {
        let ping = socket.frame();
        assert_eq!(ping.opcode, PING);
        socket.send(PONG, &ping.payload);
    }
    socket.text("still here");
    assert_eq!(socket.next_text(), "still here");
    assert_eq!(server.metric("fanwire_connections", &[("door", "plain")]), 1);
}

#[test]
fn a_publisher_over_the_rate_is_closed_with_1008() {
    let server = Server::start("[limits]\npublish_rate_max = 5\n");
    let mut socket = server.websocket("/topics/a?echo=false");
    socket.wire.send(&frame(FIN | TEXT, b"x").repeat(100));
    socket.assert_closed(1008, "rate_limit");
    server.await_close_counted("1008", "rate_limit", 1);
    let published = server.metric("fanwire_publications_total", &[("door", "plain")]);
    assert!((1..100).contains(&published), "{published}");
}

#[test]
fn a_connection_that_posts_over_the_rate_gets_429() {
    let server = Server::start("[limits]\npublish_rate_max = 5\n");
    let mut wire = server.wire();
    wire.send(&Request::post("/topics/a", "x").to_bytes().repeat(100));
    let refused = (0..100).map(|_| wire.response()).find(|answer| answer.status != 200);
    let refused = refused.expect("100 at once are over 5 a second");
    refused.assert_refused(429, "rate_limit");
    assert!(refused.header("retry-after").is_some());
}

#[test]
fn connections_over_the_limit_get_503_and_a_place_when_one_leaves() {
    let server = Server::start("[limits]\nconnections_max = 2\n");
    let first = server.websocket("/topics/a");
    let _second = server.websocket("/topics/a");
    for request in [Request::handshake("/topics/a"), Request::get("/topics/a")] {
        let response = server.request(&request);
        response.assert_refused(503, "connections_limit");
        assert!(response.header("retry-after").is_some());
    }
    server.await_refused("connections_limit", 2);
    drop(first);
    eventually("a place is free", || {
        let answer = server.get("/topics/a/history");
        (answer.status == 200).then_some(())
    });
}
