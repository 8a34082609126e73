//! What does finding a topic by name cost, among 100,000, alone and with a second thread?

mod support;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

use criterion::{Criterion, criterion_group, criterion_main};
use fanwire::hub::{Hub, TopicName};

const TOPICS: usize = 100_000;

fn publish_by_name(hub: &Hub, names: &[TopicName], random: &mut fastrand::Rng) {
    let name = &names[random.usize(..names.len())];
    support::publish(hub, black_box(name), &support::draft());
}

fn directory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish by name, nobody subscribes");
    let hub = support::hub(0);
    let names: Vec<_> = (0..TOPICS).map(|index| support::name(&format!("topic:{index}"))).collect();
    for name in &names {
        support::publish(&hub, name, &support::draft());
    }
    let mut random = fastrand::Rng::with_seed(1);
    group.bench_function("alone", |bencher| {
        bencher.iter(|| publish_by_name(&hub, &names, &mut random));
    });
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(2);
            while !is_over.load(Ordering::Relaxed) {
                publish_by_name(&hub, &names, &mut random);
            }
        });
        group.bench_function("with a second thread", |bencher| {
            bencher.iter(|| publish_by_name(&hub, &names, &mut random));
        });
        is_over.store(true, Ordering::Relaxed);
    });
    group.finish();
}

criterion_group!(benches, directory);
criterion_main!(benches);
