//! `GET /topics?topic=A&topic=B`: several topics on one stream or WebSocket.

use std::thread;

use serde_json::{Value, json};

use crate::harness::{Block, Request, Server, Stop, Stream, Wire};
use crate::invariant::{Checker, Position};

const SHORT: &str = "[[topic]]\nmatch = \"short\"\nhistory_size = 3\n\
    [[topic]]\nmatch = \"forgetful\"\nhistory_size = 0\n";

fn names(publication: &Value) -> (&str, &str) {
    (publication["topic"].as_str().unwrap(), publication["data"].as_str().unwrap())
}

/// Position of a topic nobody has published to, as the `subscribed` object tells it.
fn start(object: &Value, topic: &str) -> Position {
    assert_eq!(object["subscribed"]["topic"], topic, "{object}");
    Position::of(&object["subscribed"])
}

fn ids(positions: &[&Position]) -> String {
    let positions: Vec<_> = positions.iter().map(ToString::to_string).collect();
    positions.join(",")
}

fn resume(server: &Server, target: &str, id: &str) -> Stream {
    Stream::open(server.wire(), &Request::sse(target).header("Last-Event-ID", id))
}

#[test]
fn lines_tell_which_topic_they_are_of() {
    let server = Server::start(SHORT);
    let mut stream = server.ndjson("/topics?topic=b&topic=a&topic=b&topic=forgetful");
    for topic in ["b", "a"] {
        assert_eq!(start(&stream.json(), topic).offset, 0);
    }
    assert_eq!(stream.json(), json!({"subscribed": {"topic": "forgetful"}}));
    for name in ["fanwire-epoch", "fanwire-offset", "fanwire-recovered"] {
        assert_eq!(stream.head.header(name), None);
    }
    server.await_metric("fanwire_subscriptions", &[], 3);
    server.publish("a", "1");
    server.publish("b", "2");
    server.post("/topics/forgetful", "3");
    for expected in [("a", "1"), ("b", "2"), ("forgetful", "3")] {
        assert_eq!(names(&stream.json()), expected);
    }
    drop(stream);
    server.await_metric("fanwire_subscriptions", &[], 0);
}

#[test]
fn a_websocket_of_several_topics_gets_objects_and_publishes_nothing() {
    let server = Server::start("");
    let mut socket = server.websocket("/topics?topic=a&topic=b&format=json");
    for topic in ["a", "b"] {
        assert_eq!(start(&socket.json(), topic).offset, 0);
    }
    for name in ["fanwire-epoch", "fanwire-offset"] {
        assert_eq!(socket.head.header(name), None);
    }
    server.publish("b", "1");
    server.publish("a", "2");
    assert_eq!(names(&socket.json()), ("b", "1"));
    assert_eq!(names(&socket.json()), ("a", "2"));
    socket.text("for whom?");
    socket.assert_closed(1008, "permission_denied");
    server.await_close_counted("1008", "permission_denied", 1);
    assert_eq!(server.metric("fanwire_publications_total", &[("door", "plain")]), 0);
}

#[test]
fn a_websocket_of_several_topics_needs_format_json() {
    let server = Server::start("");
    let answer = server.request(&Request::handshake("/topics?topic=a&topic=b"));
    answer.assert_refused(400, "handshake_invalid");
    assert!(answer.text().contains("format=json"), "{}", answer.text());
}

#[test]
fn the_id_of_an_event_has_the_positions_of_all_topics() {
    let server = Server::start(SHORT);
    let (a, b) = (server.publish("a", "0"), server.publish_numbers("b", 2));
    let mut stream = server.sse("/topics?topic=b&topic=a");
    assert!(stream.block().retry.is_some());
    assert_eq!(stream.block().id, Some(ids(&[&b, &a])), "where it begins");
    for (topic, positions) in [
        ("a", [&b, &a.plus(1)]),
        ("b", [&b.plus(1), &a.plus(1)]),
        ("b", [&b.plus(2), &a.plus(1)]),
        ("a", [&b.plus(2), &a.plus(2)]),
    ] {
        server.publish(topic, topic);
        let event = stream.event();
        let expected =
            Block { id: Some(ids(&positions)), data: Some(topic.to_owned()), ..Block::default() };
        assert_eq!(event, expected);
    }
}

