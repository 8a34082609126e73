//! Who is on a topic: members, counts, who comes and goes, and users that are back in time.

use serde_json::json;

use crate::harness::{Client, Request, SECRET, Server, eventually, now, sign};

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
    sign(&json!({ "sub": user, "exp": now() + 3600, "info": { "name": user } }))
}

/// Connects as `user`; nobody has no name.
fn connect(server: &Server, user: &str) -> Client {
    let request = if user.is_empty() { json!({}) } else { json!({ "token": token(user) }) };
    Client::connect_by(server, &request)
}

/// Subscribes, and asks to hear who comes and goes.
#[track_caller]
fn join(client: &mut Client, topic: &str) {
    let request = json!({ "channel": topic, "join_leave": true });
    let reply = client.ask_alone("subscribe", &request);
    assert!(reply["subscribe"].is_object(), "{reply}");
}

/// The next push: `join` or `leave`, and of which client.
#[track_caller]
fn movement(client: &mut Client) -> (String, String) {
    let push = client.push();
    let what = if push["join"].is_object() { "join" } else { "leave" };
    let client = push[what]["info"]["client"].as_str();
    (what.to_owned(), client.unwrap_or_else(|| panic!("a movement: {push}")).to_owned())
}

#[track_caller]
fn assert_hears(client: &mut Client, what: &str, other: &str) {
    assert_eq!(movement(client), (what.to_owned(), other.to_owned()));
}

/// Two users that are subscribed, of which the first has heard of both.
fn ann_and_bob(server: &Server) -> (Client, Client) {
    let (mut ann, mut bob) = (connect(server, "ann"), connect(server, "bob"));
    for client in [&mut ann, &mut bob] {
        join(client, "a");
    }
    for other in [ann.id.clone(), bob.id.clone()] {
        assert_hears(&mut ann, "join", &other);
    }
    (ann, bob)
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
    let mut client = connect(&server, "ann");
    join(&mut client, "a");
    let presence = server.get("/topics/a/presence").json();
    assert_eq!(presence["topic"], "a");
    assert_eq!((&presence["clients"], &presence["users"]), (&json!(4), &json!(3)));
    let members = presence["members"].as_array().unwrap();
    let mut users: Vec<_> = members.iter().map(|one| one["user"].as_str().unwrap()).collect();
    users.sort_unstable();
    assert_eq!(users, ["", "ann", "ann", "bob"]);
    let mut clients: Vec<_> = members.iter().map(|one| one["client"].as_str().unwrap()).collect();
    assert!(clients.contains(&client.id.as_str()));
    clients.sort_unstable();
    clients.dedup();
    assert_eq!(clients.len(), 4, "each has a name of its own");
}

#[test]
fn presence_by_the_protocol_is_the_same() {
    let server = start("0s");
    let _socket = server.websocket("/topics/a");
    let mut client = connect(&server, "ann");
    join(&mut client, "a");
    let own = client.id.clone();
    assert_hears(&mut client, "join", &own);
    let reply = client.ask_alone("presence", &json!({ "channel": "a" }));
    let members = reply["presence"]["presence"].as_object().unwrap();
    assert_eq!(members.len(), 2);
    assert_eq!(
        members[&own],
        json!({ "user": "ann", "client": own, "conn_info": { "name": "ann" } })
    );
    let reply = client.ask_alone("presence_stats", &json!({ "channel": "a" }));
    assert_eq!(reply["presence_stats"], json!({ "num_clients": 2, "num_users": 2 }));
    let reply = client.ask_alone("presence", &json!({ "channel": "off:a" }));
    assert_eq!(reply["error"]["code"], 108);
    let reply = client.ask_alone("presence_stats", &json!({ "channel": "off:a" }));
    assert_eq!(reply["error"]["code"], 108);
}

