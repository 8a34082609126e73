//! Byte tables for every rule, and properties over generated streams.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that panics has found something"
)]

use std::borrow::Cow;
use std::iter;
use std::sync::Arc;

use fastwebsockets::{Frame, OpCode, Payload};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{DecodeError, Decoder, DecoderLimits, Event, Input, Partial, Reading};
use crate::metrics::Memory;
use crate::reason::{CloseReason, ProtocolFault};
use crate::ws::{Inflater, MessageKind};

mod deflated;
mod reference;

/// What the two sides agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    None,
    Deflate,
}

const LIMITS: DecoderLimits = DecoderLimits { message_len_max: 300, fragments_max: 5 };
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const TOO_LONG: DecodeError = DecodeError::TooLong { limit: LIMITS.message_len_max };
const TOO_MANY: DecodeError = DecodeError::TooManyFragments { limit: LIMITS.fragments_max };

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// All that decoding a stream gave.
#[derive(Debug, PartialEq)]
struct Outcome {
    events: Vec<Event<'static>>,
    /// What ended it, or whether it stopped between messages.
    end: Result<bool, DecodeError>,
}

/// Decodes reads one after the other and checks on the way what is held.
fn decode(reads: impl IntoIterator<Item = Vec<u8>>) -> Outcome {
    decode_with(Extension::None, reads)
}

fn decode_with(extension: Extension, reads: impl IntoIterator<Item = Vec<u8>>) -> Outcome {
    let decoder = Decoder::new(LIMITS);
    let mut reading = Reading::default();
    let mut inflater = Inflater::new(Arc::new(Memory::new(u64::MAX)));
    let (mut events, mut fed_len) = (Vec::new(), 0);
    for mut read in reads {
        fed_len += read.len();
        let mut input = Input::new(&mut read);
        loop {
            let inflater = (extension == Extension::Deflate).then_some(&mut inflater);
            match decoder.next_event(&mut reading, &mut input, inflater) {
                Ok(Some(event)) => events.push(owned(event)),
                Ok(None) => break,
                Err(error) => {
                    return Outcome { events, end: Err(error) };
                }
            }
        }
        assert!(input.is_empty(), "without an error every byte is used");
        assert!(reading.held_len() <= 2 * fed_len + size_of::<Partial>());
        assert_eq!(reading.is_idle(), reading.held_len() == 0);
    }
    Outcome { events, end: Ok(reading.is_idle()) }
}

fn decode_whole(bytes: &[u8]) -> Outcome {
    decode([bytes.to_vec()])
}

fn decode_bytewise(bytes: &[u8]) -> Outcome {
    decode(bytes.iter().map(|byte| vec![*byte]))
}

fn owned(event: Event<'_>) -> Event<'static> {
    let own = |data: Cow<'_, [u8]>| Cow::Owned(data.into_owned());
    match event {
        Event::Message { kind, data } => Event::Message { kind, data: own(data) },
        Event::Ping(data) => Event::Ping(own(data)),
        Event::Pong(data) => Event::Pong(own(data)),
        Event::Close(code) => Event::Close(code),
    }
}

fn text(data: &str) -> Event<'static> {
    let data = Cow::Owned(data.as_bytes().to_vec());
    Event::Message { kind: MessageKind::Text, data }
}

fn binary(data: &[u8]) -> Event<'static> {
    let data = Cow::Owned(data.to_vec());
    Event::Message { kind: MessageKind::Binary, data }
}

/// A masked frame in the shortest form.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, payload.len());
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The head of a masked frame in the shortest form.
fn head(first: u8, payload_len: usize) -> Vec<u8> {
    let len = match payload_len {
        0..126 => vec![0x80 | u8::try_from(payload_len).expect("short")],
        126..65_536 => {
            let len = u16::try_from(payload_len).expect("two bytes");
            [&[0x80 + 126], &len.to_be_bytes()[..]].concat()
        }
        _ => [&[0x80 + 127], &(payload_len as u64).to_be_bytes()[..]].concat(),
    };
    [&[first], &len[..], &MASK].concat()
}

fn check(
    name: &str,
    frames: &[Vec<u8>],
    events: Vec<Event<'static>>,
    end: Result<bool, DecodeError>,
) {
    let bytes = frames.concat();
    let expected = Outcome { events, end };
    assert_eq!(decode_whole(&bytes), expected, "{name}, in one read");
    assert_eq!(decode_bytewise(&bytes), expected, "{name}, byte by byte");
    let by_reference = reference::decode(&bytes, LIMITS, Extension::None);
    assert_eq!(by_reference, expected, "{name}, by the reference");
}

