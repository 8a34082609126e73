//! Bytes of every encoding, and what a reader gets back from them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::centrifugo::Wire;
use super::{
    JSON, NATIVE, NDJSON, SSE, SSE_JSON, SSE_JSON_SEVERAL, SSE_SEVERAL, delta, json, ndjson,
    object, plain, sse, variants,
};
use crate::hub::{Draft, Epoch, PayloadKind, Peer, Position, Publication, TopicName};
use crate::metrics::Memory;
use crate::time::Stamp;

fn topic(name: &str) -> TopicName {
    TopicName::new(name, 255).expect("a topic name")
}

fn epoch() -> Option<Epoch> {
    Epoch::parse("e1")
}

fn at(offset: u64) -> Option<Position> {
    epoch().map(|epoch| Position { epoch, offset })
}

fn publication(epoch: Option<Epoch>, kind: PayloadKind, data: &[u8]) -> Publication {
    let draft = Draft::new(plain::payload(kind, data));
    let now = Stamp { wall: 1_700_000_000_123, ..Stamp::now() };
    Publication::new((7, epoch), now, draft, Arc::new(Memory::new(u64::MAX)))
}

fn text(data: &str) -> Publication {
    publication(epoch(), PayloadKind::Text, data.as_bytes())
}

/// The payload of a frame, after checking its head.
fn unframe(frame: &Bytes, opcode: u8) -> &[u8] {
    assert_eq!(frame[0], 0x80 | opcode);
    let (head_len, len) = match frame[1] {
        126 => (4, usize::from(u16::from_be_bytes([frame[2], frame[3]]))),
        127 => {
            let len = u64::from_be_bytes(frame[2..10].try_into().expect("eight bytes"));
            (10, usize::try_from(len).expect("a length"))
        }
        len => (2, usize::from(len)),
    };
    assert_eq!(frame.len(), head_len + len);
    &frame[head_len..]
}

#[test]
fn the_constants_name_the_table() {
    let names: Vec<_> = variants(None).encodings().map(|(name, _)| name).collect();
    for (variant, name) in [
        (NATIVE, "plain"),
        (JSON, "json"),
        (SSE, "sse"),
        (SSE_JSON, "sse_json"),
        (NDJSON, "ndjson"),
        (Wire::JsonFrames.variant(), "centrifugo_json"),
        (Wire::ProtobufFrames.variant(), "centrifugo_protobuf"),
        (Wire::JsonBody.variant(), "centrifugo_json_body"),
        (Wire::ProtobufBody.variant(), "centrifugo_protobuf_body"),
        (Wire::Events.variant(), "centrifugo_events"),
        (SSE_SEVERAL, "sse_several"),
        (SSE_JSON_SEVERAL, "sse_json_several"),
        (Wire::UniFrames.variant(), "centrifugo_uni_frames"),
        (Wire::UniBody.variant(), "centrifugo_uni_body"),
        (Wire::UniEvents.variant(), "centrifugo_uni_events"),
    ] {
        assert_eq!(names[variant.index()], name);
    }
    assert_eq!(names.len(), 15 + delta::COUNT);
}

#[test]
fn every_variant_is_encoded_by_its_own_encoder() {
    let (publication, topic, variants) = (text("hi"), topic("a"), variants(None));
    let encoded = |variant| publication.encoded(variant, &topic, &variants).clone();
    assert_eq!(encoded(NATIVE), publication.payload().framed());
    assert_eq!(encoded(JSON), json::publication(&publication, &topic));
    assert_eq!(encoded(SSE), sse::publication(&publication, &topic));
    assert_eq!(encoded(SSE_JSON), sse::publication_object(&publication, &topic));
    assert_eq!(encoded(NDJSON), ndjson::publication(&publication, &topic));
    for (variant, of_one) in [(SSE_SEVERAL, SSE), (SSE_JSON_SEVERAL, SSE_JSON)] {
        let of_one = encoded(of_one);
        assert_eq!(of_one.strip_prefix(b"id: e1:7\n"), Some(&*encoded(variant)), "all but the id");
    }
}

