//! What a delivery costs in the hub: publish to everybody in one room.
//!
//! The clock runs from publishing until every sink has taken everything.

use std::time::Instant;

use benches::in_memory::{InMemory, burst, median};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const PAYLOAD: usize = 200;

fn broadcast(c: &mut Criterion) {
    let mut group = c.benchmark_group("broadcast");
    for members in [1_000, 10_000] {
        let memory = InMemory::new();
        for n in 0..members {
            memory.connect(&n.to_string(), "user");
        }
        let hub = memory.hub();
        for messages in [1, 16] {
            let emissions = burst(messages, PAYLOAD);
            let deliveries = members * messages as u64;
            let mut ns_per_delivery = Vec::new();
            group.throughput(Throughput::Elements(deliveries));
            let id = BenchmarkId::new(format!("{members} members"), format!("burst {messages}"));
            group.bench_function(id, |b| {
                b.iter_custom(|iterations| {
                    let began = Instant::now();
                    for _ in 0..iterations {
                        memory.deliver(deliveries, async {
                            hub.publish(emissions.clone()).await.expect("published");
                        });
                    }
                    let took = began.elapsed();
                    ns_per_delivery.push(took.as_nanos() as f64 / (iterations * deliveries) as f64);
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