fn check_fault(name: &str, frames: &[Vec<u8>], fault: ProtocolFault) {
    check(name, frames, Vec::new(), Err(DecodeError::Protocol(fault)));
}

#[test]
fn whole_messages_and_control_frames_are_handed_out() {
    check("nothing", &[], vec![], Ok(true));
    check("text", &[frame(FIN | TEXT, b"hello")], vec![text("hello")], Ok(true));
    check("empty text", &[frame(FIN | TEXT, b"")], vec![text("")], Ok(true));
    check("binary", &[frame(FIN | BINARY, b"\xff\x00")], vec![binary(b"\xff\x00")], Ok(true));
    for len in [125, 126, 127, 255, 256, 300] {
        check(
            "lengths",
            &[frame(FIN | BINARY, &vec![7; len])],
            vec![binary(&vec![7; len])],
            Ok(true),
        );
    }
    check(
        "controls",
        &[frame(FIN | PING, b""), frame(FIN | PING, &[1; 125]), frame(FIN | PONG, b"beat")],
        vec![
            Event::Ping(b"".into()),
            Event::Ping(vec![1; 125].into()),
            Event::Pong(b"beat".into()),
        ],
        Ok(true),
    );
    check(
        "closes",
        &[frame(FIN | CLOSE, b""), frame(FIN | CLOSE, b"\x03\xe9bye")],
        vec![Event::Close(None), Event::Close(Some(1001))],
        Ok(true),
    );
}

#[test]
fn long_frames_have_the_longest_head() {
    let limits = DecoderLimits { message_len_max: 70_000, fragments_max: 1 };
    for len in [65_535, 65_536, 70_000] {
        let mut bytes = frame(FIN | BINARY, &vec![7; len]);
        let mut input = Input::new(&mut bytes);
        let event = Decoder::new(limits).next_event(&mut Reading::default(), &mut input, None);
        assert_eq!(event, Ok(Some(binary(&vec![7; len]))));
    }
}

#[test]
fn fragments_are_joined_and_control_frames_may_stand_between_them() {
    check(
        "fragments",
        &[
            frame(TEXT, "\u{20ac}".as_bytes().split_at(2).0),
            frame(FIN | PING, b"p"),
            frame(CONTINUATION, b""),
            frame(FIN | CONTINUATION, "\u{20ac}".as_bytes().split_at(2).1),
            frame(FIN | TEXT, b"next"),
        ],
        vec![Event::Ping(b"p".into()), text("\u{20ac}"), text("next")],
        Ok(true),
    );
    check(
        "empty fragments",
        &[frame(BINARY, b""), frame(CONTINUATION, b""), frame(FIN | CONTINUATION, b"")],
        vec![binary(b"")],
        Ok(true),
    );
    check("unfinished", &[frame(BINARY, b"abc")], vec![], Ok(false));
    check("half a head", &[frame(FIN | TEXT, b"a"), vec![0x81]], vec![text("a")], Ok(false));
}

#[test]
fn heads_that_break_the_protocol_are_faults() {
    for bits in [0x10, 0x20, 0x40, 0x70] {
        check_fault("reserved bit", &[vec![FIN | bits | TEXT]], ProtocolFault::ReservedBits);
        check_fault("reserved bit", &[vec![FIN | bits | PING]], ProtocolFault::ReservedBits);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check_fault("opcode", &[vec![FIN | opcode]], ProtocolFault::ReservedOpcode);
    }
    for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
        check_fault("unmasked", &[vec![FIN | opcode, 0]], ProtocolFault::Unmasked);
    }
    for opcode in [CLOSE, PING, PONG] {
        check_fault("fragmented control", &[vec![opcode]], ProtocolFault::ControlFragmented);
        for len in [126, 127] {
            let bytes = vec![FIN | opcode, 0x80 | len];
            check_fault("long control", &[bytes], ProtocolFault::ControlTooLong);
        }
    }
    for first in [CONTINUATION, FIN | CONTINUATION] {
        check_fault("no start", &[vec![first]], ProtocolFault::ContinuationUnexpected);
    }
    for opcode in [TEXT, BINARY] {
        let bytes = [frame(TEXT, b"a"), vec![FIN | opcode]];
        check_fault("interrupted", &bytes, ProtocolFault::MessageInterrupted);
    }
}

