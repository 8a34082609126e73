//! A decoder written for plainness only: one byte at a time, everything copied.

use super::{
    BINARY, CLOSE, CONTINUATION, DecodeError, DecoderLimits, Event, Extension, FIN, MessageKind,
    Outcome, PING, PONG, ProtocolFault, TEXT,
};
use crate::ws::inflate::tests::reference as inflate;

/// Why a frame was not read to its end.
enum Stop {
    NoMoreBytes,
    Error(DecodeError),
}

impl From<ProtocolFault> for Stop {
    fn from(fault: ProtocolFault) -> Self {
        Self::Error(DecodeError::Protocol(fault))
    }
}

struct Message {
    opcode: u8,
    is_deflated: bool,
    data: Vec<u8>,
    fragments: u32,
}

struct Stream<'a> {
    bytes: &'a [u8],
    limits: DecoderLimits,
    extension: Extension,
    message: Option<Message>,
    events: Vec<Event<'static>>,
}

pub(super) fn decode(bytes: &[u8], limits: DecoderLimits, extension: Extension) -> Outcome {
    let mut stream = Stream { bytes, limits, extension, message: None, events: Vec::new() };
    let end = loop {
        let is_idle = stream.bytes.is_empty() && stream.message.is_none();
        match stream.frame() {
            Ok(()) => {}
            Err(Stop::NoMoreBytes) => break Ok(is_idle),
            Err(Stop::Error(error)) => break Err(error),
        }
    };
    Outcome { events: stream.events, end }
}

impl Stream<'_> {
    fn byte(&mut self) -> Result<u8, Stop> {
        let (byte, rest) = self.bytes.split_first().ok_or(Stop::NoMoreBytes)?;
        self.bytes = rest;
        Ok(*byte)
    }

    fn number(&mut self, byte_count: u32) -> Result<u64, Stop> {
        let mut number = 0;
        for _ in 0..byte_count {
            number = number << 8 | u64::from(self.byte()?);
        }
        Ok(number)
    }

    fn frame(&mut self) -> Result<(), Stop> {
        let first = self.byte()?;
        let (is_final, opcode) = (first & FIN != 0, first & 0x0f);
        let may_be_deflated =
            self.extension == Extension::Deflate && [TEXT, BINARY].contains(&opcode);
        let is_deflated = first & 0x70 == 0x40;
        if first & 0x70 != 0 && !(may_be_deflated && is_deflated) {
            return Err(ProtocolFault::ReservedBits.into());
        }
        if ![CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG].contains(&opcode) {
            return Err(ProtocolFault::ReservedOpcode.into());
        }
        let is_control = opcode >= CLOSE;
        if is_control && !is_final {
            return Err(ProtocolFault::ControlFragmented.into());
        }
        if opcode == CONTINUATION && self.message.is_none() {
            return Err(ProtocolFault::ContinuationUnexpected.into());
        }
        if (opcode == TEXT || opcode == BINARY) && self.message.is_some() {
            return Err(ProtocolFault::MessageInterrupted.into());
        }

        let second = self.byte()?;
        if second < 0x80 {
            return Err(ProtocolFault::Unmasked.into());
        }
        let short_len = second - 0x80;
        if is_control && short_len > 125 {
            return Err(ProtocolFault::ControlTooLong.into());
        }
        let (len, least) = match short_len {
            126 => (self.number(2)?, 126),
            127 => (self.number(8)?, 65_536),
            len => (u64::from(len), 0),
        };
        if len < least {
            return Err(ProtocolFault::LengthNotMinimal.into());
        }
        if len >= 1 << 63 {
            return Err(ProtocolFault::LengthTooLarge.into());
        }
        if is_control {
            let payload = self.control_payload(len)?;
            return self.control(opcode, payload);
        }
        let new = Message { opcode, is_deflated, data: Vec::new(), fragments: 0 };
        let message = self.message.take().unwrap_or(new);
        self.data_frame(message, is_final, len)
    }

    fn data_frame(&mut self, mut message: Message, is_final: bool, len: u64) -> Result<(), Stop> {
        message.fragments += 1;
        if message.fragments > self.limits.fragments_max {
            let limit = self.limits.fragments_max;
            return Err(Stop::Error(DecodeError::TooManyFragments { limit }));
        }
        let len_max = self.limits.message_len_max;
        let limit = if message.is_deflated { len_max + len_max / 8 + 64 } else { len_max };
        if message.data.len() as u64 + len > limit as u64 {
            return Err(Stop::Error(DecodeError::TooLong { limit }));
        }
        let mask = [self.byte()?, self.byte()?, self.byte()?, self.byte()?];
        for mask in mask.into_iter().cycle().take(usize::try_from(len).expect("limited")) {
            message.data.push(self.byte()? ^ mask);
            if message.opcode == TEXT && !message.is_deflated && !may_become_utf8(&message.data) {
                return Err(ProtocolFault::Utf8.into());
            }
        }
        if !is_final {
            self.message = Some(message);
            return Ok(());
        }
        if message.is_deflated {
            let inflated =
                inflate::inflate(&message.data, len_max).map_err(|fault| match fault {
                    inflate::Fault::Invalid => ProtocolFault::Deflate.into(),
                    inflate::Fault::TooLong => Stop::Error(DecodeError::TooLong { limit: len_max }),
                })?;
            message.data = inflated.data;
        }
        let kind = match message.opcode {
            TEXT if str::from_utf8(&message.data).is_err() => {
                return Err(ProtocolFault::Utf8.into());
            }
            TEXT => MessageKind::Text,
            _ => MessageKind::Binary,
        };
        self.events.push(Event::Message { kind, data: message.data.into() });
        Ok(())
    }

    fn control_payload(&mut self, len: u64) -> Result<Vec<u8>, Stop> {
        let mask = [self.byte()?, self.byte()?, self.byte()?, self.byte()?];
        (0..usize::try_from(len).expect("short"))
            .map(|index| Ok(self.byte()? ^ mask[index % 4]))
            .collect()
    }

    fn control(&mut self, opcode: u8, payload: Vec<u8>) -> Result<(), Stop> {
        let event = match (opcode, payload.as_slice()) {
            (PING, _) => Event::Ping(payload.into()),
            (PONG, _) => Event::Pong(payload.into()),
            (_, []) => Event::Close(None),
            (_, [_]) => return Err(ProtocolFault::ClosePayload.into()),
            (_, [high, low, reason @ ..]) => {
                let code = u16::from(*high) * 256 + u16::from(*low);
                let may_be_sent = match code {
                    1004..=1006 | 1015.. => (3000..5000).contains(&code),
                    _ => code >= 1000,
                };
                if !may_be_sent {
                    return Err(ProtocolFault::CloseCode.into());
                }
                if str::from_utf8(reason).is_err() {
                    return Err(ProtocolFault::Utf8.into());
                }
                Event::Close(Some(code))
            }
        };
        self.events.push(event);
        Ok(())
    }
}

/// Whether some text begins with these bytes.
fn may_become_utf8(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true)
}
