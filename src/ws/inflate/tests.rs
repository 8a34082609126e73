//! Streams by hand, streams of other makers, and any bytes, against a reference.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that panics has found something"
)]

use std::sync::Arc;

use flate2::{Compress, Compression, FlushCompress};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{Inflater, OUT_LEN_KEPT, OUT_LEN_MIN, RATIO_FREE_LEN, RATIO_MAX};
use crate::metrics::{Memory, MemoryKind};
use crate::reason::{CloseReason, ProtocolFault};
use crate::ws::DecodeError;

pub(crate) mod reference;

const INVALID: DecodeError = DecodeError::Protocol(ProtocolFault::Deflate);

fn inflater() -> Inflater {
    Inflater::new(Arc::new(Memory::new(u64::MAX)))
}

/// A deflated message as zlib makes it.
fn deflated(data: &[u8], level: u32, flush: FlushCompress) -> Vec<u8> {
    let mut compress = Compress::new(Compression::new(level), false);
    let mut payload = Vec::with_capacity(data.len() * 2 + 100);
    compress.compress_vec(data, &mut payload, flush).expect("deflates");
    if flush == FlushCompress::Sync {
        payload.truncate(payload.len() - 4);
    }
    payload
}

/// The body of a fuzz target: any bytes are what the reference says, whatever came before them.
fn agrees_with_the_reference(inflater: &mut Inflater, payload: &[u8], len_max: usize) {
    let expected = reference::inflate(payload, len_max).map(|inflated| inflated.data);
    let expected = expected.map_err(|fault| match fault {
        reference::Fault::Invalid => INVALID,
        reference::Fault::TooLong => DecodeError::TooLong { limit: len_max },
    });
    assert_eq!(inflater.inflate(payload, len_max).map(<[u8]>::to_vec), expected);
    assert!(inflater.charged <= OUT_LEN_KEPT.max(2 * len_max), "bounded by the limit");
}

#[test]
fn the_examples_of_the_rfc_are_understood() {
    // RFC 7692 sections 7.2.3.1 to 7.2.3.5, and what they leave open.
    for (payload, expected) in [
        (&b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..], &b"Hello"[..]),
        (b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"Hello"),
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00", b"Hello"),
        (b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b"Hello"),
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00", b"HelloHello"),
        (b"\x00", b""),
        (b"\x02\x00", b""),
        (b"\x03\x00", b""),
        (b"\x03\x00\x03\x00\x03\x00\x00", b""),
        (b"\x00\x00\x00\xff\xff\x00\x00\x00\xff\xff\x00", b""),
        (b"\x01\x00\x00\xff\xff", b""),
    ] {
        assert_eq!(inflater().inflate(payload, 100), Ok(expected), "{payload:x?}");
        agrees_with_the_reference(&mut inflater(), payload, 100);
    }
}

#[test]
fn what_is_broken_or_ends_too_early_is_a_fault() {
    for payload in [
        &b""[..],
        b"\x06",                                         // block type 3
        b"\xf2\x48\xcd\xc9\xc9\x07",                     // no end of the block
        b"\xf2\x48\xcd",                                 // cut in a block
        b"\x00\x05\x00\xfa\xff\x48\x65",                 // cut in a stored block
        b"\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00", // length against its complement
        b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff", // the end of the flush left in
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x06",             // nonsense behind a final block
        b"\xf2\x00\x11\x00\x00",                         // the message before referred to (7.2.3.2)
    ] {
        let mut inflater = inflater();
        assert_eq!(inflater.inflate(b"\xf2\x48\xcd\xc9\xc9\x07\x00", 100), Ok(&b"Hello"[..]));
        assert_eq!(inflater.inflate(payload, 100), Err(INVALID), "{payload:x?}");
        agrees_with_the_reference(&mut inflater, payload, 100);
        assert_eq!(inflater.inflate(b"\xf2\x48\xcd\xc9\xc9\x07\x00", 100), Ok(&b"Hello"[..]));
    }
    assert_eq!(INVALID.close_reason(), CloseReason::Protocol);
}

#[test]
fn the_limit_is_on_what_comes_out() {
    for len in [0, 1, 100, OUT_LEN_MIN - 1, OUT_LEN_MIN, OUT_LEN_MIN + 1, 3 * OUT_LEN_KEPT] {
        let data = vec![b'a'; len];
        let payload = deflated(&data, 6, FlushCompress::Sync);
        let mut inflater = inflater();
        assert_eq!(inflater.inflate(&payload, len), Ok(&data[..]));
        if let Some(limit) = len.checked_sub(1) {
            assert_eq!(inflater.inflate(&payload, limit), Err(DecodeError::TooLong { limit }));
        }
    }
}

