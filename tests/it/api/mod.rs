//! The server API: `POST /api/<method>`, seen by an application's own servers and by the clients
//! that they act on.

mod history;
mod node;
mod publish;
mod request;
mod user;

use serde_json::{Value, json};

use crate::harness::{Request, Response, SECRET, Server};

const KEY: &str = "key-of-a-test-0123456789abcdef";

/// Starts with two workers: users' sessions are on all of them.
fn start(more: &str) -> Server {
    start_workers(2, more)
}

fn start_workers(count: usize, more: &str) -> Server {
    let auth = format!("[auth]\napi_keys = [\"{KEY}\"]\njwt_hmac_secret = \"{SECRET}\"\n");
    Server::start_with(&format!("{auth}{more}"), &["--workers", &count.to_string()])
}

fn request(method: &str, body: &str) -> Request {
    Request::post(&format!("/api/{method}"), body).header("X-API-Key", KEY)
}

fn call(server: &Server, method: &str, body: &Value) -> Response {
    server.request(&request(method, &body.to_string()))
}

/// The result of a call that goes well.
#[track_caller]
fn result(server: &Server, method: &str, body: &Value) -> Value {
    let response = call(server, method, body);
    assert_eq!(response.status, 200, "{}", response.text());
    let mut answer = response.json();
    assert!(answer.get("error").is_none(), "{answer}");
    answer["result"].take()
}

/// The error of a call that fails; with the header, the status says which one, too.
#[track_caller]
fn assert_error(server: &Server, method: &str, body: &Value, (code, status): (u64, u16)) {
    let response = call(server, method, body);
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    assert_eq!(answer["error"]["code"], code, "{body} {answer}");
    assert!(answer.get("result").is_none(), "{answer}");
    let by_status = request(method, &body.to_string());
    let by_status = by_status.header("X-Centrifugo-Error-Mode", "transport");
    let response = server.request(&by_status);
    assert_eq!((response.status, response.json()), (status, answer["error"].clone()), "{body}");
}

/// Publishes through the API; gives the result.
#[track_caller]
fn publish(server: &Server, topic: &str, data: &Value) -> Value {
    result(server, "publish", &json!({ "channel": topic, "data": data }))
}
