//! Slow readers among fast ones: each delivery class keeps its word, and the fast ones never notice.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    Block, CLOSE, FIN, Request, Response, Server, Stream, TEXT, WebSocket, Wire, close_payload,
    frame,
};
use crate::invariant::{Checker, Position, Telling};

/// More publications than any kernel hides, of this many bytes each.
const COUNT_MAX: usize = 20_000;
const PAYLOAD_LEN: usize = 4000;

fn start(delivery: &str) -> Server {
    Server::start(&format!(
        "[limits]\nwrite_timeout = \"1m\"\nmessage_bytes_max = 8192\noutbox_bytes_max = 74000\n\
         [[topic]]\nmatch = \"*\"\ndelivery = \"{delivery}\"\n"
    ))
}

fn overflows(server: &Server, delivery: &str) -> u64 {
    server.metric("fanwire_outbox_overflows_total", &[("delivery", delivery)])
}

/// Opens `target` over a connection with a small receive buffer.
fn slow(server: &Server, target: &str) -> WebSocket {
    WebSocket::open(Wire::connect_small(server.addr), &Request::handshake(target))
}

fn payload(number: usize) -> String {
    format!("{number:0PAYLOAD_LEN$}")
}

/// Publishes until a reader that takes nothing overflows, and some more; `fast` gets every one.
///
/// Gives the number of publications.
fn overflow(server: &Server, delivery: &str, fast: &mut WebSocket) -> usize {
    let mut publisher = server.websocket("/topics/a?echo=false");
    let mut end = COUNT_MAX;
    for number in 0..COUNT_MAX {
        if number == end {
            return number;
        }
        publisher.text(&payload(number));
        assert_eq!(fast.next_text(), payload(number));
        if number % 100 == 99 && end == COUNT_MAX && overflows(server, delivery) > 0 {
            end = number + 50;
        }
    }
    panic!("nothing overflowed");
}

#[test]
fn a_slow_reliable_subscriber_is_closed_with_1013_and_fast_ones_get_everything() {
    let server = start("reliable");
    let mut fast = server.websocket("/topics/a");
    let mut slow = slow(&server, "/topics/a");
    overflow(&server, "reliable", &mut fast);
    let (frames, close) = slow.drain();
    assert_eq!(close, [&1013_u16.to_be_bytes()[..], b"outbox_overflow"].concat());
    for (number, frame) in frames.iter().enumerate() {
        assert_eq!(frame.payload, payload(number).as_bytes(), "no gap before the close");
    }
    server.await_close_counted("1013", "outbox_overflow", 1);
    assert_eq!(overflows(&server, "reliable"), 1);
    server.await_metric("fanwire_outbox_bytes", &[], 0);
}

#[test]
fn a_reliable_subscriber_that_was_closed_recovers_what_it_missed() {
    let server = Server::start(
        "[limits]\nwrite_timeout = \"1m\"\nmessage_bytes_max = 8192\noutbox_bytes_max = 74000\n\
         [[topic]]\nmatch = \"*\"\nhistory_size = 30000\nhistory_bytes_max = 200000000\n",
    );
    let mut fast = server.websocket("/topics/a");
    let mut slow = slow(&server, "/topics/a");
    let count = overflow(&server, "reliable", &mut fast);
    let got = slow.drain().0.len();
    let mut again = server.websocket(&format!("/topics/a?since={got}"));
    assert_eq!(again.head.header("fanwire-recovered"), Some("true"));
    for number in got..count {
        assert_eq!(again.next_text(), payload(number));
    }
}

/// The only subscriber that is looked at here.
const SLOW: (&str, &str) = ("slow", "a");

/// Reads until `last`, which is the newest publication. Frames that are lost are not told, but
/// those that come are in order.
fn read_to(socket: &mut WebSocket, last: usize) -> Vec<usize> {
    let (mut got, mut checker) = (Vec::new(), Checker::default());
    let start = Position::of_head(&socket.head);
    checker.starts(SLOW, &start);
    checker.tells(SLOW, Telling::Untold);
    while got.last() != Some(&last) {
        let text = socket.next_text();
        let number = text.parse().expect("a number");
        checker.delivered(SLOW, &start.plus(number as u64 + 1), text).unwrap();
        got.push(number);
    }
    checker.healed(SLOW.1, &start.plus(last as u64 + 1)).unwrap();
    got
}

#[test]
fn a_slow_latest_subscriber_skips_to_the_newest() {
    let server = start("latest");
    let mut fast = server.websocket("/topics/a");
    let mut slow = slow(&server, "/topics/a");
    let count = overflow(&server, "latest", &mut fast);
    let got = read_to(&mut slow, count - 1);
    assert!(got.len() < count, "something was skipped");
    fast.text("live");
    assert_eq!(slow.next_text(), "live");
}

