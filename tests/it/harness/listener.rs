//! A client of the Centrifugo protocol that only listens, over each of its three transports.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::http::Request;
use super::server::Server;
use super::stream::Stream;
use super::websocket::{CLOSE, WebSocket};
use super::wire::Wire;

/// What carries pushes to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    WebSocket,
    HttpStream,
    Events,
}

impl Carrier {
    pub(crate) const ALL: [Self; 3] = [Self::WebSocket, Self::HttpStream, Self::Events];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::WebSocket => "/connection/uni_websocket",
            Self::HttpStream => "/connection/uni_http_stream",
            Self::Events => "/connection/uni_sse",
        }
    }

    /// The request that begins a session; that of a WebSocket and of events says the rest in its
    /// query.
    pub(crate) fn request(self, connect: &Value) -> Request {
        let said = connect.to_string();
        let target = || {
            let query = utf8_percent_encode(&said, NON_ALPHANUMERIC);
            format!("{}?cf_connect={query}", self.path())
        };
        match self {
            Self::WebSocket => Request::handshake(&target()),
            Self::HttpStream => Request::post(self.path(), &said),
            Self::Events => Request::sse(&target()),
        }
    }
}

#[derive(Debug)]
enum Source {
    Frames(WebSocket),
    Lines(Stream),
    Events(Stream),
}

/// A session, connected or not.
#[derive(Debug)]
pub(crate) struct Listener(Source);

impl Listener {
    /// Begins a session with `connect`, and leaves the answer to the test.
    pub(crate) fn open(server: &Server, carrier: Carrier, connect: &Value) -> Self {
        Self::over(server.wire(), carrier, &carrier.request(connect))
    }

    /// Begins a session with `request`.
    pub(crate) fn over(wire: Wire, carrier: Carrier, request: &Request) -> Self {
        Self(match carrier {
            Carrier::WebSocket => Source::Frames(WebSocket::open(wire, request)),
            Carrier::HttpStream => Source::Lines(Stream::open(wire, request)),
            Carrier::Events => Source::Events(Stream::open(wire, request)),
        })
    }

    /// Begins a session; gives what it was told when it was connected.
    #[track_caller]
    pub(crate) fn connect(server: &Server, carrier: Carrier, connect: &Value) -> (Self, Value) {
        let mut listener = Self::open(server, carrier, connect);
        let mut push = listener.push();
        assert!(push["connect"].is_object(), "{push}");
        (listener, push["connect"].take())
    }

    /// The stream or the WebSocket's head, as its request was answered.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        match &self.0 {
            Source::Frames(socket) => socket.head.header(name),
            Source::Lines(stream) | Source::Events(stream) => stream.head.header(name),
        }
    }

    /// The WebSocket under it.
    pub(crate) fn socket(&mut self) -> &mut WebSocket {
        match &mut self.0 {
            Source::Frames(socket) => socket,
            Source::Lines(_) | Source::Events(_) => panic!("it has no WebSocket"),
        }
    }

    /// The next message: one object, whatever carries it. `None` at the end of a stream.
    fn try_message(&mut self) -> Option<Value> {
        let text = match &mut self.0 {
            Source::Frames(socket) => socket.next_text(),
            Source::Lines(stream) => stream.line()?,
            Source::Events(stream) => loop {
                // It begins with an empty line that some clients wait for.
                match stream.line()?.as_str() {
                    "" | "\r" => {}
                    line => break line.strip_prefix("data: ").expect("data only").to_owned(),
                }
            },
        };
        Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    /// The next message, pings included.
    pub(crate) fn message(&mut self) -> Value {
        self.try_message().expect("the stream goes on")
    }

    /// The next push.
    pub(crate) fn push(&mut self) -> Value {
        loop {
            let message = self.message();
            if message != json!({}) {
                return message;
            }
        }
    }

    /// The data of the next publication, which must be of `topic`.
    #[track_caller]
    pub(crate) fn data(&mut self, topic: &str) -> Value {
        let mut push = self.push();
        assert!(push["channel"] == topic && push["pub"].is_object(), "{push}");
        push["pub"]["data"].take()
    }

    /// Asserts that the next push says why the session ends, and that nothing but a close frame
    /// follows.
    #[track_caller]
    pub(crate) fn assert_ended(&mut self, code: u16, reason: &str) {
        assert_eq!(self.push(), json!({ "disconnect": { "code": code, "reason": reason } }));
        match &mut self.0 {
            Source::Frames(socket) => {
                let close = socket.message();
                let expected = super::websocket::close_payload(code, reason);
                assert_eq!((close.opcode, close.payload), (CLOSE, expected));
                assert_eq!(socket.try_frame(), None, "nothing follows a close frame");
            }
            Source::Lines(_) | Source::Events(_) => {
                assert_eq!(self.try_message(), None, "nothing follows");
            }
        }
    }
}
