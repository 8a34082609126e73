//! What is a call at all: keys, methods, bodies, errors, the drain.

use serde_json::{Value, json};

use super::{KEY, assert_error, call, publish, request, result, start};
use crate::harness::{Request, token};

const METHODS: [&str; 14] = [
    "publish",
    "broadcast",
    "subscribe",
    "unsubscribe",
    "disconnect",
    "refresh",
    "presence",
    "presence_stats",
    "history",
    "history_remove",
    "channels",
    "info",
    "rpc",
    "batch",
];

#[test]
fn every_method_needs_an_api_key_from_wherever_it_is_called() {
    let server = start("");
    let mut refused = 0;
    for method in METHODS {
        let path = format!("/api/{method}");
        server.post(&path, "{}").assert_refused(401, "token_required");
        server.post(&format!("{path}?api_key=wrong"), "{}").assert_refused(401, "token_invalid");
        refused += 1;
    }
    server.await_refused("token_required", refused);
    server.await_refused("token_invalid", refused);
}

#[test]
fn a_key_comes_by_header_authorization_or_query() {
    let server = start("");
    let post = |query: &str| Request::post(&format!("/api/info{query}"), "{}");
    for good in [
        post("").header("X-API-Key", KEY),
        post("").header("Authorization", &format!("apikey {KEY}")),
        post(&format!("?api_key={KEY}")),
        post(&format!("?a=b&api_key=%6B{}", &KEY[1..])),
    ] {
        assert_eq!(server.request(&good).status, 200, "{good:?}");
    }
    for bad in [
        post("").header("X-API-Key", &KEY[1..]),
        post("").header("X-API-Key", ""),
        post(&format!("?api_key={KEY}")).header("X-API-Key", "wrong"),
        post("?api_key=%zz"),
        post("").header("Authorization", "Basic abc"),
    ] {
        server.request(&bad).assert_refused(401, "token_invalid");
    }
    // A user's token is no key, and a key stands where keys stand.
    let token = token("ann");
    let of_user = post(&format!("?api_key={KEY}"));
    let of_user = of_user.header("Authorization", &format!("Bearer {token}"));
    server.request(&of_user).assert_refused(401, "token_required");
    server.request(&post(&format!("?token={KEY}"))).assert_refused(401, "token_required");
}

#[test]
fn without_configured_keys_nobody_calls() {
    let server = crate::harness::Server::start("");
    for key in ["", "x"] {
        let request = Request::post("/api/info", "{}").header("X-API-Key", key);
        server.request(&request).assert_refused(401, "token_invalid");
    }
}

#[test]
fn calls_are_posts_to_methods_that_there_are() {
    let server = start("");
    for path in ["/api", "/api/", "/api/nothing", "/api/publish/", "/api/map_publish"] {
        let request = Request::post(path, "{}").header("X-API-Key", KEY);
        server.request(&request).assert_refused(404, "not_found");
    }
    for method in ["GET", "PUT", "DELETE"] {
        let response = server.request(&request("info", "{}").method(method));
        response.assert_refused(405, "method_not_allowed");
        assert_eq!(response.header("allow"), Some("POST, OPTIONS"));
    }
    let preflight = server.request(&Request::new("OPTIONS", "/api/publish"));
    assert_eq!(preflight.status, 204);
    let page = request("info", "{}").header("Origin", "https://evil.example");
    server.request(&page).assert_refused(403, "origin_not_allowed");
}

#[test]
fn what_is_not_a_request_is_400() {
    let server = start("");
    for (method, body) in [
        ("publish", "nonsense"),
        ("publish", "[]"),
        ("publish", "{\"channel\":1}"),
        ("publish", "{\"channel\":\"a\",\"data\":1}{}"),
        ("publish", "{\"channel\":\"a\",\"data\":{\"a\":}}"),
        ("publish", "{\"channel\":\"a\",\"data\":1,\"tags\":{\"a\":1}}"),
        ("broadcast", "{\"channels\":\"a\",\"data\":1}"),
        ("history", "{\"channel\":\"a\",\"since\":{\"offset\":-1}}"),
        ("disconnect", "{\"user\":\"ann\",\"disconnect\":{\"code\":70000}}"),
        ("info", "1"),
        ("batch", "{\"commands\":{}}"),
    ] {
        let response = server.request(&request(method, body));
        response.assert_refused(400, "query_invalid");
        assert!(response.text().len() < 400, "{}", response.text());
    }
    let quoted = format!("{{\"channel\":\"a\",\"expire_at\":\"{}\"}}", "x".repeat(100_000));
    let response = server.request(&request("refresh", &quoted));
    response.assert_refused(400, "query_invalid");
    assert!(response.text().len() < 400, "a mistake is not quoted in full");
    let not_text = Request::post("/api/info", b"\xFF").header("X-API-Key", KEY);
    server.request(&not_text).assert_refused(400, "query_invalid");
    assert_eq!(server.request(&request("info", "")).status, 200, "nothing is asked by nothing");
}

