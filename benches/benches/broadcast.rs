//! What a delivery costs in the hub: publish to everybody in one room.
//!
//! The clock runs from publishing until every sink has taken everything.

use std::time::{Duration, Instant};

use benches::in_memory::{InMemory, burst, median};
use benches::message;
use benches::run::Rooms;
use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};

fn broadcast(c: &mut Criterion) {
    let mut group = c.benchmark_group("broadcast");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for members in [1_000, 10_000, 100_000] {
        let memory = InMemory::new();
        for n in 0..members {
            memory.connect(&n.to_string(), "user");
        }
        for (payload, messages) in [(200, 1), (200, 16), (1024, 1), (1024, 16)] {
            let emissions = burst(messages, payload);
            let elements = members * messages as u64;
            let bytes = elements * message::text_len(payload, Rooms::One) as u64;
            let mut ns_per_delivery = Vec::new();
            group.throughput(Throughput::ElementsAndBytes { elements, bytes });
            let case = format!("{payload} B, burst {messages}");
            group.bench_function(BenchmarkId::new(format!("{members} members"), case), |b| {
                b.iter_custom(|iterations| {
                    let began = Instant::now();
                    for _ in 0..iterations {
                        memory.publish(emissions.clone(), elements);
                    }
                    let took = began.elapsed();
                    ns_per_delivery.push(took.as_nanos() as f64 / (iterations * elements) as f64);
                    took
                });
            });
            println!("{:24}{:.2} ns per delivery", "", median(&mut ns_per_delivery));
        }
    }
    group.finish();
}

criterion_group!(benches, broadcast);
criterion_main!(benches);
