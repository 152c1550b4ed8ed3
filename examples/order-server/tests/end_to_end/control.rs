//! The topic that all servers are told by: who is revoked.
//!
//! Only a real broker keeps properties of topics, and forgets a topic.

use std::collections::HashMap;
use std::process::Stdio;

use kafka_source::rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use kafka_source::rdkafka::client::DefaultClientContext;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::kafka::{Kafka, admin_of, ready};
use crate::support::{Client, DEADLINE, until};

/// Topics of the tests' own, which are random.
struct Topics(AdminClient<DefaultClientContext>);

impl Topics {
    async fn create(&self, name: &str, properties: &[(&str, &str)]) {
        let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
        let topic = properties.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        let made = self.0.create_topics(&[topic], &AdminOptions::new()).await;
        made.unwrap().remove(0).unwrap();
    }

    async fn delete(&self, name: &str) {
        let deleted = self.0.delete_topics(&[name], &AdminOptions::new()).await;
        deleted.unwrap().remove(0).unwrap();
    }

    async fn set(&self, name: &str, properties: &[(&str, &str)]) {
        let change = AlterConfig {
            specifier: ResourceSpecifier::Topic(name),
            entries: properties.iter().copied().collect(),
        };
        let set = self.0.alter_configs(&[change], &AdminOptions::new()).await;
        set.unwrap().remove(0).unwrap();
    }

    async fn properties(&self, name: &str) -> HashMap<String, String> {
        let asked = [ResourceSpecifier::Topic(name)];
        let told = self.0.describe_configs(&asked, &AdminOptions::new()).await;
        let told = told.unwrap().remove(0).unwrap().entries.into_iter();
        told.filter_map(|entry| Some((entry.name, entry.value?))).collect()
    }
}

/// A broker, a control topic that nobody has used, and who makes it.
async fn kafka() -> Option<(Kafka, String, Topics)> {
    let kafka = Kafka::real().await?;
    let Kafka::Real(real) = &kafka else { unreachable!() };
    let topics = Topics(admin_of(&real.address));
    let name = order_server::order::random_id("control-", 8).unwrap();
    Some((kafka, name, topics))
}

/// A server with this control topic, and what it warns of.
struct Warning(Child, Lines<BufReader<ChildStderr>>);

impl Warning {
    fn start(kafka: &Kafka, topic: &str) -> Self {
        let Kafka::Real(real) = kafka else { unreachable!() };
        let mut child = Command::new(env!("CARGO_BIN_EXE_order-server"))
            .args(["--port", "0", "--data", ":memory:", "--log", "info"])
            .args(["--kafka", &real.address, "--control-topic", topic])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self(child, lines)
    }

    /// The next line about how the topic keeps what it is told.
    async fn next(&mut self) -> String {
        let line = async {
            loop {
                let line = self.1.next_line().await.unwrap().expect("it runs");
                if line.contains("control topic") {
                    return line;
                }
            }
        };
        tokio::time::timeout(DEADLINE, line).await.expect("it says something")
    }
}

#[tokio::test]
#[ignore = "needs a broker: FANOUT_TEST_KAFKA"]
async fn a_topic_that_forgets_revocations_is_said_with_what_to_set() {
    let Some((kafka, topic, topics)) = kafka().await else { return };
    let wrong = [
        ("cleanup.policy", "compact"),
        ("retention.ms", "3600000"),
        ("retention.bytes", "1000000"),
    ];
    topics.create(&topic, &wrong).await;
    let mut server = Warning::start(&kafka, &topic);
    for (property, set) in [
        ("`cleanup.policy` is `compact`", "set it to `delete`"),
        ("`retention.ms` is 3600000", "set it to 172800000 or more"),
        ("`retention.bytes` is 1000000", "set it to that or more"),
    ] {
        let line = server.next().await;
        assert!(line.contains(" WARN ") && line.contains(&topic), "{line}");
        assert!(line.contains(property) && line.contains(set), "{line}");
    }
    server.0.kill().await.unwrap();
    // As it was told to.
    let right = [("cleanup.policy", "delete"), ("retention.ms", "172800000")];
    topics.set(&topic, &right).await;
    let line = Warning::start(&kafka, &topic).next().await;
    assert!(line.contains(" INFO ") && line.contains("keeps what it is told"), "{line}");
}

#[tokio::test]
#[ignore = "needs a broker: FANOUT_TEST_KAFKA"]
async fn one_that_the_server_makes_keeps_them_for_as_long_as_they_count() {
    let Some((kafka, topic, topics)) = kafka().await else { return };
    let line = Warning::start(&kafka, &topic).next().await;
    assert!(line.contains(" INFO ") && line.contains("keeps what it is told"), "{line}");
    let properties = topics.properties(&topic).await;
    let is = |name: &str, value: &str| assert_eq!(properties[name], value, "{name}");
    is("cleanup.policy", "delete");
    is("retention.ms", "172800000");
    is("retention.bytes", "-1");
}

#[tokio::test]
#[ignore = "needs a broker: FANOUT_TEST_KAFKA"]
async fn one_that_is_deleted_and_made_anew_is_followed() {
    let Some((kafka, topic, topics)) = kafka().await else { return };
    let server = kafka.server(&["--control-topic", &topic]).await;
    let nobody = Client::nobody(&server);
    let (ann, admin) =
        (Client::login(&server, "ann@x").await, Client::login(&server, "admin@x").await);
    let revoked = async |who: &Client, subject: &str| {
        let answer = admin.post("/api/revoke", &json!({"subject": subject})).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        until("refused", async || (who.get("/api/orders").await.status == 401).then_some(())).await;
    };
    revoked(&ann, "ann@x").await;

    topics.delete(&topic).await;
    let unreadable = until("it is said", async || {
        let answer = nobody.get("/readyz").await;
        (answer.status == 503).then_some(answer)
    });
    assert_eq!(unreadable.await.json()["control"], "Kafka has something that cannot be read");
    // This server still knows what was said.
    assert_eq!(ann.get("/api/orders").await.status, 401);

    topics.create(&topic, &[]).await;
    ready(&nobody).await;
    let bob = Client::login(&server, "bob@x").await;
    assert_eq!(bob.get("/api/orders").await.status, 200);
    revoked(&bob, "bob@x").await;
    assert_eq!(ann.get("/api/orders").await.status, 401, "what was said counts");
    server.stop().await;
}
