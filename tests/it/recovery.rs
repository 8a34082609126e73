//! Coming back: every missed publication once and in order, or told that it cannot be.

use std::thread;

use serde_json::Value;

use crate::harness::{Request, Server, Stop, Stream, WebSocket};
use crate::invariant::{Checker, Position};

const DEEP: &str = "[[topic]]\nmatch = \"*\"\nhistory_size = 100000\n\
    history_bytes_max = 100000000\n";

/// Opens with `query`; gives the connection, its start and the answer to the position asked.
fn resume(server: &Server, query: &str) -> (WebSocket, Position, Option<String>) {
    let socket = server.websocket(&format!("/topics/a{query}"));
    let start = Position::of_head(&socket.head);
    let recovered = socket.head.header("fanwire-recovered").map(str::to_owned);
    (socket, start, recovered)
}

fn delivered(checker: &mut Checker, subscriber: &str, publication: &Value) {
    let payload = publication["data"].as_str().expect("text");
    let position = Position::of(publication);
    checker.delivered((subscriber, "a"), &position, payload).unwrap();
}

#[test]
fn a_client_cut_again_and_again_under_load_misses_nothing() {
    let server = Server::start_with(DEEP, &["--workers", "2"]);
    let (stop, mut checker) = (Stop::default(), Checker::default());
    let (mut first, start, _) = resume(&server, "?format=json");
    first.json();
    checker.starts(("s", "a"), &start);
    thread::scope(|scope| {
        let stopping = stop.on_drop();
        let publisher = scope.spawn(|| server.publish_until("a", &stop));
        for _ in 0..20 {
            let since = format!("?format=json&since={}:{}", start.epoch, checker.top(("s", "a")));
            let (mut socket, _, recovered) = resume(&server, &since);
            assert_eq!(recovered.as_deref(), Some("true"));
            assert_eq!(socket.json()["subscribed"]["recovered"], true);
            for _ in 0..100 {
                delivered(&mut checker, "s", &socket.json());
            }
        }
        drop(stopping);
        let count = publisher.join().unwrap();
        while checker.top(("s", "a")) < count {
            let since = format!("?format=json&since={}:{}", start.epoch, checker.top(("s", "a")));
            let (mut socket, _, _) = resume(&server, &since);
            socket.json();
            while checker.top(("s", "a")) < count {
                delivered(&mut checker, "s", &socket.json());
            }
        }
    });
    checker.finish().unwrap();
}

#[test]
fn acknowledged_publications_reach_every_kind_of_subscriber() {
    let server = Server::start_with(DEEP, &["--workers", "2"]);
    let mut checker = Checker::default();
    let mut sockets: Vec<_> = (0..4).map(|_| server.websocket("/topics/a?format=json")).collect();
    let mut streams: Vec<_> = (0..4).map(|_| server.ndjson("/topics/a")).collect();
    for (index, socket) in sockets.iter_mut().enumerate() {
        let start = Position::of(&socket.json()["subscribed"]);
        checker.starts((&format!("websocket {index}"), "a"), &start);
    }
    for (index, stream) in streams.iter_mut().enumerate() {
        let start = Position::of(&stream.json()["subscribed"]);
        checker.starts((&format!("stream {index}"), "a"), &start);
    }
    for n in 0..300 {
        let payload = n.to_string();
        let position = server.publish("a", &payload);
        checker.acknowledged("a", &position, &payload).unwrap();
    }
    for _ in 0..300 {
        for (index, socket) in sockets.iter_mut().enumerate() {
            delivered(&mut checker, &format!("websocket {index}"), &socket.json());
        }
        for (index, stream) in streams.iter_mut().enumerate() {
            delivered(&mut checker, &format!("stream {index}"), &stream.json());
        }
    }
    checker.finish().unwrap();
}

#[test]
fn since_0_replays_everything_if_nothing_was_trimmed() {
    let server = Server::start("[[topic]]\nmatch = \"*\"\nhistory_size = 3\n");
    server.publish_numbers("a", 3);
    let (mut socket, start, recovered) = resume(&server, "?since=0");
    assert_eq!((start.offset, recovered.as_deref()), (0, Some("true")));
    for n in 1..=3 {
        assert_eq!(socket.next_text(), n.to_string());
    }
    let top = server.publish("a", "4");
    let (mut late, start, recovered) = resume(&server, "?since=0");
    assert_eq!((start, recovered.as_deref()), (top, Some("false")));
    server.publish("a", "live");
    assert_eq!(late.next_text(), "live");
}

#[test]
fn last_replays_the_newest_without_a_claim() {
    let server = Server::start("[[topic]]\nmatch = \"*\"\nhistory_size = 3\n");
    server.publish_numbers("a", 5);
    for (last, first) in [("0", 6), ("1", 5), ("3", 3), ("100", 3)] {
        let (mut socket, start, recovered) = resume(&server, &format!("?last={last}"));
        assert_eq!((start.offset, recovered), (first - 1, None), "last={last}");
        for n in first..=5 {
            assert_eq!(socket.next_text(), n.to_string());
        }
    }
}

