//! Whether our unmasking is as fast as that of fastwebsockets, from short messages to the longest.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanwire::ws::unmask_in_place;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Payloads begin right after a head, so at no round address.
const HEAD_LEN: usize = 6;

fn unmask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("unmask");
    for len in [16, 128, 1024, 16 * 1024, 64 * 1024] {
        let mut frame = vec![b'a'; HEAD_LEN + len];
        let payload = &mut frame[HEAD_LEN..];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("fanwire", len), |bencher| {
            bencher.iter(|| unmask_in_place(black_box(payload), black_box(MASK), 0));
        });
        group.bench_function(BenchmarkId::new("fastwebsockets", len), |bencher| {
            bencher.iter(|| fastwebsockets::unmask(black_box(payload), black_box(MASK)));
        });
    }
    group.finish();
}

criterion_group!(benches, unmask);
criterion_main!(benches);
