//! From the outbox to Kafka: nothing is lost, doubled or reordered while it is away.

#![allow(missing_docs, reason = "a test")]

#[allow(dead_code, reason = "each test uses a part of it")]
mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanout::{Event, Source};
use kafka_source::{EmbeddedBroker, KafkaSource};
use order_server::input::NewOrder;
use order_server::kafka::{Broker, NewTopics};
use order_server::money::Rate;
use order_server::order::Order;
use order_server::relay::{Relay, RelayStatus};
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
    status: RelayStatus,
    /// How often it has looked whether it may take the lease.
    looks: Arc<AtomicUsize>,
}

impl Relaying {
    fn start(store: &Store, broker: &Broker) -> Self {
        let stop = CancellationToken::new();
        let looks = Arc::<AtomicUsize>::default();
        let looked = looks.clone();
        let reachable = move || looked.fetch_add(1, Ordering::Relaxed) < usize::MAX;
        let relay = Relay::new(store.clone(), broker.producer().unwrap(), reachable).unwrap();
        let status = relay.status();
        Self { task: tokio::spawn(relay.run(stop.clone())), stop, status, looks }
    }

    async fn leads(&self) {
        until("it relays", async || self.status.relays().then_some(())).await;
    }

    /// As a killed process: whatever it was doing is left as it is.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
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
    let mut source = KafkaSource::start(broker.source(Duration::ZERO)).unwrap();
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
    let mut source = KafkaSource::start(broker.source(Duration::ZERO)).unwrap();
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
    let mut source = KafkaSource::start(broker.source(Duration::ZERO)).unwrap();

