//! What an event for a room of 10 costs beside so many other rooms, each with one
//! member; it must not depend on them.
//!
//! What a room costs in memory is in `tests/memory.rs`, where it is asserted.

use std::time::Duration;

use benches::in_memory::{ActingSink, InMemory, Wakers, burst_to};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanout::{Input, Room, Session};

const MEMBERS: usize = 10;
/// Rooms of one connection, of those that have many.
const EACH: usize = 100;

fn beside(others: usize) -> InMemory {
    let (memory, wakers) = (InMemory::new(), Wakers::default());
    let join = |session: &mut Session<'_>, name: String| {
        session.join(&Room::new(name).expect("a good name")).expect("allowed");
    };
    for first in (0..others).step_by(EACH) {
        let act = move |session: &mut Session<'_>| {
            for n in first..(first + EACH).min(others) {
                join(session, format!("room:other-{n}"));
            }
            Input::Blocked
        };
        memory.connect_with(&first.to_string(), "guest", ActingSink::new(&wakers, act));
    }
    for n in 0..MEMBERS {
        let act = move |session: &mut Session<'_>| {
            join(session, "room:this".to_owned());
            Input::Blocked
        };
        memory.connect_with(&format!("member-{n}"), "guest", ActingSink::new(&wakers, act));
    }
    memory.until("all rooms", || memory.hub().stats().rooms == others + 1);
    memory
}

fn rooms(c: &mut Criterion) {
    let mut group = c.benchmark_group("rooms");
    group.sample_size(20);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(1));
    let emissions = burst_to("room:this", 1, 200);
    for others in [1, 1_000, 100_000, 1_000_000] {
        let memory = beside(others);
        group.bench_function(BenchmarkId::new("an event for 10 members", others), |b| {
            b.iter(|| memory.publish(emissions.clone(), MEMBERS as u64));
        });
    }
    group.finish();
}

criterion_group!(benches, rooms);
criterion_main!(benches);
