//! S4: clients that never finish their request (slowloris).

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use super::alone;
use crate::harness::{
    DEADLINE, Request, Server, WebSocket, Wire, eventually, figure, percentile,
    raise_descriptor_limit,
};

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
fn connections_of_one_address_over_the_limit_get_429() {
    let server = Server::start("[limits]\nconnections_per_address_max = 2\n");
    let _held: Vec<_> = (0..2).map(|_| server.websocket("/topics/a")).collect();
    let response = server.request(&Request::handshake("/topics/a"));
    response.assert_refused(429, "address_limit");
    assert!(response.header("retry-after").is_some());
    server.await_refused("address_limit", 1);
    let other = Wire::connect_from(Ipv4Addr::new(127, 0, 0, 2), server.addr);
    WebSocket::open(other, &Request::handshake("/topics/a"));
}

/// Connections that never finish their request.
const SLOW_COUNT: usize = 2000;

/// Sends a byte of a header on every connection, as often as it can, until all are closed.
fn trickle(mut wires: Vec<Wire>) -> usize {
    let count = wires.len();
    let deadline = Instant::now() + 2 * DEADLINE;
    for byte in b"GET /topics/a HTTP/1.1\r\nX-Slow: ".iter().chain([b'x'].iter().cycle()) {
        wires.retain_mut(|wire| wire.try_send(&[*byte]));
        if wires.is_empty() || Instant::now() > deadline {
            break;
        }
        // The pace of the attack, not a wait.
        thread::sleep(Duration::from_millis(100));
    }
    count - wires.len()
}

#[test]
fn two_thousand_trickling_heads_end_in_time_and_disturb_nobody() {
    let _alone = alone();
    raise_descriptor_limit();
    let server = Server::start("[limits]\nhandshake_timeout = \"1s\"\n");
    let mut good = server.websocket("/topics/a");
    let wires: Vec<Wire> = (0..SLOW_COUNT).map(|_| server.wire()).collect();
    let mut times = Vec::new();
    let closed = thread::scope(|scope| {
        let attack = scope.spawn(|| trickle(wires));
        while !attack.is_finished() {
            let begun = Instant::now();
            let text = times.len().to_string();
            good.text(&text);
            assert_eq!(good.next_text(), text);
            times.push(begun.elapsed());
        }
        attack.join().unwrap()
    });
    assert_eq!(closed, SLOW_COUNT, "a byte now and then does not put the deadline off");
    server.await_metric("fanwire_connections", &[("door", "http")], 0);
    let (count, p99) = (times.len(), percentile(&mut times, 99));
    figure("S4", format_args!("{count} round trips beside {SLOW_COUNT} slow heads, p99 {p99:?}"));
    assert!(count > 100, "{count}");
}

#[test]
fn an_address_that_uses_up_its_share_leaves_the_others_theirs() {
    let server =
        Server::start("[limits]\nconnections_per_address_max = 20\nconnections_max = 60\n");
    let attacker = Ipv4Addr::new(127, 0, 0, 66);
    let _slow: Vec<Wire> = (0..50)
        .map(|_| {
            let mut wire = Wire::connect_from(attacker, server.addr);
            wire.send(b"GET /topics/a HTTP/1.1\r\n");
            wire
        })
        .collect();
    eventually("all are in", || {
        let open = server.metric("fanwire_connections", &[("door", "http")]);
        (open == 50).then_some(())
    });
    let mut good: Vec<_> = (0..5).map(|_| server.websocket("/topics/a")).collect();
    good[0].text("unaffected");
    for socket in &mut good {
        assert_eq!(socket.next_text(), "unaffected");
    }
}
