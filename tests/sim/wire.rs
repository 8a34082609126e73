//! Bytes on the wire, taken from the front of what has come: HTTP, frames, chunks.

use serde_json::Value;

use crate::invariant::Position;

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) position: Option<Position>,
    pub(crate) recovered: Option<bool>,
    pub(crate) len: Option<usize>,
    pub(crate) is_chunked: bool,
}

/// One frame from the server.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const LEN_16_BITS: u8 = 0x7E;
const LEN_64_BITS: u8 = 0x7F;
const MASK: [u8; 4] = [0x21, 0x84, 0xF0, 0x5A];

/// A masked frame with the shortest length.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let len = u16::try_from(payload.len()).expect("no client here sends that much in one frame");
    if len < u16::from(LEN_16_BITS) {
        bytes.push(MASKED | len.to_be_bytes()[1]);
    } else {
        bytes.push(MASKED | LEN_16_BITS);
        bytes.extend_from_slice(&len.to_be_bytes());
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Takes the first `len` bytes off.
fn take(input: &mut Vec<u8>, len: usize) -> Vec<u8> {
    let rest = input.split_off(len);
    std::mem::replace(input, rest)
}

/// Takes what comes up to and with `end`, if that is there.
pub(crate) fn take_until(input: &mut Vec<u8>, end: &[u8]) -> Option<String> {
    let at = input.windows(end.len()).position(|window| window == end)?;
    Some(String::from_utf8_lossy(&take(input, at + end.len())).into_owned())
}

pub(crate) fn take_head(input: &mut Vec<u8>) -> Option<Head> {
    let head = take_until(input, b"\r\n\r\n")?;
    let header = |name: &str| {
        let mut lines = head.split("\r\n").filter_map(|line| line.split_once(": "));
        lines.find(|(its, _)| its.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let position = header("fanwire-epoch").zip(header("fanwire-offset"));
    Some(Head {
        status: status.unwrap_or(0),
        position: position.and_then(|(epoch, offset)| {
            Some(Position { epoch: epoch.to_owned(), offset: offset.parse().ok()? })
        }),
        recovered: header("fanwire-recovered").map(|value| value == "true"),
        len: header("content-length").and_then(|len| len.parse().ok()),
        is_chunked: header("transfer-encoding").is_some(),
    })
}

/// Takes a frame, once all of it is there.
pub(crate) fn take_frame(input: &mut Vec<u8>) -> Result<Option<Frame>, String> {
    let [first, second, ..] = input[..] else { return Ok(None) };
    if first & 0x70 != 0 || first & FIN == 0 || second & MASKED != 0 {
        return Err(format!("no frame begins with {first:#x} {second:#x}"));
    }
    let (len, head_len) = match (second, &input[2..]) {
        (LEN_16_BITS, [high, low, ..]) => (usize::from(u16::from_be_bytes([*high, *low])), 4),
        (LEN_64_BITS, _) => return Err("nobody sends that much here".to_owned()),
        (LEN_16_BITS, _) => return Ok(None),
        (len, _) => (usize::from(len), 2),
    };
    if input.len() < head_len + len {
        return Ok(None);
    }
    take(input, head_len);
    Ok(Some(Frame { opcode: first & 0xF, payload: take(input, len) }))
}

/// Takes a chunk of a chunked body, once all of it is there; the last one is empty.
pub(crate) fn take_chunk(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = input.windows(2).position(|window| window == b"\r\n")?;
    let len = usize::from_str_radix(str::from_utf8(&input[..end]).ok()?, 16).ok()?;
    if input.len() < end + 2 + len + 2 {
        return None;
    }
    take(input, end + 2);
    let chunk = take(input, len);
    take(input, 2);
    Some(chunk)
}

/// Code and reason of a close frame; 1005 where it has none.
pub(crate) fn close(payload: &[u8]) -> (u16, String) {
    match payload {
        [high, low, reason @ ..] => {
            (u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason).into_owned())
        }
        _ => (1005, String::new()),
    }
}

/// `EPOCH:OFFSET`.
pub(crate) fn position(text: &str) -> Option<Position> {
    let (epoch, offset) = text.split_once(':')?;
    Some(Position { epoch: epoch.to_owned(), offset: offset.parse().ok()? })
}

/// The position in an object.
pub(crate) fn place(object: &Value) -> Option<Position> {
    let epoch = object.get("epoch")?.as_str()?.to_owned();
    Some(Position { epoch, offset: object.get("offset")?.as_u64()? })
}
