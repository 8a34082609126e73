//! What does a publication cost before the first write, and a subscriber who is behind?
//!
//! From the hub's lock through the inbox to one joined buffer, 64 publications of 128 bytes at a
//! time; then queueing that buffer for one of 1,000 subscribers and writing it off again.

mod support;

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanwire::hub::{Publication, Start};
use fanwire::id::WorkerId;
use fanwire::limits::Delivery;
use fanwire::outbox::{Batch, Outbox, Policy, Slice};
use fanwire::protocol;

const BATCH: usize = 64;
const SUBSCRIBERS: usize = 1000;

fn to_one_buffer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publication to joined buffer");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (label, history_size) in [("no history", 0), ("history of 100", 100)] {
        let hub = support::hub(history_size);
        let (topic, draft) = (support::name("a"), support::draft());
        let _subscribed = hub.subscribe(&topic, WorkerId(0), Start::Live, |_| 0);
        let inbox = Arc::clone(hub.inbox(WorkerId(0)));
        let mut spare = Vec::new();
        group.bench_function(label, |bencher| {
            bencher.iter(|| {
                (0..BATCH).for_each(|_| support::publish(&hub, &topic, &draft));
                let taken: Vec<Arc<Publication>> =
                    std::iter::from_fn(|| inbox.pop()).map(|one| one.publication).collect();
                let encoded =
                    taken.iter().map(|one| one.encoded(protocol::NATIVE, &topic, hub.variants()));
                let batch = Batch::join(0, std::mem::take(&mut spare), encoded);
                for publication in &taken {
                    black_box(inbox.release(publication));
                }
                spare = black_box(batch).into_buf().unwrap_or_default();
            });
        });
    }
    group.finish();
}

fn to_those_behind(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("subscriber behind");
    group.throughput(Throughput::Elements(SUBSCRIBERS as u64));
    let hub = support::hub(0);
    let memory = Arc::clone(hub.memory());
    let frame = support::draft().payload.framed().clone();
    let batch = Rc::new(Batch::join(0, Vec::new(), [&frame; BATCH].into_iter()));
    let len = batch.bytes().len();
    let policy = Policy { len_max: 1 << 20, delivery: Delivery::Reliable };
    let mut outboxes: Vec<Outbox> = (0..SUBSCRIBERS).map(|_| Outbox::default()).collect();
    group.bench_function("queue 64 and write them off", |bencher| {
        bencher.iter(|| {
            for outbox in &mut outboxes {
                let _queued =
                    black_box(outbox.push(Slice::new(Rc::clone(&batch), 0..len), policy, &memory));
                black_box(outbox.advance(len));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, to_one_buffer, to_those_behind);
criterion_main!(benches);