#[test]
fn a_slow_lossy_subscriber_gets_the_newest_in_order() {
    let server = start("lossy");
    let mut fast = server.websocket("/topics/a");
    let mut slow = slow(&server, "/topics/a");
    let count = overflow(&server, "lossy", &mut fast);
    let got = read_to(&mut slow, count - 1);
    assert!(got.len() < count, "something was skipped");
    // What the queue held at the end is a suffix without gaps.
    let suffix = got.iter().rev().zip((0..count).rev());
    let suffix_len = suffix.take_while(|(got, expected)| **got == *expected).count();
    assert!(suffix_len > 1, "{got:?}");
    fast.text("live");
    assert_eq!(slow.next_text(), "live");
}

/// Holds what comes after `head` against the promise until publication `last`: every gap is told,
/// exactly. Gives how many came and how many were skipped.
fn check_objects(head: &Response, mut next: impl FnMut() -> Value, last: usize) -> (usize, u64) {
    let mut checker = Checker::default();
    checker.starts(SLOW, &Position::of_head(head));
    let (mut got, mut skipped) = (0, 0);
    loop {
        let object = next();
        if let Some(count) = object["skipped"]["count"].as_u64() {
            checker.skipped(SLOW, count);
            skipped += count;
        }
        let Some(data) = object["data"].as_str() else { continue };
        checker.delivered(SLOW, &Position::of(&object), data).unwrap();
        got += 1;
        if data.parse() == Ok(last) {
            checker.finish().unwrap();
            return (got, skipped);
        }
    }
}

#[test]
fn format_json_is_told_how_many_were_skipped() {
    for delivery in ["latest", "lossy"] {
        let server = start(delivery);
        let mut fast = server.websocket("/topics/a");
        let mut slow = slow(&server, "/topics/a?format=json");
        let count = overflow(&server, delivery, &mut fast);
        let head = slow.head.clone();
        let (got, skipped) = check_objects(&head, || slow.json(), count - 1);
        assert!(skipped > 0, "{delivery}");
        assert_eq!(got as u64 + skipped, count as u64, "{delivery}");
    }
}

#[test]
fn a_slow_ndjson_stream_is_told_how_many_were_skipped() {
    let server = start("lossy");
    let mut fast = server.websocket("/topics/a");
    let wire = Wire::connect_small(server.addr);
    let mut slow = Stream::open(wire, &Request::get("/topics/a"));
    let count = overflow(&server, "lossy", &mut fast);
    let head = slow.head.clone();
    let (got, skipped) = check_objects(&head, || slow.json(), count - 1);
    assert!(skipped > 0);
    assert_eq!(got as u64 + skipped, count as u64);
}

#[test]
fn a_slow_sse_stream_of_a_reliable_topic_ends_and_recovers() {
    let server = Server::start(
        "[limits]\nwrite_timeout = \"1m\"\nmessage_bytes_max = 8192\noutbox_bytes_max = 74000\n\
         [[topic]]\nmatch = \"*\"\nhistory_size = 30000\nhistory_bytes_max = 200000000\n",
    );
    let mut fast = server.websocket("/topics/a");
    let wire = Wire::connect_small(server.addr);
    let mut slow = Stream::open(wire, &Request::sse("/topics/a"));
    let count = overflow(&server, "reliable", &mut fast);
    let mut last = (String::new(), 0);
    while let Some(block) = slow.try_block() {
        if let (Some(id), Some(data)) = (block.id, block.data) {
            assert_eq!(data, payload(last.1));
            last = (id, last.1 + 1);
        }
    }
    assert!(last.1 < count, "the stream ended early");
    let request = Request::sse("/topics/a").header("Last-Event-ID", &last.0);
    let mut again = Stream::open(server.wire(), &request);
    for number in last.1..count {
        assert_eq!(again.event().data, Some(payload(number)));
    }
}

#[test]
fn a_client_that_is_behind_and_sends_no_more_gets_everything_and_the_close() {
    let server = Server::start("[limits]\nwrite_timeout = \"1m\"\nmessage_bytes_max = 8192\n");
    let mut slow = slow(&server, "/topics/a");
    let mut publisher = server.websocket("/topics/a?echo=false");
    let is_behind = || server.metric("fanwire_outbox_bytes", &[]) > 0;
    let count = (1..COUNT_MAX).find(|number| {
        publisher.text(&payload(number - 1));
        number % 50 == 0 && is_behind()
    });
    let last = count.expect("the kernel hides less");
    // Two connections publish: only what is counted is surely before what comes next.
    server.await_metric("fanwire_publications_total", &[], last as u64);
    let parting =
        [frame(FIN | TEXT, b"parting"), frame(FIN | CLOSE, &close_payload(1000, ""))].concat();
    slow.wire.send(&parting);
    slow.wire.finish_sending();
    server.await_close_counted("1000", "client", 1);
    let (frames, close) = slow.drain();
    assert_eq!(close[..2], 1000_u16.to_be_bytes());
    let expected = (0..last).map(payload).chain(["parting".to_owned()]);
    for (frame, expected) in frames.iter().zip(expected) {
        assert_eq!(frame.payload, expected.as_bytes());
    }
    assert_eq!(frames.len(), last + 1);
}

