//! One connection of the bare loop: its bytes in, its bytes out.

use std::io;

use mio::net::TcpStream;

use crate::{
    frame::{BINARY, CLOSE, Scan, Sender, TEXT, push_head, scan},
    load::unsent::Unsent,
};

/// A subscriber that lets so much wait is cut off.
const UNSENT_LEN_MAX: usize = 16 << 20;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before the end of its request.
    Opening,
    Publisher {
        topic: usize,
    },
    Subscriber {
        topic: usize,
    },
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) stage: Stage,
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
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, stage: Stage::Opening, partial: Vec::new(), unsent: Unsent::default() }
    }

    #[inline]
    pub(super) fn send(&mut self, bytes: &[u8]) -> Life {
        let sent = self.unsent.write(&mut self.stream, bytes);
        self.life(&sent)
    }

    pub(super) fn flush(&mut self) -> Life {
        let sent = self.unsent.flush(&mut self.stream);
        self.life(&sent)
    }

    fn life(&self, sent: &io::Result<()>) -> Life {
        if sent.is_ok() && self.unsent.len() <= UNSENT_LEN_MAX { Life::Alive } else { Life::Gone }
    }
}

/// Passes each publication in `bytes`, as the frame that subscribers get, to `on`; returns how
/// many bytes were whole messages, or `None` at the stream's end.
pub(super) fn publications(bytes: &[u8], mut on: impl FnMut(&[u8])) -> Option<usize> {
    let mut frame = Vec::new();
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
                frame.clear();
                push_head(&mut frame, head.opcode, head.payload_len, Sender::Server);
                push_unmasked(&mut frame, masked, &bytes[begin - 4..begin]);
                on(&frame);
            }
            CLOSE => return None,
            _ => {}
        }
    }
}

fn push_unmasked(frame: &mut Vec<u8>, masked: &[u8], key: &[u8]) {
    if key == [0; 4] {
        frame.extend_from_slice(masked);
    } else {
        frame.extend(masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_go_out_unmasked_and_the_rest_waits() {
        // "Hello", as masked in RFC 6455 section 5.7, then half of another frame.
        let mut bytes = vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        bytes.extend_from_slice(&[0x81, 0x85, 0, 0, 0, 0, b'H']);
        let mut frames = Vec::new();
        let taken = publications(&bytes, |frame| frames.push(frame.to_vec()));
        assert_eq!(taken, Some(11));
        assert_eq!(frames, [b"\x81\x05Hello"]);
        assert_eq!(publications(&[0x88, 0x80, 0, 0, 0, 0], |_| ()), None);
    }

    #[test]
    fn a_head_cut_before_its_key_waits() {
        for cut in 0..6 {
            assert_eq!(publications(&[0x81, 0x80, 0, 0, 0, 0][..cut], |_| ()), Some(0));
        }
    }
}
