//! S12: topic names outside the grammar.

use crate::harness::{Request, Server};

#[test]
fn topic_names_outside_the_grammar_are_400() {
    let server = Server::start("");
    for name in [
        "%",
        "%4",
        "%zz",
        "%00",
        "a%0Ab",
        "a%0D",
        "%7F",
        "%C2%85",
        "%FF",
        "%C0%AF",
        "%2E",
        "%2e%2E",
        "a*",
        "%2A",
        "%E2%80%A8",
        "%E2%80%AE",
        "%E2%81%A6",
        "%E2%80%8E",
        &"a".repeat(256),
        &"%E2%82%AC".repeat(86),
    ] {
        let response = server.post(&format!("/topics/{name}"), "x");
        assert_eq!(response.refusal(), (400, "topic_name_invalid".to_owned()), "{name}");
    }
}

#[test]
fn topic_names_within_the_grammar_are_taken_as_they_are() {
    let server = Server::start("");
    let (longest, euros) = ("a".repeat(255), "\u{20ac}".repeat(85));
    for (segment, name) in [
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("a%20b", "a b"),
        ("%2541", "%41"),
        ("chat:room", "chat:room"),
        ("...", "..."),
        (&longest, &longest),
        (&"%E2%82%AC".repeat(85), &euros),
    ] {
        let response = server.post(&format!("/topics/{segment}"), "x");
        assert_eq!(response.json()["topic"], name);
    }
}

#[test]
fn a_topic_name_over_the_limit_is_400() {
    let server = Server::start("[limits]\ntopic_name_bytes_max = 10\n");
    assert_eq!(server.post("/topics/0123456789", "x").status, 200);
    assert_eq!(server.post("/topics/%30123456789", "x").status, 200);
    server.post("/topics/0123456789a", "x").assert_refused(400, "topic_name_invalid");
    server.await_refused("topic_name_invalid", 1);
}

#[test]
fn every_way_to_a_topic_checks_its_name_before_anything_else() {
    let server = Server::start("[auth]\nanonymous = \"none\"\n");
    let bad = "/topics/%1B%5B31m";
    for request in [Request::handshake(bad), Request::sse(bad), Request::post(bad, "x")] {
        server.request(&request).assert_refused(400, "topic_name_invalid");
    }
    let history = server.get(&format!("{bad}/history"));
    history.assert_refused(400, "topic_name_invalid");
}