#[test]
fn a_position_at_the_top_is_recovered_with_nothing_to_replay() {
    let server = Server::start("");
    let top = server.publish_numbers("a", 3);
    let (mut socket, start, recovered) = resume(&server, &format!("?since={top}"));
    assert_eq!((&start, recovered.as_deref()), (&top, Some("true")));
    server.publish("a", "live");
    assert_eq!(socket.next_text(), "live");
}

#[test]
fn a_position_that_cannot_be_recovered_is_told_and_live_begins_at_the_top() {
    let server = Server::start("[[topic]]\nmatch = \"*\"\nhistory_size = 3\n");
    let top = server.publish_numbers("a", 5);
    for since in [
        "elsewhere:4".to_owned(),
        format!("{}:6", top.epoch),
        "6".to_owned(),
        format!("{}:1", top.epoch),
        "1".to_owned(),
    ] {
        let (mut socket, start, recovered) =
            resume(&server, &format!("?since={since}&format=json"));
        assert_eq!((&start, recovered.as_deref()), (&top, Some("false")), "{since}");
        let subscribed = socket.json();
        assert_eq!(subscribed["subscribed"]["recovered"], false, "{since}");
        assert_eq!(Position::of(&subscribed["subscribed"]), top, "{since}");
    }
    let (mut socket, _, _) = resume(&server, "?since=elsewhere:4&format=json");
    socket.json();
    let next = server.publish("a", "live");
    assert_eq!(Position::of(&socket.json()), next);
    server.await_metric("fanwire_recoveries_total", &[], 6);
}

#[test]
fn a_replay_larger_than_the_outbox_meets_live_publishing_without_a_seam() {
    const COUNT: u64 = 1500;
    let config = format!("[limits]\noutbox_bytes_max = 140000\n{DEEP}");
    let server = Server::start_with(&config, &["--workers", "2"]);
    let mut publisher = server.websocket("/topics/a?echo=false");
    for n in 0..COUNT {
        publisher.text(&format!("{n:04096}"));
    }
    server.await_metric("fanwire_publications_total", &[("door", "plain")], COUNT);
    let (stop, mut checker) = (Stop::default(), Checker::default());
    thread::scope(|scope| {
        let _stopping = stop.on_drop();
        scope.spawn(|| {
            let mut n = 0;
            while !stop.is_set() {
                n += 1;
                server.publish("a", &n.to_string());
            }
        });
        let (mut socket, start, recovered) = resume(&server, "?since=0&format=json");
        assert_eq!(recovered.as_deref(), Some("true"));
        socket.json();
        checker.starts(("s", "a"), &start);
        while checker.top(("s", "a")) < COUNT + 100 {
            delivered(&mut checker, "s", &socket.json());
        }
    });
    checker.finish().unwrap();
}

#[test]
fn a_long_replay_reaches_streams_too() {
    let server = Server::start(DEEP);
    let mut publisher = server.websocket("/topics/a?echo=false");
    for n in 0..1500 {
        publisher.text(&format!("{n:04096}"));
    }
    server.await_metric("fanwire_publications_total", &[("door", "plain")], 1500);
    for request in
        [Request::get("/topics/a?since=0"), Request::sse("/topics/a?since=0&format=json")]
    {
        let mut stream = Stream::open(server.wire(), &request);
        let is_sse = stream.head.header("content-type") == Some("text/event-stream");
        let mut checker = Checker::default();
        checker.starts(("s", "a"), &Position::of_head(&stream.head));
        while checker.top(("s", "a")) < 1500 {
            let text = if is_sse { stream.event().data.unwrap() } else { stream.line().unwrap() };
            let object: Value = serde_json::from_str(&text).unwrap();
            if object.get("subscribed").is_none() {
                delivered(&mut checker, "s", &object);
            }
        }
    }
}

#[test]
fn a_forgotten_topic_keeps_its_position() {
    let server = Server::start("[[topic]]\nmatch = \"*\"\nhistory_ttl = \"100ms\"\n");
    let top = server.publish_numbers("a", 3);
    server.await_metric("fanwire_topics", &[], 0);
    let (_, start, recovered) = resume(&server, &format!("?since={top}"));
    assert_eq!((&start, recovered.as_deref()), (&top, Some("true")));
    server.await_metric("fanwire_topics", &[], 0);
    assert_eq!(server.publish("a", "after"), top.plus(1));
}

#[test]
fn a_restarted_server_has_another_epoch() {
    let top = Server::start("").publish("a", "x");
    let server = Server::start("");
    server.publish("a", "x");
    let (_, start, recovered) = resume(&server, &format!("?since={top}"));
    assert_ne!(start.epoch, top.epoch);
    assert_eq!(recovered.as_deref(), Some("false"));
}

#[test]
fn recoveries_are_counted_by_result() {
    let server = Server::start("");
    let top = server.publish_numbers("a", 2);
    resume(&server, &format!("?since={}:1", top.epoch));
    resume(&server, "?since=elsewhere:1");
    resume(&server, "?since=elsewhere:2");
    server.await_metric("fanwire_recoveries_total", &[], 3);
    let metrics = server.metrics();
    let results = ["recovered", "not_recovered"];
    let counts =
        results.map(|result| metrics.get("fanwire_recoveries_total", &[("result", result)]));
    assert_eq!(counts, [1, 2]);
}
