//! HTTP/1.1 by hand: requests may be as wrong as a test wants them.

use serde_json::Value;

use super::wire::Wire;

/// A request head, header by header, and its body.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            line: format!("{method} {target} HTTP/1.1"),
            headers: vec![("Host".to_owned(), "127.0.0.1".to_owned())],
            body: Vec::new(),
        }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn post(target: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let len = body.len().to_string();
        let mut request = Self::new("POST", target).header("Content-Length", &len);
        request.body = body.to_vec();
        request
    }

    /// A WebSocket handshake with the key of RFC 6455 section 1.3.
    pub(crate) fn handshake(target: &str) -> Self {
        Self::get(target)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    }

    pub(crate) fn sse(target: &str) -> Self {
        Self::get(target).header("Accept", "text/event-stream")
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        let (_, rest) = self.line.split_once(' ').unwrap();
        self.line = format!("{method} {rest}");
        self
    }

    pub(crate) fn version(mut self, version: &str) -> Self {
        let (rest, _) = self.line.rsplit_once(' ').unwrap();
        self.line = format!("{rest} {version}");
        self
    }

    /// Adds a parameter to its query.
    pub(crate) fn query(mut self, parameter: &str) -> Self {
        let (rest, version) = self.line.rsplit_once(' ').unwrap();
        let mark = if rest.contains('?') { '&' } else { '?' };
        self.line = format!("{rest}{mark}{parameter} {version}");
        self
    }

    /// Adds a header, also beside one of the same name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(present, _)| !present.eq_ignore_ascii_case(name));
        self
    }

    pub(crate) fn replace(self, name: &str, value: &str) -> Self {
        self.without(name).header(name, value)
    }

    /// Sets the body without telling its length.
    pub(crate) fn raw_body(mut self, body: &str) -> Self {
        self.body = body.as_bytes().to_vec();
        self
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let headers = self.headers.iter();
        let headers: String =
            headers.map(|(name, value)| [name, ": ", value, "\r\n"].concat()).collect();
        let head = format!("{}\r\n{headers}\r\n", self.line);
        [head.as_bytes(), &self.body].concat()
    }
}

/// A response; the body is empty where only the head was read.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// A response without a body.
    pub(crate) fn of_head(head: &str) -> Self {
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap();
        let status = status_line.split(' ').nth(1).expect("a status line");
        let headers = lines.map(|line| line.split_once(':').expect("a header"));
        Self {
            status: status.parse().expect("a status"),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
            body: Vec::new(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let is_it = |(present, _): &&(String, String)| present.eq_ignore_ascii_case(name);
        self.headers.iter().find(is_it).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text()))
    }

    /// Status and stable code of a JSON error; the code is empty where there is none.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let code = body["error"]["code"].as_str().unwrap_or_default();
        (self.status, code.to_owned())
    }

    #[track_caller]
    pub(crate) fn assert_refused(&self, status: u16, code: &str) {
        assert_eq!(self.refusal(), (status, code.to_owned()), "{}", self.text());
    }
}

impl Wire {
    pub(crate) fn request(&mut self, request: &Request) -> Response {
        self.send(&request.to_bytes());
        self.response()
    }

    /// Reads a response head; what follows it stays on the wire.
    pub(crate) fn head(&mut self) -> Response {
        let head = String::from_utf8(self.take_until(b"\r\n\r\n")).expect("heads are ASCII here");
        Response::of_head(&head)
    }

    pub(crate) fn response(&mut self) -> Response {
        let head = self.head();
        self.body_of(head)
    }

    /// Sends a request that may open a stream: only a refusal is read with its body.
    pub(crate) fn answer(&mut self, request: &Request) -> Response {
        self.send(&request.to_bytes());
        let head = self.head();
        if head.status < 300 {
            return head;
        }
        self.body_of(head)
    }

    fn body_of(&mut self, mut head: Response) -> Response {
        head.body = if head.status < 200 || head.status == 204 {
            Vec::new()
        } else if head.header("transfer-encoding").is_some() {
            std::iter::from_fn(|| self.chunk()).flatten().collect()
        } else if let Some(len) = head.header("content-length") {
            self.take(len.parse().unwrap())
        } else {
            self.rest()
        };
        head
    }

    /// The next chunk of a chunked body; `None` at its end.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = String::from_utf8(self.take_until(b"\r\n")).unwrap();
        let len = usize::from_str_radix(line.trim_end(), 16).expect("a chunk size");
        let data = self.take(len);
        assert_eq!(self.take(2), b"\r\n", "the end of a chunk");
        (len > 0).then_some(data)
    }
}

#[test]
fn responses_are_read_one_after_the_other() {
    let mut wire = Wire::canned(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nA: b\r\n\r\nhi\
          HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n\
          1a\r\n{\"error\":{\"code\":\"a_code\"}\r\n1\r\n}\r\n0\r\n\r\n\
          HTTP/1.1 204 No Content\r\n\r\n\
          HTTP/1.1 503 Service Unavailable\r\n\r\nto the end",
    );
    let first = wire.response();
    assert_eq!((first.text().as_str(), first.header("a")), ("hi", Some("b")));
    wire.response().assert_refused(400, "a_code");
    assert_eq!(wire.response().status, 204);
    assert_eq!(wire.response().text(), "to the end");
}
