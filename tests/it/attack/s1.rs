//! S1: frames over the limit, and lengths that nobody could send. Nothing is allocated for a length
//! that is only announced.

use crate::harness::{BINARY, FIN, LEN_64_BITS, MASKED, Server, eventually};

/// The head of a binary message of `len` bytes.
fn announce(len: u64) -> Vec<u8> {
    let head = [FIN | BINARY, MASKED | LEN_64_BITS];
    [&head[..], &len.to_be_bytes(), b"mask"].concat()
}

#[test]
fn announced_lengths_beyond_reason_are_refused_before_their_bytes() {
    let server = Server::start("");
    let mut socket = server.websocket("/topics/a");
    socket.wire.send(&announce(1 << 63));
    socket.assert_closed(1002, "protocol");
    let kind = [("kind", "length_too_large")];
    server.await_metric("fanwire_protocol_errors_total", &kind, 1);
    let mut socket = server.websocket("/topics/a");
    socket.wire.send(&announce(1 << 62));
    socket.assert_closed(1009, "message_too_large");
    server.await_close_counted("1009", "message_too_large", 1);
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
fn an_announced_length_takes_no_memory_before_its_bytes() {
    let server = Server::start("[limits]\nmessage_bytes_max = 900000\n");
    let mut sockets: Vec<_> = (0..200).map(|_| server.websocket("/topics/a")).collect();
    for socket in &mut sockets {
        socket.wire.send(&[announce(900_000).as_slice(), b"x"].concat());
    }
    let held = || server.metric("fanwire_memory_bytes", &[("kind", "reading")]);
    // Each holds at least the byte and where it stands.
    let held = eventually("all have sent", || Some(held()).filter(|held| *held >= 200 * 64));
    assert!(held <= 200 * 512, "{held} bytes for 200 messages of which one byte has come");
}
