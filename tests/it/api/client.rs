//! A client of the Centrifugo protocol in JSON, by hand.

use std::collections::VecDeque;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::SECRET;
use crate::harness::{Server, WebSocket};

/// A token of `user` that does not expire.
pub(super) fn token(user: &str) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let claims = json!({ "sub": user });
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

/// A connected client.
#[derive(Debug)]
pub(crate) struct Client {
    socket: WebSocket,
    /// Its id, as the server knows it.
    pub(crate) id: String,
    waiting: VecDeque<Value>,
}

impl Client {
    /// Connects as `user`.
    pub(crate) fn connect(server: &Server, user: &str) -> Self {
        let socket = server.websocket("/connection/websocket");
        let client = Self { socket, id: String::new(), waiting: VecDeque::new() };
        client.log_in(&token(user))
    }

    fn log_in(mut self, token: &str) -> Self {
        let reply = self.ask(&json!({ "connect": { "token": token } }));
        let id = reply["connect"]["client"].as_str().expect("connected").to_owned();
        Self { id, ..self }
    }

    /// Sends a command; gives its reply. Pushes that come before it are left out.
    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        let mut command = command.clone();
        command["id"] = json!(7);
        self.socket.text(&command.to_string());
        loop {
            let message = self.message();
            if message["id"] == 7 {
                return message;
            }
        }
    }

    pub(crate) fn subscribe(&mut self, topic: &str) {
        let reply = self.ask(&json!({ "subscribe": { "channel": topic } }));
        assert!(reply.get("error").is_none(), "{reply}");
    }

    /// The next push.
    #[track_caller]
    pub(crate) fn push(&mut self) -> Value {
        let mut message = self.message();
        assert!(message.get("push").is_some(), "{message}");
        message["push"].take()
    }

    /// The next message other than a ping.
    fn message(&mut self) -> Value {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                if message != json!({}) {
                    return message;
                }
                self.socket.text("{}");
                continue;
            }
            let text = self.socket.next_text();
            let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
            self.waiting.extend(lines);
        }
    }

    /// Asserts that the server closes with `code` and `reason`.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self, code: u16, reason: &str) {
        self.socket.assert_closed(code, reason);
    }

    /// Asserts that the connection goes on, and that nothing came before the answer.
    #[track_caller]
    pub(crate) fn assert_untouched(&mut self) {
        let history = json!({ "history": { "channel": "nobody's", "limit": 0 }, "id": 9 });
        self.socket.text(&history.to_string());
        let message = self.message();
        assert_eq!(message["id"], 9, "{message}");
    }
}
