//! R19: a topic with very many subscribers beside small ones.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::alone;
use crate::harness::{Server, Stop, figure, percentile, raise_descriptor_limit};

const SUBSCRIBERS: usize = 5000;
const ROUNDS: usize = 40;

#[test]
fn a_large_fan_out_lets_small_topics_pass() {
    let _alone = alone();
    raise_descriptor_limit();
    let server = Server::start_with("", &["--workers", "1"]);
    let mut crowd: Vec<_> = (0..SUBSCRIBERS).map(|_| server.websocket("/topics/large")).collect();
    let mut talker = server.websocket("/topics/small");
    let (stop, round_trips) = (Stop::default(), AtomicUsize::new(0));
    let (mut between, mut times) = (0, Vec::new());
    let mut small = thread::scope(|scope| {
        let stopping = stop.on_drop();
        let small = scope.spawn(|| {
            let mut times = Vec::new();
            while !stop.is_set() {
                let begun = Instant::now();
                talker.text("small");
                assert_eq!(talker.next_text(), "small");
                round_trips.fetch_add(1, Ordering::Relaxed);
                times.push(begun.elapsed());
            }
            times
        });
        for round in 0..ROUNDS {
            let text = round.to_string();
            let begun = Instant::now();
            server.publish("large", &text);
            // Members are served in the order in which they came.
            assert_eq!(crowd[0].next_text(), text);
            let before = round_trips.load(Ordering::Relaxed);
            assert_eq!(crowd[SUBSCRIBERS - 1].next_text(), text);
            between += round_trips.load(Ordering::Relaxed) - before;
            times.push(begun.elapsed());
        }
        drop(stopping);
        small.join().unwrap()
    });
    for socket in &mut crowd[1..SUBSCRIBERS - 1] {
        for round in 0..ROUNDS {
            assert_eq!(socket.next_text(), round.to_string());
        }
    }
    let (large, small) = (percentile(&mut times, 99), percentile(&mut small, 99));
    figure(
        "R19",
        format_args!("fan-out to {SUBSCRIBERS}: p99 {large:?}; the small topic: p99 {small:?}"),
    );
    figure("R19", format_args!("{between} round trips in the midst of {ROUNDS} fan-outs"));
    assert!(between > 2 * ROUNDS, "{between}: a fan-out of {SUBSCRIBERS} holds up the small topic");
}
