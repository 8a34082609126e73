//! A client of the Centrifugo protocol in JSON, over a WebSocket, by hand.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::server::Server;
use super::token::token;
use super::websocket::WebSocket;

/// A connected client.
#[derive(Debug)]
pub(crate) struct Client {
    socket: WebSocket,
    waiting: VecDeque<Value>,
    /// The number of the last command.
    sent: u64,
    /// What the server calls it.
    pub(crate) id: String,
}

impl Client {
    /// Connects as `user`.
    pub(crate) fn connect(server: &Server, user: &str) -> Self {
        Self::connect_by(server, &json!({ "token": token(user) }))
    }

    /// Connects with what `request` says.
    pub(crate) fn connect_by(server: &Server, request: &Value) -> Self {
        let socket = server.websocket("/connection/websocket");
        let mut client = Self { socket, waiting: VecDeque::new(), sent: 0, id: String::new() };
        let reply = client.ask("connect", request);
        reply["connect"]["client"].as_str().expect("connected").clone_into(&mut client.id);
        client
    }

    /// Sends a command; gives its number.
    pub(crate) fn say(&mut self, command: &str, request: &Value) -> u64 {
        self.sent += 1;
        self.socket.text(&json!({ "id": self.sent, command: request }).to_string());
        self.sent
    }

    /// Sends a command; gives its reply. Pushes that come before it are left out.
    pub(crate) fn ask(&mut self, command: &str, request: &Value) -> Value {
        let id = self.say(command, request);
        loop {
            let message = self.message();
            if message["id"] == id {
                return message;
            }
        }
    }

    /// As [`Client::ask`], but nothing may come before the reply.
    #[track_caller]
    pub(crate) fn ask_alone(&mut self, command: &str, request: &Value) -> Value {
        let id = self.say(command, request);
        let message = self.message();
        assert_eq!(message["id"], id, "{message}");
        message
    }

    pub(crate) fn subscribe(&mut self, topic: &str) {
        let reply = self.ask("subscribe", &json!({ "channel": topic }));
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
    pub(crate) fn message(&mut self) -> Value {
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
        self.ask_alone("history", &json!({ "channel": "nobody's", "limit": 0 }));
    }
}
