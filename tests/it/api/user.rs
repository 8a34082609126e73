//! `subscribe`, `unsubscribe`, `disconnect` and `refresh`: what the application does to users.

use serde_json::{Value, json};

use super::{assert_error, publish, result, start};
use crate::harness::{
    Client, Emulated, Request, Server, Stream, WebSocket, eventually_equal, now, token,
};

/// A client of each worker and more: connections are spread over the two.
const COUNT: usize = 8;

fn connect_all(server: &Server, user: &str) -> Vec<Client> {
    (0..COUNT).map(|_| Client::connect(server, user)).collect()
}

fn bearer(request: Request, user: &str) -> Request {
    request.header("Authorization", &format!("Bearer {}", token(user)))
}

fn plain(server: &Server, user: &str) -> WebSocket {
    WebSocket::open(server.wire(), &bearer(Request::handshake("/topics/a"), user))
}

#[test]
fn a_user_is_subscribed_wherever_it_is() {
    let server = start("");
    let mut anns = connect_all(&server, "ann");
    let mut bob = Client::connect(&server, "bob");
    publish(&server, "news", &json!(0));
    let body = json!({ "user": "ann", "channel": "news", "data": { "welcome": 1 } });
    assert_eq!(result(&server, "subscribe", &body), json!({}));
    // In force when the call is answered.
    let place = publish(&server, "news", &json!(1));
    for ann in &mut anns {
        let push = ann.push();
        let expected = json!({
            "recoverable": true, "positioned": true, "epoch": place["epoch"], "offset": 1,
            "data": { "welcome": 1 },
        });
        assert_eq!(push, json!({ "channel": "news", "subscribe": expected }));
        assert_eq!(ann.push(), json!({ "channel": "news", "pub": { "data": 1, "offset": 2 } }));
    }
    bob.assert_untouched();
    // Who is subscribed already stays so.
    assert_eq!(result(&server, "subscribe", &body), json!({}));
    publish(&server, "news", &json!(2));
    for ann in &mut anns {
        assert_eq!(ann.push()["pub"]["data"], 2);
    }
}

#[test]
fn what_is_told_with_a_subscription_may_be_bytes() {
    let server = start("");
    let mut ann = Client::connect(&server, "ann");
    let body = json!({ "user": "ann", "channel": "a", "b64data": "eyJhIjoxfQ==", "info": [1] });
    result(&server, "subscribe", &body);
    assert_eq!(ann.push()["subscribe"]["data"], json!({ "a": 1 }));
    ann.ask("publish", &json!({ "channel": "a", "data": 1 }));
    let page = result(&server, "history", &json!({ "channel": "a", "limit": 1 }));
    assert_eq!(page["publications"][0]["info"]["chan_info"], json!([1]));
}

#[test]
fn a_user_is_unsubscribed_wherever_it_is() {
    let server = start("");
    let mut anns = connect_all(&server, "ann");
    for ann in &mut anns {
        ann.subscribe("a");
        ann.subscribe("b");
    }
    let mut bob = Client::connect(&server, "bob");
    bob.subscribe("a");
    let body = json!({ "user": "ann", "channel": "a" });
    assert_eq!(result(&server, "unsubscribe", &body), json!({}));
    publish(&server, "a", &json!(1));
    publish(&server, "b", &json!(2));
    let told = json!({ "code": 2000, "reason": "server unsubscribe" });
    for ann in &mut anns {
        assert_eq!(ann.push(), json!({ "channel": "a", "unsubscribe": told }));
        assert_eq!(ann.push()["channel"], "b");
    }
    assert_eq!(bob.push()["pub"]["data"], 1);
    // Nobody is left to be told.
    assert_eq!(result(&server, "unsubscribe", &body), json!({}));
    for ann in &mut anns {
        ann.assert_untouched();
        ann.subscribe("c");
    }
    // Without a topic, all of them.
    assert_eq!(result(&server, "unsubscribe", &json!({ "user": "ann" })), json!({}));
    for ann in &mut anns {
        for topic in ["b", "c"] {
            assert_eq!(ann.push(), json!({ "channel": topic, "unsubscribe": told }));
        }
        ann.assert_untouched();
    }
}

#[test]
fn a_session_without_a_websocket_is_disconnected_by_its_name() {
    let server = start("");
    let connect = || {
        let command = json!({ "id": 1, "connect": { "token": token("ann") } });
        let request = Request::post("/connection/http_stream", command.to_string());
        Emulated::after_connect(Stream::open(server.wire(), &request))
    };
    let (mut one, mut other) = (connect(), connect());
    let disconnect = json!({ "code": 4000, "reason": "enough" });
    let body = json!({ "user": "ann", "session": one.session, "disconnect": disconnect });
    assert_eq!(result(&server, "disconnect", &body), json!({}));
    one.assert_ended(4000, "enough");
    assert_eq!(result(&server, "disconnect", &json!({ "user": "ann" })), json!({}));
    other.assert_ended(3503, "force disconnect");
}

