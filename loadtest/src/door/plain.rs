//! The plain door: a WebSocket on `/topics/{topic}`, one frame per publication.

use super::{Door, Next, Role};
use crate::{
    frame::{self, BINARY, CLOSE, PING, PONG, Scan, Sender, TEXT, push_head, scan},
    http::{self, Answer},
};

/// The plain door. Publishers ask not to hear themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain;

impl Door for Plain {
    fn open(&self, authority: &str, topic: &str, role: Role) -> Vec<u8> {
        let query = match role {
            Role::Publisher => "?echo=false",
            Role::Subscriber => "",
        };
        http::handshake(authority, &format!("/topics/{topic}{query}"))
    }

    fn answer(&self, received: &[u8]) -> Answer {
        http::answer(received)
    }

    fn encode(&self, out: &mut Vec<u8>, payload_len: usize, push: impl FnOnce(&mut Vec<u8>)) {
        push_head(out, TEXT, payload_len, Sender::Client);
        // The mask key is zero: the payload goes out as it is.
        push(out);
    }

    #[inline]
    fn next<'a>(&self, received: &'a [u8]) -> Next<'a> {
        let head = match scan(received, Sender::Server) {
            Scan::Head(head) => head,
            Scan::Short(needed) => return Next::Short(needed),
            Scan::Invalid(reason) => return Next::End(reason.to_owned()),
        };
        let len = head.len + head.payload_len;
        let Some(payload) = received.get(head.len..len) else {
            return Next::Short(len);
        };
        match head.opcode {
            TEXT | BINARY => Next::Publication { payload, len },
            opcode => control(opcode, payload, len),
        }
    }
}

#[cold]
fn control<'a>(opcode: u8, payload: &[u8], len: usize) -> Next<'a> {
    match opcode {
        PING => {
            let mut reply = Vec::with_capacity(frame::CONTROL_LEN_MAX);
            push_head(&mut reply, PONG, payload.len(), Sender::Client);
            reply.extend_from_slice(payload);
            Next::Control { reply: Some(reply), len }
        }
        PONG => Next::Control { reply: None, len },
        CLOSE => Next::End(match payload {
            [a, b, reason @ ..] => {
                let code = u16::from_be_bytes([*a, *b]);
                format!("closed with {code} {}", String::from_utf8_lossy(reason))
            }
            _ => "closed without a code".to_owned(),
        }),
        _ => Next::End(format!("reserved opcode {opcode}")),
    }
}
