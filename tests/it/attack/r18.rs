//! R18: very many topics with a session each, all gone at once.

use std::thread;
use std::time::{Duration, Instant};

use super::alone;
use crate::harness::{Server, Stop, Wire, figure, raise_descriptor_limit};

const COUNT: u64 = 3000;

#[test]
fn thousands_of_sessions_that_end_at_once_yield_to_the_others() {
    let _alone = alone();
    raise_descriptor_limit();
    let config = "[[topic]]\nmatch = \"*\"\nhistory_size = 0\n";
    let server = Server::start_with(config, &["--workers", "1"]);
    let mut talker = server.websocket("/topics/talk");
    let crowd: Vec<Wire> =
        (0..COUNT).map(|number| server.websocket(&format!("/topics/{number}")).wire).collect();
    assert_eq!(server.metric("fanwire_topics", &[]), COUNT + 1);
    let (begun, stop) = (Instant::now(), Stop::default());
    let (round_trips, stall) = thread::scope(|scope| {
        let stopping = stop.on_drop();
        let talk = scope.spawn(|| {
            let (mut round_trips, mut stall) = (0, Duration::ZERO);
            while !stop.is_set() {
                let before = Instant::now();
                talker.text("talk");
                assert_eq!(talker.next_text(), "talk");
                (round_trips, stall) = (round_trips + 1, stall.max(before.elapsed()));
            }
            (round_trips, stall)
        });
        crowd.into_iter().for_each(Wire::reset);
        server.await_metric("fanwire_subscriptions", &[], 1);
        drop(stopping);
        talk.join().unwrap()
    });
    let elapsed = begun.elapsed();
    figure("R18", format_args!("{COUNT} sessions gone in {elapsed:?}"));
    figure("R18", format_args!("{round_trips} round trips meanwhile, the slowest {stall:?}"));
    assert!(round_trips > 10, "{round_trips}");
    server.await_close_counted("1006", "abnormal", COUNT);
    server.await_metric("fanwire_topics", &[], 1);
}