    embedded(&broker).go_down().unwrap();
    let (store, thread) = Store::open(&place_).unwrap();
    let relay = Relaying::start(&store, &broker);
    let order = place(&store, "ann").await;
    set(&store, &order, Status::Shipped).await;
    relay.kill().await;
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

/// Two stores on one file, as two processes have them.
struct Shared {
    stores: [Store; 2],
    folder: Folder,
}

impl Shared {
    fn new() -> Self {
        let folder = Folder::new();
        std::fs::create_dir(&folder.0).unwrap();
        let place = Place::in_folder(&folder.0);
        let stores = [(), ()].map(|()| Store::open(&place).unwrap().0);
        Self { stores, folder }
    }
}

/// Checks that each version of each order came once.
fn assert_versions(events: &[Event], orders: &[Order], versions: u64) {
    let mut seen: HashMap<String, Vec<u64>> = HashMap::new();
    for payload in events.iter().map(payload) {
        let id = payload["orderId"].as_str().unwrap().to_owned();
        seen.entry(id).or_default().push(payload["version"].as_u64().unwrap());
    }
    for order in orders {
        let versions: Vec<_> = (1..=versions).collect();
        let mut seen = seen.remove(&order.order_id).unwrap_or_default();
        // Two topics are two lanes, and come in any order.
        seen.sort_unstable();
        assert_eq!(seen, versions, "{}", order.order_id);
    }
}

#[tokio::test]
async fn two_servers_of_a_folder_publish_each_order_once() {
    let (broker, shared) = (broker(), Shared::new());
    let mut source = KafkaSource::start(broker.source(Duration::ZERO)).unwrap();
    let relays = shared.stores.each_ref().map(|store| Relaying::start(store, &broker));
    until("one relays", async || relays.iter().any(|relay| relay.status.relays()).then_some(()))
        .await;
    let mut orders = Vec::new();
    for n in 0..40 {
        // Placed at one, moved on at the other.
        let [one, other] = &shared.stores;
        let order = place(if n % 2 == 0 { one } else { other }, "ann").await;
        set(if n % 2 == 0 { other } else { one }, &order, Status::Paid).await;
        orders.push(order);
    }
    all_published(&shared.stores[0]).await;
    assert_versions(&read(&mut source, 80).await, &orders, 2);
    let leaders = relays.iter().filter(|relay| relay.status.relays()).count();
    assert_eq!(leaders, 1, "nobody was killed, paused or cut off");
    for relay in relays {
        relay.stop().await;
    }
}

#[tokio::test]
async fn another_takes_over_from_one_that_is_killed_or_stopped() {
    let (broker, shared) = (broker(), Shared::new());
    let mut source = KafkaSource::start(broker.source(Duration::ZERO)).unwrap();
    let mut leader = Relaying::start(&shared.stores[0], &broker);
    leader.leads().await;
    let mut orders = Vec::new();
    for (n, killed) in [true, false, true].into_iter().enumerate() {
        let (here, there) = (&shared.stores[n % 2], &shared.stores[(n + 1) % 2]);
        orders.push(place(here, "before").await);
        all_published(here).await;
        let next = Relaying::start(there, &broker);
        if killed {
            leader.kill().await;
        } else {
            leader.stop().await;
        }
        // Of a process that is gone the outbox is still there.
        orders.push(place(here, "meanwhile").await);
        orders.push(place(there, "meanwhile").await);
        next.leads().await;
        all_published(there).await;
        leader = next;
    }
    assert_versions(&read(&mut source, 9).await, &orders, 1);
    leader.stop().await;
}

#[tokio::test]
async fn one_that_lost_the_lease_publishes_no_more() {
    let (broker, shared) = (broker(), Shared::new());
    let mut source = KafkaSource::start(broker.source(Duration::ZERO)).unwrap();
    let [here, there] = &shared.stores;
    let relay = Relaying::start(here, &broker);
    relay.leads().await;
    // As after a pause: somebody else has it since, and does not publish.
    let file = rusqlite::Connection::open(shared.folder.0.join("orders.db")).unwrap();
    file.busy_timeout(DEADLINE).unwrap();
    let other_keeps_it = || {
        let now = Time::now().as_millis();
        let sql = "UPDATE lease SET holder = 'other', term = 100, until = ?1 + 5000";
        file.execute(sql, [now]).unwrap();
    };
    other_keeps_it();
    until("it stands by", async || (!relay.status.relays()).then_some(())).await;
    let order = place(there, "ann").await;
    let looked = relay.looks.load(Ordering::Relaxed);
    until("it has looked often", async || {
        other_keeps_it();
        assert_eq!(there.waiting(10).await.unwrap().len(), 1);
        (relay.looks.load(Ordering::Relaxed) > looked + 5).then_some(())
    })
    .await;
    file.execute_batch("UPDATE lease SET until = 0").unwrap();
    all_published(here).await;
    assert_versions(&read(&mut source, 1).await, &[order], 1);
    relay.stop().await;
}

#[tokio::test]
async fn one_that_is_cut_off_from_kafka_lets_another_publish() {
    // What the one reaches is a broker of its own, until that is gone.
    let (lost, broker, shared) = (broker(), broker(), Shared::new());
    let mut source = KafkaSource::start(broker.source(Duration::ZERO)).unwrap();
    let [here, there] = &shared.stores;
    let cut_off = Relaying::start(here, &lost);
    cut_off.leads().await;
    embedded(&lost).go_down().unwrap();
    let next = Relaying::start(there, &broker);
    let order = place(here, "ann").await;
    all_published(here).await;
    assert!(next.status.relays() && !cut_off.status.relays());
    // What waited in the producer of the one was thrown away.
    let mut at_lost = KafkaSource::start(lost.source(Duration::ZERO)).unwrap();
    embedded(&lost).come_up().unwrap();
    let bobs = place(here, "bob").await;
    all_published(here).await;
    assert_versions(&read(&mut source, 2).await, &[order, bobs], 1);
    let client = lost.producer().unwrap();
    let marker = kafka_source::rdkafka::producer::FutureRecord::to("order.created")
        .key("k")
        .payload(r#"{"marker":true}"#);
    client.send(marker, DEADLINE).await.unwrap();
    assert_eq!(payload(&read(&mut at_lost, 1).await[0])["marker"], true);
    cut_off.stop().await;
    next.stop().await;
}
