//! `/connection/http_stream` and `/connection/sse`: the Centrifugo protocol in the body of an answer.

use prost::Message;
use serde_json::{Value, json};

use crate::harness::{Emulated, Request, Response, Server, Stream, Wire};

fn subscribe(id: u32, topic: &str) -> Value {
    json!({"id": id, "subscribe": {"channel": topic}})
}

fn connect_query() -> String {
    "/connection/sse?cf_connect=%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D".to_owned()
}

#[track_caller]
fn assert_streaming(head: &Response, content_type: &str) {
    assert_eq!(head.header("content-type"), Some(content_type));
    assert_eq!(head.header("cache-control"), Some("no-store"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
}

#[test]
fn replies_and_publications_are_lines_of_the_answer() {
    let server = Server::start("");
    let mut client = Emulated::http_stream(&server, &[subscribe(2, "a"), subscribe(3, "a")]);
    assert_streaming(&client.stream.head, "application/x-ndjson");
    let subscribed = client.message();
    assert_eq!(
        (&subscribed["id"], &subscribed["subscribe"]["recoverable"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(client.message()["error"]["code"], 105);
    for number in 1..=3 {
        server.publish("a", &number.to_string());
        let push = client.message()["push"].clone();
        assert_eq!(push["channel"], "a");
        assert_eq!(
            (&push["pub"]["data"], &push["pub"]["offset"]),
            (&json!(number), &json!(number))
        );
    }
    server.await_metric("fanwire_connections", &[("door", "centrifugo_json")], 1);
    server.await_metric("fanwire_deliveries_total", &[("door", "centrifugo_json")], 3);
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct Channel {
    #[prost(string, tag = "1")]
    channel: String,
}

#[derive(Clone, PartialEq, Message)]
struct Command {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(message, optional, tag = "4")]
    connect: Option<Empty>,
    #[prost(message, optional, tag = "5")]
    subscribe: Option<Channel>,
}

#[derive(Clone, PartialEq, Message)]
struct Reply {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(message, optional, tag = "4")]
    push: Option<Push>,
    #[prost(message, optional, tag = "5")]
    connect: Option<Connected>,
    #[prost(message, optional, tag = "6")]
    subscribe: Option<Empty>,
}

#[derive(Clone, PartialEq, Message)]
struct Connected {
    #[prost(string, tag = "9")]
    session: String,
    #[prost(string, tag = "10")]
    node: String,
}

#[derive(Clone, PartialEq, Message)]
struct Push {
    #[prost(string, tag = "2")]
    channel: String,
    #[prost(message, optional, tag = "4")]
    publication: Option<Publication>,
    #[prost(message, optional, tag = "11")]
    disconnect: Option<Disconnect>,
}

#[derive(Clone, PartialEq, Message)]
struct Publication {
    #[prost(bytes = "vec", tag = "4")]
    data: Vec<u8>,
    #[prost(uint64, tag = "6")]
    offset: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Disconnect {
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(string, tag = "2")]
    reason: String,
}

#[derive(Clone, PartialEq, Message)]
struct Emulation {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(string, tag = "2")]
    session: String,
    #[prost(bytes = "vec", tag = "3")]
    data: Vec<u8>,
}

fn protobuf(target: &str, body: &[u8]) -> Request {
    Request::post(target, body).header("Content-Type", "application/octet-stream")
}

fn reply(stream: &mut Stream) -> Reply {
    Reply::decode(&*stream.delimited().expect("the stream goes on")).expect("a reply")
}

#[test]
fn protobuf_messages_stand_behind_their_length() {
    let server = Server::start("");
    let connect = Command { id: 1, connect: Some(Empty {}), subscribe: None };
    let body = connect.encode_length_delimited_to_vec();
    let mut stream = Stream::open(server.wire(), &protobuf("/connection/http_stream", &body));
    assert_streaming(&stream.head, "application/octet-stream");
    let connected = reply(&mut stream).connect.expect("the reply to connect");
    let channel = Some(Channel { channel: "a".to_owned() });
    let command = Command { id: 2, connect: None, subscribe: channel };
    let request = Emulation {
        node: connected.node,
        session: connected.session,
        data: command.encode_length_delimited_to_vec(),
    };
    let send = |data: &Emulation| server.request(&protobuf("/emulation", &data.encode_to_vec()));
    assert_eq!(send(&request).status, 204);
    let subscribed = reply(&mut stream);
    assert_eq!((subscribed.id, subscribed.subscribe), (2, Some(Empty {})));
    server.publish("a", "hello");
    let publication = Some(Publication { data: b"hello".to_vec(), offset: 1 });
    let push = Push { channel: "a".to_owned(), publication, disconnect: None };
    assert_eq!(reply(&mut stream).push, Some(push));
    assert_eq!(send(&Emulation { data: b"\xFF".to_vec(), ..request }).status, 204);
    let disconnect = Some(Disconnect { code: 3501, reason: "bad request".to_owned() });
    let push = Push { channel: String::new(), publication: None, disconnect };
    assert_eq!(reply(&mut stream).push, Some(push));
    assert_eq!(stream.delimited(), None, "nothing follows");
    server.await_metric("fanwire_connections", &[("door", "centrifugo_protobuf")], 0);
}

#[test]
fn event_streams_begin_with_an_empty_line_and_have_a_message_in_each_event() {
    let server = Server::start("");
    let query = Request::sse(&connect_query());
    let body = Request::post("/connection/sse", r#"{"id":1,"connect":{}}"#);
    for request in [query, body] {
        let mut stream = Stream::open(server.wire(), &request);
        assert_streaming(&stream.head, "text/event-stream");
        assert_eq!(stream.line().as_deref(), Some("\r"));
        let event = stream.block();
        assert_eq!((event.id, event.event), (None, None));
        let reply: Value = serde_json::from_str(&event.data.unwrap()).unwrap();
        let word = |name: &str| reply["connect"][name].as_str().unwrap().to_owned();
        let client = Emulated { session: word("session"), node: word("node"), stream };
        assert_eq!(client.send(&server, &[subscribe(2, "a")]).status, 204);
        let mut stream = client.stream;
        assert!(stream.block().data.unwrap().starts_with(r#"{"id":2,"subscribe":{"#));
        server.publish("a", "{\"x\":\n1}");
        let push: Value = serde_json::from_str(&stream.block().data.unwrap()).unwrap();
        assert_eq!(push["push"]["pub"]["data"], json!({"x": 1}));
    }
}

#[test]
fn what_is_no_request_for_a_stream_is_refused() {
    let server = Server::start("[limits]\nmessage_bytes_max = 100\n");
    let post = |body: &str| Request::post("/connection/http_stream", body);
    let chunked = Request::new("POST", "/connection/sse")
        .header("Transfer-Encoding", "chunked")
        .raw_body(&format!("65\r\n{}\r\n0\r\n\r\n", "x".repeat(101)));
    for (request, status, code) in [
        (Request::get("/connection/http_stream"), 405, "method_not_allowed"),
        (post("").method("PUT"), 405, "method_not_allowed"),
        (Request::get("/connection/sse").method("DELETE"), 405, "method_not_allowed"),
        (Request::get("/connection/sse"), 400, "query_invalid"),
        (Request::get("/connection/sse?cf_connect=%zz"), 400, "query_invalid"),
        (post(&"x".repeat(101)), 413, "message_too_large"),
        (chunked, 413, "message_too_large"),
        (post("x").header("Content-Encoding", "gzip"), 415, "content_encoding_unsupported"),
        (Request::handshake("/connection/sse"), 400, "handshake_invalid"),
        (post("{}").header("Origin", "http://evil.example"), 403, "origin_not_allowed"),
        (Request::get("/connection/sse/"), 404, "not_found"),
    ] {
        server.request(&request).assert_refused(status, code);
    }
    let allow = |request: &Request| server.request(request).header("allow").map(str::to_owned);
    let stream = allow(&Request::get("/connection/http_stream"));
    assert_eq!(stream.as_deref(), Some("POST, OPTIONS"));
    let events = allow(&Request::get("/connection/sse").method("DELETE"));
    assert_eq!(events.as_deref(), Some("GET, POST, OPTIONS"));
}

#[test]
fn a_first_command_that_is_none_is_told_and_counted() {
    let server = Server::start("");
    let bodies = ["", "x", r#"{"id":1,"subscribe":{"channel":"a"}}"#, "{}"];
    for (count, body) in (1..).zip(bodies) {
        let request = Request::post("/connection/http_stream", body);
        let mut stream = Stream::open(server.wire(), &request);
        let disconnect = json!({"code": 3501, "reason": "bad request"});
        assert_eq!(stream.json(), json!({"push": {"disconnect": disconnect}}), "{body}");
        assert_eq!(stream.line(), None, "{body}");
        server.await_close_counted("3501", "bad request", count);
    }
    server.await_metric("fanwire_connections", &[("door", "centrifugo_json")], 0);
}

#[test]
fn credentials_of_the_request_count() {
    let server = Server::start("[auth]\nanonymous = \"none\"\napi_keys = [\"key\"]\n");
    let post = || Request::post("/connection/http_stream", r#"{"id":1,"connect":{}}"#);
    let mut stranger = Stream::open(server.wire(), &post());
    let disconnect = json!({"code": 3501, "reason": "bad request"});
    assert_eq!(stranger.json(), json!({"push": {"disconnect": disconnect}}));
    server.request(&post().header("X-API-Key", "other")).assert_refused(401, "token_invalid");
    let known = post().header("X-API-Key", "key");
    let client = Emulated::after_connect(Stream::open(server.wire(), &known));
    assert_eq!(client.send(&server, &[subscribe(2, "a")]).status, 204, "its name is enough");
}

#[test]
fn a_draining_server_says_so_last_and_counts_it() {
    let server = Server::start_with("[drain]\nwindow = \"1h\"\n", &["--workers", "1"]);
    let connect = || Emulated::http_stream(&server, &[subscribe(2, "a")]);
    let mut clients = [(); 4].map(|()| connect());
    for client in &mut clients {
        assert_eq!(client.message()["id"], 2);
    }
    server.publish("a", "1");
    server.begin_drain();
    // One leaves at once, the others much later.
    server.await_close_counted("3001", "shutdown", 1);
    let [first, ..] = &mut clients;
    assert_eq!(first.message()["push"]["pub"]["data"], 1);
    first.assert_ended(3001, "shutdown");
}

#[test]
fn a_slow_client_is_told_so_behind_what_it_got() {
    let server = Server::start(
        "[limits]\nwrite_timeout = \"1m\"\nmessage_bytes_max = 8192\noutbox_bytes_max = 74000\n",
    );
    let wire = Wire::connect_small(server.addr);
    let mut slow = Emulated::http_stream_over(wire, &[subscribe(2, "a")]);
    assert_eq!(slow.message()["id"], 2);
    server.overflow("a", "reliable");
    let mut got = 0;
    let disconnect = loop {
        let push = slow.message()["push"].clone();
        let Some(offset) = push["pub"]["offset"].as_u64() else { break push };
        got += 1;
        assert_eq!(offset, got, "no gap before the end");
    };
    assert_eq!(disconnect, json!({"disconnect": {"code": 3008, "reason": "slow"}}));
    assert_eq!(slow.stream.line(), None);
    server.await_close_counted("3008", "slow", 1);
    server.await_metric("fanwire_outbox_bytes", &[], 0);
}

#[test]
fn pings_are_messages_and_a_client_that_does_not_answer_is_told() {
    let server = Server::start("[limits]\nping_interval = \"1s\"\npong_timeout = \"2s\"\n");
    let mut client = Emulated::http_stream(&server, &[]);
    assert_eq!(client.stream.json(), json!({}));
    assert_eq!(client.send(&server, &[json!({})]).status, 204);
    assert_eq!(client.stream.json(), json!({}), "it goes on");
    client.assert_ended(3012, "no pong");
    server.await_close_counted("3012", "no pong", 1);
}

#[test]
fn a_client_that_leaves_is_forgotten() {
    let server = Server::start("");
    let mut client = Emulated::http_stream(&server, &[subscribe(2, "a")]);
    assert_eq!(client.message()["id"], 2);
    server.await_metric("fanwire_subscriptions", &[], 1);
    drop(client);
    server.await_metric("fanwire_subscriptions", &[], 0);
    server.await_metric("fanwire_connections", &[("door", "centrifugo_json")], 0);
}