#[test]
fn a_topic_without_history_has_an_empty_place() {
    let server = Server::start(SHORT);
    let mut stream = server.sse("/topics?topic=forgetful&topic=a&format=json");
    server.post("/topics/forgetful", "1");
    let a = server.publish("a", "2");
    let before = Position { offset: 0, ..a.clone() };
    for (expected, position) in [(("forgetful", "1"), before), (("a", "2"), a)] {
        let event = stream.event();
        let object: Value = serde_json::from_str(&event.data.unwrap()).unwrap();
        assert_eq!((names(&object), event.id), (expected, Some(format!(",{position}"))));
    }
    let mut nameless = server.sse("/topics?topic=forgetful");
    server.post("/topics/forgetful", "3");
    let event = nameless.event();
    assert_eq!((event.id, event.data.as_deref()), (None, Some("3")), "nothing to come back with");
}

#[test]
fn a_stream_goes_on_in_every_topic_where_it_was() {
    let server = Server::start(SHORT);
    let (a, b) = (server.publish_numbers("a", 3), server.publish_numbers("b", 3));
    let at = |a: u64, b: u64, epochs: [&Position; 2]| {
        [(epochs[0], a), (epochs[1], b)]
            .map(|(position, offset)| Position { offset, ..position.clone() })
    };
    let [a1, b2] = at(1, 2, [&a, &b]);
    let last_event_id = resume(&server, "/topics?topic=a&topic=b", &format!("{a1},{b2}"));
    let since = server.sse(&format!("/topics?topic=a&topic=b&since={a1},{b2}"));
    for mut stream in [last_event_id, since] {
        assert_eq!(stream.head.header("fanwire-recovered"), Some("true"));
        let mut got: Vec<_> = (0..3).map(|_| stream.event()).collect();
        assert_eq!(got.last().unwrap().id, Some(ids(&[&a, &b])));
        got.sort_by_key(|event| event.data.clone());
        let data: Vec<_> = got.iter().filter_map(|event| event.data.as_deref()).collect();
        assert_eq!(data, ["2", "3", "3"]);
    }
    let mut lines = server.ndjson("/topics?topic=a&topic=b&last=1");
    assert_eq!(lines.head.header("fanwire-recovered"), None);
    assert_eq!((start(&lines.json(), "a").offset, start(&lines.json(), "b").offset), (2, 2));
    let (first, second) = (lines.json(), lines.json());
    assert_eq!([names(&first), names(&second)], [("a", "3"), ("b", "3")]);
    let mut socket =
        server.websocket(&format!("/topics?topic=a&topic=b&format=json&since={a1},{b}"));
    assert_eq!(socket.head.header("fanwire-recovered"), Some("true"));
    for (topic, offset) in [("a", 1), ("b", 3)] {
        let object = socket.json();
        assert_eq!(
            (start(&object, topic).offset, &object["subscribed"]["recovered"]),
            (offset, &json!(true))
        );
    }
    assert_eq!((names(&socket.json()), names(&socket.json())), (("a", "2"), ("a", "3")));
}

#[test]
fn a_topic_that_cannot_be_recovered_is_told_and_the_others_are() {
    let server = Server::start(SHORT);
    let (a, short) = (server.publish_numbers("a", 5), server.publish_numbers("short", 5));
    let lost = Position { offset: 1, ..short.clone() };
    let got = Position { offset: 4, ..a.clone() };
    let mut stream = resume(&server, "/topics?topic=short&topic=a", &format!("{lost},{got}"));
    assert_eq!(stream.head.header("fanwire-recovered"), Some("false"));
    let reset = stream.event();
    assert_eq!((reset.event.as_deref(), reset.id), (Some("reset"), Some(ids(&[&short, &got]))));
    let object: Value = serde_json::from_str(&reset.data.unwrap()).unwrap();
    assert_eq!(
        (start(&object, "short"), &object["subscribed"]["recovered"]),
        (short.clone(), &json!(false))
    );
    let event = stream.event();
    assert_eq!((event.data.as_deref(), event.id), (Some("5"), Some(ids(&[&short, &a]))));
    server.publish("short", "live");
    let event = stream.event();
    assert_eq!((event.data.as_deref(), event.id), (Some("live"), Some(ids(&[&short.plus(1), &a]))));
    for result in ["recovered", "not_recovered"] {
        server.await_metric("fanwire_recoveries_total", &[("result", result)], 1);
    }
}

