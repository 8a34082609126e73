//! Streams over HTTP: ndjson line by line, server-sent events block by block.

use serde_json::Value;

use super::http::{Request, Response};
use super::wire::Wire;

/// A response body that goes on.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) head: Response,
    pub(crate) wire: Wire,
    body: Vec<u8>,
    is_chunked: bool,
}

/// One block of server-sent events.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) id: Option<String>,
    pub(crate) event: Option<String>,
    pub(crate) data: Option<String>,
    pub(crate) retry: Option<u32>,
}

impl Stream {
    pub(crate) fn open(mut wire: Wire, request: &Request) -> Self {
        wire.send(&request.to_bytes());
        Self::after_request(wire)
    }

    /// Reads the 200 to a request that was sent already.
    pub(crate) fn after_request(mut wire: Wire) -> Self {
        let head = wire.head();
        assert_eq!(head.status, 200, "{}", String::from_utf8_lossy(&wire.rest()));
        let coding = head.header("transfer-encoding");
        assert!(matches!(coding, Some("chunked") | None), "{coding:?}");
        assert_eq!(head.header("content-length"), None);
        Self { is_chunked: coding.is_some(), head, wire, body: Vec::new() }
    }

    /// The next line without its end; `None` when the body has ended.
    pub(crate) fn line(&mut self) -> Option<String> {
        loop {
            if let Some(index) = self.body.iter().position(|byte| *byte == b'\n') {
                let rest = self.body.split_off(index + 1);
                let mut line = std::mem::replace(&mut self.body, rest);
                line.pop();
                return Some(String::from_utf8(line).expect("a stream is text"));
            }
            if !self.fill() {
                assert!(self.body.is_empty(), "a line is cut: {:?}", self.body);
                return None;
            }
        }
    }

    /// Reads the next chunk, or what has come where there are none; false at the end of the body.
    fn fill(&mut self) -> bool {
        let chunk = if self.is_chunked { self.wire.chunk() } else { self.wire.take_some() };
        self.body.extend(chunk.iter().flatten());
        chunk.is_some()
    }

    /// The next message behind its length, as protobuf writes it; `None` when the body has ended.
    pub(crate) fn delimited(&mut self) -> Option<Vec<u8>> {
        loop {
            let mut rest = self.body.as_slice();
            let len = prost::decode_length_delimiter(&mut rest).ok();
            if let Some(len) = len.filter(|len| *len <= rest.len()) {
                let head_len = self.body.len() - rest.len();
                let rest = self.body.split_off(head_len + len);
                let message = std::mem::replace(&mut self.body, rest);
                return Some(message[head_len..].to_vec());
            }
            if !self.fill() {
                assert!(self.body.is_empty(), "a message is cut: {:?}", self.body);
                return None;
            }
        }
    }

    /// The next object of an ndjson stream.
    pub(crate) fn json(&mut self) -> Value {
        let line = self.line().expect("the stream goes on");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The next block that has a field; `None` when the body has ended.
    pub(crate) fn try_block(&mut self) -> Option<Block> {
        let mut block = Block::default();
        loop {
            let line = self.line()?;
            assert!(!line.contains('\r'), "a stray CR ends a line: {line:?}");
            if line.is_empty() && block != Block::default() {
                return Some(block);
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "id" => block.id = Some(value),
                "event" => block.event = Some(value),
                "retry" => block.retry = Some(value.parse().expect("milliseconds")),
                "data" => {
                    block.data = Some(match block.data {
                        Some(data) => format!("{data}\n{value}"),
                        None => value,
                    });
                }
                // A comment, or the empty line after one.
                "" => {}
                _ => panic!("not a field of server-sent events: {line:?}"),
            }
        }
    }

    pub(crate) fn block(&mut self) -> Block {
        self.try_block().expect("the stream goes on")
    }

    /// The next block with data: a publication or an event about the stream.
    pub(crate) fn event(&mut self) -> Block {
        loop {
            let block = self.block();
            if block.data.is_some() {
                return block;
            }
        }
    }
}

#[test]
fn blocks_are_read_across_chunks_and_comments() {
    let wire = Wire::canned(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
          11\r\nretry: 1000\nid: e\r\nc\r\n:1\n\n: a comm\r\n\
          25\r\nent\n\nid:e:2\ndata: a\ndata:\ndata:  b\nev\r\n\
          b\r\nent: text\n\n\r\n0\r\n\r\n",
    );
    let mut stream = Stream::open(wire, &Request::sse("/"));
    let first = stream.block();
    assert_eq!((first.retry, first.id.as_deref()), (Some(1000), Some("e:1")));
    let second = stream.event();
    assert_eq!(second.data.as_deref(), Some("a\n\n b"));
    assert_eq!(second.event.as_deref(), Some("text"));
    assert_eq!(stream.try_block(), None);
}
