//! `/emulation`: commands of clients without a WebSocket, by whichever worker they come.

use serde_json::{Value, json};

use crate::harness::{Emulated, Request, Server, eventually_equal};

fn publish(id: u64, topic: &str) -> Value {
    json!({"id": id, "publish": {"channel": topic, "data": id}})
}

#[test]
fn commands_reach_their_session_from_every_worker_in_order() {
    let server = Server::start_with("", &["--workers", "2"]);
    let subscribe = json!({"id": 2, "subscribe": {"channel": "a"}});
    let mut client = Emulated::http_stream(&server, &[subscribe]);
    assert_eq!(client.message()["id"], 2);
    // Each over a connection of its own, which the kernel gives to either worker.
    for id in 3..43 {
        let answer = client.send(&server, &[publish(id, "a")]);
        assert_eq!((answer.status, answer.text().as_str()), (204, ""));
    }
    let (mut replies, mut pushes) = (Vec::new(), Vec::new());
    while replies.len() + pushes.len() < 80 {
        let message = client.message();
        match message["id"].as_u64() {
            Some(id) => replies.push(id),
            None => pushes.extend(message["push"]["pub"]["data"].as_u64()),
        }
    }
    assert!(replies.iter().copied().eq(3..43), "{replies:?}");
    assert_eq!(replies, pushes);
    let door = [("door", "centrifugo_json")];
    server.await_metric("fanwire_publications_total", &door, 40);
}

#[test]
fn several_commands_come_in_one_request() {
    let server = Server::start("");
    let mut client = Emulated::http_stream(&server, &[]);
    let history = json!({"id": 4, "history": {"channel": "a", "limit": 10}});
    let answer = client.send(&server, &[publish(2, "a"), publish(3, "a"), history]);
    assert_eq!(answer.status, 204);
    assert_eq!(
        (client.message()["id"].clone(), client.message()["id"].clone()),
        (2.into(), 3.into())
    );
    let page = client.message()["history"]["publications"].clone();
    assert_eq!((page[0]["data"].clone(), page[1]["data"].clone()), (2.into(), 3.into()));
}

#[test]
fn what_is_not_for_a_session_here_is_404() {
    let server = Server::start("");
    let client = Emulated::http_stream(&server, &[]);
    let assert_unknown = |session: &str, node: &str| {
        let body = json!({"session": session, "node": node, "data": "{}"}).to_string();
        server.request(&Request::post("/emulation", body)).assert_refused(404, "not_found");
    };
    let last = client.session.len() - 1;
    let guessed = if client.session.ends_with('0') { "1" } else { "0" };
    assert_unknown(&client.session, "elsewhere");
    assert_unknown(&[&client.session[..last], guessed].concat(), &client.node);
    assert_unknown("", &client.node);
    assert_unknown(&"f".repeat(client.session.len()), &client.node);
    let request = client.request(&[publish(2, "a")]);
    assert_eq!(server.request(&request).status, 204);
    drop(client);
    eventually_equal("the session is gone", &404, || server.request(&request).status);
}

#[test]
fn what_is_no_request_is_refused() {
    let server = Server::start("[limits]\nmessage_bytes_max = 300\n");
    let mut client = Emulated::http_stream(&server, &[]);
    let protobuf = |body: &[u8]| {
        Request::post("/emulation", body).header("Content-Type", "application/octet-stream")
    };
    let post = |body: &str| Request::post("/emulation", body);
    for (request, status, code) in [
        (post(""), 400, "query_invalid"),
        (post("[]"), 400, "query_invalid"),
        (post("{\"session\":1}"), 400, "query_invalid"),
        (post(&client.session), 400, "query_invalid"),
        (protobuf(b"\xFF"), 400, "query_invalid"),
        (client.request_of(&"x".repeat(300)), 413, "message_too_large"),
        (
            client.request_of("{}").header("Content-Encoding", "br"),
            415,
            "content_encoding_unsupported",
        ),
        (
            client.request_of("{}").header("Origin", "http://evil.example"),
            403,
            "origin_not_allowed",
        ),
        (Request::get("/emulation"), 405, "method_not_allowed"),
        (Request::handshake("/emulation"), 405, "method_not_allowed"),
        (post("x").method("PUT"), 405, "method_not_allowed"),
    ] {
        server.request(&request).assert_refused(status, code);
    }
    assert_eq!(server.get("/emulation").header("allow"), Some("POST, OPTIONS"));
    assert_eq!(client.send(&server, &[publish(2, "a")]).status, 204, "the session goes on");
    assert_eq!(client.message()["id"], 2);
}

#[test]
fn commands_that_are_none_end_the_session() {
    let server = Server::start("");
    let mut client = Emulated::http_stream(&server, &[]);
    let request = client.request_of("{\"id\":2,\"publish\":{\"channel\":\"a\",\"data\":1}}\nx");
    assert_eq!(server.request(&request).status, 204, "it got there");
    assert_eq!(client.message()["id"], 2);
    client.assert_ended(3501, "bad request");
    server.await_close_counted("3501", "bad request", 1);
    server.request(&request).assert_refused(404, "not_found");
}

#[test]
fn pages_learn_what_they_may_send() {
    let server = Server::start("[websocket]\nallowed_origins = [\"http://a.example\"]\n");
    let options = Request::new("OPTIONS", "/emulation").header("Origin", "http://a.example");
    let answer = server.request(&options);
    assert_eq!(answer.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "http://a.example"),
        ("access-control-allow-methods", "POST, OPTIONS"),
        ("access-control-max-age", "300"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
}

#[test]
fn a_session_has_one_rate_however_many_connections_its_commands_come_by() {
    let server = Server::start("[limits]\npublish_rate_max = 3\n");
    let mut client = Emulated::http_stream(&server, &[]);
    let mut refused = 0;
    for id in 2..40 {
        assert_eq!(client.send(&server, &[publish(id, "a")]).status, 204);
        let reply = client.message();
        assert_eq!(reply["id"], id);
        if reply["error"]["code"] == 111 {
            refused += 1;
        }
    }
    assert!(refused > 0, "38 in a moment are more than 3 a second");
    server.await_metric("fanwire_publications_total", &[], 38 - refused);
}
