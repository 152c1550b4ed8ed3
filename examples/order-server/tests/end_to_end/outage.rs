//! The broker goes away and comes back, or the server does.
//!
//! Orders go on being taken, and all of it arrives afterwards: once, and in order.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use crate::kafka::{Kafka, Way, not_ready, ready, records_of_orders};
use crate::person::{Cast, Person, Told, id};
use crate::process::{Process, Signal};
use crate::support::{Client, Folder};

/// What becomes of every order that is placed while the broker is away.
const STEPS: [&str; 3] = ["paid", "shipped", "delivered"];
const VERSIONS: [u64; 4] = [1, 2, 3, 4];

/// Places orders and moves them on, while nobody can be told.
async fn place_and_deliver(ann: &Client, admin: &Client, count: usize) -> Vec<String> {
    let mut orders = Vec::new();
    for _ in 0..count {
        orders.push(id(&ann.order().await).to_owned());
    }
    for status in STEPS {
        for order in &orders {
            let path = format!("/api/orders/{order}/status");
            let answer = admin.patch(&path, &json!({"status": status})).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    orders
}

/// Reads until every version of these orders was told. Nothing else may come but
/// notifications; that nothing comes twice is checked by [`Person`].
async fn sees_all(person: &mut Person, orders: &[String]) {
    let mut missing: HashSet<(String, u64)> = HashSet::new();
    for order in orders {
        missing.extend(VERSIONS.map(|version| (order.clone(), version)));
    }
    // By lane, which orders came: as they were written.
    let mut lanes: HashMap<String, Vec<usize>> = HashMap::new();
    while !missing.is_empty() {
        let told: Told = person.next().await;
        if told.event == "notification" {
            assert!(orders.iter().any(|order| told.data["orderId"] == **order), "{told:?}");
            continue;
        }
        let (order, version) = (id(&told.data).to_owned(), told.data["version"].as_u64().unwrap());
        let place = orders.iter().position(|each| *each == order);
        let place = place.unwrap_or_else(|| panic!("of another order: {told:?}"));
        lanes.entry(told.lane().to_owned()).or_default().push(place);
        assert!(missing.remove(&(order, version)), "{told:?}");
    }
    // A lane holds one topic, so one version of each order.
    for (lane, orders) in lanes {
        assert!(orders.is_sorted(), "lane {lane}: {orders:?}");
    }
}

/// Reads the notifications that may still come, up to the marker's event.
async fn sees_marker(person: &mut Person, marker: &Value) {
    loop {
        let told = person.next().await;
        if id(&told.data) == id(marker) {
            return;
        }
        assert_eq!(told.event, "notification", "{told:?}");
    }
}

/// Checks that the broker holds each version of each order once.
fn assert_written_once(records: &[Value], orders: &[String]) {
    for order in orders {
        let written = records.iter().filter(|record| record["orderId"] == **order);
        let mut versions: Vec<u64> =
            written.map(|record| record["version"].as_u64().unwrap()).collect();
        versions.sort_unstable();
        assert_eq!(versions, VERSIONS, "{order}");
    }
}

pub(crate) async fn while_the_broker_is_away_orders_are_taken_and_arrive_afterwards(kafka: Kafka) {
    let server = kafka.server(&["--write-rate", "0"]).await;
    let cast = Cast::new();
    let mut ann = cast.comes(&server, "ann").await;
    let mut admin = cast.comes(&server, "admin").await;
    let mut bob = cast.comes(&server, "bob").await;
    let nobody = Client::nobody(&server);
    let mut all = Vec::new();

    for way in [Way::Crashed, Way::Stopped] {
        // Until here everything works.
        let before = ann.marks().await;
        sees_marker(&mut admin, &before).await;

        kafka.goes_away(&server, way).await;
        not_ready(&nobody).await;
        let orders = place_and_deliver(&ann.http, &admin.http, 10).await;
        let list = ann.http.get("/api/orders").await.json();
        assert_eq!(list["orders"][0]["status"], "delivered", "the store has them already");
        assert_eq!(nobody.get("/readyz").await.status, 503);
        assert_eq!(nobody.get("/livez").await.status, 200);

        kafka.comes_back(&server).await;
        ready(&nobody).await;
        sees_all(&mut ann, &orders).await;
        sees_all(&mut admin, &orders).await;
        all.extend(orders);

        let after = ann.http.order().await;
        sees_marker(&mut ann, &after).await;
        ann.sees("notification", &json!({"orderId": after["orderId"]})).await;
        sees_marker(&mut admin, &after).await;
    }
    assert_written_once(&records_of_orders(&server).await, &all);
    bob.marks().await;
    drop((ann, admin, bob));
    server.stop().await;
}

/// A server ends with orders in its outbox and the broker away. Those who are connected
/// to another one see what it had taken once it is back.
pub(crate) async fn what_a_server_had_taken_arrives_after_it_was_started_again(kafka: Kafka) {
    let watching = kafka.server(&["--write-rate", "0"]).await;
    let address = watching.broker().address().to_owned();
    let cast = Cast::new();
    let mut ann = cast.comes(&watching, "ann").await;
    let mut admin = cast.comes(&watching, "admin").await;
    let folder = Folder::new();
    let mut all = Vec::new();

    for signal in [Signal::Kill, Signal::Terminate] {
        let server = Process::start(&folder, &address).await;
        let nobody = server.client();
        ready(&nobody).await;
        let (ann_there, admin_there) =
            (nobody.logged_in(&ann.email).await, nobody.logged_in(&admin.email).await);
        // It has written before.
        let before = ann_there.order().await;
        sees_marker(&mut ann, &before).await;
        ann.sees("notification", &json!({"orderId": before["orderId"]})).await;
        sees_marker(&mut admin, &before).await;

        kafka.goes_away(&watching, Way::Crashed).await;
        not_ready(&nobody).await;
        let orders = place_and_deliver(&ann_there, &admin_there, 5).await;
        server.end(signal).await;

        // Started while the broker is still away, and not ready before it is there.
        let server = Process::start(&folder, &address).await;
        let nobody = server.client();
        not_ready(&nobody).await;
        let again = nobody.logged_in(&ann.email).await;
        let kept = again.get(&format!("/api/orders/{}", orders[0])).await.json();
        assert_eq!(kept["version"], 4, "{kept}");
        kafka.comes_back(&watching).await;
        ready(&nobody).await;
        sees_all(&mut ann, &orders).await;
        sees_all(&mut admin, &orders).await;
        all.extend(orders);

        let after = again.order().await;
        sees_marker(&mut ann, &after).await;
        ann.sees("notification", &json!({"orderId": after["orderId"]})).await;
        sees_marker(&mut admin, &after).await;
        server.end(Signal::Terminate).await;
    }
    assert_written_once(&records_of_orders(&watching).await, &all);
    drop((ann, admin));
    watching.stop().await;
}
