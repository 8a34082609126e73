//! What doors behind a WebSocket have in common: whole messages in, pings answered.

use super::{Found, Next};
use crate::frame::{
    BINARY, CLOSE, CONTROL_LEN_MAX, PING, PONG, Scan, Sender, TEXT, push_head, scan_allowing,
};

/// Reads the frame that `received` starts with, if it is whole, and passes the payload of a text
/// or binary message to `data`, with where to put what it finds.
#[inline]
pub(super) fn frame<F: FnMut(Found<'_>)>(
    received: &[u8],
    on: &mut F,
    data: impl FnOnce(&[u8], &mut F) -> Result<(), String>,
) -> Next {
    frame_allowing(0, received, on, data)
}

/// As [`frame`], where messages may have these reserved bits.
#[inline]
pub(super) fn frame_allowing<F: FnMut(Found<'_>)>(
    bits: u8,
    received: &[u8],
    on: &mut F,
    data: impl FnOnce(&[u8], &mut F) -> Result<(), String>,
) -> Next {
    let head = match scan_allowing(bits, received, Sender::Server) {
        Scan::Head(head) => head,
        Scan::Short(needed) => return Next::Short(needed),
        Scan::Invalid(reason) => return Next::End(reason.to_owned()),
    };
    let len = head.len + head.payload_len;
    let Some(payload) = received.get(head.len..len) else {
        return Next::Short(len);
    };
    let done = match head.opcode {
        TEXT | BINARY => data(payload, on),
        opcode => control(opcode, payload, on),
    };
    match done {
        Ok(()) => Next::Taken(len),
        Err(reason) => Next::End(reason),
    }
}

#[cold]
fn control(opcode: u8, payload: &[u8], on: &mut impl FnMut(Found<'_>)) -> Result<(), String> {
    match opcode {
        PING => {
            let mut reply = Vec::with_capacity(CONTROL_LEN_MAX);
            push_head(&mut reply, PONG, payload.len(), Sender::Client);
            reply.extend_from_slice(payload);
            on(Found::Reply(reply));
            Ok(())
        }
        PONG => Ok(()),
        CLOSE => Err(match payload {
            [a, b, reason @ ..] => {
                let code = u16::from_be_bytes([*a, *b]);
                format!("closed with {code} {}", String::from_utf8_lossy(reason))
            }
            _ => "closed without a code".to_owned(),
        }),
        _ => Err(format!("reserved opcode {opcode}")),
    }
}

/// Appends a text message of `payload_len` bytes, which `push` appends. The mask key is zero: the
/// payload goes out as it is.
pub(super) fn push_text(out: &mut Vec<u8>, payload_len: usize, push: impl FnOnce(&mut Vec<u8>)) {
    push_head(out, TEXT, payload_len, Sender::Client);
    push(out);
}
