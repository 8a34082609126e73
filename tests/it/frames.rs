//! Frames that are right: pings, closes, what comes in pieces.

use crate::harness::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, Server, TEXT, WebSocket, close_payload, frame,
};

#[test]
fn frames_may_come_byte_by_byte() {
    let server = Server::start("");
    let mut socket = server.websocket("/topics/a");
    let bytes = [frame(TEXT, b"sl"), frame(FIN | PING, b"?"), frame(FIN | CONTINUATION, b"ow")];
    for byte in bytes.concat() {
        socket.wire.send(&[byte]);
    }
    assert_eq!(socket.frame().opcode, PONG);
    assert_eq!(socket.next_text(), "slow");
}

#[test]
fn a_ping_is_answered_with_its_payload_also_inside_a_message() {
    let server = Server::start("");
    let mut socket = server.websocket("/topics/a");
    for payload in [&b""[..], b"ping", &[0xFF; 125]] {
        socket.wire.send(&frame(BINARY, b"begun"));
        socket.send(PING, payload);
        let pong = socket.frame();
        assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, payload));
        socket.wire.send(&frame(FIN | CONTINUATION, b""));
        assert_eq!(socket.message().payload, b"begun");
    }
}

#[test]
fn an_unasked_pong_is_ignored() {
    let server = Server::start("");
    let mut socket = server.websocket("/topics/a");
    socket.send(PONG, b"nobody asked");
    socket.text("still here");
    assert_eq!(socket.next_text(), "still here");
}

/// Sends one close frame and gives the payload of the answer.
fn close_answer(mut socket: WebSocket, payload: &[u8]) -> Vec<u8> {
    socket.send(CLOSE, payload);
    let (data, answer) = socket.drain();
    assert_eq!(data, []);
    answer
}

#[test]
fn a_close_is_answered_with_its_code_and_counted() {
    let server = Server::start("");
    let other = [1003, 1007, 1011, 3000, 4999];
    for code in [1000, 1001].into_iter().chain(other) {
        let answer = close_answer(server.websocket("/topics/a"), &close_payload(code, "bye"));
        assert_eq!(answer[..2], code.to_be_bytes());
    }
    server.await_close_counted("1000", "client", 1);
    server.await_close_counted("1001", "client", 1);
    server.await_close_counted("other", "client", 5);
    close_answer(server.websocket("/topics/a"), b"");
    server.await_close_counted("1000", "client", 2);
}

#[test]
fn data_before_a_close_in_one_segment_is_delivered_before_the_answer() {
    let server = Server::start("");
    let mut subscriber = server.websocket("/topics/a");
    let mut socket = server.websocket("/topics/a");
    let close = frame(FIN | CLOSE, &close_payload(1000, ""));
    let bytes = [frame(FIN | TEXT, b"last"), frame(FIN | TEXT, b"words"), close];
    socket.wire.send(&bytes.concat());
    let (data, _) = socket.drain();
    let payloads: Vec<_> = data.iter().map(|frame| frame.payload.as_slice()).collect();
    assert_eq!(payloads, [b"last".as_slice(), b"words"]);
    assert_eq!(subscriber.next_text(), "last");
    assert_eq!(subscriber.next_text(), "words");
}

#[test]
fn frames_after_a_close_are_not_published() {
    let server = Server::start("");
    let mut subscriber = server.websocket("/topics/a");
    let mut socket = server.websocket("/topics/a");
    let close = frame(FIN | CLOSE, &close_payload(1000, ""));
    socket.wire.send(&[close, frame(FIN | TEXT, b"too late")].concat());
    socket.drain();
    server.publish("a", "next");
    assert_eq!(subscriber.next_text(), "next");
}

#[test]
fn a_connection_that_ends_without_close_is_counted_as_1006() {
    let server = Server::start("");
    let whole = server.websocket("/topics/a");
    let mut cut = server.websocket("/topics/a");
    cut.wire.send(&[FIN | TEXT]);
    drop((whole, cut));
    server.await_close_counted("1006", "abnormal", 2);
    server.await_metric("fanwire_subscriptions", &[], 0);
}
