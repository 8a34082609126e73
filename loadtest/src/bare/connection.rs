//! One connection of the bare loop: its bytes in, its bytes out.

use std::io::{self, Write as _};

use super::door::Door;
use crate::{
    frame::{BINARY, CLOSE, Scan, Sender, TEXT, scan},
    load::{transport::Transport, unsent::Unsent},
};

/// A subscriber that lets so much wait is cut off.
const UNSENT_LEN_MAX: usize = 16 << 20;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before the end of its request.
    Opening,
    /// Sends frames, and each is a publication.
    Frames { topic: usize },
    /// Sends Centrifugo's commands.
    Commands,
    /// Sends nothing.
    Stream,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) transport: Transport,
    pub(super) stage: Stage,
    /// Where it stands in a topic's list of subscribers.
    pub(super) subscribed: Option<(usize, Door)>,
    /// The beginning of a request or frame.
    pub(super) partial: Vec<u8>,
    unsent: Unsent,
}

/// Whether a connection can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Life {
    Alive,
    Gone,
}

impl Connection {
    pub(super) fn new(transport: Transport) -> Self {
        Self {
            transport,
            stage: Stage::Opening,
            subscribed: None,
            partial: Vec::new(),
            unsent: Unsent::default(),
        }
    }

    #[inline]
    pub(super) fn send(&mut self, bytes: &[u8]) -> Life {
        let sent = self.unsent.write(&mut self.transport, bytes);
        self.life(&sent)
    }

    pub(super) fn flush(&mut self) -> Life {
        let flushed = self.transport.flush();
        let sent = flushed.and_then(|()| self.unsent.flush(&mut self.transport));
        self.life(&sent)
    }

    fn life(&self, sent: &io::Result<()>) -> Life {
        if sent.is_ok() && self.unsent.len() <= UNSENT_LEN_MAX { Life::Alive } else { Life::Gone }
    }
}

/// Passes the opcode and payload of each data message in `bytes` to `on`; returns how many bytes
/// were whole messages, or `None` at the stream's end or where `on` ends it.
pub(super) fn messages(bytes: &[u8], mut on: impl FnMut(u8, &[u8]) -> Option<()>) -> Option<usize> {
    let mut unmasked = Vec::new();
    let mut taken = 0;
    loop {
        let head = match scan(&bytes[taken..], Sender::Client) {
            Scan::Head(head) => head,
            Scan::Short(_) => return Some(taken),
            Scan::Invalid(_) => return None,
        };
        let begin = taken + head.len;
        let Some(masked) = bytes.get(begin..begin + head.payload_len) else {
            return Some(taken);
        };
        taken = begin + head.payload_len;
        match head.opcode {
            TEXT | BINARY => {
                on(head.opcode, unmask(masked, &bytes[begin - 4..begin], &mut unmasked))?;
            }
            CLOSE => return None,
            _ => {}
        }
    }
}

/// The payload itself; the tester's key is zero.
fn unmask<'a>(masked: &'a [u8], key: &[u8], unmasked: &'a mut Vec<u8>) -> &'a [u8] {
    if key == [0; 4] {
        return masked;
    }
    unmasked.clear();
    unmasked.extend(masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    unmasked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_unmasked_and_the_rest_waits() {
        // "Hello", as masked in RFC 6455 section 5.7, then half of another frame.
        let mut bytes = vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        bytes.extend_from_slice(&[0x81, 0x85, 0, 0, 0, 0, b'H']);
        let mut got = Vec::new();
        let taken = messages(&bytes, |opcode, payload| {
            got.push((opcode, payload.to_vec()));
            Some(())
        });
        assert_eq!(taken, Some(11));
        assert_eq!(got, [(TEXT, b"Hello".to_vec())]);
        assert_eq!(messages(&bytes, |_, _| None), None);
        assert_eq!(messages(&[0x88, 0x80, 0, 0, 0, 0], |_, _| Some(())), None);
    }

    #[test]
    fn a_head_cut_before_its_key_waits() {
        for cut in 0..6 {
            assert_eq!(messages(&[0x81, 0x80, 0, 0, 0, 0][..cut], |_, _| Some(())), Some(0));
        }
    }
}
