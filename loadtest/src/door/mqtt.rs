//! The MQTT door: MQTT 3.1.1 behind a broker's WebSocket listener, quality of service 0, to measure
//! brokers. A frame holds any number of packets, each whole.

use super::{Door, Found, Next, Opening, Role, Topic, websocket::frame};
use crate::{
    frame::{BINARY, Sender, push_head},
    http::{self, Site},
};

/// First bytes of packets: the type in the upper half.
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const PINGRESP: u8 = 0xD0;
/// The bits of PUBLISH's first byte that tell more than its type.
const FLAGS: u8 = 0x0F;

/// A clean session, no user, no keepalive, and a client identifier of the broker's choice.
const CONNECT_BODY: &[u8] = b"\x00\x04MQTT\x04\x02\x00\x00\x00\x00";

/// The MQTT door.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mqtt;

impl Door for Mqtt {
    fn open(&self, site: &Site, topic: &str, role: Role) -> Opening {
        let mut commands = vec![message(CONNECT, CONNECT_BODY)];
        if role == Role::Subscriber {
            // Packet identifier 1, one topic, QoS 0.
            let mut body = vec![0, 1];
            push_string(&mut body, topic);
            body.push(0);
            commands.push(message(SUBSCRIBE, &body));
        }
        let path = site.path(topic, || "/mqtt".to_owned());
        Opening {
            request: http::handshake(site, &path, Some(("Sec-WebSocket-Protocol", "mqtt"))),
            commands,
        }
    }

    fn encode(
        &self,
        out: &mut Vec<u8>,
        topic: Topic,
        payload_len: usize,
        push: impl FnOnce(&mut Vec<u8>),
    ) {
        let name = topic.to_string();
        let mut packet = Vec::with_capacity(64);
        push_packet_head(&mut packet, PUBLISH, 2 + name.len() + payload_len);
        push_string(&mut packet, &name);
        push_head(out, BINARY, packet.len() + payload_len, Sender::Client);
        // The mask key is zero: the payload goes out as it is.
        out.extend_from_slice(&packet);
        push(out);
    }

    #[inline]
    fn next(&self, received: &[u8], on: &mut impl FnMut(Found<'_>)) -> Next {
        frame(received, on, |mut rest, on| {
            while !rest.is_empty() {
                let (kind, body, behind) =
                    packet(rest).ok_or("a packet that goes on in another frame")?;
                rest = behind;
                if kind == PUBLISH {
                    on(Found::Publication(payload(body).ok_or("PUBLISH without a topic")?));
                } else {
                    other(kind, body, on)?;
                }
            }
            Ok(())
        })
    }
}

/// The first packet: its first byte and its body; and what follows it.
#[inline]
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&kind, mut rest) = bytes.split_first()?;
    let mut len = 0;
    // MQTT 3.1.1 section 2.2.3: seven bits at a time, the lowest first, four bytes at most.
    for shift in [0, 7, 14, 21] {
        let (&byte, behind) = rest.split_first()?;
        rest = behind;
        len |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            let (body, behind) = rest.split_at_checked(len)?;
            return Some((kind, body, behind));
        }
    }
    None
}

/// What follows the topic in a PUBLISH of quality 0.
#[inline]
fn payload(body: &[u8]) -> Option<&[u8]> {
    let (len, rest) = body.split_first_chunk()?;
    rest.get(usize::from(u16::from_be_bytes(*len))..)
}

#[cold]
fn other(kind: u8, body: &[u8], on: &mut impl FnMut(Found<'_>)) -> Result<(), String> {
    match (kind, body) {
        (CONNACK, [_, 0]) | (SUBACK, [0, 1, 0]) => on(Found::Accepted),
        (CONNACK, [_, code]) => return Err(format!("CONNACK with {code}")),
        (SUBACK, _) => return Err("SUBACK with a failure".to_owned()),
        (PINGRESP, []) => {}
        (kind, _) if kind & !FLAGS == PUBLISH => {
            return Err(format!("PUBLISH with flags {:#x}, not QoS 0", kind & FLAGS));
        }
        _ => return Err(format!("a packet of type {}", kind >> 4)),
    }
    Ok(())
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    push_packet_head(&mut packet, kind, body.len());
    packet.extend_from_slice(body);
    let mut out = Vec::new();
    push_head(&mut out, BINARY, packet.len(), Sender::Client);
    out.extend_from_slice(&packet);
    out
}

fn push_packet_head(out: &mut Vec<u8>, kind: u8, mut len: usize) {
    out.push(kind);
    loop {
        let more = if len > 0x7F { 0x80 } else { 0 };
        out.push(u8::try_from(len & 0x7F).expect("seven bits") | more);
        len >>= 7;
        if len == 0 {
            return;
        }
    }
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("names of topics are short");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::tests::read;

    #[test]
    fn a_frame_holds_any_number_of_packets() {
        for (packets, expected) in [
            (&b"\x20\x02\x00\x00"[..], &["accepted"][..]),
            (b"\x90\x03\x00\x01\x00", &["accepted"]),
            (b"\x30\x08\x00\x01thello", &["hello"]),
            (b"\x30\x03\x00\x01t\xD0\x00\x30\x05\x00\x01thi", &["", "hi"]),
        ] {
            assert_eq!(read(&Mqtt, packets).expect("good"), expected, "{packets:?}");
        }
    }

    #[test]
    fn refusals_and_halves_end_the_connection() {
        for (packets, reason) in [
            (&b"\x20\x02\x00\x05"[..], "CONNACK with 5"),
            (b"\x90\x03\x00\x01\x80", "SUBACK with a failure"),
            (b"\x30\x09\x00\x01thello", "a packet that goes on in another frame"),
            (b"\x30\xFF\xFF\xFF\xFF\x01", "a packet that goes on in another frame"),
            (b"\x30\x02\x00\x05", "PUBLISH without a topic"),
            (b"\x32\x05\x00\x01t\x00\x01", "PUBLISH with flags 0x2, not QoS 0"),
            (b"\xE0\x00", "a packet of type 14"),
        ] {
            assert_eq!(read(&Mqtt, packets), Err(reason.to_owned()), "{packets:?}");
        }
    }

    #[test]
    fn what_is_published_reads_back_at_every_length() {
        for len in [0, 1, 100, 116, 117, 16_000, 16_384, 70_000, 2_100_000] {
            let mut out = Vec::new();
            Mqtt.encode(&mut out, Topic(7), len, |out| out.resize(out.len() + len, b'x'));
            let begin = out.iter().position(|byte| *byte == PUBLISH).expect("a packet");
            assert_eq!(read(&Mqtt, &out[begin..]).expect("good"), ["x".repeat(len)], "{len}");
        }
    }

    #[test]
    fn subscribers_connect_then_subscribe() {
        let opening = Mqtt.open(&Site::named("host"), "t", Role::Subscriber);
        assert!(opening.commands[0].ends_with(b"\x10\x0C\x00\x04MQTT\x04\x02\x00\x00\x00\x00"));
        assert!(opening.commands[1].ends_with(b"\x82\x06\x00\x01\x00\x01t\x00"));
        assert!(opening.request.windows(28).any(|part| part == b"Sec-WebSocket-Protocol: mqtt"));
        assert_eq!(Mqtt.open(&Site::named("host"), "t", Role::Publisher).commands.len(), 1);
    }
}
