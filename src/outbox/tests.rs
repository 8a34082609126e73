//! Random pushes, drops and writes against the order a client may see.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Batch, Delivery, Front, Outbox, Policy, Push, SLICES_MAX, Slice};
use crate::metrics::{Memory, MemoryKind};

/// A frame that names itself: its length, then its number repeated.
fn frame(number: u8, len: usize) -> Bytes {
    let mut bytes = vec![number; len];
    bytes[0] = u8::try_from(len).expect("frames are short here");
    Bytes::from(bytes)
}

fn parse(mut bytes: &[u8]) -> Vec<u8> {
    let mut numbers = Vec::new();
    while let Some(len) = bytes.first().map(|len| usize::from(*len)) {
        let (frame, rest) = bytes.split_at(len);
        assert!(frame[1..].iter().all(|byte| *byte == frame[1]), "frames arrive whole");
        numbers.push(frame[1]);
        bytes = rest;
    }
    numbers
}

fn take(outbox: &mut Outbox, len: usize, out: &mut Vec<u8>) -> usize {
    let mut slices = [std::io::IoSlice::new(&[]); SLICES_MAX];
    let count = outbox.slices(&mut slices);
    let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
    let len = len.min(all.len());
    out.extend_from_slice(&all[..len]);
    outbox.advance(len)
}

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<usize>),
    Pong,
    Write(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec(2_usize..40, 1..5).prop_map(Step::Push),
        1 => Just(Step::Pong),
        2 => (0_usize..120).prop_map(Step::Write),
    ]
}

const PONG: u8 = 255;

/// Longer than any publication here.
const PONG_LEN: usize = 41;

/// Numbers of the whole frames in `out`, and whether the next one is a begun publication.
fn taken(out: &[u8]) -> (Vec<u8>, bool) {
    let (mut numbers, mut rest) = (Vec::new(), out);
    while let Some(len) = rest.first().map(|len| usize::from(*len)) {
        if rest.len() < len {
            return (numbers, len != PONG_LEN);
        }
        numbers.push(rest[1]);
        rest = &rest[len..];
    }
    (numbers, false)
}

/// The oldest `count` of what waits, one that is begun left out.
fn oldest(pushed: u8, lost: &[u8], out: &[u8], count: u64) -> Vec<u8> {
    let (whole, is_begun) = taken(out);
    let waits = |number: &u8| !whole.contains(number) && !lost.contains(number);
    let waiting = (1..=pushed).filter(waits).skip(usize::from(is_begun));
    waiting.take(usize::try_from(count).expect("few")).collect()
}

fn run(steps: &[Step], delivery: Delivery) {
    let memory = Arc::new(Memory::new(u64::MAX));
    let policy = Policy { len_max: 200, delivery };
    let (mut outbox, mut out) = (Outbox::default(), Vec::new());
    let (mut number, mut dropped, mut completed) = (0_u8, 0, 0);
    let mut lost = Vec::new();
    for step in steps {
        match step {
            Step::Push(lens) if usize::from(number) + lens.len() < usize::from(PONG) => {
                let frames: Vec<_> = lens
                    .iter()
                    .map(|len| {
                        number += 1;
                        frame(number, *len)
                    })
                    .collect();
                let batch = Rc::new(Batch::join(0, Vec::new(), frames.iter()));
                let len = batch.bytes().len();
                match outbox.push(Slice::new(batch, 0..len), policy, &memory) {
                    Push::Queued => {}
                    Push::Dropped(count) => {
                        dropped += count;
                        let oldest = oldest(number, &lost, &out, count);
                        lost.extend(oldest);
                    }
                    Push::Full => {
                        take(&mut outbox, usize::MAX, &mut out);
                        parse(&out);
                        return;
                    }
                }
                assert!(
                    outbox.len() <= 200 + 40 + PONG_LEN,
                    "a begun frame and a pong come on top"
                );
            }
            Step::Push(_) => {}
            Step::Pong => outbox.push_pong(frame(PONG, PONG_LEN).to_vec().into()),
            Step::Write(len) => completed += take(&mut outbox, *len, &mut out),
        }
    }
    while !outbox.is_empty() {
        completed += take(&mut outbox, usize::MAX, &mut out);
    }
    assert_eq!(outbox.len(), 0);
    let numbers: Vec<_> = parse(&out).into_iter().filter(|number| *number != PONG).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order, none twice: {numbers:?}");
    assert_eq!(numbers.len(), completed);
    assert_eq!(numbers.len() as u64 + dropped, u64::from(number), "delivered or counted");
    if delivery == Delivery::Lossy {
        assert!(numbers.iter().all(|number| !lost.contains(number)), "the oldest go: {lost:?}");
    }
    if number > 0 {
        assert_eq!(numbers.last(), Some(&number), "the newest always arrives");
    }
    let queue_len = outbox.held_len() as u64;
    assert!(memory.held(MemoryKind::Outbox) <= queue_len, "nothing but the empty queue");
    drop(outbox);
    assert_eq!(memory.held(MemoryKind::Outbox), 0);
}

