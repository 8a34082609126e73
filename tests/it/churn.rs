//! Connections that come and go leave nothing behind.

use tempfile::TempDir;

use crate::harness::{Request, Server, WebSocket, eventually_equal, fanwire, with_files};

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
fn a_client_that_sends_and_leaves_at_once_is_noticed() {
    let server = Server::start("");
    for _ in 0..50 {
        server.websocket("/topics/a?echo=false").text("last words");
    }
    let plain = [("door", "plain")];
    server.await_metric("fanwire_publications_total", &plain, 50);
    server.await_metric("fanwire_connections", &plain, 0);
}

#[test]
fn workers_with_their_own_tables_hold_more_connections_than_one_table_could() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("fanwire.toml");
    let config = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nworkers = 4\n\
                  private_fd_tables = true\n[drain]\nwindow = \"100ms\"\n";
    std::fs::write(&path, config).unwrap();
    let serve = fanwire(&["serve", "--config", path.to_str().unwrap()]);
    let mut server = Server::run(with_files(256, &serve), folder);
    // The kernel spreads them over the workers: 75 each, give or take.
    let mut sockets: Vec<_> =
        (0..300).map(|index| server.websocket(&format!("/topics/{}", index % 7))).collect();
    assert_eq!(server.metric("fanwire_connections", &[("door", "plain")]), 300);
    // From a subscriber on one worker to those on all of them.
    for (topic, socket) in sockets.iter_mut().enumerate().take(7) {
        socket.text(&format!("to {topic}"));
    }
    for (index, socket) in sockets.iter_mut().enumerate() {
        assert_eq!(socket.next_text(), format!("to {}", index % 7));
    }
    server.process.signal("TERM");
    for socket in &mut sockets {
        socket.assert_closed(1012, "draining");
    }
    assert_eq!(server.process.exit_code(), Some(0));
}
