//! `/connection/uni_*`: the Centrifugo protocol for clients that only listen.

use serde_json::{Value, json};

use crate::harness::{
    Carrier, Listener, PING, Request, SECRET, Server, TEXT, WebSocket, Wire, now, sign, token,
};

const KEY: &str = "key-of-a-test-0123456789abcdef";
const DOOR: [(&str, &str); 1] = [("door", "centrifugo_json")];

/// A server that checks tokens and API keys, with `more` behind these.
fn start(more: &str) -> Server {
    let auth = format!("[auth]\napi_keys = [\"{KEY}\"]\njwt_hmac_secret = \"{SECRET}\"\n");
    Server::start_with(&format!("{auth}{more}"), &["--workers", "2"])
}

fn listen(server: &Server, carrier: Carrier, topic: &str) -> Listener {
    Listener::connect(server, carrier, &json!({ "subs": { topic: {} } })).0
}

#[track_caller]
fn call(server: &Server, method: &str, body: &Value) {
    let request = Request::post(&format!("/api/{method}"), body.to_string());
    let response = server.request(&request.header("X-API-Key", KEY));
    assert_eq!(response.json(), json!({ "result": {} }), "{method}");
}

fn encodings(server: &Server, variant: &str) -> u64 {
    server.metric("fanwire_encodings_total", &[("variant", variant)])
}

#[test]
fn what_is_published_comes_as_bare_pushes() {
    for carrier in Carrier::ALL {
        let server = Server::start("");
        let first = server.publish("a", "1");
        let connect = json!({ "name": "js", "subs": { "a": {} } });
        let (mut listener, mut connected) = Listener::connect(&server, carrier, &connect);
        assert_eq!(connected["client"].take().as_str().map(str::len), Some(36));
        assert_eq!(connected["session"].take().as_str().map(str::len), Some(52));
        assert!(connected["version"].take().as_str().unwrap().starts_with("Fanwire "));
        let sub = json!({
            "recoverable": true, "positioned": true, "epoch": first.epoch, "offset": 1,
        });
        let told = json!({
            "client": null, "version": null, "session": null, "ping": 25, "subs": { "a": sub },
        });
        assert_eq!(connected, told);
        for number in 2..=4 {
            server.publish("a", &number.to_string());
            let publication = json!({ "data": number, "offset": number });
            assert_eq!(listener.push(), json!({ "channel": "a", "pub": publication }));
        }
        server.publish("a", "{\"text\":\n\"grüße\"}");
        assert_eq!(listener.data("a"), json!({ "text": "grüße" }));
        server.await_metric("fanwire_connections", &DOOR, 1);
        server.await_metric("fanwire_deliveries_total", &DOOR, 4);
        drop(listener);
        server.await_metric("fanwire_subscriptions", &[], 0);
        server.await_metric("fanwire_connections", &DOOR, 0);
    }
}

#[test]
fn streams_are_of_their_type_and_not_kept_by_anybody() {
    let server = Server::start("");
    for (carrier, content_type) in
        [(Carrier::HttpStream, "application/x-ndjson"), (Carrier::Events, "text/event-stream")]
    {
        let listener = listen(&server, carrier, "a");
        assert_eq!(listener.header("content-type"), Some(content_type));
        assert_eq!(listener.header("cache-control"), Some("no-store"));
        assert_eq!(listener.header("x-accel-buffering"), Some("no"));
    }
}