#[test]
fn a_bomb_goes_off_within_the_limit() {
    let bomb = deflated(&vec![0; 16 << 20], 9, FlushCompress::Sync);
    assert!(bomb.len() < 17_000);
    let memory = Arc::new(Memory::new(u64::MAX));
    let mut inflater = Inflater::new(Arc::clone(&memory));
    for limit in [1_000, 65_536, 1 << 20] {
        assert_eq!(inflater.inflate(&bomb, limit), Err(DecodeError::TooLong { limit }));
        assert!(inflater.out.capacity() <= OUT_LEN_MIN.max(limit + 1), "{limit}");
        assert_eq!(memory.held(MemoryKind::Reading), inflater.out.capacity() as u64);
    }
    inflater.shed();
    assert_eq!((inflater.out.capacity(), memory.held(MemoryKind::Reading)), (0, 0));
    inflater.inflate(b"\x00", 1 << 20).expect("an empty message");
    inflater.shed();
    assert_eq!(memory.held(MemoryKind::Reading), OUT_LEN_MIN as u64, "kept for the next one");
    drop(inflater);
    assert_eq!(memory.held(MemoryKind::Reading), 0);
}

#[test]
fn a_long_message_has_a_limited_ratio() {
    let bomb = deflated(&vec![0; 16 << 20], 9, FlushCompress::Sync);
    let limit = bomb.len() * RATIO_MAX;
    assert!((RATIO_FREE_LEN..16 << 20).contains(&limit));
    let result = inflater().inflate(&bomb, usize::MAX).map(<[u8]>::len);
    assert_eq!(result, Err(DecodeError::TooLong { limit }));
    let free = deflated(&vec![0; RATIO_FREE_LEN], 9, FlushCompress::Sync);
    assert!(free.len() * RATIO_MAX < RATIO_FREE_LEN);
    assert_eq!(inflater().inflate(&free, usize::MAX).map(<[u8]>::len), Ok(RATIO_FREE_LEN));
}

#[test]
fn without_memory_only_what_has_room_is_inflated() {
    let memory = Arc::new(Memory::new(1_000_000));
    memory.charge(MemoryKind::History, 1_000_000 - 2 * OUT_LEN_KEPT);
    let before = memory.held(MemoryKind::Reading);
    let mut inflater = Inflater::new(Arc::clone(&memory));
    let long = deflated(&vec![0; 4 * OUT_LEN_KEPT], 6, FlushCompress::Sync);
    for _ in 0..3 {
        assert_eq!(inflater.inflate(&long, usize::MAX), Err(DecodeError::Memory));
        inflater.shed();
        assert_eq!(memory.held(MemoryKind::Reading), before, "given back");
    }
    assert_eq!(DecodeError::Memory.close_reason(), CloseReason::MemoryLimit);
    memory.charge(MemoryKind::History, 2 * OUT_LEN_KEPT);
    let short = deflated(&vec![7; OUT_LEN_KEPT / 2], 6, FlushCompress::Sync);
    assert_eq!(inflater.inflate(&short, usize::MAX).map(<[u8]>::len), Ok(OUT_LEN_KEPT / 2));
}

/// Data in which there is something to find.
fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..400),
        vec(select(vec![b'a', b'b', b'{', b'"']), 0..2_000),
        vec(vec(any::<u8>(), 1..40), 0..6).prop_map(|words| {
            words.iter().cycle().take(words.len() * 20).flatten().copied().collect()
        }),
    ]
}

/// What deflating gives, in one or several blocks, whole or with an end of its own.
fn stream() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let flush = select(vec![FlushCompress::Sync, FlushCompress::Finish]);
    let part = (data(), 0..=9_u32, flush);
    vec(part, 1..4).prop_map(|parts| {
        let last = parts.len() - 1;
        let (mut whole, mut payload) = (Vec::new(), Vec::new());
        for (index, (data, level, flush)) in parts.into_iter().enumerate() {
            payload.extend(deflated(&data, level, flush));
            // A flush is cut short at the end of the message only.
            if flush == FlushCompress::Sync && index < last {
                payload.extend([0, 0, 0xff, 0xff]);
            }
            whole.extend(data);
        }
        (whole, payload)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_was_deflated_is_inflated((data, payload) in stream()) {
        let mut inflater = inflater();
        prop_assert_eq!(inflater.inflate(&payload, data.len()), Ok(&data[..]));
        agrees_with_the_reference(&mut inflater, &payload, data.len());
    }

    #[test]
    fn damaged_streams_agree_with_the_reference(
        (_, mut payload) in stream(),
        damage in vec((any::<Index>(), any::<u8>()), 0..3),
        cut in proptest::option::weighted(0.3, any::<Index>()),
        len_max in 0..3_000_usize,
    ) {
        for (at, byte) in damage {
            let len = payload.len();
            if let Some(place) = payload.get_mut(at.index(len.max(1))) {
                *place = byte;
            }
        }
        if let Some(cut) = cut {
            payload.truncate(cut.index(payload.len() + 1));
        }
        agrees_with_the_reference(&mut inflater(), &payload, len_max);
    }

    #[test]
    fn any_bytes_agree_with_the_reference(
        payloads in vec(vec(any::<u8>(), 0..60), 1..4),
        len_max in 0..300_usize,
    ) {
        let mut inflater = inflater();
        for payload in &payloads {
            agrees_with_the_reference(&mut inflater, payload, len_max);
        }
    }
}
