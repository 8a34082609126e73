//! Bytes and headers of every answer.

#![expect(clippy::indexing_slicing, reason = "a JSON value indexes without a panic")]

use std::sync::Arc;

use http::HeaderMap;
use serde_json::{Value, json};

use super::{Acceptance, error_body, history_body, position_headers, published_body, refused};
use crate::hub::{Draft, Epoch, PayloadKind, Position, Publication, TopicName};
use crate::metrics::Memory;
use crate::protocol::plain;
use crate::reason::{Refusal, Refused};
use crate::time::Stamp;

fn topic() -> TopicName {
    TopicName::new("a\"b", 255).expect("a topic name")
}

fn at(offset: u64) -> Option<Position> {
    Epoch::parse("e1").map(|epoch| Position { epoch, offset })
}

fn publication(sequence: u64, kind: PayloadKind, data: &[u8]) -> Arc<Publication> {
    let draft = Draft::new(plain::payload(kind, data));
    let memory = Arc::new(Memory::new(u64::MAX));
    let stamp = Stamp { wall: 1_000, ..Stamp::now() };
    Arc::new(Publication::new((sequence, Epoch::parse("e1")), stamp, draft, memory))
}

fn shown(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        format!("{name}: {}", value.to_str().expect("ASCII"))
    };
    let mut lines: Vec<_> = headers.iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn an_error_is_its_code_and_a_message() {
    assert_eq!(
        error_body(Refusal::NotFound, "say \"hi\"\r\n\u{1b}"),
        r#"{"error":{"code":"not_found","message":"say \"hi\"\r\n\u001b"}}"#
    );
}

#[test]
fn every_refusal_has_an_answer_with_its_status_and_headers() {
    for refusal in Refusal::ALL {
        let answer = refused(&Refused::from(refusal), "GET, OPTIONS");
        assert_eq!(answer.status().as_u16(), refusal.status());
        let body: Value = serde_json::from_slice(answer.body()).expect("JSON");
        assert_eq!(body["error"]["code"], refusal.code());
        assert!(body["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
        let mut expected = match refusal.status() {
            401 => vec!["www-authenticate: Bearer"],
            405 => vec!["allow: GET, OPTIONS"],
            426 => vec!["connection: Upgrade", "sec-websocket-version: 13", "upgrade: websocket"],
            429 | 503 => vec!["retry-after: 1"],
            _ => vec![],
        };
        expected.push("content-type: application/json");
        expected.sort_unstable();
        assert_eq!(shown(answer.headers()), expected, "{refusal:?}");
    }
}

#[test]
fn a_published_body_shows_the_position_where_there_is_one() {
    for (position, acceptance, expected) in [
        (at(7), Acceptance::New, r#"{"topic":"a\"b","offset":7,"epoch":"e1"}"#),
        (
            at(7),
            Acceptance::Duplicate,
            r#"{"topic":"a\"b","offset":7,"epoch":"e1","duplicate":true}"#,
        ),
        (None, Acceptance::New, r#"{"topic":"a\"b"}"#),
        (None, Acceptance::Duplicate, r#"{"topic":"a\"b","duplicate":true}"#),
    ] {
        assert_eq!(published_body(&topic(), position, acceptance), expected);
    }
}

#[test]
fn a_history_body_lists_publication_objects() {
    let (text, binary) =
        (publication(1, PayloadKind::Text, b"hi\n"), publication(2, PayloadKind::Binary, b"\xff"));
    let first = json!({"topic": "a\"b", "offset": 1, "epoch": "e1", "time": 1000, "data": "hi\n"});
    let second =
        json!({"topic": "a\"b", "offset": 2, "epoch": "e1", "time": 1000, "data64": "/w=="});
    for (position, recovered, publications, expected) in [
        (None, None, vec![], json!({"epoch": "", "offset": 0, "publications": []})),
        (
            at(2),
            None,
            vec![Arc::clone(&text)],
            json!({"epoch": "e1", "offset": 2, "publications": [first]}),
        ),
        (
            at(2),
            Some(true),
            vec![text, binary],
            json!({"epoch": "e1", "offset": 2, "recovered": true, "publications": [first, second]}),
        ),
        (
            at(2),
            Some(false),
            vec![],
            json!({"epoch": "e1", "offset": 2, "recovered": false, "publications": []}),
        ),
    ] {
        let body = history_body(&topic(), position, recovered, &publications);
        let mut expected = expected;
        expected["topic"] = json!("a\"b");
        let got: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(got, expected);
    }
}

#[test]
fn position_headers_are_set_where_they_mean_something() {
    for (position, recovered, expected) in [
        (None, None, &[][..]),
        (at(0), None, &["fanwire-epoch: e1", "fanwire-offset: 0"]),
        (None, Some(false), &["fanwire-recovered: false"]),
        (
            at(u64::MAX),
            Some(true),
            &[
                "fanwire-epoch: e1",
                "fanwire-offset: 18446744073709551615",
                "fanwire-recovered: true",
            ],
        ),
    ] {
        let mut headers = HeaderMap::new();
        position_headers(&mut headers, position, recovered);
        assert_eq!(shown(&headers), expected);
    }
}
