//! How long a record takes to the sockets, as it is measured.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fanout::testing::{Lines, MemoryPeer, MemorySink};
use fanout::{
    Access, Emission, Event, EventBatch, Hub, Identity, Lane, Pipeline, RoleAccess, Room,
    RouteError, Source, SourceError, SourceReporter, SourceStatus,
};
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use tokio::sync::mpsc;

/// Every value of `fanout_delivery_seconds`.
#[derive(Clone, Debug, Default)]
struct Values(Arc<Mutex<Vec<f64>>>);

impl HistogramFn for Values {
    fn record(&self, value: f64) {
        self.0.lock().unwrap().push(value);
    }
}

impl Recorder for Values {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        assert_eq!((key.name(), key.labels().len()), ("fanout_delivery_seconds", 0));
        Histogram::from_arc(Arc::new(self.clone()))
    }
}

impl Values {
    fn take(&self) -> Vec<f64> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

struct Told {
    batches: mpsc::Receiver<EventBatch>,
    status: SourceStatus,
    _reporter: SourceReporter,
}

impl Source for Told {
    async fn next(&mut self) -> Result<Option<EventBatch>, SourceError> {
        Ok(self.batches.recv().await)
    }

    fn status(&self) -> SourceStatus {
        self.status.clone()
    }
}

/// The key is the room.
fn route(event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
    let room = std::str::from_utf8(event.key.as_deref().unwrap_or_default())?;
    out.push(Emission::new(Room::new(room)?, "e", event.json()?));
    Ok(())
}

struct Stage {
    hub: Hub,
    source: mpsc::Sender<EventBatch>,
    lane: Arc<Lane>,
    next: u64,
}

impl Stage {
    fn new(shards: usize) -> Self {
        let access = Access::new([RoleAccess::new("guest").joins("all")]).unwrap();
        let hub = Hub::builder(access).shards(shards).build().unwrap();
        let (source, batches) = mpsc::channel(16);
        let (reporter, status) = SourceStatus::new();
        let told = Told { batches, status, _reporter: reporter };
        tokio::spawn(Pipeline::new(told, route, hub.clone()).run());
        Self { hub, source, lane: Arc::new(Lane::new("l", "t", 0)), next: 0 }
    }

    async fn client(&self) -> MemoryPeer {
        let (peer, sink) = MemorySink::new();
        let lines = self.hub.protocol(Lines);
        self.hub.connect(&lines, Identity::new("x", ["guest"]), sink).await.unwrap();
        peer
    }

    /// A batch of events of these times.
    fn send(&mut self, room: &'static str, times: &[SystemTime]) {
        let mut batch = EventBatch::default();
        for time in times {
            let event = Event::new(self.lane.clone(), self.next, Bytes::from_static(b"1"));
            let key = Some(Bytes::from_static(room.as_bytes()));
            batch.events.push(event.with_key(key).with_time(*time));
            self.next += 1;
        }
        self.source.try_send(batch).unwrap();
    }
}

async fn eventually(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("in time");
}

async fn has(peer: &MemoryPeer, count: usize) {
    peer.until("all came", |peer| peer.count() >= count).await;
}

#[test]
fn it_is_the_age_of_the_oldest_of_what_is_live_once_a_batch_and_shard() {
    let values = Values::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    metrics::with_local_recorder(&values, || {
        runtime.block_on(async {
            let ago = |seconds| SystemTime::now() - Duration::from_secs(seconds);
            let mut stage = Stage::new(1);
            let live = [stage.client().await, stage.client().await];
            // What nobody is there for.
            stage.send("others", &[ago(9)]);
            stage.send("all", &[ago(1000), ago(2000), ago(1)]);
            has(&live[0], 3).await;
            has(&live[1], 3).await;
            let recorded = values.take();
            assert!(
                matches!(recorded[..], [age] if (2000.0..3000.0).contains(&age)),
                "{recorded:?}"
            );
            // A clock that goes before ours, and a record that has no time.
            stage.send("all", &[ago(0) + Duration::from_secs(1000)]);
            has(&live[1], 4).await;
            assert_eq!(values.take(), [0.0]);
            stage.send("all", &[SystemTime::UNIX_EPOCH]);
            has(&live[1], 5).await;
            assert_eq!(values.take(), [0.0; 0]);
            stage.send("all", &[SystemTime::UNIX_EPOCH, ago(1000)]);
            has(&live[1], 7).await;
            let recorded = values.take();
            assert!(
                matches!(recorded[..], [age] if (1000.0..2000.0).contains(&age)),
                "{recorded:?}"
            );
            // What is caught up on is not live.
            live[0].hang_up();
            live[1].stall();
            stage.send("all", &[ago(1000)]);
            eventually(|| stage.hub.stats().behind == 1).await;
            live[1].flow();
            has(&live[1], 8).await;
            assert_eq!(values.take(), [0.0; 0]);
        });
    });
    metrics::with_local_recorder(&values, || {
        runtime.block_on(async {
            let mut stage = Stage::new(2);
            let live = [stage.client().await, stage.client().await, stage.client().await];
            stage.send("all", &[SystemTime::now() + Duration::from_secs(1000)]);
            for peer in &live {
                has(peer, 1).await;
            }
            // One shard may still be about to say so.
            eventually(|| values.0.lock().unwrap().len() >= 2).await;
            assert_eq!(values.take(), [0.0, 0.0]);
        });
    });
}
