//! Several servers on one folder, one of which relays, until it does not.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::kafka::{Kafka, ready, records_of_orders};
use crate::person::id;
use crate::process::{Process, Signal};
use crate::support::{Client, Folder, apples, until};

const ADMIN: &str = "admin@shop.example";
const ANN: &str = "ann@shop.example";

/// Starts one more server on the folder, which serves by the time it is returned.
async fn server(folder: &Folder, broker: &str) -> Process {
    let server = Process::start(folder, broker).await;
    ready(&server.client()).await;
    server
}

async fn relays(server: &Process) -> bool {
    server.client().get("/readyz").await.json()["relay"] == "relays"
}

/// Waits until one of these relays, and takes it out.
async fn take_leader(servers: &mut Vec<Process>) -> Process {
    let at = until("one relays", async || {
        for (at, server) in servers.iter().enumerate() {
            if relays(server).await {
                return Some(at);
            }
        }
        None
    })
    .await;
    servers.remove(at)
}

/// Places an order at each, which the next one moves on.
async fn orders_at(servers: &[Process], orders: &mut Vec<String>) {
    for (n, server) in servers.iter().enumerate() {
        let order = server.client().logged_in(ANN).await.order().await;
        let next = servers[(n + 1) % servers.len()].client().logged_in(ADMIN).await;
        let path = format!("/api/orders/{}/status", id(&order));
        let paid = next.patch(&path, &json!({"status": "paid"})).await;
        assert_eq!(paid.status, 200, "{}", paid.text());
        orders.push(id(&order).to_owned());
    }
}

/// Which versions of each order the broker has. Other services write records without.
fn versions(records: &[Value]) -> HashMap<String, Vec<u64>> {
    let mut versions: HashMap<_, Vec<_>> = HashMap::new();
    for record in records {
        let Some(order) = record["orderId"].as_str() else { continue };
        let Some(version) = record["version"].as_u64() else { continue };
        versions.entry(order.to_owned()).or_default().push(version);
    }
    for versions in versions.values_mut() {
        versions.sort_unstable();
    }
    versions
}

/// Waits until the broker has both versions of each of these.
async fn all_written(watching: &order_server::server::Running, orders: &[String]) {
    until("all is written", async || {
        let written = versions(&records_of_orders(watching).await);
        let all = |order: &String| {
            let mut versions = written.get(order).cloned().unwrap_or_default();
            // One that is killed between Kafka and its outbox writes twice.
            versions.dedup();
            versions == [1, 2]
        };
        orders.iter().all(all).then_some(())
    })
    .await;
}

pub(crate) async fn a_server_that_is_killed_or_stopped_is_followed_by_another(kafka: Kafka) {
    let watching = kafka.server(&[]).await;
    let broker = watching.broker().address().to_owned();
    let folder = Folder::new();
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(server(&folder, &broker).await);
    }
    let mut orders = Vec::new();
    for signal in [Signal::Kill, Signal::Terminate, Signal::Kill] {
        orders_at(&servers, &mut orders).await;
        let leader = take_leader(&mut servers).await;
        assert!(!relays(&servers[0]).await && !relays(&servers[1]).await, "one at a time");
        // It goes while the others take orders, which it may just be publishing.
        let midst = Notify::new();
        let placing = async {
            for round in 0..10 {
                if round == 5 {
                    midst.notify_one();
                }
                orders_at(&servers, &mut orders).await;
            }
        };
        let ending = async {
            midst.notified().await;
            leader.end(signal).await;
        };
        tokio::join!(placing, ending);
        all_written(&watching, &orders).await;
        servers.push(server(&folder, &broker).await);
    }
    // Each has all of it, whoever took it.
    for server in &servers {
        let list = server.client().logged_in(ANN).await.get("/api/orders?limit=200").await;
        assert_eq!(list.json()["orders"].as_array().unwrap().len(), orders.len());
    }
    for server in servers {
        server.end(Signal::Terminate).await;
    }
    watching.stop().await;
}

pub(crate) async fn a_server_that_was_paused_leaves_it_to_who_took_over(kafka: Kafka) {
    let watching = kafka.server(&[]).await;
    let broker = watching.broker().address().to_owned();
    let folder = Folder::new();
    let mut servers = vec![server(&folder, &broker).await, server(&folder, &broker).await];
    let mut orders = Vec::new();
    orders_at(&servers, &mut orders).await;
    all_written(&watching, &orders).await;

    let paused = take_leader(&mut servers).await;
    let other = servers.pop().unwrap();
    let ann = other.client().logged_in(ANN).await;
    let meanwhile = loop {
        paused.signal("STOP").await;
        let answer = ann.post("/api/orders", &apples()).await;
        if answer.status == 201 {
            break answer.json();
        }
        // It was paused in the midst of a write, and nobody else can write.
        assert_eq!(answer.status, 503, "{}", answer.text());
        paused.signal("CONT").await;
        until("it relays again", async || relays(&paused).await.then_some(())).await;
    };
    let written = async |order: &Value| {
        until("it is written", async || {
            versions(&records_of_orders(&watching).await).remove(id(order))
        })
        .await
    };
    written(&meanwhile).await;
    assert!(relays(&other).await);

    paused.signal("CONT").await;
    until("it stands by", async || (!relays(&paused).await).then_some(())).await;
    let after = paused.client().logged_in(ANN).await.order().await;
    written(&after).await;
    assert!(relays(&other).await && !relays(&paused).await);
    // It had nothing on its way when it was paused: nothing is doubled.
    assert_eq!((written(&meanwhile).await, written(&after).await), (vec![1], vec![1]));
    paused.end(Signal::Terminate).await;
    other.end(Signal::Terminate).await;
    watching.stop().await;
}

/// With the embedded broker a folder belongs to one, and each says what would help.
#[tokio::test]
async fn a_folder_is_not_shared_with_an_embedded_broker() {
    let watching = crate::support::start(&[]).await;
    let folder = Folder::new();
    let shares = server(&folder, watching.broker().address()).await;
    let refused = Process::refused(&["--data", folder.0.to_str().unwrap()]).await;
    assert!(refused.contains("in use") && refused.contains("--kafka"), "{refused}");
    shares.end(Signal::Terminate).await;

    let alone = crate::support::start_in(&folder.0, &[]).await;
    ready(&Client::nobody(&alone)).await;
    let address = watching.broker().address();
    let flags = ["--data", folder.0.to_str().unwrap(), "--kafka", address];
    let refused = Process::refused(&flags).await;
    assert!(refused.contains("embedded broker") && refused.contains("--kafka"), "{refused}");
    alone.stop().await;
    watching.stop().await;
}
