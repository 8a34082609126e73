//! R22: subscribing, publishing and closing at the same moment leave no ghosts.

use crate::harness::{Request, Server, WebSocket, Wire, eventually};

#[test]
fn subscribing_races_with_publishing_and_leaves_no_ghosts() {
    let server = Server::start_with("", &["--workers", "2"]);
    let mut publisher = server.websocket("/topics/a?echo=false");
    for round in 0..200 {
        let mut wire = server.wire();
        wire.send(&Request::handshake("/topics/a").to_bytes());
        publisher.text(&round.to_string());
        if round % 2 == 0 {
            WebSocket::after_request(wire);
        }
    }
    server.await_metric("fanwire_subscriptions", &[], 1);
    server.await_metric("fanwire_connections", &[("door", "plain")], 1);
}

/// How many answers are cut short at a time.
const CUT_COUNT: usize = 60;

/// Asks for pages of history of `lens` bytes with a handshake right behind, reads nothing, and resets
/// once the server has done what it can. Gives how many handshakes were answered.
fn cut_answers(server: &Server, lens: &[usize]) -> usize {
    for len in lens {
        assert_eq!(server.post(&format!("/topics/{len}"), "x".repeat(*len)).status, 200);
    }
    let http = [("door", "http")];
    server.await_metric("fanwire_connections", &http, 0);
    let accepted = || server.metric("fanwire_connections_total", &http);
    let expected = accepted() + lens.len() as u64;
    let open = |len: &usize| {
        let mut wire = Wire::connect_narrow(server.addr, 2048);
        let history = Request::get(&format!("/topics/{len}/history")).to_bytes();
        wire.send(&[history, Request::handshake("/topics/a").to_bytes()].concat());
        wire
    };
    let wires: Vec<Wire> = lens.iter().map(open).collect();
    eventually("all are accepted", || (accepted() >= expected).then_some(()));
    // The worker's only thread answers this one later.
    server.get("/topics/a/history");
    let answered = server.metric("fanwire_subscriptions", &[]);
    wires.into_iter().for_each(Wire::reset);
    usize::try_from(answered).unwrap()
}

#[test]
fn a_101_that_cannot_be_written_leaves_nothing_behind() {
    let server = Server::start_with("[limits]\nmessage_bytes_max = 400000\n", &["--workers", "1"]);
    let fd_count = server.fd_count();
    // Where the first answer just fills the kernel's buffers, the 101 behind it waits. The first
    // round finds about where that is, the second tries lengths around it.
    let (mut first, mut step) = (110_000, 40_000 / CUT_COUNT);
    for _ in 0..2 {
        let lens: Vec<usize> = (0..CUT_COUNT).map(|index| first + index * step).collect();
        let answered = cut_answers(&server, &lens);
        for door in ["plain", "http"] {
            server.await_metric("fanwire_connections", &[("door", door)], 0);
        }
        server.await_metric("fanwire_subscriptions", &[], 0);
        eventually("descriptors are given back", || (server.fd_count() <= fd_count).then_some(()));
        (first, step) = (first + answered.saturating_sub(1) * step, 2 * step / CUT_COUNT);
    }
}
