//! Those who publish, as fast as they are answered, and those who send clients away.

use fastrand::Rng;
use serde_json::{Value, json};

use crate::harness::{Request, SECRET, Server, token};
use crate::invariant::Position;
use crate::world::World;

const KEY: &str = "key-of-a-test-0123456789abcdef";

/// Commands that a publisher has under way.
const WINDOW: usize = 4;

/// Calls of the API.
const CALLS: usize = 300;

/// Tables of the configuration for tokens and keys.
pub(crate) fn auth() -> String {
    format!("[auth]\napi_keys = [\"{KEY}\"]\njwt_hmac_secret = \"{SECRET}\"\n")
}

pub(crate) fn bearer(request: Request, user: &str) -> Request {
    request.header("Authorization", &format!("Bearer {}", token(user)))
}

/// The `n`th state of a document of which little changes, by `who`.
pub(crate) fn payload(who: &str, n: usize) -> String {
    let rows: Vec<_> =
        (0..4).map(|row| json!({ "name": format!("row {row}"), "row": row })).collect();
    json!({ "by": who, "n": n, "rows": rows }).to_string()
}

/// Publishes by requests while `goes`; gives what was acknowledged.
pub(crate) fn post(
    server: &Server,
    topic: usize,
    goes: impl Fn(usize) -> bool,
) -> Vec<(Position, String)> {
    let (topic, mut wire) = (World::TOPICS[topic], server.wire());
    let mut publish = |n| {
        let payload = payload("post", n);
        let answer = wire.request(&Request::post(&format!("/topics/{topic}"), &payload));
        assert_eq!(answer.status, 200, "{}", answer.text());
        (Position::of(&answer.json()), payload)
    };
    let mut acknowledged = Vec::new();
    while goes(acknowledged.len()) {
        acknowledged.push(publish(acknowledged.len()));
    }
    acknowledged
}

/// Publishes by commands while `goes`; gives what was acknowledged.
pub(crate) fn command(server: &Server, topic: usize, goes: impl Fn(usize) -> bool) -> Vec<String> {
    let mut socket = server.websocket("/connection/websocket");
    socket.text(&json!({ "id": 1, "connect": {} }).to_string());
    socket.json();
    let (channel, mut payloads) = (World::TOPICS[topic], Vec::new());
    while goes(payloads.len()) {
        for n in payloads.len()..payloads.len() + WINDOW {
            let payload = payload("command", n);
            let data: Value = serde_json::from_str(&payload).unwrap();
            let publish = json!({ "id": 2, "publish": { "channel": channel, "data": data } });
            socket.text(&publish.to_string());
            payloads.push(payload);
        }
        let mut waiting = WINDOW;
        while waiting > 0 {
            let reply = socket.next_text();
            for reply in reply.lines().filter(|line| *line != "{}") {
                assert_eq!(reply, r#"{"id":2,"publish":{}}"#);
                waiting -= 1;
            }
        }
    }
    payloads
}

/// Sends clients away, and takes subscriptions from them.
pub(crate) fn disturb(server: &Server, users: &[String], mut random: Rng) {
    let mut wire = server.wire();
    for _ in 0..CALLS {
        let user = &users[random.usize(..users.len())];
        let (method, body) = if random.u8(..3) == 0 {
            let topic = World::TOPICS[random.usize(..World::TOPICS.len())];
            ("unsubscribe", json!({ "user": user, "channel": topic }))
        } else {
            let disconnect = json!({ "code": 3011, "reason": "force reconnect" });
            ("disconnect", json!({ "user": user, "disconnect": disconnect }))
        };
        let request = Request::post(&format!("/api/{method}"), body.to_string());
        let answer = wire.request(&request.header("X-API-Key", KEY));
        assert_eq!(answer.text(), r#"{"result":{}}"#);
    }
}
