//! WebSocket frame heads (RFC 6455 section 5.2): just enough to cut a stream and to send.
//!
//! It must never touch a payload: at millions of deliveries a second that is what the tester can
//! afford. Its mask key is zero, which masks nothing and costs nothing.

/// A whole text message.
pub(crate) const TEXT: u8 = 0x1;
/// A whole binary message.
pub(crate) const BINARY: u8 = 0x2;
/// Close.
pub(crate) const CLOSE: u8 = 0x8;
/// Ping.
pub(crate) const PING: u8 = 0x9;
/// Pong.
pub(crate) const PONG: u8 = 0xA;

/// A client's longest control frame (RFC 6455 section 5.5): head, mask key and 125 bytes.
pub(crate) const CONTROL_LEN_MAX: usize = 131;

/// Says that a message is deflated (RFC 7692 section 6).
pub(crate) const RSV1: u8 = 0x40;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0F;
const CONTINUATION: u8 = 0x0;
/// Opcodes with this bit are of control frames.
const CONTROL: u8 = 0x8;
const MASKED: u8 = 0x80;
/// The length follows in 16 bits.
const LEN_16: u8 = 0x7E;
/// The length follows in 64 bits.
const LEN_64: u8 = 0x7F;
const MASK_LEN: usize = 4;
/// Longer messages are not measured; a longer announcement is a fault of the server.
const PAYLOAD_LEN_MAX: u64 = 1 << 30;

/// Who sends a frame: only the client's frames carry a mask key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Server,
}

/// The head of one whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) opcode: u8,
    /// Bytes before the payload, the mask key included.
    pub(crate) len: usize,
    pub(crate) payload_len: usize,
}

/// What the first bytes of a stream say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    Head(Head),
    /// At least this many bytes, counted from the head's first, are needed.
    Short(usize),
    Invalid(&'static str),
}

/// Reads the head at the start of `bytes`, sent by `sender`.
#[inline]
pub(crate) fn scan(bytes: &[u8], sender: Sender) -> Scan {
    scan_allowing(0, bytes, sender)
}

/// As [`scan`], where messages, but not control frames, may have these reserved bits.
#[inline]
pub(crate) fn scan_allowing(bits: u8, bytes: &[u8], sender: Sender) -> Scan {
    let &[first, second, ..] = bytes else {
        return Scan::Short(2);
    };
    let allowed = if first & CONTROL == 0 { bits } else { 0 };
    if first & RESERVED & !allowed != 0 {
        return Scan::Invalid("reserved bits set");
    }
    if first & FIN == 0 || first & OPCODE == CONTINUATION {
        return Scan::Invalid("fragmented message");
    }
    if (second & MASKED != 0) != (sender == Sender::Client) {
        return Scan::Invalid("mask bit of the other side");
    }
    let mask_len = usize::from(second >> 7) * MASK_LEN;
    let (len, payload_len) = match second & !MASKED {
        LEN_16 => match bytes.get(2..4) {
            Some(&[a, b]) => (4, u64::from(u16::from_be_bytes([a, b]))),
            _ => return Scan::Short(4),
        },
        LEN_64 => match bytes.get(2..10).map(<[u8; 8]>::try_from) {
            Some(Ok(len)) => (10, u64::from_be_bytes(len)),
            _ => return Scan::Short(10),
        },
        short => (2, u64::from(short)),
    };
    match usize::try_from(payload_len) {
        Ok(payload_len_usize) if payload_len <= PAYLOAD_LEN_MAX => Scan::Head(Head {
            opcode: first & OPCODE,
            len: len + mask_len,
            payload_len: payload_len_usize,
        }),
        _ => Scan::Invalid("message over 1 GiB"),
    }
}

/// Appends the head of one whole message; a client's has a mask key of zero.
pub(crate) fn push_head(out: &mut Vec<u8>, opcode: u8, payload_len: usize, sender: Sender) {
    let masked = if sender == Sender::Client { MASKED } else { 0 };
    out.push(FIN | opcode);
    if let Ok(len @ 0..=125) = u8::try_from(payload_len) {
        out.push(masked | len);
    } else if let Ok(len) = u16::try_from(payload_len) {
        out.push(masked | LEN_16);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(masked | LEN_64);
        out.extend_from_slice(&(payload_len as u64).to_be_bytes());
    }
    if sender == Sender::Client {
        out.extend_from_slice(&[0; MASK_LEN]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_read_back_as_written_and_every_cut_asks_for_more() {
        for payload_len in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
            for sender in [Sender::Client, Sender::Server] {
                let mut bytes = Vec::new();
                push_head(&mut bytes, BINARY, payload_len, sender);
                let head = Head { opcode: BINARY, len: bytes.len(), payload_len };
                assert_eq!(scan(&bytes, sender), Scan::Head(head));
                let key_len = if sender == Sender::Client { MASK_LEN } else { 0 };
                for cut in 0..bytes.len() - key_len {
                    assert!(
                        matches!(scan(&bytes[..cut], sender), Scan::Short(needed) if needed > cut)
                    );
                }
            }
        }
    }

    #[test]
    fn what_a_server_may_not_send_is_invalid() {
        let cases: [(&str, &[u8]); 5] = [
            ("RSV1 without an extension", &[0xC1, 0]),
            ("first fragment", &[0x01, 0]),
            ("continuation", &[0x80, 0]),
            ("masked", &[0x81, 0x80]),
            ("length of 2^63", &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for (name, bytes) in cases {
            assert!(matches!(scan(bytes, Sender::Server), Scan::Invalid(_)), "{name}");
        }
        assert!(matches!(scan(&[0x81, 0], Sender::Client), Scan::Invalid(_)), "unmasked client");
    }
}