#[test]
fn lengths_in_a_longer_form_than_needed_are_faults() {
    for len in [0_u16, 1, 125] {
        let bytes = [&[FIN | BINARY, 0xfe], &len.to_be_bytes()[..]].concat();
        check_fault("two bytes", &[bytes], ProtocolFault::LengthNotMinimal);
    }
    for len in [0_u64, 125, 126, 65_535] {
        let bytes = [&[FIN | BINARY, 0xff], &len.to_be_bytes()[..]].concat();
        check_fault("eight bytes", &[bytes], ProtocolFault::LengthNotMinimal);
    }
}

#[test]
fn announced_lengths_over_the_limit_end_it_at_the_head() {
    for len in [1_u64 << 63, u64::MAX] {
        let bytes = [&[FIN | BINARY, 0xff], &len.to_be_bytes()[..]].concat();
        check_fault("top bit", &[bytes], ProtocolFault::LengthTooLarge);
    }
    for len in [1_u64 << 62, (1 << 63) - 1, 65_536] {
        let bytes = [&[FIN | BINARY, 0xff], &len.to_be_bytes()[..]].concat();
        check("huge", &[bytes], vec![], Err(TOO_LONG));
    }
    check("one over", &[head(FIN | TEXT, 301)], vec![], Err(TOO_LONG));
    let over_in_sum = [frame(BINARY, &[0; 200]), head(CONTINUATION, 101)];
    check("sum", &over_in_sum, vec![], Err(TOO_LONG));
    let just_fits = [frame(BINARY, &[0; 200]), frame(FIN | CONTINUATION, &[0; 100])];
    check("just fits", &just_fits, vec![binary(&[0; 300])], Ok(true));
}

#[test]
fn fragments_over_the_limit_end_it_even_when_empty() {
    let starts = iter::once(frame(BINARY, b"a"));
    for payload in [&b"a"[..], b""] {
        let mut frames: Vec<_> =
            starts.clone().chain(vec![frame(CONTINUATION, payload); 4]).collect();
        check("unfinished", &frames, vec![], Ok(false));
        frames.push(frame(FIN | CONTINUATION, payload));
        check("one over", &frames, vec![], Err(TOO_MANY));
    }
}

#[test]
fn faults_come_before_limits() {
    let interrupted = [frame(TEXT, b"a"), head(TEXT, 10_000)];
    check_fault("interrupted", &interrupted, ProtocolFault::MessageInterrupted);
    let unmasked = [vec![FIN | TEXT, 127], vec![0x7f; 8]];
    check_fault("unmasked", &unmasked, ProtocolFault::Unmasked);
}

#[test]
fn close_payloads_are_checked() {
    let close = |payload: &[u8]| [frame(FIN | CLOSE, payload)];
    check_fault("half a code", &close(b"\x03"), ProtocolFault::ClosePayload);
    check_fault("1005", &close(&1005_u16.to_be_bytes()), ProtocolFault::CloseCode);
    check_fault("999", &close(&999_u16.to_be_bytes()), ProtocolFault::CloseCode);
    check_fault("reason", &close(b"\x03\xe8\xce\xba\xe1"), ProtocolFault::Utf8);
}

#[test]
fn text_that_cannot_become_utf8_ends_it_at_that_byte() {
    let utf8 = |name: &str, frames: &[Vec<u8>]| check_fault(name, frames, ProtocolFault::Utf8);
    // A surrogate, an overlong form, beyond U+10FFFF, a lone continuation: each in a longer frame.
    for bad in [&b"\xed\xa0"[..], b"\xe0\x80", b"\xf4\x90", b"\xf5", b"\xc0", b"\x80", b"\xe2\x28"]
    {
        let payload = [b"ok ", bad].concat();
        let whole = frame(TEXT, &payload);
        utf8("whole frame", std::slice::from_ref(&whole));
        let announced = [head(FIN | TEXT, 100), whole[6..].to_vec()].concat();
        utf8("incomplete frame", &[announced]);
        let (last, start) = payload.split_last().expect("not empty");
        utf8("split over fragments", &[frame(TEXT, start), frame(CONTINUATION, &[*last])]);
    }
    utf8("cut off", &[frame(FIN | TEXT, b"\xe2\x82")]);
    utf8(
        "cut off by the last fragment",
        &[frame(TEXT, b"\xe2\x82"), frame(FIN | CONTINUATION, b"")],
    );
    check("may go on", &[frame(TEXT, b"\xe2\x82")], vec![], Ok(false));
}