#[test]
fn a_request_to_connect_comes_by_query_body_or_first_message() {
    let server = Server::start("");
    let connect = json!({ "subs": { "a": {} } });
    let said = connect.to_string();
    let events = Request::post(Carrier::Events.path(), &said);
    let mut first = WebSocket::open(server.wire(), &Request::handshake(Carrier::WebSocket.path()));
    first.text(&said);
    assert!(first.json()["connect"]["subs"]["a"].is_object());
    let mut all = Carrier::ALL.map(|carrier| listen(&server, carrier, "a"));
    let mut posted = Listener::over(server.wire(), Carrier::Events, &events);
    assert!(posted.push()["connect"]["subs"]["a"].is_object());
    server.publish("a", "1");
    assert_eq!(first.json()["pub"]["data"], 1);
    for listener in all.iter_mut().chain([&mut posted]) {
        assert_eq!(listener.data("a"), 1);
    }
    // Events may be asked for without a word, by a client of which its cookie says enough.
    for path in ["/connection/uni_sse", "/connection/uni_sse?cf_connect="] {
        let mut silent = Listener::over(server.wire(), Carrier::Events, &Request::sse(path));
        assert_eq!(silent.push()["connect"]["ping"], 25);
    }
}

#[test]
fn a_publication_is_encoded_once_for_each_transport() {
    let server = Server::start_with("", &["--workers", "1"]);
    let mut listeners: Vec<_> = Carrier::ALL
        .iter()
        .flat_map(|carrier| [(); 4].map(|()| listen(&server, *carrier, "a")))
        .collect();
    let mut plain = server.websocket("/topics/a");
    for number in 1..=5 {
        server.publish("a", &number.to_string());
        for listener in &mut listeners {
            assert_eq!(listener.data("a"), number);
        }
        assert_eq!(plain.next_text(), number.to_string());
    }
    for variant in ["centrifugo_uni_frames", "centrifugo_uni_body", "centrifugo_uni_events"] {
        assert_eq!(encodings(&server, variant), 5, "{variant}");
    }
    for variant in ["centrifugo_json", "centrifugo_json_body", "centrifugo_events"] {
        assert_eq!(encodings(&server, variant), 0, "nobody uses {variant}");
    }
}

#[test]
fn a_websocket_may_be_compressed() {
    let server = Server::start("[websocket]\ncompression = true\n");
    let offer = |request: Request| request.header("Sec-WebSocket-Extensions", "permessage-deflate");
    let mut listeners = [(); 3].map(|()| {
        let request = offer(Carrier::WebSocket.request(&json!({ "subs": { "a": {} } })));
        let mut listener = Listener::over(server.wire(), Carrier::WebSocket, &request);
        assert!(listener.push()["connect"].is_object());
        listener
    });
    let mut whole = listen(&server, Carrier::WebSocket, "a");
    let text = "again and ".repeat(100);
    for count in 1..=3 {
        server.publish("a", &text);
        for listener in &mut listeners {
            assert_eq!(listener.data("a"), text.as_str());
            assert_eq!(listener.socket().deflated_count, count);
        }
        assert_eq!(whole.data("a"), text.as_str());
    }
    assert_eq!(whole.socket().deflated_count, 0);
    assert_eq!(encodings(&server, "centrifugo_uni_frames_deflate_15"), 3);
    assert_eq!(encodings(&server, "centrifugo_uni_frames"), 3);
}