#[test]
fn a_user_is_disconnected_at_every_door() {
    let server = start("");
    let mut anns = connect_all(&server, "ann");
    let mut sockets: Vec<_> = (0..COUNT).map(|_| plain(&server, "ann")).collect();
    let mut stream = Stream::open(server.wire(), &bearer(Request::get("/topics/a"), "ann"));
    stream.json();
    let mut bob = Client::connect(&server, "bob");
    let mut nobody = server.websocket("/topics/a");
    publish(&server, "a", &json!("last"));
    assert_eq!(result(&server, "disconnect", &json!({ "user": "ann" })), json!({}));
    for ann in &mut anns {
        ann.assert_closed(3503, "force disconnect");
    }
    for socket in &mut sockets {
        let (before, close) = socket.drain();
        assert_eq!(before.len(), 1, "what was accepted before is delivered");
        assert_eq!(close, crate::harness::close_payload(3503, "force disconnect"));
    }
    assert_eq!(stream.json()["data"], "\"last\"");
    assert_eq!(stream.line(), None);
    bob.assert_untouched();
    assert_eq!(nobody.next_text(), "\"last\"");
    let count = 2 * COUNT as u64 + 1;
    server.await_close_counted("3503", "force disconnect", count);
}

#[test]
fn the_application_chooses_code_and_reason() {
    let server = start("");
    let mut ann = Client::connect(&server, "ann");
    let mut socket = plain(&server, "ann");
    let longest = "\u{e9}".repeat(61) + "!";
    let disconnect = json!({ "code": 4321, "reason": longest });
    result(&server, "disconnect", &json!({ "user": "ann", "disconnect": disconnect }));
    ann.assert_closed(4321, &longest);
    socket.assert_closed(4321, &longest);
    server.await_close_counted("other", "application", 2);
    let mut bob = Client::connect(&server, "bob");
    let body = json!({ "user": "bob", "disconnect": { "code": 3000, "reason": "" } });
    result(&server, "disconnect", &body);
    bob.assert_closed(3000, "");
    for disconnect in [
        json!({}),
        json!({ "code": 2999, "reason": "x" }),
        json!({ "code": 5000, "reason": "x" }),
        json!({ "code": 3000, "reason": "x".repeat(124) }),
    ] {
        let body = json!({ "user": "carol", "disconnect": disconnect });
        assert_error(&server, "disconnect", &body, (107, 400));
    }
}

#[test]
fn one_client_may_be_meant_or_spared() {
    let server = start("");
    let mut anns = connect_all(&server, "ann");
    let mut socket = plain(&server, "ann");
    let ids: Vec<_> = anns.iter().map(|ann| ann.id.clone()).collect();
    let one = json!({ "user": "ann", "client": ids[0], "channel": "a" });
    result(&server, "subscribe", &one);
    assert_eq!(anns[0].push()["channel"], "a");
    result(&server, "unsubscribe", &one);
    assert_eq!(anns[0].push()["unsubscribe"]["code"], 2000);
    result(&server, "disconnect", &json!({ "user": "ann", "client": ids[0] }));
    anns.remove(0).assert_closed(3503, "force disconnect");
    for body in [
        json!({ "user": "ann", "client": "nobody" }),
        json!({ "user": "bob", "client": ids[1] }),
        json!({ "user": "ann", "session": "nobody" }),
    ] {
        result(&server, "disconnect", &body);
    }
    for ann in &mut anns {
        ann.assert_untouched();
    }
    result(&server, "disconnect", &json!({ "user": "ann", "whitelist": [ids[1], ids[2]] }));
    for ann in anns.iter_mut().skip(2) {
        ann.assert_closed(3503, "force disconnect");
    }
    socket.assert_closed(3503, "force disconnect");
    for ann in &mut anns[..2] {
        ann.assert_untouched();
    }
}

#[test]
fn a_refresh_moves_the_end_and_tells_the_client() {
    let server = start("");
    let mut anns = connect_all(&server, "ann");
    let body = json!({ "user": "ann", "expire_at": now() + 1000, "info": { "name": "Ann" } });
    assert_eq!(result(&server, "refresh", &body), json!({}));
    for ann in &mut anns {
        let push = ann.push();
        assert_eq!(push["refresh"]["expires"], true);
        let ttl = push["refresh"]["ttl"].as_u64().unwrap();
        assert!((900..=1000).contains(&ttl), "{push}");
    }
    anns[0].ask("publish", &json!({ "channel": "a", "data": 1 }));
    let page = result(&server, "history", &json!({ "channel": "a", "limit": 1 }));
    assert_eq!(page["publications"][0]["info"]["conn_info"], json!({ "name": "Ann" }));
    // Without an end there is none.
    result(&server, "refresh", &json!({ "user": "ann" }));
    for ann in &mut anns {
        assert_eq!(ann.push(), json!({ "refresh": {} }));
    }
}

