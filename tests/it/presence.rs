//! Who is on a topic: members, counts, who comes and goes, and users that are back in time.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::harness::{Request, Server, WebSocket, eventually};

const SECRET: &str = "the secret of a test, 32 characters";

/// Presence on every topic but those called `off:*`.
fn start(grace: &str) -> Server {
    Server::start_with(
        &format!(
            "[auth]\nanonymous = \"all\"\njwt_hmac_secret = \"{SECRET}\"\npersonal_topics = true\n\
             [[topic]]\nmatch = \"off:*\"\n\
             [[topic]]\nmatch = \"#*\"\n\
             [[topic]]\nmatch = \"quiet:*\"\npresence = true\njoin_leave = \"off\"\n\
             [[topic]]\nmatch = \"asked:*\"\npresence = true\njoin_leave = \"asked\"\n\
             [[topic]]\npresence = true\npresence_grace = \"{grace}\"\n"
        ),
        &["--workers", "2"],
    )
}

fn token(user: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "sub": user, "exp": now + 3600, "info": { "name": user } });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

/// A client of the Centrifugo protocol in JSON.
struct Client {
    socket: WebSocket,
    waiting: VecDeque<Value>,
    id: u64,
    /// As the server calls it.
    name: String,
}

impl Client {
    fn connect(server: &Server, user: &str) -> Self {
        let socket = server.websocket("/connection/websocket");
        let mut client = Self { socket, waiting: VecDeque::new(), id: 0, name: String::new() };
        let request = if user.is_empty() { json!({}) } else { json!({ "token": token(user) }) };
        let reply = client.ask("connect", &request);
        reply["connect"]["client"].as_str().unwrap().clone_into(&mut client.name);
        client
    }

    /// The next reply or push.
    fn next(&mut self) -> Value {
        while self.waiting.is_empty() {
            let text = self.socket.next_text();
            self.waiting.extend(text.lines().map(|line| serde_json::from_str(line).unwrap()));
        }
        self.waiting.pop_front().unwrap()
    }

    /// Sends a command and gives its reply; no push may come before it.
    fn ask(&mut self, command: &str, request: &Value) -> Value {
        self.id += 1;
        self.socket.text(&json!({ "id": self.id, command: request }).to_string());
        let reply = self.next();
        assert_eq!(reply["id"], self.id, "{reply}");
        reply
    }

    fn subscribe(&mut self, topic: &str) {
        let request = json!({ "channel": topic, "join_leave": true });
        let reply = self.ask("subscribe", &request);
        assert!(reply["subscribe"].is_object(), "{reply}");
    }

    /// The next push: `join` or `leave`, and of which client.
    fn movement(&mut self) -> (String, String) {
        let push = self.next()["push"].take();
        let what = if push["join"].is_object() { "join" } else { "leave" };
        let client = push[what]["info"]["client"].as_str();
        (what.to_owned(), client.unwrap_or_else(|| panic!("a movement: {push}")).to_owned())
    }

    fn assert_hears(&mut self, what: &str, client: &str) {
        assert_eq!(self.movement(), (what.to_owned(), client.to_owned()));
    }
}

fn counts(server: &Server, topic: &str) -> (u64, u64) {
    let body = server.get(&format!("/topics/{topic}/presence")).json();
    (body["clients"].as_u64().unwrap(), body["users"].as_u64().unwrap())
}

#[test]
fn every_door_counts_and_names_its_clients() {
    let server = start("0s");
    assert_eq!(counts(&server, "a"), (0, 0));
    let _socket = server.websocket(&format!("/topics/a?token={}", token("ann")));
    let _events = server.sse("/topics/a");
    let _lines = server.ndjson(&format!("/topics/a?token={}", token("bob")));
    let mut client = Client::connect(&server, "ann");
    client.subscribe("a");
    let presence = server.get("/topics/a/presence").json();
    assert_eq!(presence["topic"], "a");
    assert_eq!((&presence["clients"], &presence["users"]), (&json!(4), &json!(3)));
    let members = presence["members"].as_array().unwrap();
    let mut users: Vec<_> = members.iter().map(|one| one["user"].as_str().unwrap()).collect();
    users.sort_unstable();
    assert_eq!(users, ["", "ann", "ann", "bob"]);
    let mut clients: Vec<_> = members.iter().map(|one| one["client"].as_str().unwrap()).collect();
    assert!(clients.contains(&client.name.as_str()));
    clients.sort_unstable();
    clients.dedup();
    assert_eq!(clients.len(), 4, "each has a name of its own");
}

