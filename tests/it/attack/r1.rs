//! R1: among many subscribers, a few that read next to nothing.

use std::time::{Duration, Instant};

use super::alone;
use crate::harness::{Request, Server, WebSocket, Wire, figure, percentile};
use crate::invariant::Position;

const FAST_COUNT: usize = 300;
/// One in a hundred.
const SLOW_COUNT: usize = 3;
const PAYLOAD_LEN: usize = 16_000;
/// More than it takes to fill what the kernel and the outboxes hold.
const PUBLICATIONS_MAX: usize = 2000;

/// Publishes one message, which every fast subscriber must get next; gives the time until the last
/// of them has it.
fn fan_out(server: &Server, fast: &mut [WebSocket], number: usize) -> Duration {
    let payload = format!("{number:0PAYLOAD_LEN$}");
    let begun = Instant::now();
    server.publish("a", &payload);
    for socket in fast {
        assert_eq!(socket.next_text(), payload);
    }
    begun.elapsed()
}

#[test]
fn a_hundredth_that_reads_nothing_is_closed_and_the_others_get_everything() {
    let _alone = alone();
    let server = Server::start("[limits]\nwrite_timeout = \"1m\"\n");
    let mut fast: Vec<_> = (0..FAST_COUNT).map(|_| server.websocket("/topics/a")).collect();
    let mut without: Vec<_> = (0..100).map(|number| fan_out(&server, &mut fast, number)).collect();
    let mut slow: Vec<_> = (0..SLOW_COUNT)
        .map(|_| {
            let wire = Wire::connect_narrow(server.addr, 2048);
            WebSocket::open(wire, &Request::handshake("/topics/a"))
        })
        .collect();
    let overflow = [("code", "1013"), ("reason", "outbox_overflow")];
    let evicted = || server.metric("fanwire_closes_total", &overflow);
    let (begun, mut with, mut held) = (Instant::now(), Vec::new(), 0);
    while evicted() < SLOW_COUNT as u64 {
        with.push(fan_out(&server, &mut fast, with.len()));
        held = server.metric("fanwire_memory_bytes", &[("kind", "outbox")]).max(held);
        assert!(with.len() < PUBLICATIONS_MAX, "nobody was closed");
    }
    let (count, time) = (with.len(), begun.elapsed());
    let (before, beside) = (percentile(&mut without, 99), percentile(&mut with, 99));
    figure(
        "R1",
        format_args!("p99 of {FAST_COUNT} others {beside:?}, without slow ones {before:?}"),
    );
    figure(
        "R1",
        format_args!("slow ones closed after {count} publications, {time:?}; held {held} bytes"),
    );
    assert!(held <= 3 * 1_048_576, "what waits for several is held once: {held}");
    // Who was closed goes on from what it has.
    let mut last = Position::of_head(&slow[0].head);
    let (frames, close) = slow[0].drain();
    assert_eq!(close[..2], 1013_u16.to_be_bytes());
    last.offset += frames.len() as u64;
    let target = format!("/topics/a?since={}:{}", last.epoch, last.offset);
    let back = server.websocket(&target);
    let is_kept = count - frames.len() <= 60;
    let recovered = back.head.header("fanwire-recovered");
    assert!(!is_kept || recovered == Some("true"), "{recovered:?}");
}
