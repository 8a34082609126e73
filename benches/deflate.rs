//! What does a publication cost to deflate, once for all its subscribers, and to inflate?
//!
//! JSON of several lengths, with the full and the smallest window; a deflated frame is decoded as a
//! client's, mask included.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fanwire::metrics::Memory;
use fanwire::ws::{
    Decoder, DecoderLimits, Deflater, Inflater, Input, MessageKind, Reading, Window, data_frame,
    unmask_in_place,
};

fn json(len: usize) -> Vec<u8> {
    let entry = |number: usize| {
        format!(
            "{{\"id\":{},\"user\":\"user {}\",\"text\":\"hello {number}\"}},",
            number * 7919,
            number % 13
        )
    };
    (0..).flat_map(|number| entry(number).into_bytes()).take(len).collect()
}

/// A frame of the server's as a client would send it.
fn masked(frame: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let head_len = if frame[1] == 126 { 4 } else { 2 };
    let (head, payload) = frame.split_at(head_len);
    let mut bytes = [head, &mask, payload].concat();
    bytes[1] |= 0x80;
    unmask_in_place(&mut bytes[head_len + mask.len()..], mask, 0);
    bytes
}

fn deflate(criterion: &mut Criterion) {
    let limits = DecoderLimits { message_len_max: 65_536, fragments_max: 1 };
    for len in [256, 1024, 4096, 16_384] {
        let frame = data_frame(MessageKind::Text, &json(len));
        let mut group = criterion.benchmark_group(format!("JSON of {len} B"));
        group.throughput(Throughput::Bytes(len as u64));
        for window in [Window::Full, Window::Small] {
            let deflater = Deflater::new(window, 1);
            let deflated_len = deflater.deflate(&frame).map_or(0, |frame| frame.len());
            let label = format!("deflate, {} bits, to {deflated_len} B", window.bits());
            group.bench_function(label, |bencher| {
                bencher.iter(|| deflater.deflate(black_box(&frame)));
            });
        }
        let deflated = Deflater::new(Window::Full, 1).deflate(&frame).expect("it becomes shorter");
        let read = masked(&deflated);
        let mut inflater = Inflater::new(Arc::new(Memory::new(u64::MAX)));
        group.bench_function("decode and inflate", |bencher| {
            bencher.iter_batched_ref(
                || read.clone(),
                |bytes| {
                    let (mut reading, mut input) = (Reading::default(), Input::new(bytes));
                    let decoder = Decoder::new(limits);
                    let event = decoder.next_event(&mut reading, &mut input, Some(&mut inflater));
                    _ = black_box(event.expect("a good message"));
                },
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, deflate);
criterion_main!(benches);
