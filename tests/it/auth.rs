//! Who may do what: anonymous modes, API keys, bad credentials, the admin password.

use crate::harness::{Request, Server, TEXT};

const KEY: &str = "key-of-a-test-0123456789abcdef";

fn start(anonymous: &str) -> Server {
    let keys = format!("api_keys = [\"another-key-of-a-test-0123456789\", \"{KEY}\"]");
    Server::start(&format!("[auth]\nanonymous = \"{anonymous}\"\n{keys}\n"))
}

/// Statuses of handshake, stream, history and POST, each changed by `change`.
fn statuses(server: &Server, change: impl Fn(Request) -> Request) -> [u16; 4] {
    [
        Request::handshake("/topics/a"),
        Request::sse("/topics/a"),
        Request::get("/topics/a/history"),
        Request::post("/topics/a", "x"),
    ]
    .map(|request| server.wire().answer(&change(request)).status)
}

#[test]
fn anonymous_modes_give_their_rights() {
    for (mode, expected) in [
        ("loopback", [101, 200, 200, 200]),
        ("all", [101, 200, 200, 200]),
        ("subscribe", [101, 200, 200, 403]),
        ("none", [401, 401, 401, 401]),
    ] {
        let server = start(mode);
        assert_eq!(statuses(&server, |request| request), expected, "{mode}");
    }
}

#[test]
fn refusals_name_their_reason() {
    let none = start("none").post("/topics/a", "x");
    none.assert_refused(401, "token_required");
    let subscribe = start("subscribe").post("/topics/a", "x");
    subscribe.assert_refused(403, "permission_denied");
}

#[test]
fn publishing_without_the_right_is_closed_with_1008() {
    let server = start("subscribe");
    let mut subscriber = server.websocket("/topics/a");
    let mut intruder = server.websocket("/topics/a");
    intruder.send(TEXT, b"not allowed");
    intruder.assert_closed(1008, "permission_denied");
    server.await_close_counted("1008", "permission_denied", 1);
    let publish = Request::post("/topics/a", "allowed").header("X-API-Key", KEY);
    assert_eq!(server.request(&publish).status, 200);
    assert_eq!(subscriber.next_text(), "allowed");
}

#[test]
fn loopback_access_needs_a_loopback_listener() {
    let args = ["--listen", "0.0.0.0:0"];
    let server = Server::start_with("", &args);
    assert_eq!(statuses(&server, |request| request), [401; 4]);
}

#[test]
fn an_api_key_may_do_everything() {
    let server = start("none");
    for (name, value) in [
        ("X-API-Key", KEY.to_owned()),
        ("Authorization", format!("apikey {KEY}")),
        ("Authorization", format!("ApiKey {KEY}")),
    ] {
        let keyed = |request: Request| request.header(name, &value);
        assert_eq!(statuses(&server, keyed), [101, 200, 200, 200], "{name}: {value}");
    }
}

#[test]
fn a_bad_credential_is_401_even_where_anonymous_would_do() {
    let server = start("all");
    for (name, value) in [
        ("X-API-Key", "wrong"),
        ("X-API-Key", &KEY[1..]),
        ("Authorization", "apikey wrong"),
        ("Authorization", "Bearer garbage"),
        ("Cookie", "other=1; fanwire_token=garbage"),
    ] {
        let bad = |request: Request| request.header(name, value);
        assert_eq!(statuses(&server, bad), [401; 4], "{name}: {value}");
    }
    let request = Request::handshake("/topics/a")
        .header("Sec-WebSocket-Protocol", "fanwire.plain, bearer.garbage");
    server.request(&request).assert_refused(401, "token_invalid");
    let query = server.post("/topics/a?token=garbage", "x");
    query.assert_refused(401, "token_invalid");
}