#[test]
fn an_end_that_has_come_ends_the_session() {
    let server = start("");
    for body in
        [json!({ "user": "ann", "expired": true }), json!({ "user": "ann", "expire_at": 1 })]
    {
        let mut ann = Client::connect(&server, "ann");
        let mut socket = plain(&server, "ann");
        result(&server, "refresh", &body);
        ann.assert_closed(3005, "connection expired");
        socket.assert_closed(1008, "token_expired");
    }
}

#[test]
fn an_end_that_was_moved_comes() {
    let server = start("expiry_grace = \"1ms\"\n");
    let mut socket = plain(&server, "ann");
    let mut lasting = plain(&server, "bob");
    for user in ["ann", "bob"] {
        result(&server, "refresh", &json!({ "user": user, "expire_at": now() + 2 }));
    }
    result(&server, "refresh", &json!({ "user": "bob" }));
    socket.assert_closed(1008, "token_expired");
    publish(&server, "a", &json!(1));
    assert_eq!(lasting.next_text(), "1");
}

#[test]
fn users_and_topics_must_be_named() {
    let server = start("");
    let _ann = Client::connect(&server, "ann");
    for method in ["subscribe", "unsubscribe", "disconnect", "refresh"] {
        let body = json!({ "channel": "a" });
        assert_error(&server, method, &body, (107, 400));
        let nobody = json!({ "user": "nobody", "channel": "a" });
        assert_eq!(result(&server, method, &nobody), json!({}), "{method}");
    }
    for (method, name) in [
        ("subscribe", ""),
        ("subscribe", "\u{e9}"),
        ("subscribe", "*"),
        ("unsubscribe", "\u{e9}"),
        ("unsubscribe", "*"),
    ] {
        let body = json!({ "user": "ann", "channel": name });
        assert_error(&server, method, &body, (107, 400));
    }
    let bytes = json!({ "user": "ann", "channel": "a", "b64info": "%" });
    assert_error(&server, "subscribe", &bytes, (107, 400));
    let over = json!({ "user": "ann", "channel": "a", "expire_at": 1 });
    assert_error(&server, "subscribe", &over, (110, 400));
}

#[test]
fn a_user_is_subscribed_from_a_position_on() {
    let server = start("");
    let epoch = publish(&server, "a", &json!(1))["epoch"].clone();
    publish(&server, "a", &json!(2));
    let mut ann = Client::connect(&server, "ann");
    let place = json!({ "offset": 1, "epoch": epoch });
    let later = now() + 3600;
    let body = json!({ "user": "ann", "channel": "a", "recover_since": place, "expire_at": later });
    assert_eq!(result(&server, "subscribe", &body), json!({}));
    publish(&server, "a", &json!(3));
    assert_eq!(ann.push()["subscribe"]["offset"], 1);
    for number in 2..=3 {
        assert_eq!(ann.push()["pub"], json!({ "data": number, "offset": number }));
    }
}

#[test]
fn a_session_has_so_many_subscriptions_at_most() {
    let server = start("[limits]\ntopics_per_session_max = 2\n");
    let mut ann = Client::connect(&server, "ann");
    for topic in ["a", "b"] {
        result(&server, "subscribe", &json!({ "user": "ann", "channel": topic }));
        assert_eq!(ann.push()["channel"], topic);
    }
    let third = json!({ "user": "ann", "channel": "c" });
    assert_error(&server, "subscribe", &third, (106, 400));
    ann.assert_untouched();
}

#[test]
fn what_users_cost_is_given_back() {
    let server = start("");
    let held = || -> Value { server.stats()["memory_bytes"]["connections"].clone() };
    // What the topic costs stays for as long as it keeps something.
    publish(&server, "a", &json!(1));
    drop(plain(&server, "ann"));
    eventually_equal("nobody is left", &[json!(0), json!(0)], || {
        let stats = server.stats();
        ["plain", "http"].map(|door| stats["connections"][door].clone())
    });
    let before = held();
    let all = (connect_all(&server, "ann"), plain(&server, "bob"));
    assert!(held().as_u64() > before.as_u64());
    drop(all);
    eventually_equal("given back", &before, held);
}