proptest! {
    #[test]
    fn frames_arrive_whole_in_order_or_are_counted(
        steps in prop::collection::vec(step(), 0..60),
        class in 0_usize..3,
    ) {
        run(&steps, Delivery::ALL[class]);
    }
}

#[test]
fn only_the_newest_pong_waits() {
    let mut outbox = Outbox::default();
    for number in 1..=3 {
        outbox.push_pong(frame(number, 4).to_vec().into());
    }
    let mut out = Vec::new();
    take(&mut outbox, usize::MAX, &mut out);
    assert_eq!(parse(&out), [3]);
}

#[test]
fn a_notice_of_skipped_publications_goes_behind_the_begun_frame_and_grows() {
    let memory = Arc::new(Memory::new(u64::MAX));
    let policy = Policy { len_max: 10, delivery: Delivery::Latest };
    let mut outbox = Outbox::default();
    let batch = Rc::new(Batch::single(0, frame(1, 8)));
    assert_eq!(outbox.push(Slice::new(batch, 0..8), policy, &memory), Push::Queued);
    let mut out = Vec::new();
    take(&mut outbox, 3, &mut out);
    for number in 2..5 {
        let batch = Rc::new(Batch::single(0, frame(number, 8)));
        let pushed = outbox.push(Slice::new(batch, 0..8), policy, &memory);
        if let Push::Dropped(count) = pushed
            && count > 0
        {
            let count = outbox.skipped() + count;
            let notice = frame(100 + u8::try_from(count).expect("few"), 4);
            outbox.put_skipped(count, notice.to_vec().into());
        }
    }
    take(&mut outbox, usize::MAX, &mut out);
    assert_eq!(parse(&out), [1, 102, 4]);
}

#[test]
fn the_queue_is_charged_beside_the_bytes_in_it() {
    let memory = Arc::new(Memory::new(u64::MAX));
    let policy = Policy { len_max: usize::MAX, delivery: Delivery::Reliable };
    let mut outbox = Outbox::default();
    let batch = Rc::new(Batch::single(0, frame(1, 8)));
    for _ in 0..10_000 {
        assert_eq!(outbox.push(Slice::new(Rc::clone(&batch), 0..8), policy, &memory), Push::Queued);
    }
    let held = memory.held(MemoryKind::Outbox);
    assert!(held >= 10_000 * size_of::<Slice>() as u64, "{held} bytes for 10,000 short items");
    assert!(held < (2 * outbox.held_len()) as u64, "{held} bytes, and the batch only once");
    drop((outbox, batch));
    assert_eq!(memory.held(MemoryKind::Outbox), 0);
}

#[test]
fn what_one_topic_drops_is_of_that_topic() {
    let memory = Arc::new(Memory::new(u64::MAX));
    for delivery in [Delivery::Latest, Delivery::Lossy] {
        let mut outbox = Outbox::default();
        let mut push = |topic, number, delivery| {
            let batch = Rc::new(Batch::single(topic, frame(number, 8)));
            let policy = Policy { len_max: 24, delivery };
            outbox.push(Slice::new(batch, 0..8), policy, &memory)
        };
        assert_eq!(push(0, 1, Delivery::Reliable), Push::Queued);
        for number in 2..=5 {
            assert_ne!(push(1, number, delivery), Push::Full, "{delivery:?} {number}");
        }
        let mut out = Vec::new();
        take(&mut outbox, usize::MAX, &mut out);
        assert_eq!(parse(&out), [1, 5], "{delivery:?}");
    }
}

