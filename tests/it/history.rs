//! What is kept of a topic, and how it is asked for.

use serde_json::{Value, json};

use crate::harness::{Server, eventually};
use crate::invariant::Position;

fn history(server: &Server, query: &str) -> Value {
    let response = server.get(&format!("/topics/a/history{query}"));
    assert_eq!(response.status, 200, "{query}: {}", response.text());
    response.json()
}

fn offsets(history: &Value) -> Vec<u64> {
    let publications = history["publications"].as_array().expect("publications");
    let offsets = publications.iter().map(|publication| publication["offset"].as_u64());
    offsets.map(Option::unwrap).collect()
}

#[test]
fn history_is_ascending_and_has_publication_objects() {
    let server = Server::start("");
    let top = server.publish_numbers("a", 2);
    let mut answer = history(&server, "");
    for publication in answer["publications"].as_array_mut().unwrap() {
        assert!(publication.as_object_mut().unwrap().remove("time").is_some());
    }
    answer.as_object_mut().unwrap().remove("recovered");
    let publication = |offset: u64| json!({"topic": "a", "offset": offset, "epoch": top.epoch, "data": offset.to_string()});
    let expected = json!({
        "topic": "a", "epoch": top.epoch, "offset": 2,
        "publications": [publication(1), publication(2)],
    });
    assert_eq!(answer, expected);
}

#[test]
fn limit_takes_the_newest_or_what_follows_since() {
    let server = Server::start("");
    let epoch = server.publish_numbers("a", 5).epoch;
    for (query, expected) in [
        (String::new(), &[1, 2, 3, 4, 5][..]),
        ("?limit=2".to_owned(), &[4, 5]),
        ("?limit=0".to_owned(), &[]),
        (format!("?since={epoch}:2"), &[3, 4, 5]),
        (format!("?since={epoch}:2&limit=2"), &[3, 4]),
        (format!("?limit=2&since={epoch}:2"), &[3, 4]),
        ("?since=3".to_owned(), &[4, 5]),
        ("?since=0".to_owned(), &[1, 2, 3, 4, 5]),
        (format!("?since={epoch}:5"), &[]),
        (format!("?since={epoch}:2&limit=0"), &[]),
    ] {
        let answer = history(&server, &query);
        assert_eq!(offsets(&answer), expected, "{query}");
        assert_eq!(Position::of(&answer).offset, 5, "{query}");
        if query.contains("since") {
            assert_eq!(answer["recovered"], true, "{query}");
        }
    }
}

#[test]
fn a_position_that_nobody_can_have_is_told_with_what_is_left() {
    let server = Server::start("[[topic]]\nmatch = \"*\"\nhistory_size = 3\n");
    let epoch = server.publish_numbers("a", 5).epoch;
    for since in ["elsewhere:4".to_owned(), format!("{epoch}:6"), format!("{epoch}:1")] {
        let answer = history(&server, &format!("?since={since}"));
        assert_eq!(answer["recovered"], false, "{since}");
        assert_eq!(offsets(&answer), [3, 4, 5], "{since}");
    }
    let kept = history(&server, &format!("?since={epoch}:2"));
    assert_eq!(kept["recovered"], true);
    assert_eq!(offsets(&kept), [3, 4, 5]);
}

#[test]
fn the_default_limit_is_100() {
    let server = Server::start("[[topic]]\nmatch = \"*\"\nhistory_size = 2000\n");
    server.publish_numbers("a", 130);
    assert_eq!(offsets(&history(&server, "")), (31..=130).collect::<Vec<_>>());
    assert_eq!(offsets(&history(&server, "?limit=1000")).len(), 130);
}

#[test]
fn reading_an_unknown_topic_creates_none() {
    let server = Server::start("");
    for query in ["", "?limit=0"] {
        let answer = history(&server, query);
        assert_eq!(answer["topic"], "a");
        assert_eq!(Position::of(&answer), Position { epoch: String::new(), offset: 0 });
        assert!(offsets(&answer).is_empty());
    }
    assert_eq!(history(&server, "?since=elsewhere:1")["recovered"], false);
    assert_eq!(server.metric("fanwire_topics", &[]), 0);
    server.publish_numbers("a", 1);
    assert_eq!(server.metric("fanwire_topics", &[]), 1);
}

#[test]
fn malformed_questions_are_400() {
    let server = Server::start("");
    for (query, code) in [
        ("?since=x", "since_invalid"),
        ("?since=a:b", "since_invalid"),
        ("?limit=many", "query_invalid"),
        ("?limit=-1", "query_invalid"),
        ("?limit=", "query_invalid"),
    ] {
        let response = server.get(&format!("/topics/a/history{query}"));
        assert_eq!(response.refusal(), (400, code.to_owned()), "{query}");
    }
}

#[test]
fn a_topic_without_history_has_none_to_read() {
    let server = Server::start("[[topic]]\nmatch = \"live:*\"\nhistory_size = 0\n");
    server.get("/topics/live:a/history").assert_refused(404, "history_off");
    assert_eq!(server.get("/topics/a/history").status, 200);
}

#[test]
fn the_first_matching_rule_wins() {
    let config = "[[topic]]\nmatch = \"a*\"\nhistory_size = 1\n\
        [[topic]]\nmatch = \"*\"\nhistory_size = 2\n";
    let server = Server::start(config);
    server.publish_numbers("a", 3);
    assert_eq!(offsets(&history(&server, "")), [3]);
    for text in ["1", "2", "3"] {
        server.publish("b", text);
    }
    assert_eq!(offsets(&server.get("/topics/b/history").json()), [2, 3]);
}

#[test]
fn history_is_trimmed_by_count() {
    let server = Server::start("[[topic]]\nmatch = \"*\"\nhistory_size = 3\n");
    server.publish_numbers("a", 5);
    assert_eq!(offsets(&history(&server, "")), [3, 4, 5]);
}

#[test]
fn history_is_trimmed_by_bytes() {
    let server = Server::start("[[topic]]\nmatch = \"*\"\nhistory_bytes_max = 1000\n");
    for _ in 0..5 {
        server.publish("a", &"x".repeat(300));
    }
    let kept = offsets(&history(&server, ""));
    assert!((1..=3).contains(&kept.len()), "{kept:?}");
    assert_eq!(kept.last(), Some(&5));
}

#[test]
fn history_is_trimmed_by_age_and_the_position_stays() {
    let server = Server::start("[[topic]]\nmatch = \"*\"\nhistory_ttl = \"100ms\"\n");
    let _subscriber = server.websocket("/topics/a");
    let top = server.publish_numbers("a", 3);
    eventually("all are too old", || offsets(&history(&server, "")).is_empty().then_some(()));
    assert_eq!(Position::of(&history(&server, "")), top);
    assert_eq!(history(&server, &format!("?since={}:2", top.epoch))["recovered"], false);
    assert_eq!(history(&server, &format!("?since={top}"))["recovered"], true);
}

#[test]
fn presence_is_off_by_default() {
    let server = Server::start("");
    server.get("/topics/a/presence").assert_refused(404, "presence_off");
}
