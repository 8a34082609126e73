//! A client of the Centrifugo protocol without a WebSocket: messages come in the body of an answer,
//! commands go by requests of their own.

use serde_json::{Value, json};

use super::http::{Request, Response};
use super::server::Server;
use super::stream::Stream;
use super::wire::Wire;

/// A connected session in JSON.
#[derive(Debug)]
pub(crate) struct Emulated {
    pub(crate) stream: Stream,
    pub(crate) session: String,
    pub(crate) node: String,
}

impl Emulated {
    /// Connects over `http_stream`, and sends `commands` with the same request.
    pub(crate) fn http_stream(server: &Server, commands: &[Value]) -> Self {
        Self::http_stream_over(server.wire(), commands)
    }

    pub(crate) fn http_stream_over(wire: Wire, commands: &[Value]) -> Self {
        let connect = json!({"id": 1, "connect": {}});
        let lines: Vec<_> = [&connect].into_iter().chain(commands).map(Value::to_string).collect();
        let request = Request::post("/connection/http_stream", lines.join("\n"));
        Self::after_connect(Stream::open(wire, &request))
    }

    /// Reads the reply to `connect`.
    pub(crate) fn after_connect(mut stream: Stream) -> Self {
        let reply = stream.json();
        let word = |name: &str| {
            let word = reply["connect"][name].as_str();
            word.unwrap_or_else(|| panic!("no {name}: {reply}")).to_owned()
        };
        Self { session: word("session"), node: word("node"), stream }
    }

    /// The request that brings `commands` to the session.
    pub(crate) fn request(&self, commands: &[Value]) -> Request {
        let lines: Vec<_> = commands.iter().map(Value::to_string).collect();
        self.request_of(&lines.join("\n"))
    }

    pub(crate) fn request_of(&self, data: &str) -> Request {
        let body = json!({"session": self.session, "node": self.node, "data": data});
        let request = Request::post("/emulation", body.to_string());
        request.header("Content-Type", "application/json")
    }

    /// Sends `commands` over a connection of their own.
    pub(crate) fn send(&self, server: &Server, commands: &[Value]) -> Response {
        server.request(&self.request(commands))
    }

    /// The next message; pings are left out.
    pub(crate) fn message(&mut self) -> Value {
        loop {
            let message = self.stream.json();
            if message != json!({}) {
                return message;
            }
        }
    }

    /// Asserts that the next message says why the session ends, and that it is the last.
    #[track_caller]
    pub(crate) fn assert_ended(&mut self, code: u16, reason: &str) {
        let disconnect = json!({"code": code, "reason": reason});
        assert_eq!(self.message(), json!({"push": {"disconnect": disconnect}}));
        assert_eq!(self.stream.line(), None, "nothing follows");
    }
}
