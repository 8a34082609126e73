//! Deltas: subscribers that ask for them get what changed, and end up with what was published.

use fanwire::protocol::centrifugo::fossil;
use serde_json::{Value, json};

use crate::harness::{Client, Request, Server};

/// The `n`th state of a long document of which little changes.
fn document(n: u64) -> String {
    let rows: Vec<_> =
        (0..40).map(|row| json!({ "row": row, "name": format!("row {row}") })).collect();
    json!({ "version": n, "rows": rows }).to_string()
}

/// A client in JSON that takes deltas of one topic.
struct Follower {
    client: Client,
    state: Option<Vec<u8>>,
    /// How many of the publications came as a delta.
    delta_count: usize,
}

impl Follower {
    fn new(server: &Server, topic: &str, recover: Value) -> (Self, Value) {
        let mut client = Client::connect_by(server, &json!({}));
        let mut request = json!({ "channel": topic, "delta": "fossil" });
        if let (Some(request), Value::Object(recover)) = (request.as_object_mut(), recover) {
            request.extend(recover);
        }
        let reply = client.ask_alone("subscribe", &request);
        assert_eq!(reply["subscribe"]["delta"], true, "{reply}");
        (Self { client, state: None, delta_count: 0 }, reply["subscribe"].clone())
    }

    fn take(&mut self, publication: &Value) {
        let data = publication["data"].as_str().expect("a string in any case").as_bytes();
        let state = if publication["delta"] == true {
            self.delta_count += 1;
            let before = self.state.as_deref().expect("a delta of something");
            fossil::decode(before, data, 1 << 20).unwrap()
        } else {
            data.to_vec()
        };
        self.state = Some(state);
    }

    /// Takes `count` publications, which may come several to a frame or batch.
    fn follow(&mut self, count: usize) {
        for _ in 0..count {
            let push = self.client.push();
            self.take(&push["pub"]);
        }
    }

    fn assert_at(&self, n: u64) {
        assert_eq!(self.state.as_deref(), Some(document(n).as_bytes()));
    }
}

#[test]
fn the_first_publication_is_whole_and_the_rest_are_what_changed() {
    let server = Server::start("");
    server.publish("a", &document(1));
    let (mut follower, _) = Follower::new(&server, "a", json!({}));
    for n in 2..12 {
        server.publish("a", &document(n));
        follower.follow(1);
        follower.assert_at(n);
    }
    assert_eq!(follower.delta_count, 9);
    // A payload that has nothing in common comes whole.
    server.publish("a", "\"x\"");
    follower.follow(1);
    assert_eq!((follower.state.as_deref(), follower.delta_count), (Some(&b"\"x\""[..]), 9));
    server.publish("a", &document(13));
    follower.follow(1);
    follower.assert_at(13);
}

#[test]
fn a_delta_is_made_once_for_all() {
    let server = Server::start_with("", &["--workers", "1"]);
    let mut followers: Vec<_> = (0..5).map(|_| Follower::new(&server, "a", json!({})).0).collect();
    let plain = &mut server.websocket("/topics/a");
    for n in 1..=4 {
        server.publish("a", &document(n));
        for follower in &mut followers {
            follower.follow(1);
        }
        assert_eq!(plain.next_text(), document(n), "others get it as it is");
    }
    for follower in &followers {
        follower.assert_at(4);
    }
    let made = |variant| server.metric("fanwire_encodings_total", &[("variant", variant)]);
    assert_eq!((made("centrifugo_json_whole"), made("centrifugo_json_delta")), (1, 3));
    // Who comes later begins with a whole one, too, beside those who take the delta.
    followers.push(Follower::new(&server, "a", json!({})).0);
    server.publish("a", &document(5));
    for follower in &mut followers {
        follower.follow(1);
    }
    for follower in &followers {
        follower.assert_at(5);
    }
    assert_eq!((made("centrifugo_json_whole"), made("centrifugo_json_delta")), (2, 4));
}

#[test]
fn a_publication_that_skips_history_breaks_no_chain() {
    let server = Server::start("auth.api_keys = [\"key\"]\n");
    let (mut follower, _) = Follower::new(&server, "a", json!({}));
    for n in 1..=6 {
        let (document, skips) = (document(n), n % 3 == 0);
        let body = format!(r#"{{"channel":"a","data":{document},"skip_history":{skips}}}"#);
        let request = Request::post("/api/publish", body).header("X-API-Key", "key");
        assert_eq!(server.request(&request).status, 200);
        follower.follow(1);
        follower.assert_at(n);
    }
    // The first is whole, and the one after a publication that is not at hand any more.
    assert_eq!(follower.delta_count, 4);
}

#[test]
fn what_was_missed_is_a_chain_of_deltas() {
    let server = Server::start("");
    let position = server.publish("a", &document(1));
    for n in 2..6 {
        server.publish("a", &document(n));
    }
    let from = json!({ "recover": true, "epoch": position.epoch, "offset": position.offset });
    let (mut follower, reply) = Follower::new(&server, "a", from);
    assert_eq!(reply["recovered"], true);
    follower.state = Some(document(1).into_bytes());
    let missed = reply["publications"].as_array().unwrap();
    for publication in missed {
        follower.take(publication);
    }
    follower.assert_at(5);
    server.publish("a", &document(6));
    follower.follow(1);
    follower.assert_at(6);
    assert_eq!(missed.len(), 4);
}

#[test]
fn deltas_hold_while_others_publish_and_followers_come_and_go() {
    let server = Server::start_with("", &["--workers", "2"]);
    let mut followers = Vec::new();
    let mut last = 0;
    for round in 0..20 {
        followers.push((Follower::new(&server, "a", json!({})).0, last));
        for _ in 0..10 {
            last += 1;
            server.publish("a", &document(last));
        }
        if round % 3 == 2 {
            let (mut leaving, seen) = followers.remove(0);
            leaving.follow(usize::try_from(last - seen).unwrap());
            leaving.assert_at(last);
        }
    }
    for (follower, seen) in &mut followers {
        follower.follow(usize::try_from(last - *seen).unwrap());
        follower.assert_at(last);
    }
}

#[test]
fn a_topic_without_history_has_no_deltas() {
    let server = Server::start("[[topic]]\nhistory_size = 0\n");
    let mut client = Client::connect_by(&server, &json!({}));
    let reply = client.ask_alone("subscribe", &json!({ "channel": "a", "delta": "fossil" }));
    assert!(reply["subscribe"].get("delta").is_none(), "{reply}");
    assert_eq!(server.post("/topics/a", "{\"x\":1}").status, 200);
    assert_eq!(client.push()["pub"]["data"], json!({ "x": 1 }), "not a string");
}
