//! R11: a storm of publications, faster than they can be delivered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::alone;
use crate::harness::{FIN, Request, Server, Stop, TEXT, WebSocket, eventually, figure, frame};
use crate::invariant::Position;

/// Sends the numbers from 1 on as short messages, as fast as they are taken.
fn flood(mut socket: WebSocket, stop: &Stop) {
    for burst in 0.. {
        let numbers = (1..=10_000_u64).map(|number| burst * 10_000 + number);
        let frames = numbers.flat_map(|number| frame(FIN | TEXT, number.to_string().as_bytes()));
        if stop.is_set() || !socket.wire.try_send(&frames.collect::<Vec<u8>>()) {
            return;
        }
    }
}

/// What became of POSTs beside the flood.
#[derive(Default)]
struct Posts {
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// Posts until told to stop: each is accepted at the next place in the order, or refused in time.
fn post(server: &Server, stop: &Stop, posts: &Posts) {
    let (mut wire, mut last) = (server.wire(), 0);
    while !stop.is_set() {
        let response = wire.request(&Request::post("/topics/a", "from a request"));
        if response.status == 200 {
            let position = Position::of(&response.json());
            assert!(position.offset > last, "in order");
            last = position.offset;
            posts.accepted.fetch_add(1, Ordering::Relaxed);
        } else {
            response.assert_refused(429, "publisher_overrun");
            assert!(response.header("retry-after").is_some());
            posts.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Reads what one of several publishers sent: its numbers only grow.
fn read(mut socket: WebSocket, stop: &Stop) -> u64 {
    let (mut last, mut count) = (0, 0);
    while !stop.is_set() {
        let number: u64 = socket.next_text().parse().expect("only numbers are sent here");
        assert!(number > last, "{number} after {last}");
        (last, count) = (number, count + 1);
    }
    count
}

#[test]
fn a_storm_is_held_back_in_order_and_takes_no_memory() {
    let _alone = alone();
    let server = Server::start_with(
        "[limits]\nwrite_timeout = \"1m\"\n[[topic]]\nmatch = \"*\"\ndelivery = \"lossy\"\n",
        &["--workers", "2"],
    );
    let (stop, posts) = (Stop::default(), Posts::default());
    let before = server.process.resident_len();
    let mut peak = before;
    let count = thread::scope(|scope| {
        let stopped = stop.on_drop();
        let subscribers: Vec<_> =
            (0..50).map(|_| server.websocket("/topics/a?echo=false")).collect();
        for _ in 0..4 {
            let socket = server.websocket("/topics/a?echo=false");
            scope.spawn(|| flood(socket, &stop));
        }
        let alone = server.websocket("/topics/b?echo=false");
        let reader = server.websocket("/topics/b");
        scope.spawn(|| flood(alone, &stop));
        let reader = scope.spawn(|| read(reader, &stop));
        scope.spawn(|| post(&server, &stop, &posts));
        eventually("some posts are refused, and many publications accepted", || {
            peak = server.process.resident_len().max(peak);
            let published = server.metric("fanwire_publications_total", &[("door", "plain")]);
            let is_enough = published > 500_000 && posts.refused.load(Ordering::Relaxed) > 0;
            is_enough.then_some(())
        });
        drop((stopped, subscribers));
        reader.join().unwrap()
    });
    let (accepted, refused) = (posts.accepted.into_inner(), posts.refused.into_inner());
    figure("R11", format_args!("{refused} of {} posts refused", accepted + refused));
    figure(
        "R11",
        format_args!("{count} read in order beside them; RSS {before} before, {peak} at most"),
    );
    assert!(peak < before + (400 << 20), "{peak} bytes: two inboxes and little more");
    let mut after = server.websocket("/topics/a");
    eventually("publishing goes on", || {
        (server.post("/topics/a", "after").status == 200).then_some(())
    });
    while after.next_text() != "after" {}
}
