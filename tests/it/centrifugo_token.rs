//! Tokens of requests at the Centrifugo door: they say as much as one in `connect`.

use serde_json::{Value, json};

use crate::harness::{
    Carrier, Listener, Request, SECRET, Server, Stream, WebSocket, now, sign, token,
};

const KEY: &str = "key-of-a-test-0123456789abcdef";

/// Where a token may stand in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Query,
    Cookie,
    Subprotocol,
}

impl Place {
    const ALL: [Self; 4] = [Self::Header, Self::Query, Self::Cookie, Self::Subprotocol];

    fn put(self, request: Request, token: &str) -> Request {
        match self {
            Self::Header => request.header("Authorization", &format!("Bearer {token}")),
            Self::Query => request.query(&format!("token={token}")),
            Self::Cookie => request.header("Cookie", &format!("fanwire_token={token}")),
            Self::Subprotocol => {
                request.header("Sec-WebSocket-Protocol", &format!("bearer.{token}"))
            }
        }
    }
}

fn start() -> Server {
    Server::start(&format!(
        "[auth]\nanonymous = \"none\"\napi_keys = [\"{KEY}\"]\njwt_hmac_secret = \"{SECRET}\"\n\
         personal_topics = true\n[[topic]]\nmatch = \"closed\"\nsubscribe = \"server\"\n"
    ))
}

/// A token that brings topics; one of them is for nobody without it.
fn rich() -> String {
    sign(&json!({
        "sub": "ann", "exp": now() + 600, "info": { "name": "Ann" },
        "channels": ["news"], "subs": { "closed": { "data": [1] } },
    }))
}

fn publish(server: &Server, topic: &str, data: &str) {
    let request = Request::post(&format!("/topics/{topic}"), data).header("X-API-Key", KEY);
    assert_eq!(server.request(&request).status, 200);
}

/// Asserts that a session has what the token says, by what it was told when it was connected.
#[track_caller]
fn assert_rich(connected: &Value, place: Place) {
    let subs = connected["subs"].as_object().unwrap_or_else(|| panic!("{place:?} {connected}"));
    let topics: Vec<_> = subs.keys().map(String::as_str).collect();
    assert_eq!(topics, ["#ann", "closed", "news"], "{place:?}");
    assert_eq!(subs["closed"]["data"], json!([1]));
    // It cannot renew by a command what its request brings.
    assert_eq!(connected.get("expires"), None);
}

#[test]
fn who_only_listens_gets_the_topics_of_its_token_wherever_that_stands() {
    let server = start();
    for (carrier, place) in Carrier::ALL.into_iter().flat_map(|one| Place::ALL.map(|at| (one, at)))
    {
        if place == Place::Subprotocol && carrier != Carrier::WebSocket {
            continue;
        }
        let request = place.put(carrier.request(&json!({})), &rich());
        let mut listener = Listener::over(server.wire(), carrier, &request);
        assert_rich(&listener.push()["connect"], place);
        for topic in ["news", "closed"] {
            publish(&server, topic, "7");
            assert_eq!(listener.data(topic), 7, "{carrier:?} {place:?}");
        }
    }
}

#[test]
fn who_also_speaks_gets_them_too() {
    let server = start();
    let connect = json!({ "id": 1, "connect": {} }).to_string();
    for place in Place::ALL {
        let shake = place.put(Request::handshake("/connection/websocket"), &rich());
        let mut socket = WebSocket::open(server.wire(), &shake);
        let answered = socket.head.header("sec-websocket-protocol").is_some();
        assert_eq!(answered, place == Place::Subprotocol, "browsers give up without");
        socket.text(&connect);
        assert_rich(&socket.json()["connect"], place);
        publish(&server, "closed", "7");
        assert_eq!(socket.json()["push"]["pub"]["data"], 7);
        // What the token says of its user, others see.
        let say = json!({ "channel": "news", "data": 8 });
        socket.text(&json!({ "id": 2, "publish": say }).to_string());
        let text = socket.next_text();
        let push: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(push["push"]["pub"]["info"]["conn_info"], json!({ "name": "Ann" }));

        if place == Place::Subprotocol {
            continue;
        }
        let post = place.put(Request::post("/connection/http_stream", &connect), &rich());
        let mut stream = Stream::open(server.wire(), &post);
        assert_rich(&stream.json()["connect"], place);
    }
}

#[test]
fn a_token_in_connect_stands_before_that_of_the_request() {
    let server = start();
    let bob = sign(&json!({ "sub": "bob", "exp": now() + 600, "channels": ["b"] }));
    let connect = json!({ "id": 1, "connect": { "token": bob } });
    let mut socket = WebSocket::open(
        server.wire(),
        &Place::Header.put(Request::handshake("/connection/websocket"), &rich()),
    );
    socket.text(&connect.to_string());
    let connected = socket.json()["connect"].take();
    let topics: Vec<_> = connected["subs"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        (topics, &connected["expires"]),
        (["#bob", "b"].map(str::to_owned).into(), &json!(true))
    );
}

#[test]
fn the_subprotocol_of_the_door_stands_before_that_of_the_token() {
    let server = start();
    let bearer = format!("bearer.{}", token("ann"));
    for (offer, expected) in [
        (format!("{bearer}, centrifuge-json"), "centrifuge-json"),
        (format!("{bearer}, centrifuge-protobuf"), "centrifuge-protobuf"),
        (format!("{bearer}, other"), bearer.as_str()),
    ] {
        let request =
            Request::handshake("/connection/websocket").header("Sec-WebSocket-Protocol", &offer);
        let socket = WebSocket::open(server.wire(), &request);
        assert_eq!(socket.head.header("sec-websocket-protocol"), Some(expected));
    }
}
