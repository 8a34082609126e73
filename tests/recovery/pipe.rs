//! What doors send, unit by unit: frames of a WebSocket, or parts of a body that goes on.

use crate::harness::{CLOSE, FIN, LEN_16_BITS, LEN_64_BITS, PING, PONG, Request, Response, frame};
use crate::line::{Broken, Line, find};

/// How a body is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Units {
    /// It is none: each frame is one.
    Frames,
    Lines,
    /// Of server-sent events.
    Blocks,
    /// Behind their length, as protobuf writes it.
    Delimited,
}

/// A connection after its head.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) head: Response,
    line: Line,
    units: Units,
    body: Vec<u8>,
}

impl Pipe {
    /// Sends `request`, which must be answered with what the units need.
    pub(crate) fn open(mut line: Line, request: &Request, units: Units) -> Result<Self, Broken> {
        line.send(&request.to_bytes())?;
        let head = head(&mut line)?;
        let expected = if units == Units::Frames { 101 } else { 200 };
        assert_eq!(head.status, expected, "{request:?} is answered {head:?}");
        Ok(Self { head, line, units, body: Vec::new() })
    }

    /// Sends a message over a WebSocket.
    pub(crate) fn send(&mut self, opcode: u8, payload: &[u8]) -> Result<(), Broken> {
        self.line.send(&frame(FIN | opcode, payload))
    }

    /// The next unit.
    pub(crate) fn next(&mut self) -> Result<Vec<u8>, Broken> {
        if self.units == Units::Frames {
            return self.frame();
        }
        loop {
            if let Some(unit) = self.take_unit() {
                return Ok(unit);
            }
            let len = String::from_utf8(self.line.take_until(b"\r\n")?).unwrap();
            let len = usize::from_str_radix(&len, 16).expect("a chunk size");
            let chunk = self.line.take(len + 2)?;
            if len == 0 {
                return Err(Broken::Ended);
            }
            self.body.extend_from_slice(&chunk[..len]);
        }
    }

    fn take_unit(&mut self) -> Option<Vec<u8>> {
        let (head_len, len, tail_len) = match self.units {
            Units::Delimited => {
                let mut rest = self.body.as_slice();
                let len = prost::decode_length_delimiter(&mut rest).ok()?;
                (self.body.len() - rest.len(), len, 0)
            }
            Units::Blocks => (0, find(&self.body, b"\n\n")?, 2),
            Units::Lines | Units::Frames => (0, find(&self.body, b"\n")?, 1),
        };
        if self.body.len() < head_len + len + tail_len {
            return None;
        }
        let rest = self.body.split_off(head_len + len + tail_len);
        let unit = std::mem::replace(&mut self.body, rest);
        Some(unit[head_len..head_len + len].to_vec())
    }

    /// The payload of the next message; the server's last word is the end.
    fn frame(&mut self) -> Result<Vec<u8>, Broken> {
        loop {
            let head = self.line.take(2)?;
            assert_eq!(head[0] & 0xF0, FIN, "one frame, and no extension");
            let len = match head[1] {
                LEN_16_BITS => {
                    usize::from(u16::from_be_bytes(self.line.take(2)?.try_into().unwrap()))
                }
                LEN_64_BITS => {
                    let len = u64::from_be_bytes(self.line.take(8)?.try_into().unwrap());
                    usize::try_from(len).unwrap()
                }
                len => usize::from(len),
            };
            let payload = self.line.take(len)?;
            match head[0] & 0x0F {
                PING => self.send(PONG, &payload)?,
                CLOSE => return Err(Broken::Ended),
                _ => return Ok(payload),
            }
        }
    }
}

/// Sends `request` and gives the status of its answer.
pub(crate) fn ask(mut line: Line, request: &Request) -> Result<u16, Broken> {
    line.send(&request.to_bytes())?;
    Ok(head(&mut line)?.status)
}

fn head(line: &mut Line) -> Result<Response, Broken> {
    let head = line.take_until(b"\r\n\r\n")?;
    Ok(Response::of_head(&String::from_utf8(head).expect("heads are ASCII here")))
}
