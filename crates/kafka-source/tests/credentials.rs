//! What is wrong with an address or a configuration is said at once and clearly, without
//! TLS, and no value of a property is.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use common::{DEADLINE, Reader, broker};
use fanout::{Source as _, SourceHealth};
use kafka_source::{
    ConfigError, GroupConfig, GroupConfigError, GroupStartError, KafkaConfig, KafkaGroup,
    KafkaSource, StartError,
};
use tokio::time::timeout;

fn config(brokers: &str, properties: &[(&str, &str)]) -> KafkaConfig {
    // Longer than the test waits: what is said does not come from a question that took too
    // long.
    let config = KafkaConfig::new(brokers).topic("t").request_timeout(DEADLINE * 2);
    properties.iter().fold(config, |config, (name, value)| config.property(*name, *value))
}

/// What the status says of brokers that cannot be used.
fn told(brokers: &str, health: SourceHealth) -> String {
    assert!(!health.connected);
    let problem = health.problem.expect("said");
    assert!(problem.starts_with(&format!("no broker can be used at {brokers}: ")), "{problem}");
    assert!(!problem.contains("hunter2"), "{problem}");
    problem
}

async fn problem(brokers: &str, properties: &[(&str, &str)]) -> String {
    let mut reader = Reader::start(config(brokers, properties));
    told(brokers, reader.until(|health| health.problem.is_some()).await)
}

/// The same of a member of a group.
async fn problem_of_a_member(brokers: &str, properties: &[(&str, &str)]) -> String {
    let group = GroupConfig::new(config(brokers, properties), "g");
    let group = KafkaGroup::start(group).expect("started");
    let mut status = group.status();
    let waiting = status.wait_for(|health| health.problem.is_some());
    assert_eq!(timeout(DEADLINE, waiting).await, Ok(true), "nothing is said");
    told(brokers, status.health())
}

fn refused(properties: &[(&str, &str)]) -> ConfigError {
    let config = config("127.0.0.1:1", properties);
    let group = GroupConfig::new(config.clone(), "g");
    match (KafkaSource::start(config), KafkaGroup::start(group)) {
        (
            Err(StartError::Config(error)),
            Err(GroupStartError::Config(GroupConfigError::Source(same))),
        ) => {
            assert_eq!(words(&error), words(&same));
            error
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// An error and all that is behind it, as a log shows it.
fn words(error: &ConfigError) -> String {
    let mut words = vec![format!("{error} {error:?}")];
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    words.join(": ")
}

#[tokio::test]
async fn where_nothing_listens_the_address_and_the_refusal_are_named() {
    let free = TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address");
    let free = free.to_string();
    for told in [problem(&free, &[]).await, problem_of_a_member(&free, &[]).await] {
        assert!(told.contains(&format!("broker {free}: ")) && told.contains("refused"), "{told}");
    }
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_named() {
    let told = problem("no-such-host.invalid:9092", &[]).await;
    assert!(told.contains("no-such-host.invalid:9092: Failed to resolve"), "{told}");
    assert!(told.contains("advertised.listeners"), "{told}");
}

#[tokio::test]
async fn a_port_that_is_no_kafka_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    let addr = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut asked = [0; 4];
            if stream.read_exact(&mut asked).is_ok() {
                drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
            }
        }
    });
    let told = problem(&addr.to_string(), &[]).await;
    assert!(told.contains(&format!("broker {addr}: ")), "{told}");
}

/// The embedded broker knows neither passwords nor how to say so.
#[tokio::test]
async fn a_password_for_who_asks_for_none_is_refused_in_words() {
    let broker = broker(1);
    let login = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "reader"),
        ("sasl.password", "hunter2"),
    ];
    for told in [
        problem(broker.bootstrap_servers(), &login).await,
        problem_of_a_member(broker.bootstrap_servers(), &login).await,
    ] {
        assert!(told.contains("SASL") || told.contains("sasl"), "{told}");
    }
}

#[test]
fn what_librdkafka_does_not_take_is_named_without_its_value() {
    let error = refused(&[("sasl.pasword", "hunter2")]);
    assert!(matches!(&error, ConfigError::Property { name, .. } if name == "sasl.pasword"));
    assert!(error.to_string().contains("`sasl.pasword`: "), "{error}");
    assert!(!words(&error).contains("hunter2"), "{}", words(&error));

    for name in ["fetch.wait.max.ms", "security.protocol", "isolation.level"] {
        let words = words(&refused(&[(name, "hunter2")]));
        assert!(words.contains(name) && !words.contains("hunter2"), "{words}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn tls_that_is_not_built_in_is_refused_with_the_features_name() {
    for properties in [
        &[("security.protocol", "ssl")][..],
        &[("security.protocol", "sasl_ssl")],
        &[("ssl.ca.location", "/etc/ssl/ca.pem")],
        &[
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "SCRAM-SHA-256"),
            ("sasl.username", "reader"),
            ("sasl.password", "hunter2"),
        ],
    ] {
        let error = refused(properties);
        assert!(matches!(error, ConfigError::NoTls { .. }), "{properties:?}: {error:?}");
        let words = words(&error);
        assert!(words.contains("feature `tls`") && !words.contains("hunter2"), "{words}");
    }
}
