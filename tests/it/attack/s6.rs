//! S6: frames that break RFC 6455. Each fault has its close frame and its counter.

use crate::harness::{
    BINARY, CLOSE, CONTINUATION, FIN, LEN_16_BITS, LEN_64_BITS, MASKED, PING, PONG, Server, TEXT,
    close_payload, frame,
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
