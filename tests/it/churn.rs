//! Connections that come and go leave nothing behind.

use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Request, Server, WebSocket, Wire, eventually, eventually_equal, fanwire};

const BATCH: usize = 100;

/// Opens a batch of connections of every kind, publishes to them, and ends them in every way.
fn churn(server: &Server, round: usize) {
    let target = format!("/topics/{}", round % 3);
    let mut sockets: Vec<WebSocket> =
        (0..BATCH * 8 / 10).map(|_| server.websocket(&target)).collect();
    let streams: Vec<_> = (0..BATCH / 10).map(|_| server.sse(&target)).collect();
    let mut idle: Vec<_> = (0..BATCH / 10).map(|_| server.wire()).collect();
    for wire in &mut idle {
        wire.send(&Request::handshake(&target).to_bytes()[..20]);
    }
    sockets[0].text("x");
    for socket in sockets.iter_mut().step_by(2) {
        assert_eq!(socket.next_text(), "x");
        socket.close(1000, "");
        socket.drain();
    }
    drop((sockets, streams, idle));
}

#[test]
fn two_thousand_connections_leave_nothing_behind() {
    let config = "[[topic]]\nmatch = \"*\"\nhistory_size = 0\n";
    let server = Server::start_with(config, &["--workers", "2"]);
    let before = server.baseline();
    for round in 0..2000 / BATCH {
        churn(&server, round);
    }
    eventually_equal("what is held", &Ok(()), || before.is_back(&server.baseline()));
}

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

#[test]
fn a_client_that_sends_and_leaves_at_once_is_noticed() {
    let server = Server::start("");
    for _ in 0..50 {
        server.websocket("/topics/a?echo=false").text("last words");
    }
    let plain = [("door", "plain")];
    server.await_metric("fanwire_publications_total", &plain, 50);
    server.await_metric("fanwire_connections", &plain, 0);
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

/// A server that may open 256 descriptors.
fn start_with_few_descriptors(connections_max: &str) -> Server {
    let args = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let serve = fanwire(&args);
    let mut command = Command::new("sh");
    command
        .env("FANWIRE_LIMITS__CONNECTIONS_MAX", connections_max)
        .args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\""])
        .arg(serve.get_program())
        .args(serve.get_args());
    Server::run(command, TempDir::new().unwrap())
}

#[test]
fn a_server_without_descriptors_keeps_its_sessions_and_recovers() {
    // 0 keeps some descriptors back; the other takes more connections than there are descriptors.
    for connections_max in ["0", "10000"] {
        let server = start_with_few_descriptors(connections_max);
        let mut session = server.websocket("/topics/a");
        let crowd: Vec<Wire> = (0..400).map(|_| server.wire()).collect();
        for round in ["one", "two", "three"] {
            session.text(round);
            assert_eq!(session.next_text(), round);
        }
        drop(crowd);
        server.await_metric("fanwire_connections", &[("door", "http")], 0);
        assert_eq!(server.get("/topics/a/history").status, 200);
    }
}
