//! R24: a standard error that nobody reads.

use std::time::{Duration, Instant};

use crate::harness::{Server, figure};

#[test]
fn a_full_standard_error_stops_nobody() {
    let server = Server::start("[log]\nlevel = \"trace\"\n");
    let mut socket = server.websocket("/topics/a");
    let unread = server.process.stop_reading_stderr();
    let mut stall = Duration::ZERO;
    for number in 0..3000 {
        let name = format!("{number:0>200}");
        server.get(&format!("/nowhere/{name}"));
        let begun = Instant::now();
        socket.text(&name);
        assert_eq!(socket.next_text(), name);
        stall = stall.max(begun.elapsed());
    }
    figure("R24", format_args!("the slowest round trip took {stall:?}"));
    drop(unread);
}
