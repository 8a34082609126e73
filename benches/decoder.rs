//! What decoding a client's message costs, alone and with framing it anew for the subscribers.
//!
//! One iteration is one read: 64 text messages of 128 bytes, or 4 binary ones of 16 KiB.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fanwire::ws::{Decoder, DecoderLimits, Event, Input, MessageKind, Reading, data_frame};
use fastwebsockets::{Frame, OpCode, Payload};

/// What clients send in one read.
struct Read {
    name: &'static str,
    bytes: Vec<u8>,
    message_count: u64,
}

fn read(name: &'static str, opcode: OpCode, payload_len: usize, message_count: u64) -> Read {
    let mut bytes = Vec::new();
    for _ in 0..message_count {
        let payload = Payload::Owned(vec![b'a'; payload_len]);
        let mut frame = Frame::new(true, opcode, Some([0x37, 0xfa, 0x21, 0x3d]), payload);
        frame.mask();
        bytes.extend_from_slice(frame.write(&mut Vec::new()));
    }
    Read { name, bytes, message_count }
}

/// Decodes one read and shows each message to `take`.
fn decode(bytes: &mut [u8], mut take: impl FnMut(MessageKind, &[u8])) {
    let limits = DecoderLimits { message_len_max: 65_536, fragments_max: 65_536 };
    let (decoder, mut reading) = (Decoder::new(limits), Reading::default());
    let mut input = Input::new(bytes);
    while let Ok(Some(event)) = decoder.next_event(&mut reading, &mut input, None) {
        if let Event::Message { kind, data } = event {
            take(kind, &data);
        }
    }
    assert!(input.is_empty(), "the whole read was decoded");
}

fn decoder(criterion: &mut Criterion) {
    for read in [
        read("text 128 B", OpCode::Text, 128, 64),
        read("binary 16 KiB", OpCode::Binary, 16 * 1024, 4),
    ] {
        let mut group = criterion.benchmark_group(read.name);
        group.throughput(Throughput::Elements(read.message_count));
        group.bench_function("decode", |bencher| {
            bencher.iter_batched_ref(
                || read.bytes.clone(),
                |bytes| decode(bytes, |kind, data| _ = black_box((kind, data))),
                BatchSize::SmallInput,
            );
        });
        group.bench_function("decode and frame", |bencher| {
            bencher.iter_batched_ref(
                || read.bytes.clone(),
                |bytes| decode(bytes, |kind, data| _ = black_box(data_frame(kind, data))),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, decoder);
criterion_main!(benches);