/// More than any kernel hides, in publications near the largest.
const LARGE_COUNT: usize = 200;
const LARGE_LEN: usize = 60_000;

fn start_lossy_with_history() -> Server {
    Server::start(
        "[limits]\nwrite_timeout = \"1m\"\n[[topic]]\nmatch = \"*\"\ndelivery = \"lossy\"\n\
         history_size = 200\nhistory_bytes_max = 100000000\n",
    )
}

/// Publishes the next [`LARGE_COUNT`] numbers.
fn publish_large(server: &Server, first: usize) {
    let mut wire = server.wire();
    for number in first..first + LARGE_COUNT {
        let request = Request::post("/topics/a", format!("{number:0LARGE_LEN$}"));
        assert_eq!(wire.request(&request).status, 200);
    }
}

/// History goes on under a replay that `next` reads too slowly: all is accounted for to the newest.
fn check_trimmed_replay(server: &Server, head: &Response, mut next: impl FnMut() -> Value) {
    publish_large(server, LARGE_COUNT);
    let (got, skipped) = check_objects(head, &mut next, 2 * LARGE_COUNT - 1);
    assert!(skipped > 0);
    assert_eq!(got as u64 + skipped, 2 * LARGE_COUNT as u64);
    server.publish("a", "live");
    assert_eq!(next()["data"], "live");
}

#[test]
fn a_lossy_replay_goes_on_when_history_is_trimmed_under_it() {
    let server = start_lossy_with_history();
    publish_large(&server, 0);
    let mut slow = slow(&server, "/topics/a?format=json&since=0");
    assert_eq!(slow.head.header("fanwire-recovered"), Some("true"));
    let head = slow.head.clone();
    check_trimmed_replay(&server, &head, || slow.json());
}

#[test]
fn a_lossy_sse_replay_goes_on_when_history_is_trimmed_under_it() {
    let server = start_lossy_with_history();
    publish_large(&server, 0);
    let wire = Wire::connect_small(server.addr);
    let mut slow = Stream::open(wire, &Request::sse("/topics/a?since=0"));
    let head = slow.head.clone();
    check_trimmed_replay(&server, &head, || {
        let Block { id, event, data, .. } = slow.event();
        let data = data.expect("an event has data");
        if event.as_deref() == Some("skipped") {
            return serde_json::from_str(&data).expect("an object");
        }
        let (epoch, offset) = id.as_deref().and_then(|id| id.split_once(':')).expect("a position");
        json!({ "data": data, "epoch": epoch, "offset": offset.parse::<u64>().unwrap() })
    });
}

/// Queues much more for a reader than it takes while it sips for over three write timeouts. Gives
/// its connection, on which all the rest must come.
fn sip_steadily(server: &Server, request: &Request) -> Wire {
    let mut slow = Wire::connect_narrow(server.addr, 4096);
    slow.send(&request.to_bytes());
    slow.sip(1);
    publish_large(server, 0);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(3500) {
        slow.sip(1024);
        // The pace of the reader, not a wait for the server: too slow for the kernel to wake a writer
        // in time, but the window never stays shut for long enough to be probed.
        thread::sleep(Duration::from_millis(25));
    }
    let cut = server.metric("fanwire_closes_total", &[("reason", "write_timeout")]);
    assert_eq!(cut, 0, "it takes something all the time");
    assert!(server.metric("fanwire_outbox_bytes", &[]) > 0, "it is behind");
    slow.widen();
    slow
}

fn start_impatient() -> Server {
    Server::start(
        "[limits]\nwrite_timeout = \"1s\"\nping_interval = \"1h\"\n\
         outbox_bytes_max = 33554432\n",
    )
}

#[test]
fn a_slow_but_steady_reader_is_not_cut() {
    let server = start_impatient();
    let wire = sip_steadily(&server, &Request::handshake("/topics/a"));
    let mut slow = WebSocket::after_request(wire);
    for number in 0..LARGE_COUNT {
        assert_eq!(slow.next_text().parse(), Ok(number));
    }
}

#[test]
fn a_slow_but_steady_stream_is_not_cut() {
    let server = start_impatient();
    let wire = sip_steadily(&server, &Request::sse("/topics/a"));
    let mut slow = Stream::after_request(wire);
    for number in 0..LARGE_COUNT {
        let data = slow.event().data.expect("an event has data");
        assert_eq!(data.parse(), Ok(number));
    }
}
