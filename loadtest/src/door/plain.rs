//! The plain door: a WebSocket on `/topics/{topic}`, one frame per publication.

use super::{Door, Found, Next, Opening, Role, Topic};
use crate::{
    frame::{self, BINARY, CLOSE, PING, PONG, Scan, Sender, TEXT, push_head, scan},
    http::{self, Answer},
};

/// The plain door. Publishers ask not to hear themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain;

impl Door for Plain {
    fn open(&self, authority: &str, topic: &str, role: Role) -> Opening {
        let query = match role {
            Role::Publisher => "?echo=false",
            Role::Subscriber => "",
        };
        Opening::single(http::handshake(authority, &format!("/topics/{topic}{query}"), None))
    }

    fn answer(&self, received: &[u8]) -> Answer {
        http::answer(received)
    }

    fn encode(
        &self,
        out: &mut Vec<u8>,
        _topic: Topic,
        payload_len: usize,
        push: impl FnOnce(&mut Vec<u8>),
    ) {
        push_head(out, TEXT, payload_len, Sender::Client);
        // The mask key is zero: the payload goes out as it is.
        push(out);
    }

    #[inline]
    fn next(&self, received: &[u8], on: &mut impl FnMut(Found<'_>)) -> Next {
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
            TEXT | BINARY => on(Found::Publication(payload)),
            opcode => match control(opcode, payload) {
                Ok(Some(reply)) => on(Found::Reply(reply)),
                Ok(None) => {}
                Err(reason) => return Next::End(reason),
            },
        }
        Next::Taken(len)
    }
}

/// What a control frame asks to be sent back.
///
/// # Errors
/// Tells why when it ends the connection.
#[cold]
pub(super) fn control(opcode: u8, payload: &[u8]) -> Result<Option<Vec<u8>>, String> {
    match opcode {
        PING => {
            let mut reply = Vec::with_capacity(frame::CONTROL_LEN_MAX);
            push_head(&mut reply, PONG, payload.len(), Sender::Client);
            reply.extend_from_slice(payload);
            Ok(Some(reply))
        }
        PONG => Ok(None),
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
