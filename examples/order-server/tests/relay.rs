//! From the outbox to Kafka: nothing is lost, doubled or reordered while it is away.

#![allow(missing_docs, reason = "a test")]

#[allow(dead_code, reason = "each test uses a part of it")]
mod support;

use std::collections::HashMap;

use fanout::{Event, Source};
use kafka_source::{EmbeddedBroker, KafkaSource};
use order_server::input::NewOrder;
use order_server::kafka::{Broker, NewTopics};
use order_server::money::Rate;
use order_server::order::Order;
use order_server::relay::Relay;
use order_server::status::Status;
use order_server::store::{Place, Store};
use order_server::time::Time;
use serde_json::Value;
use support::{DEADLINE, Folder, apples, until};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Relaying {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Relaying {
    fn start(store: &Store, broker: &Broker) -> Self {
        let stop = CancellationToken::new();
        let relay = Relay::new(store.clone(), broker.producer().unwrap());
        Self { task: tokio::spawn(relay.run(stop.clone())), stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("stopped in time").unwrap();
    }
}

fn broker() -> Broker {
    Broker::embedded(NewTopics { partitions: 3, replication: 1 }).unwrap()
}

fn embedded(broker: &Broker) -> &EmbeddedBroker {
    match broker {
        Broker::Embedded(broker) => broker,
        _ => panic!("the test has started an embedded one"),
    }
}

async fn place(store: &Store, buyer: &str) -> Order {
    let new = NewOrder::check(&apples(), "EUR").unwrap();
    let order = Order::place(buyer, new, Rate::default(), Time::now()).unwrap();
    store.place(order, None).await.unwrap().order
}

async fn set(store: &Store, order: &Order, status: Status) {
    store.change(order.order_id.clone(), None, status, None, Time::now()).await.unwrap();
}

async fn all_published(store: &Store) {
    until("the outbox is empty", async || store.waiting(1).await.unwrap().is_empty().then_some(()))
        .await;
}

/// Reads until there are `count` events.
async fn read(source: &mut KafkaSource, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let batch = tokio::time::timeout(DEADLINE, source.next()).await;
        events.extend(batch.expect("events in time").unwrap().unwrap().events);
    }
    assert_eq!(events.len(), count, "none is published twice");
    events
}

fn payload(event: &Event) -> Value {
    serde_json::from_slice(&event.payload).unwrap()
}

#[tokio::test]
async fn each_change_is_a_record_of_its_topic_keyed_by_its_order() {
    let (broker, store) = (broker(), Store::open(&Place::Memory).unwrap().0);
    let mut source = KafkaSource::start(broker.source()).unwrap();
    let relay = Relaying::start(&store, &broker);
    let order = place(&store, "ann").await;
    for status in [Status::Paid, Status::Processing, Status::Shipped, Status::Delivered] {
        set(&store, &order, status).await;
    }
    let other = place(&store, "bob").await;
    set(&store, &other, Status::Cancelled).await;

    let mut topics: HashMap<(String, u64), String> = HashMap::new();
    for event in read(&mut source, 7).await {
        let payload = payload(&event);
        assert_eq!(event.key.as_deref(), payload["orderId"].as_str().map(str::as_bytes));
        assert_eq!(payload["event"], event.topic());
        assert_eq!(payload["items"][0]["unitPrice"], 19.99);
        let version = payload["version"].as_u64().unwrap();
        let id = payload["orderId"].as_str().unwrap().to_owned();
        topics.insert((id, version), event.topic().to_owned());
    }
    let of = |order: &Order, version| topics[&(order.order_id.clone(), version)].as_str();
    let expected =
        ["order.created", "order.paid", "order.processing", "order.shipped", "order.delivered"];
    assert_eq!([1, 2, 3, 4, 5].map(|version| of(&order, version)), expected);
    assert_eq!([1, 2].map(|version| of(&other, version)), ["order.created", "order.cancelled"]);
    all_published(&store).await;
    relay.stop().await;
}

#[tokio::test]
async fn what_is_taken_while_kafka_is_away_follows_in_order() {
    let (broker, store) = (broker(), Store::open(&Place::Memory).unwrap().0);
    let mut source = KafkaSource::start(broker.source()).unwrap();
    let relay = Relaying::start(&store, &broker);
    place(&store, "first").await;
    all_published(&store).await;

    embedded(&broker).go_down().unwrap();
    let mut taken = Vec::new();
    for n in 0..20 {
        taken.push(place(&store, &format!("buyer-{n}")).await);
    }
    for order in &taken {
        set(&store, order, Status::Paid).await;
    }
    assert_eq!(store.waiting(100).await.unwrap().len(), 40);
    embedded(&broker).come_up().unwrap();
    all_published(&store).await;

    // In each lane the orders come as they were written.
    let mut written: HashMap<_, Vec<_>> = HashMap::new();
    for event in read(&mut source, 41).await {
        let id = payload(&event)["orderId"].as_str().unwrap().to_owned();
        let at = taken.iter().position(|order| order.order_id == id);
        written.entry((event.topic().to_owned(), event.lane.partition)).or_default().push(at);
    }
    for (lane, orders) in written {
        assert!(orders.is_sorted(), "{lane:?}: {orders:?}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn what_was_not_published_is_published_after_a_restart() {
    let folder = Folder::new();
    std::fs::create_dir(&folder.0).unwrap();
    let place_ = Place::in_folder(&folder.0);
    let broker = broker();
    let mut source = KafkaSource::start(broker.source()).unwrap();

    embedded(&broker).go_down().unwrap();
    let (store, thread) = Store::open(&place_).unwrap();
    let relay = Relaying::start(&store, &broker);
    let order = place(&store, "ann").await;
    set(&store, &order, Status::Shipped).await;
    // Killed, not stopped: whatever it was doing is left as it is.
    relay.task.abort();
    assert!(relay.task.await.unwrap_err().is_cancelled());
    drop(store);
    thread.join().await;

    embedded(&broker).come_up().unwrap();
    let (store, _thread) = Store::open(&place_).unwrap();
    assert_eq!(store.waiting(10).await.unwrap().len(), 2);
    let relay = Relaying::start(&store, &broker);
    let events = read(&mut source, 2).await;
    let mut versions: Vec<_> =
        events.iter().map(|event| payload(event)["version"].as_u64().unwrap()).collect();
    versions.sort_unstable();
    assert_eq!(versions, [1, 2]);
    all_published(&store).await;
    relay.stop().await;
}