#[test]
fn what_is_no_request_is_refused() {
    let server = Server::start("[limits]\nmessage_bytes_max = 300\n");
    let [socket, stream, events] = Carrier::ALL.map(Carrier::path);
    let post = |body: &str| Request::post(stream, body);
    let query = |query: &str| Request::get(&format!("{events}?{query}"));
    let evil = |request: Request| request.header("Origin", "http://evil.example");
    for (request, status, code) in [
        (post(""), 400, "query_invalid"),
        (post("x"), 400, "query_invalid"),
        (post("[]"), 400, "query_invalid"),
        (post("{\"token\":1}"), 400, "query_invalid"),
        (Request::post(events, "[]"), 400, "query_invalid"),
        (query("cf_connect=x"), 400, "query_invalid"),
        (query("cf_connect=%zz"), 400, "query_invalid"),
        (query("cf_connect={}&cf_connect={}"), 400, "query_invalid"),
        (Request::handshake(&format!("{socket}?cf_connect=[]")), 400, "query_invalid"),
        (post(&"x".repeat(301)), 413, "message_too_large"),
        (post("{}").header("Content-Encoding", "gzip"), 415, "content_encoding_unsupported"),
        (Request::get(socket), 400, "handshake_invalid"),
        (Request::handshake(events), 400, "handshake_invalid"),
        (Request::handshake(stream), 405, "method_not_allowed"),
        (Request::get(stream), 405, "method_not_allowed"),
        (Request::post(socket, "{}"), 405, "method_not_allowed"),
        (query("").method("DELETE"), 405, "method_not_allowed"),
        (evil(post("{}")), 403, "origin_not_allowed"),
        (evil(query("")), 403, "origin_not_allowed"),
        (evil(Request::handshake(socket)), 403, "origin_not_allowed"),
        (Request::get("/connection/uni_sse/"), 404, "not_found"),
    ] {
        server.request(&request).assert_refused(status, code);
    }
    let allow = |path: &str| {
        let request = Request::new("DELETE", path);
        server.request(&request).header("allow").map(str::to_owned)
    };
    assert_eq!(allow(socket).as_deref(), Some("GET, OPTIONS"));
    assert_eq!(allow(stream).as_deref(), Some("POST, OPTIONS"));
    assert_eq!(allow(events).as_deref(), Some("GET, POST, OPTIONS"));
    for path in [socket, stream, events] {
        let answer = server.request(&Request::new("OPTIONS", path));
        assert_eq!((answer.status, answer.header("access-control-max-age")), (204, Some("600")));
    }
    server.await_metric("fanwire_connections_total", &DOOR, 0);
}

#[test]
fn pages_of_allowed_origins_may_read_along() {
    let server = Server::start("[websocket]\nallowed_origins = [\"http://a.example\"]\n");
    for carrier in Carrier::ALL {
        let request = carrier.request(&json!({})).header("Origin", "http://a.example");
        let mut listener = Listener::over(server.wire(), carrier, &request);
        assert!(listener.push()["connect"].is_object());
        let allowed = listener.header("access-control-allow-origin");
        assert_eq!(allowed, Some("http://a.example"));
    }
}

#[test]
fn who_may_not_connect_is_told_why_and_counted() {
    let server = start("anonymous = \"none\"\n[limits]\ntopics_per_session_max = 2\n");
    let old = sign(&json!({ "sub": "ann", "exp": now() - 60 }));
    let many = sign(&json!({ "sub": "ann", "channels": ["a", "b", "c"] }));
    for (connect, code, reason) in [
        (json!({}), 3501, "bad request"),
        (json!({ "token": "forged" }), 3500, "invalid token"),
        (json!({ "token": old }), 3005, "connection expired"),
        (json!({ "token": many }), 3505, "channel limit"),
    ] {
        for carrier in Carrier::ALL {
            let mut listener = Listener::open(&server, carrier, &connect);
            listener.assert_ended(code, reason);
        }
        server.await_close_counted(&code.to_string(), reason, 3);
    }
    server.await_metric("fanwire_commands_refused_total", &[("code", "109")], 3);
    // What is no request ends a WebSocket, too.
    let mut socket = server.websocket(Carrier::WebSocket.path());
    socket.text("[]");
    assert_eq!(socket.json()["disconnect"]["code"], 3501);
    socket.assert_closed(3501, "bad request");
    server.await_metric("fanwire_connections", &DOOR, 0);
}

#[test]
fn credentials_of_the_request_count() {
    let server = start("anonymous = \"none\"\n");
    let connect = json!({ "subs": { "a": {} } });
    for carrier in Carrier::ALL {
        let request = || carrier.request(&connect);
        server
            .request(&request().header("X-API-Key", "other"))
            .assert_refused(401, "token_invalid");
        let bearer = format!("Bearer {}", token("ann"));
        for (name, value) in [("X-API-Key", KEY), ("Authorization", bearer.as_str())] {
            let known = request().header(name, value);
            let mut listener = Listener::over(server.wire(), carrier, &known);
            assert!(listener.push()["connect"]["subs"]["a"].is_object(), "{carrier:?} {name}");
        }
    }
}

