//! `channels`, `info`, `batch`, `rpc`, and what is switched off.

use serde_json::json;

use super::{assert_error, call, publish, request, result, start};
use crate::harness::{Client, Server, eventually, eventually_equal};

#[test]
fn the_topics_with_subscribers_are_listed() {
    let server = start("");
    let _plain: Vec<_> = (0..3).map(|_| server.websocket("/topics/chat:1")).collect();
    let lines = server.ndjson("/topics/news");
    let mut client = Client::connect(&server, "ann");
    client.subscribe("chat:1");
    client.subscribe("chat:2");
    publish(&server, "nobody", &json!(1));
    let listed = |pattern: &str| {
        let answer = result(&server, "channels", &json!({ "pattern": pattern }));
        answer["channels"].clone()
    };
    let chat = json!({ "chat:1": { "num_clients": 4 }, "chat:2": { "num_clients": 1 } });
    assert_eq!(listed("chat:*"), chat);
    assert_eq!(listed("*s"), json!({ "news": { "num_clients": 1 } }));
    assert_eq!(listed("nobody"), json!({}));
    let all = listed("");
    assert_eq!(all, result(&server, "channels", &json!({}))["channels"]);
    assert_eq!(all.as_object().unwrap().len(), 3);
    drop(lines);
    eventually_equal("gone", &json!({}), || listed("news"));
}

/// A number of the one node.
fn number(server: &Server, name: &str) -> u64 {
    let info = result(server, "info", &json!({}));
    info["nodes"][0][name].as_u64().unwrap_or_else(|| panic!("{name}: {info}"))
}

#[test]
fn a_node_tells_who_it_is_and_how_many_are_there() {
    let server = start("");
    let info = result(&server, "info", &json!({}));
    let node = &info["nodes"][0];
    assert_eq!(info["nodes"].as_array().unwrap().len(), 1);
    for text in ["uid", "name", "version"] {
        assert!(!node[text].as_str().unwrap().is_empty(), "{text}: {node}");
    }
    for name in ["num_clients", "num_users", "num_subs", "num_channels"] {
        assert_eq!(node[name], 0, "{name}");
    }
    let mut clients: Vec<_> = (0..6).map(|_| Client::connect(&server, "ann")).collect();
    clients.push(Client::connect(&server, "bob"));
    for client in &mut clients {
        client.subscribe("a");
    }
    clients[0].subscribe("b");
    let plain = server.websocket("/topics/a");
    for (name, expected) in
        [("num_clients", 8), ("num_users", 2), ("num_subs", 9), ("num_channels", 2)]
    {
        assert_eq!(number(&server, name), expected, "{name}");
    }
    drop((clients, plain));
    for name in ["num_clients", "num_users", "num_subs", "num_channels"] {
        eventually_equal(name, &0, || number(&server, name));
    }
    eventually("time passes", || (number(&server, "uptime") > 0).then_some(()));
}

