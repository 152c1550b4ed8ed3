//! The broker of a test, and how it goes away.
//!
//! Embedded, or a real one where these are set:
//!
//! ```text
//! FANOUT_TEST_KAFKA          host:port
//! FANOUT_TEST_KAFKA_CONTROL  a program and a folder, with a space between, for
//!                            `PROGRAM kill FOLDER`, `PROGRAM stop FOLDER` and
//!                            `PROGRAM start FOLDER`; each returns once it is true
//! ```

use std::env;
use std::time::Duration;

use kafka_source::rdkafka::admin::AdminClient;
use kafka_source::rdkafka::client::DefaultClientContext;
use kafka_source::rdkafka::consumer::{BaseConsumer, Consumer as _};
use kafka_source::rdkafka::error::KafkaError;
use kafka_source::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka_source::rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use order_server::kafka::Broker;
use order_server::record::topics;
use order_server::server::Running;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::{Mutex, MutexGuard};

use crate::support::{Client, DEADLINE, start, until};

/// There is one real broker, and some tests restart it.
static ALONE: Mutex<()> = Mutex::const_new(());

pub(crate) enum Kafka {
    Embedded,
    Real(Real),
}

pub(crate) struct Real {
    pub(crate) address: String,
    _alone: MutexGuard<'static, ()>,
}

/// How a broker goes away. The embedded one only hangs up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Crashed,
    Stopped,
}

impl Kafka {
    /// The real broker, for this test alone; `None` where there is none, which is an
    /// error in CI.
    pub(crate) async fn real() -> Option<Self> {
        let Ok(address) = env::var("FANOUT_TEST_KAFKA") else {
            assert!(env::var_os("CI").is_none(), "FANOUT_TEST_KAFKA is not set, and this is CI");
            eprintln!("skipped: FANOUT_TEST_KAFKA names no broker");
            return None;
        };
        let alone = ALONE.lock().await;
        // One that was left by a test that failed meanwhile.
        if TcpStream::connect(&address).await.is_err() {
            control("start").await;
        }
        Some(Self::Real(Real { address, _alone: alone }))
    }

    /// A server in memory that is ready, with more flags.
    pub(crate) async fn server(&self, flags: &[&str]) -> Running {
        let mut flags = flags.to_vec();
        if let Self::Real(real) = self {
            flags.extend(["--kafka", &real.address]);
        }
        let server = start(&flags).await;
        ready(&Client::nobody(&server)).await;
        server
    }

    /// Takes the broker away, until nobody answers.
    pub(crate) async fn goes_away(&self, server: &Running, way: Way) {
        match (server.broker(), way) {
            (Broker::Embedded(broker), _) => broker.go_down().unwrap(),
            (_, Way::Crashed) => control("kill").await,
            (_, Way::Stopped) => control("stop").await,
        }
    }

    /// Brings it back, with what it had.
    pub(crate) async fn comes_back(&self, server: &Running) {
        match server.broker() {
            Broker::Embedded(broker) => broker.come_up().unwrap(),
            _ => control("start").await,
        }
    }
}

/// Waits until a server says that it is ready.
pub(crate) async fn ready(nobody: &Client) {
    until("ready", async || (nobody.get("/readyz").await.status == 200).then_some(())).await;
}

/// Waits until a server says that it is not ready, because its source is away.
pub(crate) async fn not_ready(nobody: &Client) {
    until("not ready", async || {
        let answer = nobody.get("/readyz").await;
        // Each of its readers notices by itself. Anybody may ask: where the broker is they need
        // not know.
        let away = answer.status == 503 && answer.json()["source"] == "Kafka does not answer";
        away.then_some(())
    })
    .await;
}

pub(crate) async fn control(what: &str) {
    let control = env::var("FANOUT_TEST_KAFKA_CONTROL")
        .expect("FANOUT_TEST_KAFKA_CONTROL says how the broker is restarted");
    let (program, folder) = control.rsplit_once(' ').expect("a program and a folder");
    let done = Command::new(program).args([what, folder]).output().await.unwrap();
    assert!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}

/// Who makes topics, and deletes them.
pub(crate) fn admin_of(address: &str) -> AdminClient<DefaultClientContext> {
    client(address).create().unwrap()
}

/// What another service of the shop writes with.
pub(crate) struct OtherService(FutureProducer);

impl OtherService {
    pub(crate) fn at(server: &Running) -> Self {
        Self(client(server.broker().address()).create().unwrap())
    }

    pub(crate) async fn writes(&self, topic: &str, payload: &str) {
        let record = FutureRecord::to(topic).key("k").payload(payload);
        self.0.send(record, DEADLINE).await.unwrap();
    }
}

/// Every record of an order that the broker has, in the order of each partition.
pub(crate) async fn records_of_orders(server: &Running) -> Vec<Value> {
    let config = {
        let mut config = client(server.broker().address());
        config.set("group.id", "test").set("enable.partition.eof", "true");
        config
    };
    tokio::task::spawn_blocking(move || read_all(&config.create().unwrap())).await.unwrap()
}

fn read_all(consumer: &BaseConsumer) -> Vec<Value> {
    let mut places = TopicPartitionList::new();
    for topic in topics::ALL.iter().filter(|topic| topic.starts_with("order.")) {
        let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).unwrap();
        for partition in metadata.topics()[0].partitions() {
            places.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        }
    }
    consumer.assign(&places).unwrap();
    let (mut records, mut open) = (Vec::new(), places.count());
    let deadline = std::time::Instant::now() + DEADLINE;
    while open > 0 {
        assert!(std::time::Instant::now() < deadline, "{open} partitions have not been read");
        match consumer.poll(Duration::from_millis(100)) {
            // What other services wrote may be anything.
            Some(Ok(message)) => {
                records.extend(serde_json::from_slice::<Value>(message.payload().unwrap_or(b"")));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            // Transport errors pass by themselves.
            Some(Err(_)) | None => {}
        }
    }
    records
}