#[test]
fn a_token_brings_its_topics_and_that_of_its_user() {
    let server =
        start("personal_topics = true\n[[topic]]\nmatch = \"closed\"\nsubscribe = \"server\"\n");
    let claims = json!({ "sub": "ann", "exp": now() + 600, "channels": ["news", "closed"] });
    for carrier in Carrier::ALL {
        let connect = json!({ "token": sign(&claims), "subs": { "a": {}, "closed": {} } });
        let (mut listener, connected) = Listener::connect(&server, carrier, &connect);
        let subs = connected["subs"].as_object().unwrap();
        let topics: Vec<_> = subs.keys().map(String::as_str).collect();
        assert_eq!(topics, ["#ann", "a", "closed", "news"]);
        assert_eq!(connected["expires"], true);
        assert!((500..=600).contains(&connected["ttl"].as_u64().unwrap()));
        for topic in ["#ann", "a", "closed", "news"] {
            call_publish(&server, topic);
            assert_eq!(listener.data(topic), 7);
        }
        // Without a token of its own it gets what anybody may have.
        let connect = json!({ "subs": { "a": {}, "closed": {}, "#ann": {}, "$b": {} } });
        let (_, connected) = Listener::connect(&server, carrier, &connect);
        let subs = connected["subs"].as_object().unwrap();
        assert_eq!(subs.keys().collect::<Vec<_>>(), ["a"]);
    }
}

fn call_publish(server: &Server, topic: &str) {
    let body = json!({ "channel": topic, "data": 7 }).to_string();
    let request = Request::post("/api/publish", body).header("X-API-Key", KEY);
    assert_eq!(server.request(&request).status, 200);
}

#[test]
fn who_comes_back_gets_what_it_missed_or_is_told() {
    for carrier in Carrier::ALL {
        let server = Server::start("[[topic]]\nhistory_size = 5\n");
        let mut listener = listen(&server, carrier, "a");
        let seen = server.publish("a", "1");
        assert_eq!(listener.data("a"), 1);
        drop(listener);
        for number in 2..=4 {
            server.publish("a", &number.to_string());
        }
        let back = json!({
            "subs": { "a": { "recover": true, "epoch": seen.epoch, "offset": seen.offset } },
        });
        let (mut listener, connected) = Listener::connect(&server, carrier, &back);
        let sub = &connected["subs"]["a"];
        assert_eq!((&sub["recovered"], &sub["was_recovering"]), (&json!(true), &json!(true)));
        let missed = sub["publications"].as_array().unwrap().iter().map(|one| &one["data"]);
        assert!(missed.eq(&[json!(2), json!(3), json!(4)]));
        server.publish("a", "5");
        assert_eq!(listener.data("a"), 5, "and goes on without a gap");
        for number in 6..=8 {
            server.publish("a", &number.to_string());
        }
        let (mut listener, connected) = Listener::connect(&server, carrier, &back);
        let sub = &connected["subs"]["a"];
        assert!(sub.get("recovered").is_none() && sub.get("publications").is_none(), "{sub}");
        assert_eq!((&sub["was_recovering"], &sub["offset"]), (&json!(true), &json!(8)));
        server.publish("a", "9");
        assert_eq!(listener.data("a"), 9);
        server.await_metric("fanwire_recoveries_total", &[("result", "recovered")], 1);
        server.await_metric("fanwire_recoveries_total", &[("result", "not_recovered")], 1);
    }
}

