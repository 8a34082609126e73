//! The Centrifugo door by hand: what its SDKs do not show.

use serde_json::{Value, json};

use crate::harness::{PING, PONG, SECRET, Server, TEXT, token};

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
