//! S2: endless fragments. Their number and their sum are limited, and so is what they cost.

use crate::harness::{BINARY, CONTINUATION, FIN, Server, TEXT, eventually, figure, frame};

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
fn what_fragments_hold_is_bounded_by_what_was_sent() {
    let server = Server::start("");
    let mut sockets: Vec<_> = (0..20).map(|_| server.websocket("/topics/a")).collect();
    let fragments = 3000;
    for socket in &mut sockets {
        socket.wire.send(&frame(BINARY, b"x"));
        socket.wire.send(&frame(CONTINUATION, b"x").repeat(fragments - 1));
    }
    let payload = 20 * fragments as u64;
    let held = || server.metric("fanwire_memory_bytes", &[("kind", "reading")]);
    let held = eventually("all have sent", || Some(held()).filter(|held| *held >= payload));
    figure("S2", format_args!("{held} bytes held for {payload} in fragments of 1 byte"));
    assert!(held <= 2 * payload + 20 * 512, "{held} bytes for {payload}");
}

#[test]
fn an_endless_message_in_large_fragments_is_cut_at_the_limit() {
    let server = Server::start("");
    let mut socket = server.websocket("/topics/a");
    socket.wire.send(&frame(BINARY, &vec![1; 60_000]));
    let fragment = frame(CONTINUATION, &vec![1; 60_000]);
    // What comes after the fault is read, so that the close frame arrives, and thrown away.
    (0..100).for_each(|_| socket.wire.send(&fragment));
    socket.assert_closed(1009, "message_too_large");
    server.await_metric("fanwire_memory_bytes", &[("kind", "reading")], 0);
}