#[test]
fn members_are_counted_named_and_heard() {
    let server = start("[[topic]]\npresence = true\n");
    for (at, carrier) in Carrier::ALL.into_iter().enumerate() {
        let topic = format!("t{at}");
        let connect = |user: &str| json!({ "token": token(user), "subs": { &topic: {} } });
        let (mut ann, first) = Listener::connect(&server, carrier, &connect("ann"));
        let movement = |what: &str, client: &Value, user: &str| json!({ "channel": topic, what: { "info": { "user": user, "client": client } } });
        assert_eq!(ann.push(), movement("join", &first["client"], "ann"));
        let (bob, second) = Listener::connect(&server, carrier, &connect("bob"));
        assert_eq!(ann.push(), movement("join", &second["client"], "bob"));
        let presence = server.get(&format!("/topics/{topic}/presence")).json();
        assert_eq!((&presence["clients"], &presence["users"]), (&json!(2), &json!(2)));
        drop(bob);
        assert_eq!(ann.push(), movement("leave", &second["client"], "bob"));
    }
}

#[test]
fn the_application_acts_on_users_and_sessions() {
    let server = start("");
    for carrier in Carrier::ALL {
        let connect = json!({ "token": token("ann") });
        let (mut ann, connected) = Listener::connect(&server, carrier, &connect);
        let (mut other, _) = Listener::connect(&server, carrier, &connect);
        let session = &connected["session"];
        call(&server, "subscribe", &json!({ "user": "ann", "channel": "a", "session": session }));
        let push = ann.push();
        assert_eq!(
            (&push["channel"], &push["subscribe"]["recoverable"]),
            (&json!("a"), &json!(true))
        );
        call_publish(&server, "a");
        assert_eq!(ann.data("a"), 7);
        call(&server, "unsubscribe", &json!({ "user": "ann", "channel": "a" }));
        let told = json!({ "code": 2000, "reason": "server unsubscribe" });
        assert_eq!(ann.push(), json!({ "channel": "a", "unsubscribe": told }));
        call(&server, "refresh", &json!({ "user": "ann" }));
        assert_eq!(ann.push(), json!({ "refresh": {} }));
        let disconnect = json!({ "code": 4000, "reason": "enough" });
        let body = json!({ "user": "ann", "session": session, "disconnect": disconnect });
        call(&server, "disconnect", &body);
        ann.assert_ended(4000, "enough");
        call(&server, "disconnect", &json!({ "user": "ann" }));
        assert_eq!(other.push(), json!({ "refresh": {} }), "all else was for the first alone");
        other.assert_ended(3503, "force disconnect");
    }
}

#[test]
fn the_name_of_a_session_lets_nobody_send() {
    let server = Server::start("");
    let mut emulated = crate::harness::Emulated::http_stream(&server, &[]);
    for carrier in Carrier::ALL {
        let (mut listener, connected) =
            Listener::connect(&server, carrier, &json!({ "subs": { "a": {} } }));
        let publish = json!({ "id": 2, "publish": { "channel": "a", "data": 1 } });
        let session = connected["session"].as_str().unwrap().to_owned();
        let real = std::mem::replace(&mut emulated.session, session);
        assert_eq!(emulated.send(&server, std::slice::from_ref(&publish)).status, 404);
        emulated.session = real;
        assert_eq!(emulated.send(&server, &[publish]).status, 204);
        assert_eq!(listener.data("a"), 1, "once");
    }
    server.await_metric("fanwire_publications_total", &DOOR, 3);
}

