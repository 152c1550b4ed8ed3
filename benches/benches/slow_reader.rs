//! What those who do not read cost the others, and what their catching up costs.
//!
//! `others`: in a room of 1,000 some take nothing. The clock runs from publishing until
//! the healthy have taken everything; the time is that of a delivery to one of them.
//! `catching up`: a thousand have taken nothing meanwhile; the clock runs from when they
//! read again until they have everything.

use std::time::{Duration, Instant};

use benches::in_memory::{Gate, InMemory, burst};
use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};

const MEMBERS: u64 = 1_000;
const PAYLOAD: usize = 200;
/// Per iteration. The first batch finds the slow live, the others find them behind.
const BATCHES: u64 = 16;
const BURST: usize = 16;
const MESSAGES: u64 = BATCHES * BURST as u64;

fn room_of(slow: u64) -> (InMemory, Gate) {
    let (memory, gate) = (InMemory::new(), Gate::default());
    for n in 0..MEMBERS {
        // Spread among the others, as they would be.
        if n * slow / MEMBERS == (n + 1) * slow / MEMBERS {
            memory.connect(&n.to_string(), "user");
        } else {
            memory.connect_with(&n.to_string(), "user", gate.sink());
        }
    }
    (memory, gate)
}

fn slow_reader(c: &mut Criterion) {
    let mut group = c.benchmark_group("slow_reader");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let emissions = burst(BURST, PAYLOAD);
    for (percent, slow) in [("0 %", 0), ("0.1 %", 1), ("1 %", 10), ("10 %", 100), ("50 %", 500)] {
        let (memory, gate) = room_of(slow);
        let healthy = MEMBERS - slow;
        group.throughput(Throughput::Elements(healthy * MESSAGES));
        group.bench_function(BenchmarkId::new("others", format!("{percent} slow")), |b| {
            b.iter_custom(|iterations| {
                let mut took = Duration::ZERO;
                for _ in 0..iterations {
                    gate.shut();
                    let began = Instant::now();
                    for _ in 0..BATCHES {
                        memory.publish(emissions.clone(), healthy * BURST as u64);
                    }
                    took += began.elapsed();
                    // Off the clock: nobody is to fall out of the log.
                    memory.settle();
                    memory.deliver(slow * MESSAGES, async { gate.open() });
                }
                took
            });
        });
    }

    let (memory, gate) = room_of(MEMBERS);
    group.throughput(Throughput::Elements(MEMBERS * MESSAGES));
    group.bench_function("catching up", |b| {
        b.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations {
                gate.shut();
                for _ in 0..BATCHES {
                    memory.publish(emissions.clone(), 0);
                    memory.settle();
                }
                let began = Instant::now();
                memory.deliver(MEMBERS * MESSAGES, async { gate.open() });
                took += began.elapsed();
            }
            took
        });
    });
    group.finish();
}

criterion_group!(benches, slow_reader);
criterion_main!(benches);
