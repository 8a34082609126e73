//! `history` and `history_remove`.

use serde_json::{Value, json};

use super::{assert_error, publish, result, start};
use crate::harness::{Client, Server};

const FORGETFUL: &str = "[[topic]]\nmatch = \"forgetful*\"\nhistory_size = 0\n";

fn history(server: &Server, more: &Value) -> Value {
    let mut body = json!({ "channel": "a" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    result(server, "history", &body)
}

fn data(history: &Value) -> Vec<u64> {
    let publications = history["publications"].as_array().unwrap();
    publications.iter().map(|one| one["data"].as_u64().unwrap()).collect()
}

#[test]
fn a_page_begins_and_ends_where_it_is_asked_to() {
    let server = start("");
    for number in 1..=5 {
        publish(&server, "a", &json!(number));
    }
    let epoch = history(&server, &json!({}))["epoch"].clone();
    let since = |offset: u64| json!({ "offset": offset, "epoch": epoch });
    for (asked, expected) in [
        (json!({}), vec![]),
        (json!({ "limit": 2 }), vec![1, 2]),
        (json!({ "limit": -1 }), vec![1, 2, 3, 4, 5]),
        (json!({ "limit": 10, "since": since(3) }), vec![4, 5]),
        (json!({ "limit": 1, "since": since(3) }), vec![4]),
        (json!({ "limit": 10, "since": { "offset": 4 } }), vec![5]),
        (json!({ "limit": 10, "since": since(5) }), vec![]),
        (json!({ "limit": 2, "reverse": true }), vec![5, 4]),
        (json!({ "limit": 2, "reverse": true, "since": since(4) }), vec![3, 2]),
    ] {
        let page = history(&server, &asked);
        assert_eq!(data(&page), expected, "{asked}");
        assert_eq!((&page["epoch"], &page["offset"]), (&epoch, &json!(5)), "{asked}");
    }
    let last = history(&server, &json!({ "limit": 1, "reverse": true }));
    assert_eq!(last["publications"][0], json!({ "data": 5, "offset": 5 }));
}

#[test]
fn a_publication_names_its_publisher() {
    let server = start("");
    let mut ann = Client::connect(&server, "ann");
    let reply = ann.ask("publish", &json!({ "channel": "a", "data": 1 }));
    assert!(reply.get("error").is_none(), "{reply}");
    let page = history(&server, &json!({ "limit": 1 }));
    let info = &page["publications"][0]["info"];
    assert_eq!(*info, json!({ "user": "ann", "client": ann.id }));
}

#[test]
fn what_is_not_text_or_not_json_is_a_string() {
    let server = start("");
    server.publish("a", "not JSON");
    result(&server, "publish", &json!({ "channel": "a", "b64data": "AP8=" }));
    let page = history(&server, &json!({ "limit": -1 }));
    assert_eq!(page["publications"][0]["data"], "not JSON");
    assert_eq!(page["publications"][1]["data"], "AP8=");
}

#[test]
fn a_position_that_cannot_be_is_112() {
    let server = start("");
    publish(&server, "a", &json!(1));
    for epoch in ["other", "not an epoch!"] {
        let since = json!({ "offset": 1, "epoch": epoch });
        let body = json!({ "channel": "a", "limit": 1, "since": since });
        assert_error(&server, "history", &body, (112, 416));
    }
    let nowhere = json!({ "channel": "nowhere", "since": { "offset": 1, "epoch": "x" } });
    assert_error(&server, "history", &nowhere, (112, 416));
    let before = json!({ "channel": "a", "limit": 1, "reverse": true, "since": { "offset": 0 } });
    assert_error(&server, "history", &before, (107, 400));
}

#[test]
fn a_topic_that_nobody_knows_stays_unknown() {
    let server = start("");
    let unknown = json!({ "publications": [], "epoch": "", "offset": 0 });
    assert_eq!(history(&server, &json!({ "limit": 5 })), unknown);
    assert_eq!(result(&server, "history_remove", &json!({ "channel": "a" })), json!({}));
    assert_eq!(server.stats()["topics"], 0);
}

#[test]
fn a_topic_without_history_is_108_and_no_topic_107() {
    let server = start(FORGETFUL);
    for method in ["history", "history_remove"] {
        assert_error(&server, method, &json!({ "channel": "forgetful" }), (108, 400));
        assert_error(&server, method, &json!({}), (107, 400));
        assert_error(&server, method, &json!({ "channel": "\u{7}" }), (107, 400));
    }
}

#[test]
fn removed_history_is_gone_and_the_order_goes_on() {
    let server = start("");
    let mut subscriber = server.websocket("/topics/a");
    for number in 1..=3 {
        publish(&server, "a", &json!(number));
    }
    let epoch = history(&server, &json!({}))["epoch"].clone();
    assert_eq!(result(&server, "history_remove", &json!({ "channel": "a" })), json!({}));
    let page = history(&server, &json!({ "limit": -1 }));
    assert_eq!(page, json!({ "publications": [], "epoch": epoch, "offset": 3 }));
    assert_eq!(publish(&server, "a", &json!(4)), json!({ "epoch": epoch, "offset": 4 }));
    assert_eq!(data(&history(&server, &json!({ "limit": -1 }))), [4]);
    for expected in ["1", "2", "3", "4"] {
        assert_eq!(subscriber.next_text(), expected);
    }
    // Who was at the top misses nothing; who was before it is told.
    let epoch = epoch.as_str().unwrap();
    for (offset, recovered) in [(3, "true"), (2, "false")] {
        let late = server.websocket(&format!("/topics/a?since={epoch}:{offset}"));
        assert_eq!(late.head.header("fanwire-recovered"), Some(recovered), "{offset}");
    }
}
