//! Properties of librdkafka reach whatever reads and writes, and are refused in words.

#![allow(missing_docs, reason = "a test")]

use std::error::Error as _;
use std::time::Duration;

use clap::Parser;
use kafka_source::{ConfigError, KafkaSource, StartError};
use order_server::config::Config;
use order_server::kafka::Broker;
use order_server::server::Server;

/// Why the server does not start, with all that is behind it.
async fn refused(property: &str) -> String {
    let flags = ["x", "--port", "0", "--data", ":memory:", "--kafka", "127.0.0.1:1"];
    let flags = flags.iter().copied().chain(["--kafka-property", property]);
    let Err(error) = Server::start(Config::parse_from(flags)).await else {
        panic!("{property} was taken")
    };
    let mut words = vec![format!("{error} {error:?}")];
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    words.join(": ")
}

#[tokio::test]
async fn what_cannot_be_used_is_named_without_its_value() {
    for (property, says) in [
        ("sasl.pasword=hunter2", "`sasl.pasword`"),
        ("hunter2", "--kafka-property, number 1"),
        ("auto.offset.reset=hunter2", "`auto.offset.reset`"),
        ("acks=hunter2", "`acks` cannot be given"),
        #[cfg(not(feature = "tls"))]
        ("security.protocol=ssl", "feature `tls`"),
    ] {
        let words = refused(property).await;
        assert!(words.contains(says) && !words.contains("hunter2"), "{words}");
    }
}

#[test]
fn all_that_reads_and_writes_is_given_them() {
    let flags = ["x", "--kafka", "127.0.0.1:1", "--kafka-property", "no.such=1"];
    let properties = Config::parse_from(flags).kafka_properties().unwrap();
    let broker = Broker::Remote { brokers: "127.0.0.1:1".into(), properties };
    let named = |error| matches!(error, ConfigError::Property { name, .. } if name == "no.such");
    assert!(broker.producer().is_err_and(named));
    let source = KafkaSource::start(broker.source(Duration::ZERO));
    let Err(StartError::Config(error)) = source else { panic!("{source:?}") };
    assert!(named(error));
}
