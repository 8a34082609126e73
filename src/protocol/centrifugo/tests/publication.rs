//! Publications as subscribers of every wire get them.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

use super::world::{is_framed, unframe};
use crate::hub::{Draft, Epoch, PayloadKind, Peer, Publication, TopicName};
use crate::metrics::Memory;
use crate::protocol::centrifugo::message::{self, ClientInfo};
use crate::protocol::centrifugo::{self, DEPTH_MAX, Wire};
use crate::protocol::plain;
use crate::time::Stamp;

fn topic() -> TopicName {
    TopicName::new("a", 255).unwrap()
}

fn publication(sequence: u64, kind: PayloadKind, data: &[u8]) -> Publication {
    let draft = Draft::new(plain::payload(kind, data));
    let place = (sequence, Epoch::parse("e1"));
    Publication::new(place, Stamp::now(), draft, Arc::new(Memory::new(u64::MAX)))
}

/// The push as JSON frames carry it.
fn json(publication: &Publication) -> String {
    let frame = centrifugo::publication(Wire::JsonFrames, publication, &topic());
    assert_eq!(frame[0], 0x81);
    String::from_utf8(unframe(&frame)).unwrap()
}

#[test]
fn a_push_is_these_bytes_on_every_wire() {
    let one = publication(5, PayloadKind::Text, b"{\"t\":1}");
    let object = r#"{"push":{"channel":"a","pub":{"data":{"t":1},"offset":5}}}"#;
    let bare = r#"{"channel":"a","pub":{"data":{"t":1},"offset":5}}"#;
    let proto = b"\x12\x22\x10\x12\x01a\x22\x0b\x22\x07{\"t\":1}\x30\x05";
    for (wire, expected) in [
        (Wire::JsonFrames, [b"\x81\x3a", object.as_bytes()].concat()),
        (Wire::JsonBody, [object.as_bytes(), b"\n"].concat()),
        (Wire::Events, [b"data: ", object.as_bytes(), b"\n\n"].concat()),
        (Wire::ProtobufFrames, [&b"\x82\x13"[..], &proto[..1], &proto[1..]].concat()),
        (Wire::ProtobufBody, proto.to_vec()),
        (Wire::UniFrames, [b"\x81\x31", bare.as_bytes()].concat()),
        (Wire::UniBody, [bare.as_bytes(), b"\n"].concat()),
        (Wire::UniEvents, [b"data: ", bare.as_bytes(), b"\n\n"].concat()),
    ] {
        assert_eq!(centrifugo::publication(wire, &one, &topic()).as_ref(), expected, "{wire:?}");
    }
}

