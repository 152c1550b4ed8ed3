//! A right that is taken away while it is read by, and given back, as only a real broker knows
//! rights.
//!
//! Run as `real_kafka` is, with the same variables; the broker has to have an authorizer that
//! allows what no rule is about, as that of `.ci/kafka` has.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use common::{Reader, producer_at, write};
use kafka_source::rdkafka::ClientConfig;
use kafka_source::rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use kafka_source::rdkafka::client::DefaultClientContext;
use kafka_source::rdkafka::producer::FutureProducer;
use kafka_source::{KafkaConfig, Start};

/// What is done with a rule: the numbers of Kafka's requests.
#[derive(Clone, Copy)]
enum Rule {
    Make = 30,
    Remove = 31,
}

/// What a rule is about: Kafka's numbers of operations, and of denying and allowing them.
#[derive(Clone, Copy, Debug)]
enum Right {
    All = 2,
    Read = 3,
    Describe = 8,
}

const DENIED: u8 = 2;
const ALLOWED: u8 = 3;

/// Three topics of which one may be denied, and who writes to them.
struct Kafka {
    brokers: String,
    prefix: String,
    producer: FutureProducer,
}

impl Kafka {
    async fn start() -> Self {
        let brokers = std::env::var("FANOUT_TEST_KAFKA").expect("FANOUT_TEST_KAFKA names a broker");
        let prefix = format!("rights-{:016x}", getrandom::u64().expect("random"));
        let kafka = Self { producer: producer_at(&brokers), brokers, prefix };
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create().expect("client");
        for name in ["a", "b", "c"] {
            let topic = kafka.topic(name);
            let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
            let made = admin.create_topics(&[new], &AdminOptions::new()).await;
            made.expect("asked").remove(0).expect("created");
            // Once a rule is about it, only what rules allow is allowed.
            kafka.rule(Rule::Make, name, Right::All, ALLOWED);
            // Whoever writes knows it from now on.
            kafka.write(name, "old").await;
        }
        kafka
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    async fn write(&self, name: &str, payload: &str) {
        write(&self.producer, &self.topic(name), 0, payload).await;
    }

    /// What matches: all three.
    fn config(&self) -> KafkaConfig {
        KafkaConfig::new(&self.brokers)
            .topic_pattern(format!("^{}\\..*", self.prefix))
            .start(Start::Latest)
            .metadata_interval(Duration::from_millis(200))
            .missing_grace(Duration::from_secs(2))
    }

    /// Makes or removes a rule about everybody and a topic. librdkafka can, its binding cannot.
    fn rule(&self, rule: Rule, name: &str, right: Right, permission: u8) {
        let text = |text: &str| {
            let length = u16::try_from(text.len()).expect("short").to_be_bytes();
            [&length[..], text.as_bytes()].concat()
        };
        // Version 1, correlation 7, no client's name, one rule.
        let head = [&[0, rule as u8, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 1][..]].concat();
        // A topic, by its very name; everybody, from everywhere.
        let (of, who) = (text(&self.topic(name)), [text("User:*"), text("*")].concat());
        let request = [&head[..], &[2], &of, &[3], &who, &[right as u8, permission]].concat();
        let mut stream = TcpStream::connect(&self.brokers).expect("connected");
        stream.set_read_timeout(Some(common::DEADLINE)).expect("set");
        let length = u32::try_from(request.len()).expect("short").to_be_bytes();
        stream.write_all(&[&length[..], &request].concat()).expect("asked");
        // Length, correlation, how long to wait, how many answers, the first one's code.
        let mut answer = [0; 18];
        stream.read_exact(&mut answer).expect("answered");
        assert_eq!(answer[12..], [0, 0, 0, 1, 0, 0], "{answer:?}");
    }
}

async fn a_topic_is_denied_and_allowed_again(right: Right) {
    let kafka = Kafka::start().await;
    let mut reader = Reader::ready(kafka.config()).await;
    for name in ["a", "b", "c"] {
        kafka.write(name, "1").await;
    }
    reader.read_events(3).await;

    let denied = kafka.topic("b");
    kafka.rule(Rule::Make, "b", right, DENIED);
    let health = reader
        .until(|health| health.problem.as_ref().is_some_and(|problem| problem.contains(&denied)))
        .await;
    let problem = health.problem.expect("told");
    assert!(health.connected && health.caught_up, "{problem}");
    assert!(problem.contains("uthoriz") || problem.contains("right to Read"), "{problem}");
    assert!(!problem.contains(&kafka.topic("a")), "{problem}");
    // Longer than it takes until a topic that does not exist is believed to be gone.
    let closed = tokio::time::timeout(Duration::from_secs(4), async {
        while reader.closed.is_empty() {
            reader.read().await;
        }
    });
    assert!(closed.await.is_err(), "{:?}", reader.closed);
    for name in ["a", "b", "c"] {
        kafka.write(name, "2").await;
    }
    reader.read_events(5).await;
    let topics: Vec<_> = reader.events[3..].iter().map(|e| e.lane.topic.to_string()).collect();
    assert!(topics.contains(&kafka.topic("a")) && topics.contains(&kafka.topic("c")), "{topics:?}");

    kafka.rule(Rule::Remove, "b", right, DENIED);
    reader.read_events(6).await;
    let last = &reader.events[5];
    assert_eq!((&*last.lane.topic, &last.payload[..]), (&*denied, &b"2"[..]), "nothing is missed");
    reader.until(|health| health.problem.is_none()).await;
    kafka.write("b", "3").await;
    reader.read_events(7).await;
    assert_eq!(reader.payloads()[6], "3");
    assert!(reader.lost.is_empty() && reader.closed.is_empty());
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn what_may_not_be_described_any_more_is_told_and_read_on_later() {
    a_topic_is_denied_and_allowed_again(Right::Describe).await;
}

#[tokio::test]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn what_may_not_be_read_any_more_is_told_and_read_on_later() {
    a_topic_is_denied_and_allowed_again(Right::Read).await;
}