#[test]
fn a_last_event_id_that_does_not_fit_resets_every_topic() {
    let server = Server::start("");
    let (a, b) = (server.publish("a", "x"), server.publish("b", "x"));
    for id in ["garbage".to_owned(), a.to_string(), format!("{a},{b},{b}"), format!("{a};{b}")] {
        let mut stream = resume(&server, "/topics?topic=a&topic=b", &id);
        assert_eq!(stream.head.header("fanwire-recovered"), Some("false"));
        for _ in 0..2 {
            let reset = stream.event();
            assert_eq!(
                (reset.event.as_deref(), reset.id),
                (Some("reset"), Some(ids(&[&a, &b]))),
                "{id}"
            );
        }
    }
}

#[test]
fn more_topics_than_a_session_can_have_are_400() {
    let server = Server::start("[limits]\ntopics_per_session_max = 3\n");
    let query = |count| (1..=count).map(|n| format!("topic={n}")).collect::<Vec<_>>().join("&");
    let mut stream = server.ndjson(&format!("/topics?{}&topic=1", query(3)));
    assert_eq!(start(&stream.json(), "1").offset, 0);
    for request in [Request::get, Request::sse, Request::handshake] {
        let answer = server.request(&request(&format!("/topics?format=json&{}", query(4))));
        answer.assert_refused(400, "query_invalid");
        assert!(answer.text().contains("limits.topics_per_session_max"), "{}", answer.text());
    }
    server.await_refused("query_invalid", 3);
}

#[test]
fn requests_for_several_topics_that_make_no_sense_are_refused() {
    let server = Server::start("");
    for (query, code) in [
        ("", "query_invalid"),
        ("?", "query_invalid"),
        ("?since=a:1", "query_invalid"),
        ("?topic=a&format=xml", "query_invalid"),
        ("?topic=a&topic=%00", "topic_name_invalid"),
        ("?topic=a&topic=b&since=a:1", "since_invalid"),
    ] {
        server.get(&format!("/topics{query}")).assert_refused(400, code);
    }
    let image = Request::get("/topics?topic=a").header("Accept", "image/png");
    server.request(&image).assert_refused(406, "not_acceptable");
    server.post("/topics?topic=a", "x").assert_refused(405, "method_not_allowed");
    server.await_metric("fanwire_subscriptions", &[], 0);
}

#[test]
fn every_topic_needs_the_right_to_subscribe() {
    let server = Server::start("[[topic]]\nmatch = \"secret\"\nsubscribe = \"server\"\n");
    for request in [Request::get, Request::sse, Request::handshake] {
        let answer = server.request(&request("/topics?topic=a&topic=secret&format=json"));
        answer.assert_refused(403, "permission_denied");
    }
    server.await_metric("fanwire_subscriptions", &[], 0);
}

/// Takes an event: its object must be the next of its topic, and its id where the reader is in all.
fn take(checker: &mut Checker, epochs: &[(&str, Position)], event: Block) {
    let object: Value = serde_json::from_str(&event.data.unwrap()).unwrap();
    let (topic, payload) = names(&object);
    checker.delivered(("s", topic), &Position::of(&object), payload).unwrap();
    assert_eq!(event.id, Some(id_of(checker, epochs)));
}

fn id_of(checker: &Checker, epochs: &[(&str, Position)]) -> String {
    let position = |(topic, start): &(&str, Position)| {
        let offset = checker.top(("s", topic));
        Position { offset, ..start.clone() }
    };
    let positions: Vec<_> = epochs.iter().map(position).collect();
    ids(&positions.iter().collect::<Vec<_>>())
}

