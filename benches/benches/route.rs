//! What an event costs before anybody gets it: the router, and the way from a source
//! through router, encoding and log.

use std::sync::Arc;
use std::time::Instant;

use benches::in_memory::{InMemory, median};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fanout::{
    Emission, Event, EventBatch, Lane, Pipeline, Room, RouteError, Router, Source, SourceError,
    SourceStatus,
};

const BATCH: u64 = 64;
const BUYERS: u64 = 100;
/// Each event is for its buyer and for the dashboard.
const EMISSIONS: u64 = 2;

#[derive(serde::Deserialize)]
struct Order<'a> {
    #[serde(rename = "buyerId", borrow)]
    buyer: &'a str,
}

fn router(event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
    let Order { buyer } = event.parse()?;
    let body = event.json()?;
    out.push(Emission::new(Room::of("user", buyer)?, "order:created", body.clone()));
    out.push(Emission::new(Room::new("admin:dashboard")?, "admin:order:created", body));
    Ok(())
}

/// Hands on batches that were made before the clock ran.
struct Prepared {
    lane: Arc<Lane>,
    payloads: Vec<Bytes>,
    next: u64,
    end: u64,
    status: SourceStatus,
}

impl Prepared {
    fn new(first: u64, batches: u64) -> Self {
        let payload = |n: u64| {
            let order = serde_json::json!({
                "orderId": format!("order-{n:08}"), "buyerId": format!("buyer-{}", n % BUYERS),
                "items": [{"sku": "A-1", "name": "lamp", "quantity": 2, "unitPrice": 19.9}],
                "total": 39.8, "currency": "EUR", "status": "pending", "version": 1,
            });
            order.to_string().into()
        };
        Self {
            lane: Arc::new(Lane::new("bench", "order.created", 0)),
            payloads: (0..BATCH).map(payload).collect(),
            next: first,
            end: first + batches * BATCH,
            status: SourceStatus::new().1,
        }
    }

    fn batch(&mut self) -> EventBatch {
        let numbered = self.payloads.iter().zip(self.next..);
        let event = |(payload, n): (&Bytes, u64)| Event::new(self.lane.clone(), n, payload.clone());
        let events = numbered.map(event).collect();
        self.next += BATCH;
        EventBatch {
            events,
            frontier: vec![(self.lane.clone(), self.next)],
            ..EventBatch::default()
        }
    }
}

impl Source for Prepared {
    async fn next(&mut self) -> Result<Option<EventBatch>, SourceError> {
        // As any source that waits for a broker: whoever shares the thread comes first.
        tokio::task::yield_now().await;
        Ok((self.next < self.end).then(|| self.batch()))
    }

    fn status(&self) -> SourceStatus {
        self.status.clone()
    }
}

fn route(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    group.throughput(Throughput::Elements(BATCH));
    let events = Prepared::new(0, 1).batch().events;
    let mut out = Vec::new();
    group.bench_function("router", |b| {
        b.iter(|| {
            for event in &events {
                out.clear();
                router.route(std::hint::black_box(event), &mut out).expect("routed");
            }
            out.len()
        });
    });

    // Whoever an emission is for makes it be encoded.
    let memory = InMemory::new();
    memory.connect("ann", "admin");
    for n in 0..BUYERS {
        memory.connect(&format!("buyer-{n}"), "user");
    }
    let (mut offset, mut ns_per_event) = (0, Vec::new());
    group.bench_function("source to sink", |b| {
        b.iter_custom(|batches| {
            let source = Prepared::new(offset, batches);
            offset = source.end;
            let pipeline = Pipeline::new(source, router, memory.hub().clone());
            let began = Instant::now();
            memory.deliver(batches * BATCH * EMISSIONS, async {
                pipeline.run().await.expect("the source ends well");
            });
            let took = began.elapsed();
            ns_per_event.push(took.as_nanos() as f64 / (batches * BATCH) as f64);
            took
        });
    });
    println!("{:24}{:.0} ns per event", "", median(&mut ns_per_event));
    group.finish();
}

criterion_group!(benches, route);
criterion_main!(benches);