#[test]
fn events_before_an_error_are_handed_out() {
    let frames = [frame(FIN | TEXT, b"one"), frame(FIN | PING, b"two"), vec![0x83]];
    let events = vec![text("one"), Event::Ping(b"two".into())];
    let fault = DecodeError::Protocol(ProtocolFault::ReservedOpcode);
    check("reserved opcode last", &frames, events, Err(fault));
}

#[test]
fn a_caller_may_stop_after_any_event() {
    let mut bytes = [frame(FIN | TEXT, b"one"), frame(FIN | TEXT, b"two")].concat();
    let second_len = frame(FIN | TEXT, b"two").len();
    let (decoder, mut reading) = (Decoder::new(LIMITS), Reading::default());
    let mut input = Input::new(&mut bytes);
    assert_eq!(decoder.next_event(&mut reading, &mut input, None), Ok(Some(text("one"))));
    assert_eq!(input.len(), second_len);
    let mut later = bytes.split_off(bytes.len() - second_len);
    let mut input = Input::new(&mut later);
    assert_eq!(decoder.next_event(&mut reading, &mut input, None), Ok(Some(text("two"))));
    assert_eq!(decoder.next_event(&mut reading, &mut input, None), Ok(None));
}

#[test]
fn whole_messages_are_not_copied() {
    let mut bytes = [frame(FIN | TEXT, b"one"), frame(FIN | PING, b"two")].concat();
    let (decoder, mut reading) = (Decoder::new(LIMITS), Reading::default());
    let mut input = Input::new(&mut bytes);
    let message = decoder.next_event(&mut reading, &mut input, None);
    assert!(matches!(message, Ok(Some(Event::Message { data: Cow::Borrowed(b"one"), .. }))));
    let ping = decoder.next_event(&mut reading, &mut input, None);
    assert!(matches!(ping, Ok(Some(Event::Ping(Cow::Borrowed(b"two"))))));
    assert_eq!(reading.held_len(), 0);
}

#[test]
fn an_announced_length_allocates_nothing() {
    assert_eq!(size_of::<Reading>(), size_of::<usize>());
    let limits = DecoderLimits { message_len_max: 1 << 30, fragments_max: 5 };
    let (decoder, mut reading) = (Decoder::new(limits), Reading::default());
    let mut feed = |mut bytes: Vec<u8>| {
        let event = decoder.next_event(&mut reading, &mut Input::new(&mut bytes), None);
        assert_eq!(event, Ok(None));
        reading.held_len()
    };
    let head_len = feed(head(FIN | BINARY, 1 << 30));
    assert_eq!(head_len, size_of::<Partial>());
    assert!(head_len <= 200, "{head_len}");
    assert_eq!(feed(vec![0]), head_len + 1);
}

#[test]
fn a_buffer_ends_exactly_sized_when_its_frame_is_the_last() {
    let bytes = frame(FIN | BINARY, &[7; 300]);
    let (decoder, mut reading) = (Decoder::new(LIMITS), Reading::default());
    let mut first = bytes[..250].to_vec();
    assert_eq!(decoder.next_event(&mut reading, &mut Input::new(&mut first), None), Ok(None));
    let mut second = bytes[250..].to_vec();
    let event = decoder.next_event(&mut reading, &mut Input::new(&mut second), None);
    let Ok(Some(Event::Message { data: Cow::Owned(data), .. })) = event else {
        panic!("{event:?}");
    };
    assert_eq!((data.len(), data.capacity()), (300, 300));
}

#[test]
fn errors_tell_their_close() {
    let fault = DecodeError::Protocol(ProtocolFault::Unmasked);
    assert_eq!(fault.close_reason(), CloseReason::Protocol);
    assert_eq!(fault.to_string(), "a frame breaks RFC 6455: unmasked");
    let utf8 = DecodeError::Protocol(ProtocolFault::Utf8);
    assert_eq!(utf8.close_reason(), CloseReason::Utf8);
    assert_eq!(TOO_LONG.close_reason(), CloseReason::MessageTooLarge);
    assert_eq!(TOO_MANY.close_reason(), CloseReason::MessageTooLarge);
}