#[test]
fn presence_by_the_protocol_is_the_same() {
    let server = start("0s");
    let _socket = server.websocket("/topics/a");
    let mut client = Client::connect(&server, "ann");
    client.subscribe("a");
    let own = client.name.clone();
    client.assert_hears("join", &own);
    let reply = client.ask("presence", &json!({ "channel": "a" }));
    let members = reply["presence"]["presence"].as_object().unwrap();
    assert_eq!(members.len(), 2);
    assert_eq!(
        members[&own],
        json!({ "user": "ann", "client": own, "conn_info": { "name": "ann" } })
    );
    let reply = client.ask("presence_stats", &json!({ "channel": "a" }));
    assert_eq!(reply["presence_stats"], json!({ "num_clients": 2, "num_users": 2 }));
    let reply = client.ask("presence", &json!({ "channel": "off:a" }));
    assert_eq!(reply["error"]["code"], 108);
    let reply = client.ask("presence_stats", &json!({ "channel": "off:a" }));
    assert_eq!(reply["error"]["code"], 108);
}

#[test]
fn a_newcomer_hears_nothing_of_before_it_came() {
    let server = start("0s");
    let mut ann = Client::connect(&server, "ann");
    let subscribe = json!({ "channel": "a", "join_leave": true });
    ann.id = 4;
    let commands = [
        json!({ "id": 2, "subscribe": subscribe }),
        json!({ "id": 3, "unsubscribe": { "channel": "a" } }),
        json!({ "id": 4, "subscribe": subscribe }),
    ];
    // In one turn: nobody is left to hear how the first subscription ends, or of its beginning.
    ann.socket.text(&commands.map(|command| command.to_string()).join("\n"));
    for id in 2..=4 {
        assert_eq!(ann.next()["id"], id);
    }
    assert_eq!(ann.movement(), ("join".to_owned(), ann.name.clone()));
    let stats = ann.ask("presence_stats", &json!({ "channel": "a" }));
    assert_eq!(stats["presence_stats"]["num_clients"], 1);
}

#[test]
fn members_hear_who_comes_and_goes() {
    let server = start("0s");
    let mut ann = Client::connect(&server, "ann");
    ann.subscribe("a");
    let (first, mut bob) = (ann.name.clone(), Client::connect(&server, "bob"));
    ann.assert_hears("join", &first);
    bob.subscribe("a");
    let second = bob.name.clone();
    bob.assert_hears("join", &second);
    ann.assert_hears("join", &second);
    bob.ask("unsubscribe", &json!({ "channel": "a" }));
    ann.assert_hears("leave", &second);
    bob.subscribe("a");
    ann.assert_hears("join", &second);
    drop(bob);
    ann.assert_hears("leave", &second);
    // Plain clients are heard of, too.
    let socket = server.websocket("/topics/a");
    let (what, third) = ann.movement();
    assert_eq!(what, "join");
    drop(socket);
    ann.assert_hears("leave", &third);
    assert_eq!(counts(&server, "a"), (1, 1));
}

#[test]
fn who_hears_is_for_the_topic_to_say() {
    let server = start("0s");
    for (topic, asks, hears) in [
        ("a", false, true),
        ("asked:a", true, true),
        ("asked:a", false, false),
        ("quiet:a", true, false),
    ] {
        let mut client = Client::connect(&server, "ann");
        let reply = client.ask("subscribe", &json!({ "channel": topic, "join_leave": asks }));
        assert!(reply["subscribe"].is_object());
        if hears {
            let own = client.name.clone();
            client.assert_hears("join", &own);
            continue;
        }
        let _socket = server.websocket(&format!("/topics/{topic}"));
        server.publish(topic, "1");
        let push = client.next();
        assert_eq!(push["push"]["pub"]["data"], 1, "no join before it: {push}");
    }
}