#[test]
fn text_that_is_json_is_embedded_and_other_text_is_a_string() {
    for (data, embedded) in [
        ("{\"t\":1}", "{\"t\":1}"),
        (" 1.50e3 ", " 1.50e3 "),
        ("null", "null"),
        ("\"\\ud800\"", "\"\\ud800\""),
        ("[1,\n\r\n 2]", "[1, 2]"),
        ("", "\"\""),
        ("hello", "\"hello\""),
        ("two\nlines", "\"two\\nlines\""),
        ("{\"t\":1} x", "\"{\\\"t\\\":1} x\""),
        ("01", "\"01\""),
        ("\"\u{1}\"", "\"\\\"\\u0001\\\"\""),
    ] {
        let got = json(&publication(5, PayloadKind::Text, data.as_bytes()));
        let expected =
            format!(r#"{{"push":{{"channel":"a","pub":{{"data":{embedded},"offset":5}}}}}}"#);
        assert_eq!(got, expected);
    }
    let nested = |depth: usize| [vec!["["; depth].concat(), vec!["]"; depth].concat()].concat();
    let is_string = |text: &str| {
        json(&publication(5, PayloadKind::Text, text.as_bytes())).contains("\"data\":\"")
    };
    assert!(!is_string(&nested(DEPTH_MAX)));
    assert!(is_string(&nested(DEPTH_MAX + 1)), "parsers of some clients recurse");
    let brackets = format!("\"\\\"{}\"", "[".repeat(DEPTH_MAX + 1));
    assert!(json(&publication(5, PayloadKind::Text, brackets.as_bytes())).contains(&brackets));
}

#[test]
fn bytes_are_base64_with_a_tag_in_json_and_themselves_in_protobuf() {
    let binary = publication(5, PayloadKind::Binary, b"\xff\x00\x01");
    assert_eq!(
        json(&binary),
        r#"{"push":{"channel":"a","pub":{"data":"/wAB","offset":5,"tags":{"encoding":"base64"}}}}"#
    );
    // Bytes that happen to be JSON are bytes all the same.
    assert!(json(&publication(5, PayloadKind::Binary, b"1")).contains(r#""data":"MQ==""#));
    let frame = centrifugo::publication(Wire::ProtobufBody, &binary, &topic());
    let reply = message::Reply::decode_length_delimited(frame).unwrap();
    let got = reply.push.unwrap().r#pub.unwrap();
    assert_eq!((got.data.as_ref(), got.tags.len()), (&b"\xff\x00\x01"[..], 0));
}

#[test]
fn the_first_publication_tells_the_epoch_and_none_is_shown_without_history() {
    assert_eq!(
        json(&publication(1, PayloadKind::Text, b"1")),
        r#"{"push":{"channel":"a","pub":{"data":1,"offset":1,"epoch":"e1"}}}"#
    );
    let mut without = publication(1, PayloadKind::Text, b"1");
    without.epoch = None;
    assert_eq!(json(&without), r#"{"push":{"channel":"a","pub":{"data":1}}}"#);
    without.draft.publisher = Some(Peer::user("ann".into()));
    assert_eq!(
        json(&without),
        r#"{"push":{"channel":"a","pub":{"data":1,"info":{"user":"ann","client":""}}}}"#
    );
}

#[test]
fn a_delta_is_a_string_in_json_and_bytes_in_protobuf() {
    let text = |price: &str| format!(r#"{{"name":"a thing","price":{price},"open":true}}"#);
    let one = publication(1, PayloadKind::Text, text("1").as_bytes());
    let two = publication(2, PayloadKind::Text, text("2").as_bytes());
    let before = Some(one.payload());
    let push = |wire, publication, before| centrifugo::delta(wire, publication, before, &topic());
    let data = |bytes: &Bytes| {
        let object: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let publication = &object["push"]["pub"];
        (publication["data"].as_str().unwrap().to_owned(), publication["delta"] == true)
    };
    assert_eq!(data(&push(Wire::JsonBody, &one, None)), (text("1"), false));
    let (json, is_delta) = data(&push(Wire::JsonBody, &two, before));
    assert!(is_delta && json.len() < text("2").len(), "{json}");
    let got = centrifugo::fossil::decode(text("1").as_bytes(), json.as_bytes(), 100);
    assert_eq!(got, Ok(text("2").into_bytes()));

    let reply = push(Wire::ProtobufBody, &two, before);
    let reply = message::Reply::decode_length_delimited(reply).unwrap();
    let protobuf = reply.push.unwrap().r#pub.unwrap();
    assert_eq!((protobuf.data.as_ref(), protobuf.delta), (json.as_bytes(), true));
    // A delta that is no shorter is not worth it.
    let other = publication(3, PayloadKind::Text, b"[7]");
    assert_eq!(data(&push(Wire::JsonBody, &other, before)), ("[7]".to_owned(), false));
}

#[test]
fn members_are_told_who_comes_and_goes() {
    let info = ClientInfo { user: "ann".into(), client: "c".into(), ..ClientInfo::default() };
    assert_eq!(
        centrifugo::join(Wire::JsonBody, &topic(), info.clone()),
        "{\"push\":{\"channel\":\"a\",\"join\":{\"info\":{\"user\":\"ann\",\"client\":\"c\"}}}}\n"
    );
    assert_eq!(
        centrifugo::leave(Wire::JsonBody, &topic(), info.clone()),
        "{\"push\":{\"channel\":\"a\",\"leave\":{\"info\":{\"user\":\"ann\",\"client\":\"c\"}}}}\n"
    );
    assert_eq!(
        centrifugo::join(Wire::UniBody, &topic(), info),
        "{\"channel\":\"a\",\"join\":{\"info\":{\"user\":\"ann\",\"client\":\"c\"}}}\n"
    );
}

proptest! {
    #[test]
    fn any_payload_reads_back_on_every_wire(data: Vec<u8>, is_text: bool) {
        let text = String::from_utf8_lossy(&data).into_owned();
        let (kind, data) = if is_text {
            (PayloadKind::Text, text.as_bytes())
        } else {
            (PayloadKind::Binary, &data[..])
        };
        let one = publication(5, kind, data);
        for wire in Wire::ALL {
            let bytes = centrifugo::publication(wire, &one, &topic());
            let bytes = if is_framed(wire) { Bytes::from(unframe(&bytes)) } else { bytes };
            if matches!(wire, Wire::ProtobufFrames | Wire::ProtobufBody) {
                let reply = message::Reply::decode_length_delimited(bytes).unwrap();
                let got = reply.push.unwrap().r#pub.unwrap();
                prop_assert_eq!(got.data.as_ref(), data);
                continue;
            }
            let text = str::from_utf8(&bytes)?;
            prop_assert!(!text.trim_end().contains(['\n', '\r']));
            let object: serde_json::Value = serde_json::from_str(text.trim_start_matches("data: "))?;
            let push = if wire.is_unidirectional() { &object } else { &object["push"] };
            let got = &push["pub"]["data"];
            match serde_json::from_slice::<serde_json::Value>(data) {
                Ok(value) if is_text => prop_assert_eq!(got, &value),
                _ if is_text => prop_assert_eq!(got.as_str().map(str::as_bytes), Some(data)),
                _ => {
                    use base64::Engine as _;
                    let decoded = base64::prelude::BASE64_STANDARD.decode(got.as_str().unwrap());
                    prop_assert_eq!(decoded.as_deref(), Ok(data));
                }
            }
        }
    }
}