#[test]
fn a_stream_cut_again_and_again_under_load_misses_nothing_of_any_topic() {
    let deep = "[[topic]]\nmatch = \"*\"\nhistory_size = 100000\nhistory_bytes_max = 100000000\n";
    let server = Server::start_with(deep, &["--workers", "2"]);
    let target = "/topics?topic=a&topic=b&topic=quiet&format=json";
    let (stop, mut checker) = (Stop::default(), Checker::default());
    let epochs = ["a", "b", "quiet"].map(|topic| {
        let top = server.publish(topic, "0");
        checker.starts(("s", topic), &top);
        (topic, top)
    });
    thread::scope(|scope| {
        let stopping = stop.on_drop();
        let publishers = ["a", "b"].map(|topic| scope.spawn(|| server.publish_until(topic, &stop)));
        for _ in 0..20 {
            let id = id_of(&checker, &epochs);
            let mut stream = resume(&server, target, &id);
            assert_eq!(stream.head.header("fanwire-recovered"), Some("true"));
            for _ in 0..100 {
                take(&mut checker, &epochs, stream.event());
            }
        }
        drop(stopping);
        let counts = publishers.map(|publisher| publisher.join().unwrap());
        let mut stream = resume(&server, target, &id_of(&checker, &epochs));
        for (topic, count) in ["a", "b"].into_iter().zip(counts) {
            while checker.top(("s", topic)) < count + 1 {
                take(&mut checker, &epochs, stream.event());
            }
        }
    });
    checker.finish().unwrap();
}

#[test]
fn a_slow_reader_that_loses_publications_gets_ids_of_where_it_is() {
    let server = Server::start(
        "[limits]\nwrite_timeout = \"1m\"\nmessage_bytes_max = 8192\noutbox_bytes_max = 74000\n\
         [[topic]]\nmatch = \"*\"\ndelivery = \"lossy\"\n",
    );
    let tops = ["a", "b"].map(|topic| server.publish(topic, "0"));
    let request = Request::sse("/topics?topic=a&topic=b&format=json");
    let mut slow = Stream::open(Wire::connect_small(server.addr), &request);
    let mut publishers = ["a", "b"].map(|topic| server.websocket(&format!("/topics/{topic}")));
    let overflows = || server.metric("fanwire_outbox_overflows_total", &[("delivery", "lossy")]);
    let padding = "x".repeat(4000);
    let mut count = 0;
    loop {
        count += 1;
        assert!(count < 20_000, "nothing overflowed");
        for publisher in &mut publishers {
            publisher.text(&padding);
            publisher.next_text();
        }
        if count % 100 == 0 && overflows() > 2 {
            break;
        }
    }
    let [mut at, end] = [tops.clone(), tops.map(|top| top.plus(count))];
    let (mut told, mut lost) = (0, 0);
    while at != end {
        let event = slow.event();
        let object: Value = serde_json::from_str(&event.data.unwrap()).unwrap();
        if let Some(count) = object["skipped"]["count"].as_u64() {
            told += count;
            continue;
        }
        let place = &mut at[usize::from(object["topic"] == "b")];
        let position = Position::of(&object);
        lost += position.offset - place.offset - 1;
        *place = position;
        assert_eq!(event.id, Some(ids(&[&at[0], &at[1]])));
    }
    assert!(lost > 0, "something was dropped");
    assert_eq!(told, lost);
}

#[test]
fn a_stream_of_several_topics_ends_with_the_last_publication_of_each() {
    let mut server = Server::start("[drain]\nwindow = \"200ms\"\n");
    let mut stream = server.sse("/topics?topic=a&topic=b");
    server.publish("a", "1");
    server.publish("b", "2");
    server.process.signal("TERM");
    let mut data = [stream.event().data.unwrap(), stream.event().data.unwrap()];
    data.sort();
    assert_eq!(data, ["1", "2"]);
    while stream.try_block().is_some() {}
    assert_eq!(server.process.exit_code(), Some(0));
}
