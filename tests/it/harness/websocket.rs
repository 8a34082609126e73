//! A WebSocket client by hand (RFC 6455): it can send what no library would.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::http::{Request, Response};
use super::wire::Wire;

pub(crate) const FIN: u8 = 0x80;
/// Says that a message is deflated (RFC 7692 section 6).
pub(crate) const RSV1: u8 = 0x40;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

/// Bit of the second byte; below it the length, or one of the two marks of a longer length.
pub(crate) const MASKED: u8 = 0x80;
pub(crate) const LEN_16_BITS: u8 = 0x7E;
pub(crate) const LEN_64_BITS: u8 = 0x7F;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// An open connection of the plain door.
#[derive(Debug)]
pub(crate) struct WebSocket {
    /// The 101.
    pub(crate) head: Response,
    pub(crate) wire: Wire,
    /// Messages that came deflated.
    pub(crate) deflated_count: u64,
}

/// One frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// Encodes a masked frame with the shortest length; `first` holds FIN, RSV and opcode.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(MASKED | u8::try_from(len).unwrap()),
        len @ 126..=0xFFFF => {
            bytes.push(MASKED | LEN_16_BITS);
            bytes.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            bytes.push(MASKED | LEN_64_BITS);
            bytes.extend_from_slice(&u64::try_from(len).unwrap().to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The payload of a deflated message (RFC 7692 section 7.2.1).
pub(crate) fn deflated(data: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(data.len() + 100);
    let mut compress = Compress::new(Compression::best(), false);
    compress.compress_vec(data, &mut payload, FlushCompress::Sync).unwrap();
    payload.strip_suffix(&[0, 0, 0xff, 0xff]).expect("a flush ends so").to_vec()
}

/// The data of a deflated message; what it was deflated with, and how long it is, are free.
fn inflated(payload: &[u8]) -> Vec<u8> {
    let payload = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut data = Vec::with_capacity(1 << 20);
    let mut decompress = Decompress::new(false);
    decompress.decompress_vec(&payload, &mut data, FlushDecompress::Sync).unwrap();
    assert_eq!(decompress.total_in(), payload.len() as u64, "all of it is inflated");
    data
}

/// The payload of a close frame.
pub(crate) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    payload
}

impl WebSocket {
    /// Opens `request`, which must be answered with 101.
    pub(crate) fn open(mut wire: Wire, request: &Request) -> Self {
        wire.send(&request.to_bytes());
        Self::after_request(wire)
    }

    /// Reads the 101 to a request that was sent already.
    pub(crate) fn after_request(mut wire: Wire) -> Self {
        let head = wire.head();
        if head.status != 101 {
            let body = String::from_utf8_lossy(&wire.rest()).into_owned();
            panic!("no 101 but {} {body}", head.status);
        }
        let accept = head.header("sec-websocket-accept");
        assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        Self { head, wire, deflated_count: 0 }
    }

    /// What the server answered to an offer of an extension.
    pub(crate) fn extension(&self) -> Option<&str> {
        self.head.header("sec-websocket-extensions")
    }

    pub(crate) fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.wire.send(&frame(FIN | opcode, payload));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes());
    }

    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        self.send(CLOSE, &close_payload(code, reason));
    }

    /// The next frame of any kind; `None` at the end of the stream.
    pub(crate) fn try_frame(&mut self) -> Option<Frame> {
        let head = self.wire.try_take(2)?;
        assert_eq!(head[0] & 0x30, 0, "no extension has these bits");
        assert_ne!(head[0] & FIN, 0, "a publication is one frame");
        assert_eq!(head[1] & MASKED, 0, "a server never masks");
        let len = match head[1] {
            LEN_16_BITS => usize::from(u16::from_be_bytes(self.wire.take(2).try_into().unwrap())),
            LEN_64_BITS => {
                let len = u64::from_be_bytes(self.wire.take(8).try_into().unwrap());
                usize::try_from(len).unwrap()
            }
            len => usize::from(len),
        };
        let opcode = head[0] & 0x0F;
        let payload = self.wire.take(len);
        if head[0] & RSV1 == 0 {
            return Some(Frame { opcode, payload });
        }
        assert!(self.extension().is_some(), "deflated, and nobody agreed on it");
        assert!([TEXT, BINARY].contains(&opcode), "only messages are deflated");
        self.deflated_count += 1;
        Some(Frame { opcode, payload: inflated(&payload) })
    }

    pub(crate) fn frame(&mut self) -> Frame {
        self.try_frame().expect("the connection goes on")
    }

    /// The next frame with data or close; pings are answered on the way.
    pub(crate) fn message(&mut self) -> Frame {
        loop {
            let frame = self.frame();
            match frame.opcode {
                PING => self.send(PONG, &frame.payload),
                PONG => {}
                _ => return frame,
            }
        }
    }

    /// The payload of the next text message.
    #[track_caller]
    pub(crate) fn next_text(&mut self) -> String {
        let frame = self.message();
        let shown = String::from_utf8_lossy(&frame.payload).into_owned();
        assert_eq!(frame.opcode, TEXT, "not a text message: {shown}");
        shown
    }

    /// The next text message as JSON (`format=json`).
    pub(crate) fn json(&mut self) -> serde_json::Value {
        let text = self.next_text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Every data frame up to the close frame, and the close's payload; then the stream must end.
    pub(crate) fn drain(&mut self) -> (Vec<Frame>, Vec<u8>) {
        let mut data = Vec::new();
        loop {
            let frame = self.message();
            if frame.opcode == CLOSE {
                assert_eq!(self.try_frame(), None, "nothing follows a close frame");
                return (data, frame.payload);
            }
            data.push(frame);
        }
    }

    /// Asserts that the server closes with `code` and `reason`, and then ends the stream.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self, code: u16, reason: &str) {
        let (_, payload) = self.drain();
        let shown = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
        assert_eq!(payload, close_payload(code, reason), "{shown}");
    }
}

#[test]
fn a_frame_is_encoded_as_in_the_examples_of_the_rfc() {
    // RFC 6455 section 5.7, a masked text message.
    let hello = [0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58];
    assert_eq!(frame(FIN | TEXT, b"Hello"), hello);
    assert_eq!(frame(FIN | BINARY, &[0; 256])[..4], [0x82, 0xFE, 0x01, 0x00]);
    let long = frame(FIN | BINARY, &vec![0; 65536]);
    assert_eq!(long[..10], [0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0]);
}