#[test]
fn users_have_a_topic_of_their_own() {
    let server = start("0s");
    let mut ann = Client::connect(&server, "ann");
    assert_eq!(server.post("/topics/%23ann", "1").status, 403, "nobody else has");
    let mut bob = Client::connect(&server, "bob");
    let reply = bob.ask("publish", &json!({ "channel": "#ann", "data": 1 }));
    assert_eq!(reply["error"]["code"], 103);
    let reply = bob.ask("subscribe", &json!({ "channel": "#ann" }));
    assert_eq!(reply["error"]["code"], 103);
    ann.id += 1;
    ann.socket
        .text(&json!({ "id": ann.id, "publish": { "channel": "#ann", "data": 2 } }).to_string());
    let got = [ann.next(), ann.next()];
    let push = got.iter().find(|one| one["push"].is_object()).expect("she is subscribed");
    assert_eq!(
        (&push["push"]["channel"], &push["push"]["pub"]["data"]),
        (&json!("#ann"), &json!(2))
    );
}

#[test]
fn a_topic_without_presence_tells_nothing() {
    let server = start("0s");
    let mut client = Client::connect(&server, "ann");
    client.subscribe("off:a");
    let _socket = server.websocket("/topics/off:a");
    server.publish("off:a", "1");
    assert_eq!(client.next()["push"]["pub"]["data"], 1);
    server.get("/topics/off:a/presence").assert_refused(404, "presence_off");
}

#[test]
fn a_user_that_is_back_in_time_does_not_flap() {
    let server = start("1h");
    let mut ann = Client::connect(&server, "ann");
    ann.subscribe("a");
    let first = ann.name.clone();
    ann.assert_hears("join", &first);
    let mut bob = Client::connect(&server, "bob");
    bob.subscribe("a");
    let second = bob.name.clone();
    ann.assert_hears("join", &second);
    drop(bob);
    server.await_metric("fanwire_connections", &[("door", "centrifugo_json")], 1);
    assert_eq!(counts(&server, "a"), (2, 2), "he is waited for");
    let mut bob = Client::connect(&server, "bob");
    bob.subscribe("a");
    assert_eq!(counts(&server, "a"), (2, 2));
    // One more connection of his is news, and leaving on purpose is, too.
    let mut other = Client::connect(&server, "bob");
    other.subscribe("a");
    let third = other.name.clone();
    ann.assert_hears("join", &third);
    bob.assert_hears("join", &third);
    bob.ask("unsubscribe", &json!({ "channel": "a" }));
    let fourth = bob.name.clone();
    ann.assert_hears("leave", &fourth);
    assert_eq!(counts(&server, "a"), (2, 2));
}

#[test]
fn a_user_that_stays_away_is_given_up() {
    let server = start("200ms");
    let mut ann = Client::connect(&server, "ann");
    ann.subscribe("a");
    let first = ann.name.clone();
    ann.assert_hears("join", &first);
    let mut bob = Client::connect(&server, "bob");
    bob.subscribe("a");
    let second = bob.name.clone();
    ann.assert_hears("join", &second);
    drop(bob);
    ann.assert_hears("leave", &second);
    drop(ann);
    eventually("everybody is given up", || (counts(&server, "a") == (0, 0)).then_some(()));
}

#[test]
fn an_answer_lists_a_thousand_members_and_counts_all() {
    let server = start("0s");
    let streams: Vec<_> = (0..1_010).map(|_| server.ndjson("/topics/a")).collect();
    let presence = server.get("/topics/a/presence").json();
    assert_eq!(presence["clients"], 1_010);
    assert_eq!(presence["members"].as_array().unwrap().len(), 1_000);
    drop(streams);
    eventually("all are gone", || (counts(&server, "a") == (0, 0)).then_some(()));
}

#[test]
fn the_right_to_see_presence_is_asked_for() {
    let server = Server::start(
        "[auth]\nanonymous = \"subscribe\"\napi_keys = [\"k\"]\n[[topic]]\npresence = true\n",
    );
    server.get("/topics/a/presence").assert_refused(403, "permission_denied");
    let mut client = Client::connect(&server, "");
    let reply = client.ask("presence", &json!({ "channel": "a" }));
    assert_eq!(reply["error"]["code"], 103);
    client.subscribe("a");
    let _socket = server.websocket("/topics/a");
    let published = server.request(&Request::post("/topics/a", "1").header("X-API-Key", "k"));
    assert_eq!(published.status, 200);
    assert_eq!(client.next()["push"]["pub"]["data"], 1, "it hears of nobody");
}