#[test]
fn a_batch_is_carried_out_in_order() {
    let server = start("");
    let batch = json!({ "parallel": true, "commands": [
        { "publish": { "channel": "a", "data": 1 } },
        { "publish": { "channel": "a" } },
        { "history": { "channel": "a", "limit": 1 } },
        { "history_remove": { "channel": "a" } },
        { "publish": null, "history": { "channel": "a", "limit": 1 } },
        { "nothing": {} },
        { "publish": { "channel": 1 } },
        { "publish": {}, "history": {} },
        { "batch": { "commands": [] } },
        {},
        1,
        { "info": {} },
    ] });
    let response = call(&server, "batch", &batch);
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    assert_eq!(answer.as_object().unwrap().len(), 1, "replies, and no result around them");
    let replies = answer["replies"].as_array().unwrap();
    assert_eq!(replies.len(), 12);
    assert_eq!(replies[0]["publish"]["offset"], 1);
    assert_eq!(replies[1]["error"]["code"], 107);
    assert_eq!(replies[2]["history"]["publications"], json!([{ "data": 1, "offset": 1 }]));
    assert_eq!(replies[3], json!({ "history_remove": {} }));
    assert_eq!(replies[4]["history"]["publications"], json!([]));
    for reply in &replies[5..11] {
        assert_eq!(reply["error"]["code"], 107, "{reply}");
    }
    assert_eq!(replies[11]["info"]["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(call(&server, "batch", &json!({})).json(), json!({ "replies": [] }));
}

#[test]
fn the_answer_to_a_batch_is_bounded() {
    let server =
        start("[[topic]]\nmatch = \"*\"\nhistory_size = 1000\nhistory_bytes_max = 9000000\n");
    for _ in 0..100 {
        publish(&server, "a", &json!("x".repeat(60_000)));
    }
    let page = json!({ "history": { "channel": "a", "limit": 1000 } });
    let batch = json!({ "commands": vec![page; 10] });
    let answer = server.request(&request("batch", &batch.to_string()));
    assert!(answer.body.len() < 24 << 20, "{}", answer.body.len());
    let replies = answer.json()["replies"].take();
    let replies = replies.as_array().unwrap();
    let (last, others) = replies.split_last().unwrap();
    assert_eq!(last["error"]["code"], 106);
    assert_eq!(others.len(), 3, "what would come after is not carried out");
    assert!(others.iter().all(|one| one["history"]["publications"][99].is_object()));
}

#[test]
fn procedures_are_not_available() {
    let server = start("");
    assert_error(&server, "rpc", &json!({ "method": "a", "params": {} }), (108, 400));
}

/// Presence on every topic but `off`.
const PRESENCE: &str = "[[topic]]\nmatch = \"off\"\n[[topic]]\npresence = true\n";

#[test]
fn it_is_told_who_is_there_and_how_many() {
    let server = start(PRESENCE);
    let body = json!({ "channel": "a" });
    assert_eq!(result(&server, "presence", &body), json!({ "presence": {} }));
    let nobody = json!({ "num_clients": 0, "num_users": 0 });
    assert_eq!(result(&server, "presence_stats", &body), nobody);
    let mut clients = ["ann", "ann", "bob"].map(|user| Client::connect(&server, user));
    for client in &mut clients {
        client.subscribe("a");
    }
    let _plain = server.websocket("/topics/a");
    let presence = result(&server, "presence", &body)["presence"].take();
    assert_eq!(presence.as_object().unwrap().len(), 4);
    for (client, user) in clients.iter().zip(["ann", "ann", "bob"]) {
        assert_eq!(presence[&client.id], json!({ "user": user, "client": client.id }));
    }
    let four = json!({ "num_clients": 4, "num_users": 3 });
    assert_eq!(result(&server, "presence_stats", &body), four);
    assert_eq!(server.stats()["topics"], 1, "asking makes no topic");
}

#[test]
fn who_is_subscribed_by_the_application_may_hear_who_comes_and_goes() {
    let server = start(PRESENCE);
    let mut ann = Client::connect(&server, "ann");
    let hears = json!({ "force_push_join_leave": { "value": true } });
    let body = json!({ "user": "ann", "channel": "a", "info": { "a": 1 }, "override": hears });
    result(&server, "subscribe", &body);
    let mut bob = Client::connect(&server, "bob");
    bob.subscribe("a");
    drop(bob);
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let push = ann.push();
        let what = ["subscribe", "join", "leave"].into_iter().find(|one| push.get(one).is_some());
        let what = what.unwrap_or_else(|| panic!("{push}"));
        seen.push((what, push[what]["info"]["user"].as_str().unwrap_or_default().to_owned()));
        if push[what]["info"]["user"] == "ann" {
            assert_eq!(push[what]["info"]["chan_info"], json!({ "a": 1 }));
        }
    }
    for (what, user) in [("subscribe", ""), ("join", "ann"), ("join", "bob"), ("leave", "bob")] {
        assert!(seen.contains(&(what, user.to_owned())), "{what} {user}: {seen:?}");
    }
}

#[test]
fn presence_is_not_available_where_it_is_off() {
    let server = start(PRESENCE);
    for method in ["presence", "presence_stats"] {
        assert_error(&server, method, &json!({ "channel": "off" }), (108, 400));
        assert_error(&server, method, &json!({}), (107, 400));
    }
}
