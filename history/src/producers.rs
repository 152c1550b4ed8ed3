//! What happens in the shop: orders over REST at whichever server answers, and records of
//! other services, written to Kafka directly, so that something happens while servers are
//! down, too.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_source::rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use order_server::record::topics;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use crate::error::Error;
use crate::http;
use crate::people::{LONG, Person};
use crate::prices::AMOUNT;
use crate::reader::{Quiet, client};
use crate::rng::Rng;
use crate::world::{Phase, World};

/// Orders that may still change; older ones are left as they are.
const MAX_ORDERS: usize = 500;
/// The longest text in a record.
const MAX_TEXT: usize = 2000;

const ORDER_TOPICS: [&str; 7] = [
    topics::ORDER_CREATED,
    topics::ORDER_UPDATED,
    topics::ORDER_PAID,
    topics::ORDER_PROCESSING,
    topics::ORDER_SHIPPED,
    topics::ORDER_DELIVERED,
    topics::ORDER_CANCELLED,
];

/// A producer that neither doubles nor reorders.
pub(crate) fn producer(brokers: &str) -> Result<FutureProducer<Quiet>, Error> {
    producer_within(brokers, 60_000)
}

/// One that gives up after so many milliseconds.
pub(crate) fn producer_within(brokers: &str, millis: u32) -> Result<FutureProducer<Quiet>, Error> {
    client(brokers)
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", millis.to_string())
        .set("queue.buffering.max.ms", "2")
        .create_with_context(Quiet)
        .map_err(Error::kafka)
}

fn in_trouble(world: &World) -> bool {
    matches!(*world.phase.borrow(), Phase::Trouble)
}

/// How many partitions a topic is known to have.
fn partitions(world: &World, topic: &str) -> usize {
    let records = world.kafka.lock().expect("nobody panics with it");
    records.keys().filter(|(of, _)| of == topic).count()
}

/// Writes records of other services until the trouble is over.
pub(crate) async fn other_services(world: Arc<World>, brokers: String) -> Result<(), Error> {
    let producer = producer(&brokers)?;
    let mut rng = world.rng.of("other services");
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / world.options.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut number = 0_u64;
    while in_trouble(&world) {
        ticks.tick().await;
        number += 1;
        let (topic, payload) = record(&world, &mut rng, number);
        let partition = rng.below(partitions(&world, topic).max(1));
        let partition = i32::try_from(partition).unwrap_or(0);
        let record = FutureRecord::<str, [u8]>::to(topic).partition(partition);
        let record = match &payload {
            Some(payload) => record.payload(payload.as_slice()),
            None => record,
        };
        // What Kafka has is what counts; a full queue is a broker that is away.
        if producer.send_result(record).is_ok() {
            world.tally.add("records written");
        }
    }
    let flushed = tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(60)));
    flushed.await.map_err(Error::other)?.map_err(Error::kafka)
}

fn record(world: &World, rng: &mut Rng, number: u64) -> (&'static str, Option<Vec<u8>>) {
    let id = format!("{}-{number}", world.run);
    let len = if rng.percent(20) { rng.below(MAX_TEXT) } else { rng.below(40) };
    let text = "x".repeat(len);
    let (topic, value) = match rng.below(100) {
        0..25 => {
            let stock = rng.below(40);
            let value = json!({"productId": id, "sku": "S-1", "productName": text, "stock": stock,
                "previousStock": rng.below(40), "updatedAt": "2024-05-01T10:00:00.000Z"});
            (topics::INVENTORY_UPDATED, value)
        }
        25..35 => (topics::PRODUCT_CREATED, json!({"_id": id, "name": text, "price": AMOUNT})),
        35..60 => {
            let value = json!({"productId": id, "name": text, "price": AMOUNT, "stock": 3,
                "changes": {"price": AMOUNT}});
            (topics::PRODUCT_UPDATED, value)
        }
        60..95 => {
            let topic = *rng.pick(&ORDER_TOPICS).expect("there are some");
            // Staff buy, too: they have rooms to lose.
            let people: Vec<_> = world.people.all().collect();
            let buyer = rng.pick(&people).expect("there are some");
            let value = json!({"_id": id, "userId": buyer.subject, "note": text,
                "total": AMOUNT, "items": [{"sku": "S-1", "quantity": 1, "unitPrice": AMOUNT}]});
            (topic, value)
        }
        // What nobody can use holds up nothing.
        _ => {
            let topic = *rng.pick(&topics::ALL).expect("there are some");
            let poison: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"{"), Some(b"[7]")];
            return (topic, poison[rng.below(4)].map(<[u8]>::to_vec));
        }
    };
    (topic, Some(value.to_string().into_bytes()))
}

