//! Query strings, good and bad.

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::{Echo, Format, PARAMETERS_MAX, Query};
use crate::hub::{Epoch, Since, Start};
use crate::reason::Refusal;

const DEFAULT: Query =
    Query { echo: Echo::On, format: Format::Native, limit: 100, start: Start::Live };

fn since(offset: u64) -> Start {
    let epoch = Epoch::parse("e1");
    Start::Since(Since { epoch, offset })
}

fn check(query: &str, expected: Result<Query, Refusal>) {
    let got = Query::parse(Some(query)).map_err(|refused| refused.refusal);
    assert_eq!(got, expected, "{query}");
}

#[test]
fn known_parameters_are_read_and_unknown_ones_ignored() {
    let limit = |limit| Query { limit, ..DEFAULT };
    let start = |start| Query { start, ..DEFAULT };
    let echo = Echo::Off;
    let format = Format::Json;
    let epoch = None;
    assert_eq!(Query::parse(None), Ok(DEFAULT));
    for (query, expected) in [
        ("", DEFAULT),
        ("&&", DEFAULT),
        ("utm=1&utm=2&x&%zz=%zz", DEFAULT),
        ("echo=true", DEFAULT),
        ("echo=false", Query { echo, ..DEFAULT }),
        ("format=json", Query { format, ..DEFAULT }),
        ("since=e1:5", start(since(5))),
        ("since=e1%3A5", start(since(5))),
        ("since=0", start(Start::Since(Since { epoch, offset: 0 }))),
        ("last=0", start(Start::Last(0))),
        ("last=100000", start(Start::Last(100_000))),
        ("limit=0", limit(0)),
        ("limit=1000", limit(1_000)),
        ("token=a+b%2B", DEFAULT),
        ("token=", DEFAULT),
    ] {
        check(query, Ok(expected));
    }
}

#[test]
fn a_known_parameter_that_is_wrong_is_refused() {
    for query in [
        "echo",
        "echo=",
        "echo=1",
        "echo=False",
        "echo=true&echo=true",
        "format=",
        "format=xml",
        "format=JSON",
        "last=",
        "last=-1",
        "last=+1",
        "last=x",
        "last=99999999999999999999999",
        "limit=1001",
        "limit=-1",
        "limit=",
        "limit=1&limit=1",
        "since=1&since=1",
        "since=1&last=1",
        "token=a&token=a",
        "token=%zz",
        "token=%FF",
    ] {
        check(query, Err(Refusal::QueryInvalid));
    }
    for query in [
        "since",
        "since=",
        "since=x",
        "since=e1:",
        "since=e1:+5",
        "since=-1",
        "since=e1%5",
        "since=e1:5,e2:5",
        "since=e1:18446744073709551616",
        "since=%FF",
    ] {
        check(query, Err(Refusal::SinceInvalid));
    }
}

#[test]
fn a_flood_of_parameters_is_refused() {
    let flood = |count| vec!["x=1"; count].join("&");
    check(&flood(PARAMETERS_MAX), Ok(DEFAULT));
    for count in [PARAMETERS_MAX + 1, 10_000] {
        check(&flood(count), Err(Refusal::QueryInvalid));
    }
}

#[test]
fn last_event_id_beats_the_query() {
    for (query, lines, expected) in [
        ("", &[][..], Start::Live),
        ("since=e1:5", &[], since(5)),
        ("since=e1:5", &["e1:9"], since(9)),
        ("last=5", &["e1:9"], since(9)),
        ("since=e1:5", &[""], since(5)),
        ("since=e1:5", &["nonsense"], Start::Unknown),
        ("", &["e1:"], Start::Unknown),
        ("", &["\u{e9}:1"], Start::Unknown),
        ("", &["e1:9", "e1:9"], Start::Unknown),
    ] {
        let mut headers = HeaderMap::new();
        for line in lines {
            let value = HeaderValue::from_bytes(line.as_bytes()).expect("a value");
            headers.append("last-event-id", value);
        }
        let query = Query::parse(Some(query)).expect("a query");
        assert_eq!(query.start(&headers), expected, "{lines:?}");
    }
}

#[test]
fn history_reads_after_since_only() {
    for (query, expected) in [("since=7", Some(7)), ("last=7", None), ("", None)] {
        let query = Query::parse(Some(query)).expect("a query");
        assert_eq!(query.since().map(|since| since.offset), expected);
    }
}

proptest! {
    #[test]
    fn any_query_is_read_or_refused(query in any::<String>(), value in any::<String>()) {
        let _ = Query::parse(Some(&query));
        let _ = Query::parse(Some(&format!("since={value}&{query}")));
    }
}