#[test]
fn a_plain_payload_is_a_frame_with_the_shortest_head() {
    for (len, head) in [
        (0, &[0x82, 0][..]),
        (1, &[0x82, 1]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65_535, &[0x82, 126, 0xff, 0xff]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let data = vec![0xab; len];
        let payload = plain::payload(PayloadKind::Binary, &data);
        assert_eq!(payload.data(), data);
        assert_eq!(payload.kind(), PayloadKind::Binary);
        assert_eq!(payload.framed()[..head.len()], *head, "{len}");
        assert_eq!(payload.framed().len(), head.len() + len);
    }
    let payload = plain::payload(PayloadKind::Text, b"hi");
    assert_eq!(payload.framed().as_ref(), b"\x81\x02hi");
}

#[test]
fn a_publication_object_shows_what_is_known() {
    let with_user = |user: &str| {
        let mut publication = text("hi");
        publication.draft.publisher = Some(Peer::user(Arc::from(user)));
        publication
    };
    for (publication, expected) in [
        (
            text("say \"hi\"\n\u{1}"),
            r#"{"topic":"a/\"b\"","offset":7,"epoch":"e1","time":1700000000123,"data":"say \"hi\"\n\u0001"}"#,
        ),
        (text(""), r#"{"topic":"a/\"b\"","offset":7,"epoch":"e1","time":1700000000123,"data":""}"#),
        (
            publication(None, PayloadKind::Text, b"{\"a\":1}"),
            r#"{"topic":"a/\"b\"","time":1700000000123,"data":"{\"a\":1}"}"#,
        ),
        (
            publication(epoch(), PayloadKind::Binary, b"\xff\x00\x01\x02"),
            r#"{"topic":"a/\"b\"","offset":7,"epoch":"e1","time":1700000000123,"data64":"/wABAg=="}"#,
        ),
        (
            publication(None, PayloadKind::Binary, b""),
            r#"{"topic":"a/\"b\"","time":1700000000123,"data64":""}"#,
        ),
        (
            with_user("u\"1"),
            r#"{"topic":"a/\"b\"","offset":7,"epoch":"e1","time":1700000000123,"data":"hi","user":"u\"1"}"#,
        ),
    ] {
        let topic = topic("a/\"b\"");
        let mut object = Vec::new();
        object::publication(&mut object, &publication, &topic).expect("writes to memory");
        assert_eq!(String::from_utf8_lossy(&object), expected);

        let line = ndjson::publication(&publication, &topic);
        assert_eq!(line, format!("{expected}\n"));
        let frame = json::publication(&publication, &topic);
        assert_eq!(unframe(&frame, 1), expected.as_bytes());
        let id = publication.epoch.map_or("", |_| "id: e1:7\n");
        let block = sse::publication_object(&publication, &topic);
        assert_eq!(block, format!("{id}data: {expected}\n\n"));
    }
}

#[test]
fn control_objects_say_where_a_stream_begins_and_what_is_missing() {
    let topic = topic("a");
    for (position, recovered, expected) in [
        (None, None, json!({"topic": "a"})),
        (None, Some(false), json!({"topic": "a", "recovered": false})),
        (at(3), None, json!({"topic": "a", "epoch": "e1", "offset": 3})),
        (at(0), Some(true), json!({"topic": "a", "epoch": "e1", "offset": 0, "recovered": true})),
    ] {
        let expected = json!({ "subscribed": expected });
        let line = ndjson::subscribed(&topic, position, recovered);
        assert_eq!(line.last(), Some(&b'\n'));
        let frame = json::subscribed(&topic, position, recovered);
        for bytes in [line.as_ref(), unframe(&frame, 1)] {
            let got: Value = serde_json::from_slice(bytes).expect("JSON");
            assert_eq!(got, expected);
        }
    }
    assert_eq!(ndjson::skipped(9), "{\"skipped\":{\"count\":9}}\n");
    assert_eq!(unframe(&json::skipped(9), 1), b"{\"skipped\":{\"count\":9}}");
    assert_eq!(ndjson::ping(), "{\"ping\":{}}\n");
}

#[test]
fn sse_blocks_are_these_bytes() {
    let topic = topic("a");
    let text = |data: &str| sse::publication(&text(data), &topic);
    let no_history = publication(None, PayloadKind::Text, b"hi");
    let binary = publication(epoch(), PayloadKind::Binary, b"\xff\x00");
    let retry = Duration::from_millis(1_500);
    for (got, expected) in [
        (text("hi"), "id: e1:7\ndata: hi\n\n"),
        // Data of one empty line is a line end, which dispatches an event with no data.
        (text(""), "id: e1:7\ndata: \n\n"),
        (text(" a"), "id: e1:7\ndata:  a\n\n"),
        (text("a\nb\r\nc\rd"), "id: e1:7\ndata: a\ndata: b\ndata: c\ndata: d\n\n"),
        (text("a\n"), "id: e1:7\ndata: a\ndata: \n\n"),
        (text("\r\n"), "id: e1:7\ndata: \ndata: \n\n"),
        (text("\n\r"), "id: e1:7\ndata: \ndata: \ndata: \n\n"),
        (text("id: x\n\nevent: y"), "id: e1:7\ndata: id: x\ndata: \ndata: event: y\n\n"),
        (sse::publication(&no_history, &topic), "data: hi\n\n"),
        (sse::publication(&binary, &topic), "id: e1:7\nevent: binary\ndata: /wA=\n\n"),
        (sse::opening(retry, &[at(3)]), "retry: 1500\n\nid: e1:3\n\n"),
        (sse::opening(retry, &[None]), "retry: 1500\n\n"),
        (sse::opening(retry, &[at(3), None, at(4)]), "retry: 1500\n\nid: e1:3,,e1:4\n\n"),
        (sse::opening(retry, &[None, None]), "retry: 1500\n\n"),
        (
            sse::reset(&topic, at(3), &[None, at(3)]),
            "id: ,e1:3\nevent: reset\ndata: {\"subscribed\":{\"topic\":\"a\",\"offset\":3,\"epoch\":\"e1\",\"recovered\":false}}\n\n",
        ),
        (
            sse::reset(&topic, at(3), &[at(3)]),
            "id: e1:3\nevent: reset\ndata: {\"subscribed\":{\"topic\":\"a\",\"offset\":3,\"epoch\":\"e1\",\"recovered\":false}}\n\n",
        ),
        (
            sse::reset(&topic, None, &[None]),
            "event: reset\ndata: {\"subscribed\":{\"topic\":\"a\",\"recovered\":false}}\n\n",
        ),
        (sse::skipped(2), "event: skipped\ndata: {\"skipped\":{\"count\":2}}\n\n"),
        (sse::comment(), ":\n\n"),
    ] {
        assert_eq!(got, expected);
    }
}

/// One event of a stream, as a browser dispatches it.
#[derive(Debug, Default, PartialEq)]
struct Event {
    id: String,
    kind: String,
    data: String,
}

/// The parsing rules of WHATWG HTML section 9.2.6, slowly.
fn parse(stream: &str) -> Vec<Event> {
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    let (mut events, mut event) = (Vec::new(), Event::default());
    for line in stream.split_terminator('\n') {
        if line.is_empty() {
            let id = event.id.clone();
            if event.data.pop().is_some() {
                events.push(std::mem::take(&mut event));
            }
            event = Event { id, ..Event::default() };
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => event.data.extend([value, "\n"]),
            "event" => value.clone_into(&mut event.kind),
            "id" => value.clone_into(&mut event.id),
            _ => {}
        }
    }
    events
}

/// Any text, with more line ends and field names than chance would give.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just("data: ".to_owned()),
        Just(":".to_owned()),
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn json_of_any_text_reads_back_as_it_was(data in any_text()) {
        let (publication, topic) = (text(&data), topic("a"));
        let line = ndjson::publication(&publication, &topic);
        prop_assert_eq!(line.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count(), 1);
        let frame = json::publication(&publication, &topic);
        for bytes in [line.as_ref(), unframe(&frame, 1)] {
            let object: Value = serde_json::from_slice(bytes)?;
            prop_assert_eq!(object["data"].as_str(), Some(data.as_str()));
        }
    }

    #[test]
    fn sse_of_any_text_reads_back_with_lf_for_every_line_end(data in any_text()) {
        let block = sse::publication(&text(&data), &topic("a"));
        let event = Event {
            id: "e1:7".to_owned(),
            kind: String::new(),
            data: data.replace("\r\n", "\n").replace('\r', "\n"),
        };
        prop_assert_eq!(parse(str::from_utf8(&block)?), [event]);
    }

    #[test]
    fn binary_reads_back_as_it_was(data in prop::collection::vec(any::<u8>(), 0..300)) {
        use base64::Engine as _;

        let publication = publication(epoch(), PayloadKind::Binary, &data);
        let line = ndjson::publication(&publication, &topic("a"));
        let object: Value = serde_json::from_slice(&line)?;
        let block = sse::publication(&publication, &topic("a"));
        let events = parse(str::from_utf8(&block)?);
        prop_assert_eq!(events.len(), 1);
        prop_assert_eq!(&events[0].kind, "binary");
        for encoded in [object["data64"].as_str(), Some(events[0].data.as_str())] {
            let decoded = base64::prelude::BASE64_STANDARD.decode(encoded.unwrap_or("?"));
            prop_assert_eq!(decoded.as_ref(), Ok(&data));
        }
    }
}