/// An order that was placed.
#[derive(Clone, Debug)]
struct Order {
    id: String,
    buyer: usize,
    node: usize,
    status: usize,
}

const STATUSES: [&str; 4] = ["paid", "processing", "shipped", "delivered"];

/// Orders, as those who place and those who change them know them.
#[derive(Debug, Default)]
pub(crate) struct Orders(Mutex<Vec<Order>>);

/// Places, changes and cancels orders until the trouble is over.
pub(crate) async fn customers(world: Arc<World>, orders: Arc<Orders>, number: usize) {
    let mut rng = world.rng.of(&format!("customer {number}"));
    while in_trouble(&world) {
        let pause = rng.millis(50, 400);
        tokio::time::sleep(pause).await;
        let known = {
            let orders = orders.0.lock().expect("nobody panics with it");
            rng.pick(&orders).cloned()
        };
        match known {
            Some(order) if rng.percent(55) => change(&world, &orders, &mut rng, order).await,
            _ => {
                let buyer = rng.below(world.people.users.len());
                let node = rng.below(world.nodes.len());
                if let Some(id) = place(&world, node, &world.people.users[buyer]).await {
                    let mut orders = orders.0.lock().expect("nobody panics with it");
                    if orders.len() >= MAX_ORDERS {
                        orders.swap_remove(0);
                    }
                    orders.push(Order { id, buyer, node, status: 0 });
                }
            }
        }
    }
}

/// Places an order; its id, where the server has answered.
pub(crate) async fn place(world: &World, node: usize, person: &Person) -> Option<String> {
    let item = json!({"sku": "A", "name": "Apple", "quantity": 2, "unitPrice": AMOUNT});
    let body = json!({"items": [item]});
    let order = asked(world, node, person, "POST", "/api/orders", &body).await?;
    order["orderId"].as_str().map(str::to_owned)
}

async fn change(world: &World, orders: &Orders, rng: &mut Rng, mut order: Order) {
    let node = if world.options.own_data { order.node } else { rng.below(world.nodes.len()) };
    let buyer = &world.people.users[order.buyer];
    let admin = &world.people.boss;
    let done = if rng.percent(20) {
        let path = format!("/api/orders/{}/cancel", order.id);
        order.status = STATUSES.len();
        asked(world, node, buyer, "POST", &path, &json!({"reason": "late"})).await
    } else {
        order.status += rng.below(2);
        let Some(status) = STATUSES.get(order.status) else { return };
        order.status += 1;
        let path = format!("/api/orders/{}/status", order.id);
        asked(world, node, admin, "PATCH", &path, &json!({"status": status})).await
    };
    if done.is_some() {
        let mut orders = orders.0.lock().expect("nobody panics with it");
        if let Some(known) = orders.iter_mut().find(|known| known.id == order.id) {
            *known = order;
        }
    }
}

/// Asks a server to do something, and notes that it was done.
async fn asked(
    world: &World,
    node: usize,
    person: &Person,
    method: &str,
    path: &str,
    body: &Value,
) -> Option<Value> {
    let addr = world.nodes[node].addr;
    let token = world.people.token(&person.subject, LONG).text;
    let answer = http::ask(addr, method, path, Some(&token), Some(body)).await;
    let Some((status, answer)) = answer else {
        world.tally.add("requests without an answer");
        return None;
    };
    match status {
        200 | 201 => {
            let done = answer["orderId"].as_str().zip(answer["version"].as_u64());
            let Some((id, version)) = done else {
                world.fault(format!("{method} {path} was answered with {answer}"));
                return None;
            };
            world.tally.add("orders placed or changed");
            let mut acknowledged = world.acknowledged.lock().expect("nobody panics with it");
            acknowledged.insert((id.to_owned(), version));
            Some(answer)
        }
        // Made in the second of a revocation, or by one that a server has only heard of now.
        401 if world.people.ever_revoked(&person.subject) => {
            world.tally.add("requests with a revoked token");
            None
        }
        // Somebody else was faster, or the server is busy or about to end.
        409 | 429 | 503 => {
            world.tally.add("requests refused");
            None
        }
        _ => {
            world.fault(format!("{method} {path} was answered with {status} {answer}"));
            None
        }
    }
}
