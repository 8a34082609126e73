//! Frames that break RFC 6455 and frames that test it: each fault has its close and its counter.

use crate::harness::{
    BINARY, CLOSE, CONTINUATION, FIN, Frame, LEN_16_BITS, LEN_64_BITS, MASKED, PING, PONG, Server,
    TEXT, WebSocket, close_payload, frame,
};

/// Sends `bytes` over its own connection: closed with `code` and `reason`, counted as `kind`.
#[track_caller]
fn check(server: &Server, bytes: &[u8], code: u16, kind: &str) {
    let reason = if code == 1007 { "utf8" } else { "protocol" };
    let code_text = code.to_string();
    let closes = [("code", code_text.as_str()), ("reason", reason)];
    let before = server.metrics();
    let mut socket = server.websocket("/topics/a");
    socket.wire.send(bytes);
    socket.assert_closed(code, reason);
    let (errors_name, kinds) = ("fanwire_protocol_errors_total", [("kind", kind)]);
    server.await_metric(errors_name, &kinds, before.get(errors_name, &kinds) + 1);
    let closes_name = "fanwire_closes_total";
    server.await_metric(closes_name, &closes, before.get(closes_name, &closes) + 1);
}

#[test]
fn reserved_bits_and_opcodes_are_closed_with_1002() {
    let server = Server::start("");
    for bit in [0x40, 0x20, 0x10] {
        check(&server, &frame(FIN | bit | TEXT, b"x"), 1002, "reserved_bits");
    }
    for opcode in [0x3, 0x7, 0xB, 0xF] {
        check(&server, &frame(FIN | opcode, b"x"), 1002, "reserved_opcode");
    }
}

#[test]
fn unmasked_frames_are_closed_with_1002() {
    let server = Server::start("");
    for frame in [&[FIN | TEXT, 1, b'x'][..], &[FIN | TEXT, 0], &[FIN | PING, 0]] {
        check(&server, frame, 1002, "unmasked");
    }
}

#[test]
fn lengths_that_are_not_minimal_are_closed_with_1002() {
    let server = Server::start("");
    let short_as_16_bits = [FIN | TEXT, MASKED | LEN_16_BITS, 0, 125];
    let mut short_as_64_bits = vec![FIN | TEXT, MASKED | LEN_64_BITS];
    short_as_64_bits.extend(0xFFFF_u64.to_be_bytes());
    for head in [&short_as_16_bits[..], &short_as_64_bits] {
        let bytes = [head, &[0; 4 + 125]].concat();
        check(&server, &bytes, 1002, "length_not_minimal");
    }
}

#[test]
fn announced_lengths_beyond_reason_are_refused_before_their_bytes() {
    let server = Server::start("");
    let announce = |len: u64| {
        let head = [FIN | BINARY, MASKED | LEN_64_BITS];
        [&head[..], &len.to_be_bytes(), b"mask"].concat()
    };
    check(&server, &announce(1 << 63), 1002, "length_too_large");
    let mut socket = server.websocket("/topics/a");
    socket.wire.send(&announce(1 << 62));
    socket.assert_closed(1009, "message_too_large");
    server.await_close_counted("1009", "message_too_large", 1);
}

#[test]
fn faulty_control_frames_are_closed_with_1002() {
    let server = Server::start("");
    for opcode in [PING, PONG, CLOSE] {
        check(&server, &frame(opcode, b""), 1002, "control_fragmented");
        check(&server, &frame(FIN | opcode, &[0; 126]), 1002, "control_too_long");
    }
    check(&server, &frame(FIN | CLOSE, &[3]), 1002, "close_payload");
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        check(&server, &frame(FIN | CLOSE, &close_payload(code, "")), 1002, "close_code");
    }
}

#[test]
fn faulty_fragments_are_closed_with_1002() {
    let server = Server::start("");
    for first in [CONTINUATION, FIN | CONTINUATION] {
        check(&server, &frame(first, b"x"), 1002, "continuation_unexpected");
    }
    for first in [TEXT, FIN | TEXT, BINARY, FIN | BINARY] {
        let bytes = [frame(TEXT, b"x"), frame(first, b"y")].concat();
        check(&server, &bytes, 1002, "message_interrupted");
    }
}

#[test]
fn bad_utf8_is_closed_with_1007_wherever_it_is_split() {
    let server = Server::start("");
    let split =
        |head: &[u8], tail: &[u8]| [frame(TEXT, head), frame(FIN | CONTINUATION, tail)].concat();
    for bytes in [
        frame(FIN | TEXT, b"\xFF"),
        frame(FIN | TEXT, b"cut \xE2\x82"),
        frame(FIN | TEXT, b"\xED\xA0\x80"),
        frame(FIN | TEXT, b"\xC0\xAF"),
        split(b"\xE2", b"\x28\xA1"),
        split(b"fine", b"\xF4\x90\x80\x80"),
        split(b"cut \xE2\x82", b""),
        frame(FIN | CLOSE, b"\x03\xE8\xFF"),
    ] {
        check(&server, &bytes, 1007, "utf8");
    }
}

#[test]
fn nothing_of_a_faulty_message_is_published() {
    let server = Server::start("");
    let mut subscriber = server.websocket("/topics/a");
    let bytes =
        [frame(FIN | TEXT, b"before"), frame(FIN | TEXT, b"\xFF"), frame(FIN | TEXT, b"after")];
    check(&server, &bytes.concat(), 1007, "utf8");
    server.publish("a", "next");
    assert_eq!(subscriber.next_text(), "before");
    assert_eq!(subscriber.next_text(), "next");
}

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
fn a_flood_of_pings_is_answered_in_few_writes() {
    let server = Server::start("");
    let mut socket = server.websocket("/topics/a");
    let before = server.metric("fanwire_writes_total", &[]);
    let pings: Vec<u8> =
        (0..10_000_u16).flat_map(|number| frame(FIN | PING, &number.to_be_bytes())).collect();
    socket.wire.send(&pings);
    for number in 0..10_000_u16 {
        let payload = number.to_be_bytes().to_vec();
        assert_eq!(socket.frame(), Frame { opcode: PONG, payload });
    }
    let writes = server.metric("fanwire_writes_total", &[]) - before;
    assert!((1..1000).contains(&writes), "{writes} writes for 10,000 pongs");
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
