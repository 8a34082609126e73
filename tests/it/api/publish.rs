//! `publish` and `broadcast`: what arrives, and what is not published.

use serde_json::{Value, json};

use super::{assert_error, call, publish, request, result, start, start_workers};
use crate::harness::{BINARY, Client, TEXT, eventually};

#[test]
fn a_publication_gets_a_position_and_reaches_every_door() {
    let server = start("");
    let mut plain = server.websocket("/topics/chat:1");
    let mut lines = server.ndjson("/topics/chat:1");
    lines.json();
    let mut client = Client::connect(&server, "ann");
    client.subscribe("chat:1");
    // Byte for byte as it is written, spaces inside included.
    let data = r#"{"b":1,  "a":[1.50,"\u00e9"]}"#;
    let body = format!(r#"{{"channel":"chat:1","data": {data} ,"delta":true}}"#);
    let answer = server.request(&request("publish", &body)).json();
    let first = answer["result"].clone();
    let epoch = first["epoch"].as_str().unwrap().to_owned();
    assert_eq!(first, json!({ "offset": 1, "epoch": epoch }));
    assert_eq!(plain.next_text(), data);
    assert_eq!(lines.json()["data"], data);
    let push = client.push();
    assert_eq!(push["channel"], "chat:1");
    assert_eq!(push["pub"]["data"], json!({ "b": 1, "a": [1.5, "\u{e9}"] }));
    let second = publish(&server, "chat:1", &Value::Null);
    assert_eq!(second, json!({ "offset": 2, "epoch": epoch }));
    assert_eq!(plain.next_text(), "null");
    let labels = [("door", "http")];
    server.await_metric("fanwire_publications_total", &labels, 2);
}

#[test]
fn without_history_the_result_is_empty() {
    let server = start("[[topic]]\nmatch = \"*\"\nhistory_size = 0\n");
    assert_eq!(publish(&server, "a", &json!(1)), json!({}));
}

#[test]
fn bytes_come_in_base64() {
    let server = start("");
    let mut plain = server.websocket("/topics/a");
    let mut client = Client::connect(&server, "ann");
    client.subscribe("a");
    result(&server, "publish", &json!({ "channel": "a", "b64data": "AP8=" }));
    let frame = plain.message();
    assert_eq!((frame.opcode, frame.payload), (BINARY, vec![0, 0xFF]));
    let publication = client.push()["pub"].take();
    assert_eq!(
        (&publication["data"], &publication["tags"]["encoding"]),
        (&json!("AP8="), &json!("base64"))
    );
}

#[test]
fn tags_reach_the_clients_that_have_a_place_for_them() {
    let server = start("");
    let mut plain = server.websocket("/topics/a");
    let mut client = Client::connect(&server, "ann");
    client.subscribe("a");
    let tags = json!({ "kind": "news", "lang": "en" });
    result(&server, "publish", &json!({ "channel": "a", "data": 1, "tags": tags }));
    assert_eq!(client.push()["pub"]["tags"], tags);
    let frame = plain.message();
    assert_eq!((frame.opcode, &frame.payload[..]), (TEXT, &b"1"[..]));
    let history = result(&server, "history", &json!({ "channel": "a", "limit": 1 }));
    assert_eq!(history["publications"][0]["tags"], tags);
    // Those that say how the payload is written are the server's.
    let own = json!({ "channel": "a", "b64data": "AP8=", "tags": { "encoding": "x", "a": "b" } });
    result(&server, "publish", &own);
    assert_eq!(client.push()["pub"]["tags"], json!({ "encoding": "base64", "a": "b" }));
}

#[test]
fn an_idempotency_key_publishes_once_on_every_way_in() {
    let server = start("");
    let body = json!({ "channel": "a", "data": 1, "idempotency_key": "k" });
    let first = result(&server, "publish", &body);
    assert_eq!(result(&server, "publish", &body), first);
    let post = crate::harness::Request::post("/topics/a", "x").header("Idempotency-Key", "k");
    assert_eq!(server.request(&post).json()["duplicate"], true);
    assert_eq!(publish(&server, "a", &json!(2))["offset"], 2);
    let long = json!({ "channel": "a", "data": 1, "idempotency_key": "k".repeat(129) });
    assert_error(&server, "publish", &long, (107, 400));
    server.await_metric("fanwire_publications_total", &[("door", "http")], 2);
}

#[test]
fn only_a_newer_version_is_published() {
    let server = start("");
    let of = |version: u64, epoch: &str| json!({ "channel": "a", "data": version, "version": version, "version_epoch": epoch });
    for (version, epoch, offset) in [
        (5, "", 1),
        (5, "", 1),
        (4, "", 1),
        (6, "", 2),
        (1, "next", 3),
        (1, "next", 3),
        (1, "", 3),
        (2, "", 4),
        (2, "next", 4),
        (7, "last", 5),
    ] {
        let answer = result(&server, "publish", &of(version, epoch));
        assert_eq!(answer["offset"], offset, "{version} {epoch}");
    }
    assert_eq!(publish(&server, "a", &json!("no version"))["offset"], 6);
    assert_eq!(result(&server, "publish", &of(7, ""))["offset"], 6, "it is not newer");
    assert_error(&server, "publish", &of(8, &"e".repeat(65)), (107, 400));
    server.await_metric("fanwire_publications_total", &[("door", "http")], 6);
}

#[test]
fn what_skips_history_reaches_those_who_are_there() {
    let server = start("");
    let epoch = |topic| publish(&server, topic, &json!(0))["epoch"].as_str().unwrap().to_owned();
    let (a, b) = (epoch("a"), epoch("b"));
    let mut plain = server.websocket("/topics/a");
    let mut object = server.websocket("/topics/a?format=json");
    assert_eq!(object.json()["subscribed"]["offset"], 1);
    let (mut one, mut several) = (server.sse("/topics/a"), server.sse("/topics?topic=a&topic=b"));
    let mut ann = Client::connect(&server, "ann");
    ann.subscribe("a");
    // In one batch, so that they come in one go.
    let offsets = [Some(2), None, Some(3), Some(4), None];
    let commands = (1..).zip(offsets).map(|(data, offset): (u64, Option<u64>)| {
        let (channel, skips) = ("a", offset.is_none());
        json!({ "publish": { "channel": channel, "data": data, "skip_history": skips } })
    });
    let commands: Vec<_> = commands.collect();
    let replies = call(&server, "batch", &json!({ "commands": commands })).json();
    for (reply, offset) in replies["replies"].as_array().unwrap().iter().zip(offsets) {
        assert_eq!(reply["publish"]["offset"].as_u64(), offset, "{replies}");
    }
    assert_eq!(replies["replies"][1], json!({ "publish": {} }));
    let mut last = 1;
    for (number, offset) in (1..).zip(offsets) {
        last = offset.unwrap_or(last);
        let data = number.to_string();
        assert_eq!(plain.next_text(), data);
        let got = object.json();
        assert_eq!((got["data"].as_str(), got["offset"].as_u64()), (Some(&*data), offset));
        assert_eq!(got.get("epoch").is_some(), offset.is_some(), "{got}");
        let event = one.event();
        let id = offset.map(|offset| format!("{a}:{offset}"));
        assert_eq!((event.data.as_deref(), event.id), (Some(&*data), id));
        let event = several.event();
        let id = format!("{a}:{last},{b}:1");
        assert_eq!((event.data.as_deref(), event.id), (Some(&*data), Some(id)));
        let got = ann.push()["pub"].clone();
        assert_eq!((got["data"].as_u64(), got["offset"].as_u64()), (Some(number), offset));
    }
    let mut back = server.sse(&format!("/topics/a?since={a}:2"));
    assert_eq!(back.head.header("fanwire-recovered"), Some("true"));
    for data in ["3", "4"] {
        assert_eq!(back.event().data.as_deref(), Some(data));
    }
    publish(&server, "a", &json!(6));
    assert_eq!(back.event().id, Some(format!("{a}:5")), "it is live behind what was not kept");
    let page = result(&server, "history", &json!({ "channel": "a", "limit": 9 }));
    let kept: Vec<_> = page["publications"].as_array().unwrap().iter().collect();
    assert_eq!((kept.len(), &page["offset"]), (5, &json!(5)), "{page}");
}

#[test]
fn what_cannot_be_published_is_told() {
    let server = start("[limits]\nmessage_bytes_max = 20\n");
    for (body, error) in [
        (json!({ "data": 1 }), (107, 400)),
        (json!({ "channel": "", "data": 1 }), (107, 400)),
        (json!({ "channel": "a*", "data": 1 }), (107, 400)),
        (json!({ "channel": "a".repeat(256), "data": 1 }), (107, 400)),
        (json!({ "channel": "a" }), (107, 400)),
        (json!({ "channel": "a", "data": 1, "b64data": "AA==" }), (107, 400)),
        (json!({ "channel": "a", "b64data": "%" }), (107, 400)),
        (json!({ "channel": "a", "data": "x".repeat(19) }), (107, 400)),
        (json!({ "channel": "a", "data": 1, "tags": { "a": "x".repeat(19) } }), (107, 400)),
    ] {
        assert_error(&server, "publish", &body, error);
    }
    let history = server.get("/topics/a/history?limit=0").json();
    assert_eq!(history["offset"], 0, "nothing was published");
    let most = json!({ "channel": "a", "data": "x".repeat(16), "tags": { "a": "b" } });
    assert_eq!(result(&server, "publish", &most)["offset"], 1);
    let large = json!({ "channel": "a", "data": "x".repeat(19) });
    let message = call(&server, "publish", &large).json()["error"]["message"].clone();
    assert!(message.as_str().unwrap().contains("limits.message_bytes_max"), "{message}");
}

#[test]
fn a_broadcast_is_answered_topic_by_topic() {
    let server = start("");
    let mut subscriber = server.websocket("/topics/b");
    publish(&server, "b", &json!(0));
    assert_eq!(subscriber.next_text(), "0");
    let broadcast = json!({ "channels": ["a", "", "b", "a"], "data": [1] });
    let answer = result(&server, "broadcast", &broadcast);
    let responses = answer["responses"].as_array().unwrap();
    let offsets: Vec<_> = responses.iter().map(|one| one["result"]["offset"].as_u64()).collect();
    assert_eq!(offsets, [Some(1), None, Some(2), Some(2)]);
    assert_eq!(responses[1]["error"]["code"], 107);
    assert_eq!(subscriber.next_text(), "[1]");
    assert_error(&server, "broadcast", &json!({ "data": 1 }), (107, 400));
    assert_error(&server, "broadcast", &json!({ "channels": ["a"] }), (107, 400));
    // A key is per topic.
    let keyed = json!({ "channels": ["a", "c"], "data": 1, "idempotency_key": "k" });
    let first = result(&server, "broadcast", &keyed);
    assert_eq!(result(&server, "broadcast", &keyed), first);
}

#[test]
fn a_broadcast_to_thousands_reaches_them_all() {
    let server = start("");
    let names: Vec<String> = (0..2_000).map(|index| format!("t{index}")).collect();
    let mut last = server.websocket("/topics/t1999");
    let answer = result(&server, "broadcast", &json!({ "channels": names, "data": "all" }));
    let responses = answer["responses"].as_array().unwrap();
    assert_eq!(responses.len(), names.len());
    assert!(responses.iter().all(|one| one["result"]["offset"] == 1));
    assert_eq!(last.next_text(), "\"all\"");
}

#[test]
fn a_storm_of_one_call_is_held_back() {
    // One worker: it delivers nothing before it has published all of them.
    let limits = "[limits]\nmessage_bytes_max = 1000000\noutbox_bytes_max = 2000000\n";
    let topic = "[[topic]]\nmatch = \"*\"\nhistory_size = 0\n";
    let server = start_workers(1, &format!("{limits}{topic}"));
    let _subscriber = server.websocket("/topics/a");
    let broadcast = json!({ "channels": vec!["a"; 60], "data": "x".repeat(900_000) });
    let answer = result(&server, "broadcast", &broadcast);
    let responses = answer["responses"].as_array().unwrap();
    assert_eq!(responses[0], json!({ "result": {} }));
    assert_eq!(responses[59]["error"]["code"], 100, "{}", responses[59]);
    server.await_metric("fanwire_commands_refused_total", &[("code", "100")], {
        responses.iter().filter(|one| one.get("error").is_some()).count() as u64
    });
}

#[test]
fn at_the_memory_limit_no_call_is_taken() {
    let limits = "[limits]\nmemory_bytes_max = 1000000\nhandshake_timeout = \"1m\"\n";
    let server = start(limits);
    let mut wire = server.wire();
    let call = request("publish", r#"{"channel":"a","data":1}"#);
    assert_eq!(wire.request(&call).status, 200);
    // Connections that ask nothing: what they hold cannot be let go.
    let held: Vec<_> = (0..50).map(|_| server.wire()).collect();
    let open = || server.metric("fanwire_connections", &[("door", "http")]);
    eventually("all are in", || (open() >= held.len() as u64).then_some(()));
    wire.request(&call).assert_refused(503, "memory_limit");
}