#[test]
fn members_hear_who_comes_and_goes() {
    let server = start("0s");
    let mut ann = connect(&server, "ann");
    join(&mut ann, "a");
    let (first, mut bob) = (ann.id.clone(), connect(&server, "bob"));
    assert_hears(&mut ann, "join", &first);
    join(&mut bob, "a");
    let second = bob.id.clone();
    assert_hears(&mut bob, "join", &second);
    assert_hears(&mut ann, "join", &second);
    bob.ask_alone("unsubscribe", &json!({ "channel": "a" }));
    assert_hears(&mut ann, "leave", &second);
    join(&mut bob, "a");
    assert_hears(&mut ann, "join", &second);
    drop(bob);
    assert_hears(&mut ann, "leave", &second);
    // Plain clients are heard of, too.
    let socket = server.websocket("/topics/a");
    let (what, third) = movement(&mut ann);
    assert_eq!(what, "join");
    drop(socket);
    assert_hears(&mut ann, "leave", &third);
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
        let mut client = connect(&server, "ann");
        let reply = client.ask_alone("subscribe", &json!({ "channel": topic, "join_leave": asks }));
        assert!(reply["subscribe"].is_object());
        if hears {
            let own = client.id.clone();
            assert_hears(&mut client, "join", &own);
            continue;
        }
        let _socket = server.websocket(&format!("/topics/{topic}"));
        server.publish(topic, "1");
        let push = client.push();
        assert_eq!(push["pub"]["data"], 1, "no join before it: {push}");
    }
}

#[test]
fn users_have_a_topic_of_their_own() {
    let server = start("0s");
    let mut ann = connect(&server, "ann");
    assert_eq!(server.post("/topics/%23ann", "1").status, 403, "nobody else has");
    let mut bob = connect(&server, "bob");
    let reply = bob.ask_alone("publish", &json!({ "channel": "#ann", "data": 1 }));
    assert_eq!(reply["error"]["code"], 103);
    let reply = bob.ask_alone("subscribe", &json!({ "channel": "#ann" }));
    assert_eq!(reply["error"]["code"], 103);
    ann.say("publish", &json!({ "channel": "#ann", "data": 2 }));
    let got = [ann.message(), ann.message()];
    let push = got.iter().find(|one| one["push"].is_object()).expect("she is subscribed");
    assert_eq!(
        (&push["push"]["channel"], &push["push"]["pub"]["data"]),
        (&json!("#ann"), &json!(2))
    );
}

#[test]
fn a_topic_without_presence_tells_nothing() {
    let server = start("0s");
    let mut client = connect(&server, "ann");
    join(&mut client, "off:a");
    let _socket = server.websocket("/topics/off:a");
    server.publish("off:a", "1");
    assert_eq!(client.push()["pub"]["data"], 1);
    server.get("/topics/off:a/presence").assert_refused(404, "presence_off");
}

#[test]
fn a_user_that_is_back_in_time_does_not_flap() {
    let server = start("1h");
    let (mut ann, bob) = ann_and_bob(&server);
    drop(bob);
    server.await_metric("fanwire_connections", &[("door", "centrifugo_json")], 1);
    assert_eq!(counts(&server, "a"), (2, 2), "he is waited for");
    let mut bob = connect(&server, "bob");
    join(&mut bob, "a");
    assert_eq!(counts(&server, "a"), (2, 2));
    // One more connection of his is news, and leaving on purpose is, too.
    let mut other = connect(&server, "bob");
    join(&mut other, "a");
    assert_hears(&mut ann, "join", &other.id);
    assert_hears(&mut bob, "join", &other.id);
    bob.ask_alone("unsubscribe", &json!({ "channel": "a" }));
    assert_hears(&mut ann, "leave", &bob.id);
    assert_eq!(counts(&server, "a"), (2, 2));
}

#[test]
fn a_user_that_stays_away_is_given_up() {
    let server = start("200ms");
    let (mut ann, bob) = ann_and_bob(&server);
    let second = bob.id.clone();
    drop(bob);
    assert_hears(&mut ann, "leave", &second);
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
    let mut client = connect(&server, "");
    let reply = client.ask_alone("presence", &json!({ "channel": "a" }));
    assert_eq!(reply["error"]["code"], 103);
    join(&mut client, "a");
    let _socket = server.websocket("/topics/a");
    let published = server.request(&Request::post("/topics/a", "1").header("X-API-Key", "k"));
    assert_eq!(published.status, 200);
    assert_eq!(client.push()["pub"]["data"], 1, "it hears of nobody");
}
