//! Every limit is kept, named and counted.

use std::net::Ipv4Addr;

use crate::harness::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, Request, Server, TEXT, WebSocket, Wire,
    eventually, frame,
};

fn await_refused(server: &Server, reason: &str, expected: u64) {
    server.await_metric("fanwire_requests_refused_total", &[("reason", reason)], expected);
}

#[test]
fn a_message_over_the_limit_is_closed_with_1009() {
    let server = Server::start("[limits]\nmessage_bytes_max = 1000\n");
    let mut socket = server.websocket("/topics/a");
    socket.send(BINARY, &[1; 1000]);
    assert_eq!(socket.message().payload.len(), 1000);
    socket.send(BINARY, &[1; 1001]);
    socket.assert_closed(1009, "message_too_large");
    server.await_close_counted("1009", "message_too_large", 1);
}

#[test]
fn the_limit_holds_for_the_sum_of_the_fragments() {
    let server = Server::start("[limits]\nmessage_bytes_max = 1000\n");
    let mut socket = server.websocket("/topics/a");
    socket.wire.send(&frame(BINARY, &[1; 600]));
    socket.wire.send(&frame(CONTINUATION, &[1; 400]));
    socket.wire.send(&frame(CONTINUATION, &[1; 1]));
    socket.assert_closed(1009, "message_too_large");
}

#[test]
fn endless_fragments_are_closed_with_1009() {
    let server = Server::start("[limits]\nfragments_max = 100\n");
    let mut fine = server.websocket("/topics/a");
    fine.wire.send(&frame(TEXT, b""));
    fine.wire.send(&frame(CONTINUATION, b"").repeat(98));
    fine.wire.send(&frame(FIN | CONTINUATION, b"whole"));
    assert_eq!(fine.next_text(), "whole");
    let mut endless = server.websocket("/topics/a");
    endless.wire.send(&frame(TEXT, b"x"));
    endless.wire.send(&frame(CONTINUATION, b"x").repeat(100));
    endless.assert_closed(1009, "message_too_large");
    server.await_close_counted("1009", "message_too_large", 1);
}

#[test]
fn a_topic_name_over_the_limit_is_400() {
    let server = Server::start("[limits]\ntopic_name_bytes_max = 10\n");
    assert_eq!(server.post("/topics/0123456789", "x").status, 200);
    assert_eq!(server.post("/topics/%30123456789", "x").status, 200);
    server.post("/topics/0123456789a", "x").assert_refused(400, "topic_name_invalid");
    await_refused(&server, "topic_name_invalid", 1);
}

#[test]
fn a_request_head_over_the_limit_is_431() {
    let server = Server::start("[limits]\nrequest_head_bytes_max = 8192\n");
    let fits = Request::get("/topics/a/history").header("X-Filler", &"x".repeat(7000));
    assert_eq!(server.request(&fits).status, 200);
    for request in [Request::get("/topics/a"), Request::handshake("/topics/a")] {
        let big = request.header("X-Filler", &"x".repeat(9000));
        let mut wire = server.wire();
        assert_eq!(wire.request(&big).status, 431);
        wire.wait_closed();
    }
    let uri = Request::get(&format!("/topics/a/history?{}", "x".repeat(9000)));
    let status = server.request(&uri).status;
    assert!(status == 414 || status == 431, "{status}");
}

#[test]
fn a_head_that_does_not_end_is_closed_after_handshake_timeout() {
    let server = Server::start("[limits]\nhandshake_timeout = \"200ms\"\n");
    let head = Request::handshake("/topics/a").to_bytes();
    for sent in [&b""[..], b"G", &head[..head.len() - 1]] {
        let mut wire = server.wire();
        wire.send(sent);
        wire.wait_closed();
    }
}

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
fn a_reader_that_takes_nothing_is_closed_after_write_timeout() {
    let server = Server::start(
        "[limits]\nwrite_timeout = \"300ms\"\nmessage_bytes_max = 65000\n\
         [[topic]]\nmatch = \"*\"\ndelivery = \"lossy\"\n",
    );
    let handshake = Request::handshake("/topics/a");
    let _stalled = WebSocket::open(Wire::connect_small(server.addr), &handshake);
    let mut publisher = server.websocket("/topics/a?echo=false");
    let outbox_bytes = || server.metric("fanwire_outbox_bytes", &[]);
    for _ in 0..2000 {
        publisher.send(BINARY, &vec![1; 65000]);
        if outbox_bytes() > 0 {
            break;
        }
    }
    server.await_close_counted("1013", "write_timeout", 1);
    server.await_metric("fanwire_connections", &[("door", "plain")], 1);
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
    await_refused(&server, "connections_limit", 2);
    drop(first);
    eventually("a place is free", || {
        let answer = server.get("/topics/a/history");
        (answer.status == 200).then_some(())
    });
}

#[test]
fn connections_of_one_address_over_the_limit_get_429() {
    let server = Server::start("[limits]\nconnections_per_address_max = 2\n");
    let _held: Vec<_> = (0..2).map(|_| server.websocket("/topics/a")).collect();
    let response = server.request(&Request::handshake("/topics/a"));
    response.assert_refused(429, "address_limit");
    assert!(response.header("retry-after").is_some());
    await_refused(&server, "address_limit", 1);
    let other = Wire::connect_from(Ipv4Addr::new(127, 0, 0, 2), server.addr);
    WebSocket::open(other, &Request::handshake("/topics/a"));
}

#[test]
fn at_the_memory_limit_nothing_new_is_admitted_until_history_ages() {
    let server = Server::start(
        "[limits]\nmemory_bytes_max = 1000000\n\
         [[topic]]\nmatch = \"*\"\nhistory_bytes_max = 10000000\nhistory_ttl = \"2s\"\n",
    );
    let mut reader = server.websocket("/topics/a");
    let payload = "x".repeat(60_000);
    let sent = (1..100).find(|_| server.post("/topics/a", &payload).status != 200);
    assert!(sent.is_some_and(|sent| (10..25).contains(&sent)), "{sent:?}");
    server.post("/topics/b", "x").assert_refused(503, "memory_limit");
    server.get("/topics/b").assert_refused(503, "memory_limit");
    await_refused(&server, "memory_limit", 3);
    assert_eq!(reader.next_text(), payload, "who is there is served on");
    eventually("history to age", || (server.post("/topics/b", "x").status == 200).then_some(()));
}
