//! S5: floods of pings and pongs, read or not.

use std::thread;

use crate::harness::{
    FIN, Frame, PING, PONG, Request, Server, Stop, TEXT, WebSocket, Wire, figure, frame,
};

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
fn a_ping_flood_that_is_not_read_keeps_memory_bounded() {
    let server = Server::start("[limits]\nmessage_bytes_max = 8192\noutbox_bytes_max = 74000\n");
    let flooder = Wire::connect_small(server.addr);
    let mut flooder = WebSocket::open(flooder, &Request::handshake("/topics/a"));
    let burst: Vec<u8> = frame(FIN | PING, &[7; 125]).repeat(500);
    for _ in 0..200 {
        if !flooder.wire.try_send(&burst) {
            break;
        }
    }
    let mut other = server.websocket("/topics/a");
    other.text("unaffected");
    assert_eq!(other.next_text(), "unaffected");
    assert!(server.metric("fanwire_outbox_bytes", &[]) <= 74_000);
}

/// Floods with `frames` from one connection, whose answers are not read, while another talks to
/// itself; gives how often it could.
fn talk_beside(server: &Server, frames: &[u8]) -> usize {
    let (stop, count) = (Stop::default(), 200);
    thread::scope(|scope| {
        let _stop = stop.on_drop();
        let mut flooder = server.websocket("/topics/flooded");
        scope.spawn(|| {
            let mut flooder = server.websocket("/topics/flooded");
            while !stop.is_set() && flooder.wire.try_send(frames) {}
        });
        let mut talker = server.websocket("/topics/a");
        for number in 0..count {
            let text = number.to_string();
            talker.text(&text);
            assert_eq!(talker.next_text(), text);
        }
        flooder.send(TEXT, b"the flooded topic is served, too");
        assert_eq!(flooder.next_text(), "the flooded topic is served, too");
    });
    count
}

#[test]
fn a_flood_of_control_frames_takes_only_its_share_of_each_turn() {
    let server = Server::start_with("", &["--workers", "1"]);
    for (name, opcode) in [("pings", PING), ("pongs", PONG)] {
        let frames = frame(FIN | opcode, &[7; 125]).repeat(500);
        let count = talk_beside(&server, &frames);
        figure("S5", format_args!("{count} round trips beside a flood of {name}"));
    }
}