/// A message or control frame that a well-behaved client sends, with the frames that carry it.
fn valid_unit() -> impl Strategy<Value = (Vec<Event<'static>>, Vec<Vec<u8>>)> {
    let payload = prop_oneof![
        "\\PC{0,60}".prop_map(|data| (TEXT, data.into_bytes())),
        vec(any::<u8>(), 0..=300).prop_map(|data| (BINARY, data)),
    ];
    let cuts = vec(any::<Index>(), 0..=4);
    let ping = proptest::option::of(vec(any::<u8>(), 0..=125));
    (payload, cuts, ping).prop_map(|((opcode, data), cuts, ping)| {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
        cuts.sort_unstable();
        let starts = iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain(iter::once(data.len()));
        let mut frames: Vec<_> = starts
            .zip(ends)
            .enumerate()
            .map(|(index, (start, end))| {
                let opcode = if index == 0 { opcode } else { CONTINUATION };
                let fin = if index == cuts.len() { FIN } else { 0 };
                frame(fin | opcode, &data[start..end])
            })
            .collect();
        let mut events = Vec::new();
        if let Some(ping) = ping {
            frames.insert(frames.len() - 1, frame(FIN | PING, &ping));
            events.push(Event::Ping(ping.into()));
        }
        let kind = if opcode == TEXT { MessageKind::Text } else { MessageKind::Binary };
        events.push(Event::Message { kind, data: data.into() });
        (events, frames)
    })
}

/// Frames of which any part may be wrong, though mostly few are.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => select(vec![0x81, 0x82, 0x01, 0x02, 0x00, 0x00, 0x80, 0x80, 0x88, 0x89, 0x8a]),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        "\\PC{0,40}".prop_map(String::into_bytes),
        Just(vec![0x03, 0xe8]),
        vec(any::<u8>(), 0..=140),
    ];
    let damage = proptest::option::weighted(0.1, (any::<Index>(), any::<u8>()));
    (first, payload, damage).prop_map(|(first, payload, damage)| {
        let mut bytes = frame(first, &payload);
        if let Some((at, byte)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

/// Cuts `bytes` into reads of the given lengths, over and over.
fn cut(bytes: &[u8], read_lens: &[usize]) -> Vec<Vec<u8>> {
    let (mut reads, mut rest) = (Vec::new(), bytes);
    for len in read_lens.iter().cycle() {
        let (read, after) = rest.split_at(rest.len().min(*len));
        reads.push(read.to_vec());
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    reads
}

fn read_lens() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1..=3_usize, 1..=200_usize], 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn valid_streams_give_their_events_however_they_are_split(
        units in vec(valid_unit(), 0..8),
        read_lens in read_lens(),
    ) {
        let (events, frames): (Vec<_>, Vec<_>) = units.into_iter().unzip();
        let bytes = frames.concat().concat();
        let expected = Outcome { events: events.concat(), end: Ok(true) };
        prop_assert_eq!(&decode_whole(&bytes), &expected);
        prop_assert_eq!(&decode(cut(&bytes, &read_lens)), &expected);
    }

    #[test]
    fn damaged_streams_agree_with_the_reference_however_they_are_split(
        frames in vec(any_frame(), 0..12),
        read_lens in read_lens(),
    ) {
        let bytes = frames.concat();
        let expected = reference::decode(&bytes, LIMITS, Extension::None);
        prop_assert_eq!(&decode_whole(&bytes), &expected);
        prop_assert_eq!(&decode(cut(&bytes, &read_lens)), &expected);
    }

    #[test]
    fn any_bytes_agree_with_the_reference_however_they_are_split(
        bytes in vec(any::<u8>(), 0..400),
        read_lens in read_lens(),
    ) {
        let expected = reference::decode(&bytes, LIMITS, Extension::None);
        prop_assert_eq!(&decode_whole(&bytes), &expected);
        prop_assert_eq!(&decode(cut(&bytes, &read_lens)), &expected);
    }

    #[test]
    fn what_fastwebsockets_sends_is_understood(
        payload in vec(any::<u8>(), 0..=300),
        mask in any::<[u8; 4]>(),
    ) {
        let mut buf = Vec::new();
        let mut frame = Frame::new(true, OpCode::Binary, Some(mask), Payload::Owned(payload.clone()));
        frame.mask();
        let bytes = frame.write(&mut buf);
        let expected = Outcome { events: vec![binary(&payload)], end: Ok(true) };
        prop_assert_eq!(decode_whole(bytes), expected);
    }
}
