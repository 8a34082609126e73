//! Frames from the server to a client: whole, unmasked, in the shortest form.

use fastwebsockets::OpCode;

use super::{CONTROL_LEN_MAX, MessageKind};

/// Longest head of a frame that the server sends.
pub const HEAD_LEN_MAX: usize = 10;

/// The head of one unfragmented, unmasked frame (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy)]
pub struct FrameHead {
    bytes: [u8; HEAD_LEN_MAX],
    len: u8,
}

impl FrameHead {
    /// The head of a data frame.
    pub fn data(kind: MessageKind, payload_len: usize) -> Self {
        let opcode = match kind {
            MessageKind::Text => OpCode::Text,
            MessageKind::Binary => OpCode::Binary,
        };
        Self::new(opcode, payload_len)
    }

    /// The head of any frame.
    pub fn new(opcode: OpCode, payload_len: usize) -> Self {
        Self::with_first(0x80 | opcode as u8, payload_len)
    }

    /// The head of a frame that begins with the byte `first`.
    pub(super) fn with_first(first: u8, payload_len: usize) -> Self {
        let mut bytes = [0; HEAD_LEN_MAX];
        bytes[0] = first;
        let len = if let Ok(len @ ..=125) = u8::try_from(payload_len) {
            bytes[1] = len;
            2
        } else if let Ok(len) = u16::try_from(payload_len) {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            4
        } else {
            bytes[1] = 127;
            bytes[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        };
        Self { bytes, len }
    }

    /// Length in bytes: 2, 4 or 10.
    #[expect(clippy::len_without_is_empty, reason = "a head is never empty")]
    pub fn len(&self) -> u8 {
        self.len
    }

    /// The bytes to send before the payload.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The payload of one of our own frames.
pub(super) fn payload(frame: &[u8]) -> &[u8] {
    let head_len = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    &frame[head_len..]
}

/// A whole message in one frame, exactly sized.
pub fn data_frame(kind: MessageKind, payload: &[u8]) -> Vec<u8> {
    [FrameHead::data(kind, payload.len()).as_slice(), payload].concat()
}

/// A ping.
///
/// # Panics
/// When `payload` is over [`CONTROL_LEN_MAX`]: a bug of the caller.
pub fn ping_frame(payload: &[u8]) -> Vec<u8> {
    control_frame(OpCode::Ping, payload)
}

/// The answer to a ping, with the ping's payload.
///
/// # Panics
/// When `payload` is over [`CONTROL_LEN_MAX`]: a bug of the caller.
pub fn pong_frame(payload: &[u8]) -> Vec<u8> {
    control_frame(OpCode::Pong, payload)
}

/// A close frame; `reason` is cut to what fits, and left out where there is no code.
pub fn close_frame(code: Option<u16>, reason: &str) -> Vec<u8> {
    let Some(code) = code else { return control_frame(OpCode::Close, &[]) };
    let code = code.to_be_bytes();
    let reason = &reason[..reason.floor_char_boundary(CONTROL_LEN_MAX - code.len())];
    control_frame(OpCode::Close, &[&code, reason.as_bytes()].concat())
}

fn control_frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= CONTROL_LEN_MAX, "control frames are short");
    [FrameHead::new(opcode, payload.len()).as_slice(), payload].concat()
}

#[cfg(test)]
mod tests {
    use fastwebsockets::{Frame, OpCode, Payload};

    use super::{FrameHead, close_frame, data_frame, ping_frame, pong_frame};
    use crate::ws::MessageKind;

    #[test]
    fn heads_agree_with_fastwebsockets() {
        for opcode in [OpCode::Text, OpCode::Binary, OpCode::Close, OpCode::Ping, OpCode::Pong] {
            for len in [0, 1, 125, 126, 127, 255, 256, 65_535, 65_536, 100_000] {
                let mut expected = [0; 16];
                let payload = Payload::Owned(vec![0; len]);
                let expected_len = Frame::new(true, opcode, None, payload).fmt_head(&mut expected);
                let head = FrameHead::new(opcode, len);
                assert_eq!(head.as_slice(), &expected[..expected_len], "{opcode:?} {len}");
                assert_eq!(usize::from(head.len()), expected_len);
            }
        }
    }

    #[test]
    fn frames_are_their_head_and_their_payload() {
        assert_eq!(data_frame(MessageKind::Text, b"hello"), b"\x81\x05hello");
        assert_eq!(data_frame(MessageKind::Binary, b""), b"\x82\x00");
        assert_eq!(data_frame(MessageKind::Binary, &[7; 126])[..4], *b"\x82\x7e\x00\x7e");
        assert_eq!(ping_frame(b""), b"\x89\x00");
        assert_eq!(pong_frame(b"beat"), b"\x8a\x04beat");
        let frame = data_frame(MessageKind::Binary, &[7; 1000]);
        assert_eq!(frame.capacity(), frame.len());
    }

    #[test]
    fn close_frames_keep_to_the_control_limit_and_to_utf8() {
        assert_eq!(close_frame(None, "dropped"), b"\x88\x00");
        assert_eq!(close_frame(Some(1000), ""), b"\x88\x02\x03\xe8");
        assert_eq!(close_frame(Some(1012), "draining"), b"\x88\x0a\x03\xf4draining");
        let frame = close_frame(Some(1011), &"\u{20ac}".repeat(60));
        assert_eq!(frame.len(), 2 + 125);
        let frame = close_frame(Some(1011), &format!("x{}", "\u{20ac}".repeat(60)));
        assert_eq!(frame.len(), 2 + 2 + 1 + 40 * 3);
        assert!(str::from_utf8(&frame[4..]).is_ok());
    }
}