/// What comes next, with its topic and sequences.
fn reword(front: Front<'_>) -> Vec<u8> {
    match front {
        Front::Publications(slice) => {
            let words = slice.publications().map(|(sequence, bytes)| {
                format!("{}:{sequence}={} ", slice.topic(), bytes[1]).into_bytes()
            });
            words.flatten().collect()
        }
        Front::Own(b"nothing") => Vec::new(),
        Front::Own(bytes) => bytes.to_vec(),
    }
}

fn front(outbox: &Outbox) -> String {
    let mut slices = [std::io::IoSlice::new(&[]); SLICES_MAX];
    outbox.slices(&mut slices);
    String::from_utf8(slices[0].to_vec()).expect("ASCII")
}

/// Publications 2 to 5 of one batch, bytes of the connection's own, a long publication.
fn outbox_of_two_topics(memory: &Arc<Memory>) -> Outbox {
    let policy = Policy { len_max: usize::MAX, delivery: Delivery::Reliable };
    let mut outbox = Outbox::default();
    let frames: Vec<_> = (1..=5).map(|number| frame(number, 8)).collect();
    // A latecomer's part.
    let batch = Rc::new(Batch::join(7, Vec::new(), frames.iter()).numbered(11));
    assert_eq!(outbox.push(Slice::new(batch, 8..40), policy, memory), Push::Queued);
    outbox.push_own(b"own".as_slice().into());
    outbox.push_own(b"nothing".as_slice().into());
    let long = Rc::new(Batch::single(9, frame(6, 30)).numbered(3));
    assert_eq!(outbox.push(Slice::new(long, 0..30), policy, memory), Push::Queued);
    outbox
}

#[test]
fn publications_come_out_in_other_words_a_few_at_a_time() {
    let memory = Arc::new(Memory::new(u64::MAX));
    let mut outbox = outbox_of_two_topics(&memory);
    let mut pieces = Vec::new();
    loop {
        outbox.rewrite_front(20, &memory, reword);
        if outbox.is_empty() {
            break;
        }
        let (text, left) = (front(&outbox), outbox.len());
        assert!(memory.held(MemoryKind::Outbox) >= text.len() as u64);
        assert_eq!(outbox.advance(1), 0, "it counts when it is whole");
        outbox.rewrite_front(20, &memory, |_| panic!("it is not rewritten again"));
        let count = outbox.advance(text.len() - 1);
        pieces.push((text, count, left));
    }
    let expected = [
        ("7:12=2 7:13=3 ", 2, 14 + 16 + 10 + 30),
        ("7:14=4 7:15=5 ", 2, 14 + 10 + 30),
        ("own", 0, 3 + 7 + 30),
        ("9:3=6 ", 1, 6),
    ];
    let pieces: Vec<_> = pieces.iter().map(|(text, count, len)| (&**text, *count, *len)).collect();
    assert_eq!(pieces, expected);
    drop(outbox);
    assert_eq!(memory.held(MemoryKind::Outbox), 0);
}

#[test]
fn what_is_in_other_words_stays_in_front_whatever_is_dropped() {
    let memory = Arc::new(Memory::new(u64::MAX));
    let mut outbox = outbox_of_two_topics(&memory);
    outbox.rewrite_front(20, &memory, reword);
    outbox.put_skipped(2, b"skipped".as_slice().into());
    assert_eq!(outbox.clear(), 3);
    let mut out = String::new();
    while !outbox.is_empty() {
        let text = front(&outbox);
        outbox.advance(text.len());
        out.push_str(&text);
    }
    assert_eq!(out, "7:12=2 7:13=3 skippedownnothing");
}
