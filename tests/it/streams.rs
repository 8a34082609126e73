//! Streams over HTTP: ndjson and server-sent events.

use serde_json::{Value, json};

use crate::harness::{Block, Request, Server, Stream};
use crate::invariant::Position;

const NO_HISTORY: &str = "[[topic]]\nmatch = \"*\"\nhistory_size = 0\n";

fn post_binary(server: &Server, body: &[u8]) {
    let request = Request::post("/topics/a", body).header("Content-Type", "image/png");
    assert_eq!(server.request(&request).status, 200);
}

#[test]
fn ndjson_opens_with_the_subscribed_object() {
    let server = Server::start("");
    let top = server.publish("a", "before");
    let mut stream = server.ndjson("/topics/a");
    let subscribed = json!({"topic": "a", "epoch": top.epoch, "offset": 1});
    assert_eq!(stream.json(), json!({ "subscribed": subscribed }));
    assert_eq!(Position::of_head(&stream.head), top);
    assert_eq!(stream.head.header("fanwire-recovered"), None);
    let content_type = stream.head.header("content-type").unwrap();
    assert!(content_type.starts_with("application/x-ndjson"), "{content_type}");
}

#[test]
fn ndjson_publications_have_exactly_their_fields() {
    let server = Server::start("");
    let mut stream = server.ndjson("/topics/a");
    let epoch = stream.json()["subscribed"]["epoch"].clone();
    server.publish("a", "{\"quoted\":\"\n\u{2028}\"}");
    post_binary(&server, &[0, 255]);
    let (text, binary) = (stream.json(), stream.json());
    let time = text["time"].as_u64().expect("milliseconds");
    assert!(time > 1_600_000_000_000, "{time} is a time of this century in ms");
    let data = "{\"quoted\":\"\n\u{2028}\"}";
    assert_eq!(
        text,
        json!({"topic": "a", "offset": 1, "epoch": epoch, "time": time, "data": data})
    );
    let time = binary["time"].clone();
    assert_eq!(
        binary,
        json!({"topic": "a", "offset": 2, "epoch": epoch, "time": time, "data64": "AP8="})
    );
}

#[test]
fn without_history_streams_show_no_position() {
    let server = Server::start(NO_HISTORY);
    let mut stream = server.ndjson("/topics/a?since=abc:1");
    let subscribed = json!({"topic": "a", "recovered": false});
    assert_eq!(stream.json(), json!({ "subscribed": subscribed }));
    assert_eq!(stream.head.header("fanwire-epoch"), None);
    assert_eq!(stream.head.header("fanwire-offset"), None);
    let mut events = server.sse("/topics/a");
    server.post("/topics/a", "x");
    let publication = stream.json();
    let fields: Vec<&String> = publication.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["data", "time", "topic"]);
    let event = events.event();
    assert_eq!((event.id, event.data.as_deref()), (None, Some("x")));
}

#[test]
fn ndjson_replays_after_since_and_says_so() {
    let server = Server::start("");
    let top = server.publish_numbers("a", 3);
    let epoch = top.epoch;
    let mut stream = server.ndjson(&format!("/topics/a?since={epoch}:1"));
    let subscribed = stream.json()["subscribed"].clone();
    assert_eq!(subscribed["recovered"], true);
    assert_eq!(subscribed["offset"], 1);
    assert_eq!(stream.head.header("fanwire-recovered"), Some("true"));
    assert_eq!(stream.json()["data"], "2");
    assert_eq!(stream.json()["data"], "3");
    server.publish("a", "4");
    assert_eq!(stream.json()["data"], "4");
}

#[test]
fn accept_chooses_the_stream() {
    let server = Server::start("");
    for (accept, content_type) in [
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/json", "application/x-ndjson"),
        ("*/*", "application/x-ndjson"),
        ("text/*", "application/x-ndjson"),
        ("image/png, */*;q=0.1", "application/x-ndjson"),
        ("text/event-stream", "text/event-stream"),
        ("TEXT/event-stream;q=1", "text/event-stream"),
    ] {
        let request = Request::get("/topics/a").header("Accept", accept);
        let stream = Stream::open(server.wire(), &request);
        let got = stream.head.header("content-type").unwrap();
        assert!(got.starts_with(content_type), "{accept}: {got}");
    }
    let image = Request::get("/topics/a").header("Accept", "image/png");
    server.request(&image).assert_refused(406, "not_acceptable");
}

#[test]
fn sse_opens_with_a_retry_time_and_its_position() {
    let server = Server::start("");
    let top = server.publish("a", "before");
    let mut stream = server.sse("/topics/a");
    server.publish("a", "after");
    let (mut retry, mut ids) = (None, Vec::new());
    loop {
        let block = stream.block();
        retry = retry.or(block.retry);
        ids.extend(block.id.clone());
        if block.data.is_some() {
            assert_eq!(block.data.as_deref(), Some("after"));
            assert_eq!(block.event, None);
            break;
        }
        assert_eq!(block.event, None, "only an id before the first publication");
    }
    assert!((1000..=3000).contains(&retry.unwrap()), "{retry:?}");
    assert_eq!(ids, [top.to_string(), top.plus(1).to_string()]);
}

