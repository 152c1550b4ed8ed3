//! The control topic cannot be read while the server runs.

use kafka_source::rdkafka::mocking::MockCluster;
use kafka_source::rdkafka::types::RDKafkaRespErr;
use order_server::record::topics;
use serde_json::json;

use crate::ready;
use crate::support::{Client, until};

const TOPIC: &str = "told.to.all";

/// What `/readyz` says of the control topic, once that is not this.
async fn control_is_not(nobody: &Client, word: &str) -> (u16, String) {
    until("the word changes", async || {
        let answer = nobody.get("/readyz").await;
        let told = answer.json()["control"].as_str().unwrap().to_owned();
        (told != word).then(|| (answer.status.as_u16(), told))
    })
    .await
}

async fn readable(nobody: &Client) -> bool {
    let text = nobody.get("/metrics").await.text().to_owned();
    let line = text.lines().find(|line| line.starts_with("fanout_control_readable "));
    line.expect("a gauge").ends_with(" 1")
}

/// Nobody knows then who is revoked: no balancer is to send anybody here.
#[tokio::test]
async fn a_server_is_not_ready_while_revocations_cannot_be_read() {
    let kafka = MockCluster::new(1).unwrap();
    for topic in topics::ALL.into_iter().chain([TOPIC]) {
        kafka.create_topic(topic, 1, 1).unwrap();
    }
    let flags = ["--kafka", &kafka.bootstrap_servers(), "--control-topic", TOPIC];
    let server = ready(&flags).await;
    let nobody = Client::nobody(&server);
    until("told", async || readable(&nobody).await.then_some(())).await;

    kafka.topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let (status, told) = control_is_not(&nobody, "ok").await;
    assert_eq!((status, &*told), (503, "Kafka has something that cannot be read"));
    assert_eq!(nobody.get("/readyz").await.json()["source"], "ok", "it alone");
    until("told", async || (!readable(&nobody).await).then_some(())).await;

    kafka.topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    assert_eq!(control_is_not(&nobody, &told).await, (200, "ok".to_owned()));
    // It follows again, be it another topic now.
    let (ann, admin) =
        (Client::login(&server, "ann@x").await, Client::login(&server, "admin@x").await);
    let answer = admin.post("/api/revoke", &json!({"subject": "ann@x"})).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    until("refused", async || (ann.get("/api/orders").await.status == 401).then_some(())).await;
    server.stop().await;
}
