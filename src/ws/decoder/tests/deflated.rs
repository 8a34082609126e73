//! Messages under permessage-deflate (RFC 7692 section 6).

use proptest::prelude::{ProptestConfig, Strategy};
use proptest::sample::Index;

use super::{
    BINARY, CLOSE, CONTINUATION, DecodeError, Event, Extension, FIN, LIMITS, Outcome, PING, PONG,
    TEXT, TOO_LONG, any, any_frame, binary, cut, decode_with, frame, head, prop_assert_eq,
    prop_oneof, proptest, read_lens, reference, text, vec,
};
use crate::reason::ProtocolFault;
use crate::ws::frame::payload;
use crate::ws::{Deflater, MessageKind, RSV1, Window, data_frame};

/// `Hello`, deflated (RFC 7692 section 7.2.3.1).
const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";

fn check(
    name: &str,
    frames: &[Vec<u8>],
    events: Vec<Event<'static>>,
    end: Result<bool, DecodeError>,
) {
    let bytes = frames.concat();
    let expected = Outcome { events, end };
    let by_reference = reference::decode(&bytes, LIMITS, Extension::Deflate);
    assert_eq!(by_reference, expected, "{name}, by the reference");
    let whole = decode_with(Extension::Deflate, [bytes.clone()]);
    assert_eq!(whole, expected, "{name}, in one read");
    let bytewise = decode_with(Extension::Deflate, bytes.iter().map(|byte| vec![*byte]));
    assert_eq!(bytewise, expected, "{name}, byte by byte");
}

fn check_fault(name: &str, frames: &[Vec<u8>], fault: ProtocolFault) {
    check(name, frames, Vec::new(), Err(DecodeError::Protocol(fault)));
}

/// The payload of `data` deflated; it must become shorter.
fn deflated(data: &[u8]) -> Vec<u8> {
    let frame = Deflater::new(Window::Full, 1).deflate(&data_frame(MessageKind::Binary, data));
    payload(&frame.expect("it becomes shorter")).to_vec()
}

#[test]
fn deflated_messages_are_inflated() {
    check("whole", &[frame(FIN | RSV1 | TEXT, HELLO)], vec![text("Hello")], Ok(true));
    check("binary", &[frame(FIN | RSV1 | BINARY, HELLO)], vec![binary(b"Hello")], Ok(true));
    check("empty", &[frame(FIN | RSV1 | TEXT, b"\x00")], vec![text("")], Ok(true));
    let (start, end) = HELLO.split_at(3);
    check(
        "fragments",
        &[
            frame(RSV1 | TEXT, start),
            frame(FIN | PING, b"p"),
            frame(CONTINUATION, b""),
            frame(CONTINUATION, end),
            frame(FIN | CONTINUATION, b""),
        ],
        vec![Event::Ping(b"p".into()), text("Hello")],
        Ok(true),
    );
    check(
        "mixed with messages as they are",
        &[
            frame(FIN | TEXT, b"plain"),
            frame(FIN | RSV1 | TEXT, HELLO),
            frame(TEXT, b"pl"),
            frame(FIN | CONTINUATION, b"ain"),
            frame(FIN | RSV1 | BINARY, HELLO),
        ],
        vec![text("plain"), text("Hello"), text("plain"), binary(b"Hello")],
        Ok(true),
    );
    check("unfinished", &[frame(RSV1 | TEXT, HELLO)], vec![], Ok(false));
}

#[test]
fn the_bit_stands_on_the_first_frame_of_a_message_only() {
    for bits in [0x10, 0x20, 0x30, 0x50, 0x60, 0x70] {
        check_fault("other bits", &[vec![FIN | bits | TEXT]], ProtocolFault::ReservedBits);
    }
    for opcode in [CLOSE, PING, PONG, 3, 11] {
        check_fault("no message", &[vec![FIN | RSV1 | opcode]], ProtocolFault::ReservedBits);
    }
    for first in [TEXT, RSV1 | TEXT] {
        let frames = [frame(first, b"\x00"), vec![FIN | RSV1 | CONTINUATION]];
        check_fault("continuation", &frames, ProtocolFault::ReservedBits);
    }
    let frames = [frame(RSV1 | TEXT, b"\x00"), vec![FIN | RSV1 | TEXT]];
    check_fault("interrupted", &frames, ProtocolFault::MessageInterrupted);
    let outcome = decode_with(Extension::None, [frame(FIN | RSV1 | TEXT, HELLO)]);
    let fault = Err(DecodeError::Protocol(ProtocolFault::ReservedBits));
    assert_eq!(outcome, Outcome { events: vec![], end: fault }, "not agreed on");
}

