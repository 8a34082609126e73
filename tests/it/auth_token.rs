//! Tokens from outside: where they are found, what they allow, whose publications are whose, and
//! when sessions end with them.

use std::fs;

use jsonwebtoken::{EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::{Value, json};

use crate::harness::{
    Process, Request, Response, SECRET, Server, Stream, TEXT, WebSocket, eventually, fanwire, now,
    sign, token,
};

fn start(more: &str) -> Server {
    Server::start(&format!("[auth]\nanonymous = \"none\"\njwt_hmac_secret = \"{SECRET}\"\n{more}"))
}

fn with_caps(user: &str, topics: &[&str], allow: &[&str]) -> String {
    let caps = json!([{ "topics": topics, "allow": allow }]);
    sign(&json!({ "sub": user, "exp": now() + 3600, "caps": caps }))
}

fn bearer(request: Request, token: &str) -> Request {
    request.header("Authorization", &format!("Bearer {token}"))
}

/// Statuses of handshake, stream, history, presence and POST on a topic (percent-encoded) with a
/// token; without one it is empty.
fn statuses(server: &Server, topic: &str, token: &str) -> [u16; 5] {
    doors(server, topic, token).map(|response| response.status)
}

fn doors(server: &Server, topic: &str, token: &str) -> [Response; 5] {
    let path = format!("/topics/{topic}");
    [
        Request::handshake(&path),
        Request::sse(&path),
        Request::get(&format!("{path}/history")),
        Request::get(&format!("{path}/presence")),
        Request::post(&path, "x"),
    ]
    .map(|request| {
        let request = if token.is_empty() { request } else { bearer(request, token) };
        server.wire().answer(&request)
    })
}

/// All rights; presence is allowed, but off.
const ALL: [u16; 5] = [101, 200, 200, 404, 200];
const NONE: [u16; 5] = [403; 5];

#[test]
fn a_token_may_come_by_header_subprotocol_query_or_cookie() {
    let server = start("");
    let good = token("alice");
    let places: [fn(Request, &str) -> Request; 3] = [
        bearer,
        |request, token| request.header("Sec-WebSocket-Protocol", &format!("bearer.{token}")),
        |request, token| request.header("Cookie", &format!("a=b; fanwire_token={token}")),
    ];
    for place in places {
        let response = server.wire().answer(&place(Request::handshake("/topics/a"), &good));
        assert_eq!(response.status, 101);
    }
    let query = |token: &str| Request::handshake(&format!("/topics/a?echo=false&token={token}"));
    assert_eq!(server.wire().answer(&query(&good)).status, 101);
    server.request(&Request::handshake("/topics/a")).assert_refused(401, "token_required");
    // A credential that is there and bad is refused, whatever comes behind it.
    let bad = bearer(query(&good), "a.b.c").header("Cookie", &format!("fanwire_token={good}"));
    server.request(&bad).assert_refused(401, "token_invalid");
}

#[test]
fn the_subprotocol_that_was_used_is_answered() {
    let server = start("");
    let good = token("alice");
    for (offer, expected) in [
        (format!("bearer.{good}"), format!("bearer.{good}")),
        (format!("x, bearer.{good}"), format!("bearer.{good}")),
        (format!("bearer.{good}, fanwire.plain"), "fanwire.plain".to_owned()),
    ] {
        let request = Request::handshake("/topics/a").header("Sec-WebSocket-Protocol", &offer);
        let head = WebSocket::open(server.wire(), &request).head;
        assert_eq!(head.header("sec-websocket-protocol"), Some(expected.as_str()));
    }
    // It was not used: nothing is selected.
    let request = bearer(Request::handshake("/topics/a"), &good);
    let request = request.header("Sec-WebSocket-Protocol", "bearer.nonsense");
    let head = WebSocket::open(server.wire(), &request).head;
    assert_eq!(head.header("sec-websocket-protocol"), None);
}

#[test]
fn what_is_wrong_is_logged_and_not_answered() {
    let server = start("[log]\nlevel = \"debug\"\n");
    let good = token("alice");
    let other = EncodingKey::from_secret(b"another secret");
    let forged = jsonwebtoken::encode(&Header::default(), &json!({ "sub": "alice" }), &other);
    let forged = forged.unwrap();
    let (head, rest) = good.split_once('.').unwrap();
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}", rest.split_once('.').unwrap().0) + ".";
    let expired = sign(&json!({ "sub": "alice", "exp": now() - 1 }));
    let text = sign(&json!({ "sub": "alice", "exp": "2100-01-01" }));
    let mut told = Vec::new();
    for (token, code, cause) in [
        (expired.as_str(), "token_expired", "it has expired"),
        (&forged, "token_invalid", "its signature is wrong"),
        (&unsigned, "token_invalid", "its algorithm is not one of a configured key"),
        (&text, "token_invalid", "a claim is missing or malformed"),
        (head, "token_invalid", "not a JWT"),
    ] {
        for response in doors(&server, "a", token) {
            response.assert_refused(401, code);
            assert_eq!(response.header("www-authenticate"), Some("Bearer"));
            assert!(!response.text().contains(cause));
            if code == "token_invalid" {
                told.push(response.text());
            }
        }
        let is_logged = || server.process.stderr().contains(cause).then_some(());
        eventually("the cause is logged", is_logged);
    }
    assert!(told.windows(2).all(|two| two[0] == two[1]), "one answer for all causes");
    server.await_metric("fanwire_requests_refused_total", &[("reason", "token_invalid")], 20);
    server.await_metric("fanwire_requests_refused_total", &[("reason", "token_expired")], 5);
    let log = server.process.stderr();
    for secret in [SECRET, rest, forged.as_str(), expired.as_str()] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

#[test]
fn no_secret_shows_in_the_log_at_its_most_talkative() {
    let mut server = start("[log]\nlevel = \"trace\"\n");
    let token = token("alice");
    statuses(&server, "a", &token);
    server.get(&format!("/topics/a/history?token={token}"));
    server.process.signal("TERM");
    server.process.exit_code();
    let log = server.process.stderr();
    assert!(!log.contains(SECRET) && !log.contains(&token));
}

#[test]
fn a_token_without_capabilities_may_do_everything() {
    let server = start("");
    assert_eq!(statuses(&server, "a", &token("alice")), ALL);
    assert_eq!(statuses(&server, "a", &token("")), ALL);
}

#[test]
fn capabilities_are_by_topic_and_right() {
    let server = start("");
    let read = with_caps("alice", &["chat:*"], &["subscribe", "history"]);
    assert_eq!(statuses(&server, "chat:1", &read), [101, 200, 200, 403, 403]);
    for topic in ["chat", "chats:1", "xchat:1", "news", "CHAT:1", "chat%3", "chat%2F1"] {
        let got = statuses(&server, topic, &read);
        assert!(got == NONE || got == [400; 5], "{topic}: {got:?}");
    }
    // A name with a wildcard is none, so nothing wider than the grant can be asked for.
    assert_eq!(statuses(&server, "*", &read), [400; 5]);
    let write = with_caps("alice", &["a"], &["publish"]);
    assert_eq!(statuses(&server, "a", &write), [403, 403, 403, 403, 200]);
    assert_eq!(statuses(&server, "a", &with_caps("alice", &[], &["publish"])), NONE);
    let mut socket =
        WebSocket::open(server.wire(), &bearer(Request::handshake("/topics/chat:1"), &read));
    socket.text("not allowed");
    socket.assert_closed(1008, "permission_denied");
}

#[test]
fn topic_rules_tighten_who_may_do_what() {
    let rules = "[[topic]]\nmatch = \"members:*\"\nsubscribe = \"authenticated\"\n\
                 [[topic]]\nmatch = \"paid:*\"\nsubscribe = \"token\"\npublish = \"server\"\n\
                 [[topic]]\nmatch = \"board\"\npublish = \"token\"\n\
                 [[topic]]\nmatch = \"hidden\"\nsubscribe = \"server\"\n";
    let server = Server::start(&format!(
        "[auth]\nanonymous = \"all\"\napi_keys = [\"a-key\"]\njwt_hmac_secret = \"{SECRET}\"\n{rules}"
    ));
    let (alice, nobody) = (token("alice"), token(""));
    let paid = with_caps("alice", &["paid:*", "board"], &["subscribe", "history", "publish"]);
    for (topic, token, expected) in [
        ("free", "", ALL),
        ("members:1", "", [403, 403, 403, 403, 200]),
        ("members:1", &nobody, [403, 403, 403, 403, 200]),
        ("members:1", &alice, ALL),
        ("members:1", &paid, NONE),
        ("paid:1", "", NONE),
        ("paid:1", &alice, NONE),
        ("paid:1", &paid, [101, 200, 200, 403, 403]),
        ("board", "", [101, 200, 200, 404, 403]),
        ("board", &alice, [101, 200, 200, 404, 403]),
        ("board", &paid, [101, 200, 200, 403, 200]),
        ("hidden", &alice, [403, 403, 403, 403, 200]),
    ] {
        assert_eq!(statuses(&server, topic, token), expected, "{topic}");
    }
    for topic in ["paid:1", "hidden", "board"] {
        let keyed = |request: Request| request.header("X-API-Key", "a-key");
        let path = format!("/topics/{topic}");
        let requests = [Request::handshake(&path), Request::post(&path, "x")];
        let statuses = requests.map(|request| server.wire().answer(&keyed(request)).status);
        assert_eq!(statuses, [101, 200], "{topic}");
    }
    let mut reader = server.websocket("/topics/board");
    reader.text("not allowed");
    reader.assert_closed(1008, "permission_denied");
}

#[test]
fn user_limited_topics_are_for_those_whom_they_name() {
    let server = start("user_limited_topics = true\n");
    let (alice, bob, eve) = (token("alice"), token("bob"), token("eve"));
    for (topic, token, expected) in [
        ("%23alice", &alice, ALL),
        ("%23alice", &bob, NONE),
        ("chat%23alice%2Cbob", &alice, ALL),
        ("chat%23alice%2Cbob", &bob, ALL),
        ("chat%23alice%2Cbob", &eve, NONE),
        ("chat%23", &alice, NONE),
        ("chat", &eve, ALL),
    ] {
        assert_eq!(statuses(&server, topic, token), expected, "{topic}");
    }
    let without = start("");
    assert_eq!(statuses(&without, "%23alice", &bob), ALL, "off by default");
}

#[test]
fn publications_name_the_user_of_their_token() {
    let server = start("");
    let (alice, nobody) = (token("alice \"a\""), token(""));
    let open = |request: Request| WebSocket::open(server.wire(), &bearer(request, &alice));
    let mut json = open(Request::handshake("/topics/a?format=json"));
    json.json();
    let mut plain = open(Request::handshake("/topics/a"));
    plain.send(TEXT, b"from a socket");
    assert_eq!(json.json()["user"], "alice \"a\"");
    let post = |token: &str, text: &str| {
        let answer = server.request(&bearer(Request::post("/topics/a", text), token));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    post(&alice, "from a request");
    assert_eq!(json.json()["user"], "alice \"a\"");
    post(&nobody, "from nobody");
    assert_eq!(json.json().get("user"), None);
    let history = bearer(Request::get("/topics/a/history"), &alice);
    let history = server.request(&history).json();
    let users: Vec<_> = history["publications"].as_array().unwrap().iter().collect();
    let users: Vec<_> = users.iter().map(|one| one.get("user").and_then(Value::as_str)).collect();
    assert_eq!(users, [Some("alice \"a\""), Some("alice \"a\""), None]);
    let events = bearer(Request::sse("/topics/a?format=json&last=3"), &alice);
    let mut events = Stream::open(server.wire(), &events);
    events.block();
    let first: Value = serde_json::from_str(&events.event().data.unwrap()).unwrap();
    assert_eq!(first["user"], "alice \"a\"");
    assert_eq!(plain.next_text(), "from a socket", "the raw door shows the payload only");
}

#[test]
fn sessions_end_with_their_token() {
    let server = start("expiry_grace = \"1ms\"\n[limits]\nping_interval = \"1h\"\n");
    let short = sign(&json!({ "sub": "alice", "exp": now() + 2 }));
    let long = token("bob");
    let lasting = sign(&json!({ "sub": "carol", "exp": now() + 2, "expire_at": 0 }));
    let open = |token: &str| {
        WebSocket::open(server.wire(), &bearer(Request::handshake("/topics/a"), token))
    };
    let (mut bob, mut carol) = (open(&long), open(&lasting));
    let mut alice = open(&short);
    let mut sse = server.wire();
    assert_eq!(sse.answer(&bearer(Request::sse("/topics/a"), &short)).status, 200);
    alice.assert_closed(1008, "token_expired");
    // The body of the stream ends as it should, not in its middle.
    while sse.chunk().is_some() {}
    server.await_close_counted("1008", "token_expired", 2);
    let late = server.request(&bearer(Request::post("/topics/a", "x"), &short));
    late.assert_refused(401, "token_expired");
    // Those whose token is good go on.
    bob.text("still here");
    for socket in [&mut bob, &mut carol] {
        assert_eq!(socket.next_text(), "still here");
    }
    drop(alice);
    server.await_metric("fanwire_connections", &[("door", "plain")], 2);
}

#[test]
fn an_end_that_is_far_away_or_long_past_harms_nobody() {
    let server = start("expiry_grace = \"24h\"\n");
    for claims in [
        json!({ "sub": "a", "exp": u64::MAX }),
        json!({ "sub": "a", "exp": 1e300 }),
        json!({ "sub": "a", "exp": now() + 1, "expire_at": u64::MAX }),
        json!({ "sub": "a", "expire_at": now() - 1 }),
    ] {
        let token = sign(&claims);
        let request = bearer(Request::handshake("/topics/a"), &token);
        let mut socket = WebSocket::open(server.wire(), &request);
        socket.text("x");
        assert_eq!(socket.next_text(), "x", "{claims}");
    }
}

/// The output of `fanwire token` with the configuration `config` and these arguments.
fn print_token(config: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("fanwire.toml");
    fs::write(&path, config).unwrap();
    let mut command = fanwire(&["token", "--config", path.to_str().unwrap()]);
    command.args(args);
    Process::start(command).finish()
}

#[test]
fn the_command_signs_what_the_server_believes() {
    let keys = tempfile::TempDir::new().unwrap();
    let file = |name: &str, text: String| {
        let path = keys.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mut configs =
        vec![format!("[auth]\nanonymous = \"none\"\njwt_hmac_secret = \"{SECRET}\"\n")];
    for kind in [&PKCS_RSA_SHA256, &PKCS_ECDSA_P256_SHA256, &PKCS_ED25519] {
        let pair = KeyPair::generate_for(kind).unwrap();
        let name = configs.len();
        let public = file(&format!("{name}.pub"), pair.public_key_pem());
        let private = file(&format!("{name}.key"), pair.serialize_pem());
        configs.push(format!(
            "[auth]\nanonymous = \"none\"\njwt_public_key_file = \"{public}\"\n\
             jwt_private_key_file = \"{private}\"\njwt_audience = \"us\"\njwt_issuer = \"we\"\n\
             jwt_expiry_required = true\n"
        ));
    }
    for config in configs {
        let server = Server::start(&config);
        let sign = |args: &[&str]| {
            let (code, stdout, stderr) = print_token(&config, args);
            assert_eq!((code, stderr.as_str()), (Some(0), ""), "{config}");
            let token = stdout.strip_suffix('\n').expect("one line").to_owned();
            assert!(!token.contains(char::is_whitespace), "only the token");
            token
        };
        assert_eq!(statuses(&server, "a", &sign(&["--sub", "alice"])), ALL, "{config}");
        let narrow = ["--sub", "alice", "--topics", "chat:*", "--topics", "b", "--ttl", "1m"];
        let narrow = sign(&narrow);
        assert_eq!(statuses(&server, "a", &narrow), NONE);
        assert_eq!(statuses(&server, "b", &narrow), ALL);
        assert_eq!(statuses(&server, "chat:1", &narrow), ALL);
        let reader = ["--sub", "alice", "--topics", "a", "--allow", "subscribe,history"];
        assert_eq!(statuses(&server, "a", &sign(&reader)), [101, 200, 200, 403, 403]);
    }
}

#[test]
fn without_a_key_the_command_says_what_to_configure() {
    let (code, stdout, stderr) = print_token("", &["--sub", "alice"]);
    assert_eq!((code, stdout.as_str()), (Some(78), ""));
    assert!(stderr.contains("auth.jwt_hmac_secret"), "{stderr}");
    let missing = "[auth]\njwt_private_key_file = \"/nowhere/key.pem\"\n";
    let (code, _, stderr) = print_token(missing, &["--sub", "alice"]);
    assert_eq!(code, Some(78));
    assert!(stderr.contains("/nowhere/key.pem"), "{stderr}");
    for args in [
        &[][..],
        &["--sub", ""],
        &["--sub", "a", "--ttl", "soon"],
        &["--sub", "a", "--allow", "publish"],
    ] {
        let (code, stdout, _) = print_token("[auth]\njwt_hmac_secret = \"x\"\n", args);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}");
    }
}