#[test]
fn a_request_has_at_most_4_mib_and_no_encoding() {
    let server = start("[limits]\nmessage_bytes_max = 4000000\noutbox_bytes_max = 9000000\n");
    let padded = |len: usize| {
        let frame = r#"{"channel":"a","data":""}"#.len();
        format!(r#"{{"channel":"a","data":"x"{}}}"#, " ".repeat(len - frame - 1))
    };
    let most = server.request(&request("publish", &padded(4 << 20)));
    assert_eq!(most.status, 200, "{}", most.text());
    // What is announced too long is not waited for.
    let over = request("publish", "").replace("Content-Length", &((4 << 20) + 1).to_string());
    server.request(&over).assert_refused(413, "message_too_large");
    server.await_refused("message_too_large", 1);
    let encoded = request("info", "{}").header("Content-Encoding", "gzip");
    server.request(&encoded).assert_refused(415, "content_encoding_unsupported");
}

#[test]
fn lists_end_at_10_000_items() {
    let server = start("");
    let listed = |item: &str, count: usize| vec![item; count].join(",");
    let whitelist = |count| format!(r#"{{"user":"ann","whitelist":[{}]}}"#, listed("\"a\"", count));
    assert_eq!(server.request(&request("disconnect", &whitelist(10_000))).status, 200);
    let batch = format!("{{\"commands\":[{}]}}", listed("{}", 100_000));
    let broadcast = format!(r#"{{"data":1,"channels":[{}]}}"#, listed("\"a\"", 10_001));
    let names: Vec<String> = (0..10_001).map(|index| format!("\"{index}\":\"\"")).collect();
    let tags = format!(r#"{{"channel":"a","data":1,"tags":{{{}}}}}"#, names.join(","));
    for (method, body) in [
        ("disconnect", &whitelist(10_001)),
        ("batch", &batch),
        ("broadcast", &broadcast),
        ("publish", &tags),
    ] {
        server.request(&request(method, body)).assert_refused(400, "query_invalid");
    }
    assert_eq!(server.get("/topics/a/history?limit=0").json()["offset"], 0);
}

#[test]
fn errors_are_counted_by_their_number() {
    let server = start("");
    assert_error(&server, "publish", &json!({ "channel": "a" }), (107, 400));
    assert_error(&server, "rpc", &json!({ "method": "a", "params": {} }), (108, 400));
    let broadcast = json!({ "channels": ["a", ""], "data": 1 });
    assert_eq!(call(&server, "broadcast", &broadcast).status, 200);
    let batch = json!({ "commands": [{ "rpc": {} }] });
    assert_eq!(call(&server, "batch", &batch).status, 200);
    for (code, count) in [("107", 3), ("108", 3)] {
        let labels = [("code", code)];
        server.await_metric("fanwire_commands_refused_total", &labels, count);
    }
}

#[test]
fn a_draining_server_takes_no_calls() {
    let server = start("[drain]\nwindow = \"30s\"\n");
    let mut wire = server.wire();
    assert_eq!(wire.request(&request("info", "{}")).status, 200);
    server.begin_drain();
    wire.request(&request("info", "{}")).assert_refused(503, "draining");
}

#[test]
fn nothing_is_left_when_calls_are_over() {
    let server = start("");
    let reading = || server.stats()["memory_bytes"]["reading"].clone();
    for _ in 0..20 {
        publish(&server, "a", &json!("x".repeat(10_000)));
        result(&server, "history", &json!({ "channel": "a", "limit": 10 }));
    }
    crate::harness::eventually_equal("bodies on the account", &Value::from(0), reading);
}