#[test]
fn sse_has_one_data_line_per_line_of_text() {
    let server = Server::start("");
    let mut stream = server.sse("/topics/a");
    for (text, data) in [
        ("one", "one"),
        ("one\ntwo\n\nfour", "one\ntwo\n\nfour"),
        ("ends with a line end\n", "ends with a line end\n"),
        ("", ""),
        (" leading space", " leading space"),
        ("id: 9\nevent: fake\n\ndata: fake", "id: 9\nevent: fake\n\ndata: fake"),
        ("CR\rCRLF\r\nend", "CR\nCRLF\nend"),
    ] {
        let position = server.publish("a", text);
        let expected = Block {
            id: Some(position.to_string()),
            data: Some(data.to_owned()),
            ..Block::default()
        };
        assert_eq!(stream.event(), expected, "{text:?}");
    }
}

#[test]
fn sse_sends_binary_as_an_event_of_its_own() {
    let server = Server::start("");
    let mut stream = server.sse("/topics/a");
    post_binary(&server, &[0, 255]);
    let event = stream.event();
    assert_eq!(event.event.as_deref(), Some("binary"));
    assert_eq!(event.data.as_deref(), Some("AP8="));
}

#[test]
fn sse_with_format_json_sends_the_publication_object() {
    let server = Server::start("");
    let mut stream = server.sse("/topics/a?format=json");
    let position = server.publish("a", "one\ntwo");
    let event = stream.event();
    let object: Value = serde_json::from_str(&event.data.unwrap()).unwrap();
    assert_eq!(object["data"], "one\ntwo");
    assert_eq!(Position::of(&object), position);
    assert_eq!(event.id, Some(position.to_string()));
}

#[test]
fn last_event_id_beats_since() {
    let server = Server::start("");
    let top = server.publish_numbers("a", 3);
    let epoch = top.epoch;
    for since in ["", "?since=0", "?last=3"] {
        let request = Request::sse(&format!("/topics/a{since}"))
            .header("Last-Event-ID", &format!("{epoch}:2"));
        let mut stream = Stream::open(server.wire(), &request);
        assert_eq!(stream.head.header("fanwire-recovered"), Some("true"));
        assert_eq!(stream.event().data.as_deref(), Some("3"), "{since}");
    }
}

#[test]
fn a_malformed_since_is_400() {
    let server = Server::start("");
    for since in ["", "x", "x:y", ":1", "a:", "a:-1", "1:2:3", "a_b:1", "99999999999999999999"] {
        let target = format!("/topics/a?since={since}");
        for request in [Request::get(&target), Request::sse(&target)] {
            server.request(&request).assert_refused(400, "since_invalid");
        }
    }
}

/// Opens with `Last-Event-ID: id`, which nobody can have: told by a reset, then live.
fn assert_reset(server: &Server, id: &str, top: &Position) {
    let request = Request::sse("/topics/a").header("Last-Event-ID", id);
    let mut stream = Stream::open(server.wire(), &request);
    assert_eq!(stream.head.header("fanwire-recovered"), Some("false"));
    let reset = stream.event();
    assert_eq!(reset.event.as_deref(), Some("reset"), "{id}");
    assert_eq!(reset.id, Some(top.to_string()), "{id}");
    let object: Value = serde_json::from_str(&reset.data.unwrap()).unwrap();
    assert_eq!(object["subscribed"]["recovered"], false);
    assert_eq!(Position::of(&object["subscribed"]), *top);
}

#[test]
fn a_last_event_id_that_nobody_can_have_resets_the_stream() {
    let server = Server::start("");
    let top = server.publish("a", "x");
    assert_reset(&server, "garbage", &top);
    assert_reset(&server, "a:b:c", &top);
    assert_reset(&server, "elsewhere:1", &top);
    assert_reset(&server, &top.plus(1).to_string(), &top);
}

#[test]
fn a_reset_stream_goes_on_live() {
    let server = Server::start("");
    let request = Request::sse("/topics/a").header("Last-Event-ID", "elsewhere:1");
    let mut stream = Stream::open(server.wire(), &request);
    assert_eq!(stream.event().event.as_deref(), Some("reset"));
    let position = server.publish("a", "live");
    let event = stream.event();
    assert_eq!(event.data.as_deref(), Some("live"));
    assert_eq!(event.id, Some(position.to_string()));
}

#[test]
fn streams_are_counted_by_door_until_they_end() {
    let server = Server::start("");
    let streams = [server.sse("/topics/a"), server.ndjson("/topics/a")];
    for door in ["sse", "ndjson"] {
        server.await_metric("fanwire_connections", &[("door", door)], 1);
    }
    server.await_metric("fanwire_subscriptions", &[], 2);
    drop(streams);
    for door in ["sse", "ndjson"] {
        server.await_metric("fanwire_connections", &[("door", door)], 0);
        assert_eq!(server.metric("fanwire_connections_total", &[("door", door)]), 1);
    }
    server.await_metric("fanwire_subscriptions", &[], 0);
}

#[test]
fn queries_that_make_no_sense_are_400() {
    let server = Server::start("");
    for query in ["format=xml", "last=many", "last=-1"] {
        let response = server.get(&format!("/topics/a?{query}"));
        assert_eq!(response.refusal(), (400, "query_invalid".to_owned()), "{query}");
    }
}
