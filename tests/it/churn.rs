//! Connections that come and go leave nothing behind.

use crate::harness::{Metrics, Request, Server, WebSocket, eventually, eventually_equal};

const BATCH: usize = 100;

fn held(metrics: &Metrics) -> [u64; 5] {
    [
        "fanwire_connections",
        "fanwire_subscriptions",
        "fanwire_outbox_bytes",
        "fanwire_topics",
        "fanwire_memory_bytes",
    ]
    .map(|name| metrics.get(name, &[]))
}

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
    let before = held(&server.metrics());
    assert_eq!(before[..4], [0; 4]);
    let fd_count = server.fd_count();
    for round in 0..2000 / BATCH {
        churn(&server, round);
    }
    eventually_equal("what is held", &before, || held(&server.metrics()));
    eventually("descriptors are given back", || (server.fd_count() <= fd_count).then_some(()));
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
