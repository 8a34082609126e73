//! The Centrifugo door by hand: what its SDKs do not show.

use serde_json::{Value, json};

use crate::harness::{Emulated, PING, PONG, Request, SECRET, Server, TEXT, WebSocket, Wire, token};

#[test]
fn the_transport_pings_clients_that_ask_for_it() {
    let config =
        format!("limits.ping_interval = \"100ms\"\n[auth]\njwt_hmac_secret = \"{SECRET}\"\n");
    let server = Server::start(&config);
    let mut socket = server.websocket("/connection/websocket?cf_ws_frame_ping_pong=true");
    // A token gives the session a deadline of its own, which must not stand in the way.
    socket.text(&json!({ "id": 1, "connect": { "token": token("ann") } }).to_string());
    let reply: Value = serde_json::from_str(&socket.next_text()).unwrap();
    assert!(reply["connect"].get("ping").is_none(), "{reply}");
    for _ in 0..3 {
        let ping = socket.frame();
        assert_eq!(ping.opcode, PING);
        socket.send(PONG, &ping.payload);
    }
}

#[test]
fn messages_ping_everybody_else() {
    let server = Server::start("limits.ping_interval = \"1s\"\n");
    let mut socket = server.websocket("/connection/websocket");
    socket.text(r#"{"id":1,"connect":{}}"#);
    let reply: Value = serde_json::from_str(&socket.next_text()).unwrap();
    assert_eq!((&reply["connect"]["ping"], &reply["connect"]["pong"]), (&json!(1), &json!(true)));
    for _ in 0..2 {
        let ping = socket.frame();
        assert_eq!((ping.opcode, ping.payload.as_slice()), (TEXT, &b"{}"[..]));
        socket.text("{}");
    }
}

#[test]
fn a_ping_without_an_answer_closes() {
    let server = Server::start("limits.ping_interval = \"1s\"\nlimits.pong_timeout = \"100ms\"\n");
    let mut socket = server.websocket("/connection/websocket");
    socket.text(r#"{"id":1,"connect":{}}"#);
    socket.next_text();
    assert_eq!(socket.next_text(), "{}");
    socket.assert_closed(3012, "no pong");
}

#[test]
fn a_session_is_charged_to_the_memory_account_and_given_back() {
    let server = Server::start("");
    let (name, kind) = ("fanwire_memory_bytes", [("kind", "connections")]);
    let account = || {
        server.await_metric("fanwire_connections", &[("door", "http")], 0);
        server.metric(name, &kind)
    };
    // So that the topic's own cost stays the same.
    let _stays = server.websocket("/topics/a");
    let before = account();
    let plain = server.websocket("/topics/a");
    let slot = account() - before;
    drop(plain);
    server.await_metric(name, &kind, before);
    let mut socket = server.websocket("/connection/websocket");
    socket.text(&json!({ "id": 1, "connect": {} }).to_string());
    socket.next_text();
    socket.text(&json!({ "id": 2, "subscribe": { "channel": "a" } }).to_string());
    socket.next_text();
    let session = account() - before - slot;
    assert!((200..400).contains(&session), "{session} bytes beside the slot's {slot}");
    drop(socket);
    server.await_metric(name, &kind, before);
}

/// Offsets of the publications in messages up to the one that ends the subscription.
fn offsets_until_told(socket: &mut WebSocket) -> Vec<u64> {
    let mut offsets = Vec::new();
    loop {
        for line in socket.next_text().lines() {
            let push = serde_json::from_str::<Value>(line).unwrap()["push"].take();
            if push["unsubscribe"].is_object() {
                assert_eq!(push["unsubscribe"]["code"], 2500);
                return offsets;
            }
            offsets.extend(push["pub"]["offset"].as_u64());
        }
    }
}

#[test]
fn a_slow_client_goes_on_from_before_the_gap_that_it_is_told_of() {
    let server = Server::start(
        "[limits]\nwrite_timeout = \"1m\"\nmessage_bytes_max = 8192\noutbox_bytes_max = 74000\n\
         [[topic]]\nmatch = \"*\"\ndelivery = \"lossy\"\nhistory_size = 100000\n\
         history_bytes_max = 1000000000\n",
    );
    let request = Request::handshake("/connection/websocket");
    let mut slow = WebSocket::open(Wire::connect_small(server.addr), &request);
    slow.text(r#"{"id":1,"connect":{}}"#);
    slow.next_text();
    let subscribe = json!({ "id": 2, "subscribe": { "channel": "a" } });
    slow.text(&subscribe.to_string());
    let epoch = slow.json()["subscribe"]["epoch"].take();
    server.overflow("a", "lossy");
    let offsets = offsets_until_told(&mut slow);
    let last = offsets.len() as u64;
    assert!(offsets.into_iter().eq(1..=last), "a gap before it is told");
    let recover = json!({ "channel": "a", "recover": true, "offset": last, "epoch": epoch });
    slow.text(&json!({ "id": 3, "subscribe": recover }).to_string());
    let reply = slow.json()["subscribe"].take();
    // It is more than one answer holds; that the server says so is what counts.
    assert_eq!(reply["was_recovering"], true);
    let next = reply["publications"][0]["offset"].as_u64();
    assert!(reply.get("recovered").is_none() || next == Some(last + 1), "{reply}");
}

/// What a client says in one frame, and what it gets for it: replies by their numbers, pushes as 0.
fn order_of(messages: &[Value]) -> Vec<u64> {
    messages.iter().map(|message| message["id"].as_u64().unwrap_or(0)).collect()
}

#[test]
fn a_publisher_gets_its_own_push_before_the_reply() {
    let server = Server::start("[[topic]]\nmatch = \"off\"\nhistory_size = 0\n");
    for (topic, more) in [("a", json!({})), ("off", json!({})), ("b", json!({"delta": "fossil"}))] {
        let mut subscribe = json!({"channel": topic});
        subscribe.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let publish = |id: u64| json!({"id": id, "publish": {"channel": topic, "data": id}});
        let say = [
            json!({"id": 1, "connect": {}}),
            json!({"id": 2, "subscribe": subscribe}),
            publish(3),
            publish(4),
            json!({"id": 5, "publish": {"channel": "nobody's", "data": 1}}),
        ];
        let lines = say.each_ref().map(Value::to_string);
        let mut socket = server.websocket("/connection/websocket");
        socket.text(&lines.join("\n"));
        let mut got = Vec::new();
        while got.len() < 7 {
            let text = socket.next_text();
            got.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
        assert_eq!(order_of(&got), [1, 2, 5, 0, 0, 3, 4], "{got:?}");
        let mut client = Emulated::http_stream(&server, &say[1..]);
        let got: Vec<_> = (0..6).map(|_| client.message()).collect();
        assert_eq!(order_of(&got), [2, 5, 0, 0, 3, 4], "{got:?}");
    }
}

#[test]
fn recoveries_are_counted_as_the_client_is_told() {
    let server = Server::start("[[topic]]\nmatch = \"off\"\nhistory_size = 0\n");
    let data = "x".repeat(60_000);
    for topic in ["a", "b"] {
        (0..6).for_each(|_| drop(server.publish(topic, &data)));
    }
    let wish = |offset: u64| json!({ "recover": true, "offset": offset });
    let mut told = [0, 0];
    for subs in [
        // Each has room in a reply, both together have not.
        json!({ "a": wish(0), "b": wish(0) }),
        json!({ "a": wish(2), "b": wish(3) }),
        json!({ "a": wish(7), "off": wish(0) }),
        json!({ "a": {} }),
    ] {
        let mut socket = server.websocket("/connection/websocket");
        socket.text(&json!({ "id": 1, "connect": { "subs": subs } }).to_string());
        let connected = socket.json()["connect"]["subs"].take();
        for sub in connected.as_object().unwrap().values() {
            let is_recovered = sub["recovered"] == true;
            told[usize::from(!is_recovered)] += u64::from(sub["was_recovering"] == true);
        }
    }
    assert_eq!(told, [3, 3]);
    for (result, count) in ["recovered", "not_recovered"].into_iter().zip(told) {
        server.await_metric("fanwire_recoveries_total", &[("result", result)], count);
    }
}

#[test]
fn a_publication_that_is_refused_is_counted() {
    let server = Server::start("limits.publish_rate_max = 1\n");
    let mut socket = server.websocket("/connection/websocket");
    let publish = |id: u64| json!({"id": id, "publish": {"channel": "a", "data": id}}).to_string();
    let connect = json!({"id": 1, "connect": {}}).to_string();
    socket.text(&[connect, publish(2), publish(3)].join("\n"));
    let text = socket.next_text();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["id"], &last["error"]["code"]), (&json!(3), &json!(111)), "{text}");
    server.await_metric("fanwire_commands_refused_total", &[("code", "111")], 1);
}