#[test]
fn what_does_not_inflate_or_is_no_text_then_is_a_fault() {
    check_fault("nothing", &[frame(FIN | RSV1 | TEXT, b"")], ProtocolFault::Deflate);
    check_fault("nonsense", &[frame(FIN | RSV1 | TEXT, b"\x06")], ProtocolFault::Deflate);
    check_fault("cut", &[frame(FIN | RSV1 | TEXT, b"\xf2\x48")], ProtocolFault::Deflate);
    let late = [frame(FIN | RSV1 | TEXT, HELLO), frame(FIN | RSV1 | TEXT, b"\xf2\x00\x11\x00\x00")];
    let fault = Err(DecodeError::Protocol(ProtocolFault::Deflate));
    check("the message before referred to", &late, vec![text("Hello")], fault);
    let bad = deflated(&b"\xff".repeat(50));
    check_fault("no text", &[frame(FIN | RSV1 | TEXT, &bad)], ProtocolFault::Utf8);
    let events = vec![binary(&b"\xff".repeat(50))];
    check("binary", &[frame(FIN | RSV1 | BINARY, &bad)], events, Ok(true));
    // Deflated text need not be text itself, whole or in fragments.
    let text_of = |len: usize| "\u{20ac}".repeat(len);
    let payload = deflated(text_of(60).as_bytes());
    let (start, end) = payload.split_at(payload.len() / 2);
    let frames = [frame(RSV1 | TEXT, start), frame(FIN | CONTINUATION, end)];
    check("fragments", &frames, vec![text(&text_of(60))], Ok(true));
}

#[test]
fn the_limit_counts_what_is_inflated_and_bounds_what_is_collected() {
    let fits = frame(FIN | RSV1 | BINARY, &deflated(&[0; 300]));
    check("just fits", &[fits], vec![binary(&[0; 300])], Ok(true));
    let over = frame(FIN | RSV1 | BINARY, &deflated(&[0; 301]));
    check("one over", &[over], vec![], Err(TOO_LONG));
    // A stored block of 300 bytes is longer than the limit, and yet the message is not.
    let stored = [&[0, 0x2c, 0x01, 0xd3, 0xfe], &[7; 300][..], &[0]].concat();
    check("longer", &[frame(FIN | RSV1 | BINARY, &stored)], vec![binary(&[7; 300])], Ok(true));
    let limit = 300 + 300 / 8 + 64;
    let announced = head(FIN | RSV1 | BINARY, limit + 1);
    check("announced", &[announced], vec![], Err(DecodeError::TooLong { limit }));
    let sum = [frame(RSV1 | BINARY, &stored), head(CONTINUATION, limit - stored.len() + 1)];
    check("sum", &sum, vec![], Err(DecodeError::TooLong { limit }));
    let plain = head(FIN | BINARY, 301);
    check("not deflated", &[plain], vec![], Err(TOO_LONG));
}

/// Frames of which some begin a deflated message, most of them well.
fn any_deflated_frame() -> impl Strategy<Value = Vec<u8>> {
    let data = prop_oneof!["[ab]{20,290}".prop_map(String::into_bytes), vec(0..3_u8, 20..310)];
    let damage = proptest::option::weighted(0.2, (any::<Index>(), any::<u8>()));
    let whole = (data, damage, any::<bool>()).prop_map(|(data, damage, is_text)| {
        let mut payload = Deflater::new(Window::Small, 1)
            .deflate(&data_frame(MessageKind::Binary, &data))
            .map_or_else(|| vec![0], |frame| payload(&frame).to_vec());
        if let Some((at, byte)) = damage {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        (if is_text { TEXT } else { BINARY }, payload)
    });
    prop_oneof![
        2 => whole.clone().prop_map(|(opcode, payload)| frame(FIN | RSV1 | opcode, &payload)),
        2 => (whole, any::<Index>()).prop_map(|((opcode, payload), at)| {
            let (start, end) = payload.split_at(at.index(payload.len()));
            [frame(RSV1 | opcode, start), frame(FIN | CONTINUATION, end)].concat()
        }),
        1 => any_frame(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn deflated_streams_agree_with_the_reference_however_they_are_split(
        frames in vec(any_deflated_frame(), 0..8),
        read_lens in read_lens(),
    ) {
        let bytes = frames.concat();
        let expected = reference::decode(&bytes, LIMITS, Extension::Deflate);
        prop_assert_eq!(&decode_with(Extension::Deflate, [bytes.clone()]), &expected);
        prop_assert_eq!(&decode_with(Extension::Deflate, cut(&bytes, &read_lens)), &expected);
    }
}