#[test]
fn pings_need_no_answer_but_that_of_the_transport() {
    let server = Server::start("[limits]\nping_interval = \"1s\"\npong_timeout = \"500ms\"\n");
    for carrier in [Carrier::HttpStream, Carrier::Events] {
        let (mut listener, connected) = Listener::connect(&server, carrier, &json!({}));
        assert_eq!((&connected["ping"], connected.get("pong")), (&json!(1), None));
        for _ in 0..3 {
            assert_eq!(listener.message(), json!({}));
        }
    }
    // Whoever answers the frames of the transport stays, too.
    let (mut there, _) = Listener::connect(&server, Carrier::WebSocket, &json!({}));
    for _ in 0..3 {
        assert_eq!(there.message(), json!({}));
    }
    drop(there);
    let (mut gone, _) = Listener::connect(&server, Carrier::WebSocket, &json!({}));
    let frames = std::iter::from_fn(|| gone.socket().try_frame());
    let frames: Vec<_> = frames.take_while(|frame| frame.payload.len() <= 2).collect();
    assert!(frames.iter().any(|frame| frame.opcode == PING));
    assert!(frames.iter().any(|frame| frame.opcode == TEXT && frame.payload == b"{}"));
    gone.socket().assert_closed(3012, "no pong");
    server.await_close_counted("3012", "no pong", 1);
}

#[test]
fn what_a_listener_sends_is_not_looked_at() {
    let server = Server::start("[limits]\nmessage_bytes_max = 100\n");
    let mut listener = listen(&server, Carrier::WebSocket, "a");
    for text in ["", "{}", "no json", r#"{"id":2,"publish":{"channel":"a","data":1}}"#] {
        listener.socket().text(text);
    }
    server.publish("a", "2");
    assert_eq!(listener.data("a"), 2);
    listener.socket().text(&"x".repeat(101));
    listener.socket().assert_closed(1009, "message_too_large");
    server.await_metric("fanwire_publications_total", &DOOR, 0);
}

#[test]
fn a_draining_server_says_so_last() {
    for carrier in Carrier::ALL {
        let server = Server::start("[drain]\nwindow = \"100ms\"\n");
        let mut listeners = [(); 3].map(|()| listen(&server, carrier, "a"));
        server.publish("a", "1");
        server.process.signal("TERM");
        for listener in &mut listeners {
            assert_eq!(listener.data("a"), 1);
            listener.assert_ended(3001, "shutdown");
        }
    }
}

#[test]
fn a_slow_listener_is_told_so_behind_what_it_got() {
    for carrier in Carrier::ALL {
        let server = Server::start(
            "[limits]\nwrite_timeout = \"1m\"\nmessage_bytes_max = 8192\noutbox_bytes_max = 74000\n",
        );
        let request = carrier.request(&json!({ "subs": { "a": {} } }));
        let mut slow = Listener::over(Wire::connect_small(server.addr), carrier, &request);
        assert!(slow.push()["connect"].is_object());
        server.overflow("a", "reliable");
        let mut got = 0;
        let last = loop {
            let push = slow.push();
            let Some(offset) = push["pub"]["offset"].as_u64() else { break push };
            got += 1;
            assert_eq!(offset, got, "no gap before the end");
        };
        assert_eq!(last, json!({ "disconnect": { "code": 3008, "reason": "slow" } }));
        server.await_close_counted("3008", "slow", 1);
        server.await_metric("fanwire_outbox_bytes", &[], 0);
    }
}

#[test]
fn a_listener_that_takes_nothing_is_given_up() {
    let server = Server::start(
        "[limits]\nwrite_timeout = \"300ms\"\nping_interval = \"1h\"\noutbox_bytes_max = 17000000\n",
    );
    let text = "x".repeat(60_000);
    for carrier in Carrier::ALL {
        let request = carrier.request(&json!({ "subs": { "a": {} } }));
        let wire = Wire::connect_narrow(server.addr, 2048);
        let mut stalled = Listener::over(wire, carrier, &request);
        assert!(stalled.push()["connect"].is_object());
        for _ in 0..2000 {
            server.publish("a", &text);
            if server.metric("fanwire_outbox_bytes", &[]) > 0 {
                break;
            }
        }
        server.await_metric("fanwire_subscriptions", &[], 0);
        if carrier == Carrier::WebSocket {
            server.await_close_counted("3009", "write error", 1);
        }
    }
}
