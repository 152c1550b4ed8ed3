//! What coming and going costs, which must not depend on how many others there are.
//!
//! `join and leave`: 64 connections take turns to leave a room and to join it again,
//! beside so many others that stay; each leaves from the middle of the members. `alone`:
//! each in a room of its own, which so begins and ends. `connect and disconnect`: 64 at
//! once, each in two rooms, one of them with all others; as [`Hub::connect`] and
//! [`Hub::disconnect`] have it, through the shard's mailbox and back.
//!
//! [`Hub::connect`]: fanout::Hub::connect
//! [`Hub::disconnect`]: fanout::Hub::disconnect

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use benches::in_memory::{ActingSink, InMemory, NullSink, Wakers};
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group,
    criterion_main, measurement::WallTime,
};
use fanout::{Close, Identity, Input, Room, Session};
use futures::future::join_all;

const TURNS: u64 = 64;

/// How often may be left and joined in all.
#[derive(Clone, Default)]
struct Budget(Arc<AtomicU64>);

impl Budget {
    fn take(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// Leaves `room` and joins it again, as long as the budget lasts.
fn commuter(wakers: &Wakers, budget: &Budget, room: Room) -> impl fanout::Sink + use<> {
    let budget = budget.clone();
    let act = move |session: &mut Session<'_>| {
        if !budget.take() {
            return Input::Blocked;
        }
        session.leave(&room).expect("it is not its own");
        assert_eq!(session.join(&room), Ok(true), "it had left");
        Input::More
    };
    ActingSink::new(wakers, act)
}

fn join_and_leave(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    others: u64,
    room_of: fn(u64) -> String,
) {
    let (memory, wakers, budget) = (InMemory::new(), Wakers::default(), Budget::default());
    let stay = Wakers::default();
    for n in 0..others {
        let room = Room::new(room_of(n)).expect("a good name");
        let act = move |session: &mut Session<'_>| {
            session.join(&room).expect("allowed");
            Input::Blocked
        };
        memory.connect_with(&format!("other-{n}"), "guest", ActingSink::new(&stay, act));
    }
    for n in 0..TURNS {
        let room = Room::new(room_of(n)).expect("a good name");
        memory.connect_with(&n.to_string(), "guest", commuter(&wakers, &budget, room));
    }
    group.throughput(Throughput::Elements(TURNS));
    group.bench_function(id, |b| {
        b.iter_custom(|iterations| {
            budget.0.store(iterations * TURNS, Ordering::Relaxed);
            let began = Instant::now();
            wakers.wake();
            memory.until("all turns", || budget.spent());
            began.elapsed()
        });
    });
}

fn connect_and_disconnect(group: &mut BenchmarkGroup<'_, WallTime>, others: usize) {
    let memory = InMemory::new();
    for n in 0..others {
        memory.connect(&format!("other-{n}"), "user");
    }
    let subjects: Vec<String> = (0..TURNS).map(|n| n.to_string()).collect();
    let (hub, native) = (memory.hub(), memory.protocol());
    group.throughput(Throughput::Elements(TURNS));
    group.bench_function(BenchmarkId::new("connect and disconnect", others), |b| {
        b.iter(|| {
            memory.run(async {
                let connect = |subject: &String| {
                    let identity = Identity::new(subject.as_str(), ["user"]);
                    hub.connect(native, identity, NullSink::default())
                };
                let connected = join_all(subjects.iter().map(connect)).await;
                let disconnect = connected.into_iter().map(|id| async {
                    hub.disconnect(id.expect("the hub takes everybody"), Close::Normal).await;
                });
                join_all(disconnect).await;
            });
            memory.until("all to be gone", || hub.stats().connections == others);
        });
    });
}

fn churn(c: &mut Criterion) {
    let mut group = c.benchmark_group("churn");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let id = BenchmarkId::new("join and leave", "alone");
    join_and_leave(&mut group, id, 0, |n| format!("room:{n}"));
    for others in [1, 1_000, 100_000] {
        let id = BenchmarkId::new("join and leave", format!("{others} others"));
        join_and_leave(&mut group, id, others, |_| "room:all".to_owned());
    }
    for others in [1, 100_000] {
        connect_and_disconnect(&mut group, others);
    }
    group.finish();
}

criterion_group!(benches, churn);
criterion_main!(benches);
