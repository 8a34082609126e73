//! R3: a reader whose window is shut.

use std::time::Instant;

use crate::harness::{BINARY, Request, Server, WebSocket, Wire, figure};

#[test]
fn a_reader_that_takes_nothing_is_closed_after_write_timeout() {
    let server = Server::start(
        "[limits]\nwrite_timeout = \"300ms\"\nmessage_bytes_max = 65000\n\
         [[topic]]\nmatch = \"*\"\ndelivery = \"lossy\"\n",
    );
    let handshake = Request::handshake("/topics/a");
    let _stalled = WebSocket::open(Wire::connect_small(server.addr), &handshake);
    let mut publisher = server.websocket("/topics/a?echo=false");
    let outbox_bytes = || server.metric("fanwire_outbox_bytes", &[]);
    for _ in 0..2000 {
        publisher.send(BINARY, &vec![1; 65000]);
        if outbox_bytes() > 0 {
            break;
        }
    }
    server.await_close_counted("1013", "write_timeout", 1);
    server.await_metric("fanwire_connections", &[("door", "plain")], 1);
}

#[test]
fn one_publication_to_a_shut_window_starts_the_write_deadline() {
    let server = Server::start(
        "[limits]\nwrite_timeout = \"300ms\"\nping_interval = \"1h\"\n\
         message_bytes_max = 16000000\noutbox_bytes_max = 17000000\n",
    );
    let handshake = Request::handshake("/topics/a");
    let _stalled = WebSocket::open(Wire::connect_narrow(server.addr, 2048), &handshake);
    let begun = Instant::now();
    assert_eq!(server.post("/topics/a", vec![1; 16_000_000]).status, 200);
    server.await_close_counted("1013", "write_timeout", 1);
    figure("R3", format_args!("a pending write was {:?} old at most", begun.elapsed()));
    server.await_metric("fanwire_outbox_bytes", &[], 0);
}
