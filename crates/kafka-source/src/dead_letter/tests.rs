use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::producer::FutureProducer;
use std::sync::Mutex;

use super::*;
use crate::config::{ConfigError, KafkaConfig};

fn source() -> KafkaConfig {
    KafkaConfig::new("localhost:9092").topic("t")
}

fn refused(config: DeadLetterConfig) -> String {
    KafkaDeadLetters::start(config).expect_err("must be refused").to_string()
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let letters = |topic| DeadLetterConfig::new(&source(), topic);
    assert!(refused(letters("t")).contains("`t` is one that the source reads"));
    assert!(refused(letters("no topic")).contains("`no topic`"));
    assert!(refused(letters("dead").delivery_timeout(Duration::ZERO)).contains("delivery_timeout"));
    let long = DeadLetterConfig::MAX_DELIVERY_TIMEOUT * 2;
    assert!(refused(letters("dead").delivery_timeout(long)).contains("delivery_timeout"));
    assert!(refused(letters("dead").property("acks", "0")).contains("`acks`"));
    assert!(refused(letters("dead").brokers(" ,")).contains("brokers"));
    let unknown = letters("dead").property("no.such.property", "1");
    let unknown = KafkaDeadLetters::start(unknown).expect_err("must be refused");
    let named = |name: &str| name == "no.such.property";
    assert!(matches!(
        unknown,
        DeadLetterStartError::Config(ConfigError::Property { name, .. }) if named(&name)
    ));
    let all = DeadLetterConfig::new(&source().topic_pattern("^de.*"), "dead");
    assert!(refused(all).contains("`dead` is one that the source reads"));
    let bad = DeadLetterConfig::new(&source().property("enable.auto.commit", "true"), "dead");
    assert!(refused(bad).contains("enable.auto.commit"));
    // A topic of another cluster is another topic.
    KafkaDeadLetters::start(letters("t").brokers("localhost:9093")).expect("started");
}

/// Keeps what librdkafka says.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl ClientContext for Lines {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.lock().unwrap().push(format!("{facility}: {line}"));
    }
}

#[test]
fn the_source_s_properties_are_given_once_and_those_of_its_consumer_left_out() {
    let source = source()
        .property("security.protocol", "plaintext")
        .property("socket.keepalive.enable", "true")
        .property("session.timeout.ms", "7000")
        .property("group.instance.id", "one")
        .property("isolation.level", "read_uncommitted");
    let config = DeadLetterConfig::new(&source, "dead").property("linger.ms", "1");
    let client = config.client().unwrap();
    assert_eq!(client.get("security.protocol"), Some("plaintext"));
    assert_eq!(client.get("socket.keepalive.enable"), Some("true"));
    assert_eq!(client.get("linger.ms"), Some("1"));
    assert_eq!(client.get("enable.idempotence"), Some("true"));
    assert_eq!(client.get("message.timeout.ms"), Some("30000"));
    let lines = Lines::default();
    let producer: FutureProducer<Lines> =
        FutureProducer::from_config_and_context(&client, lines.clone()).unwrap();
    // It says so while it is made.
    producer.poll(Duration::ZERO);
    let said = lines.0.lock().unwrap();
    assert!(!said.iter().any(|line| line.contains("CONFWARN")), "{said:?}");
}

#[test]
fn what_was_wrong_is_cut_between_characters() {
    use headers::cut;
    assert_eq!(cut("short", 10), "short");
    assert_eq!(cut("äöü", 3), "ä");
    assert_eq!(cut("äöü", 4), "äö");
    assert_eq!(cut("ä", 0), "");
}

#[test]
fn debug_output_holds_no_password() {
    let config = DeadLetterConfig::new(&source().property("sasl.password", "hunter2"), "dead")
        .property("ssl.key.password", "hunter3");
    let text = format!(
        "{config:?} {:?}",
        KafkaDeadLetters::start(DeadLetterConfig::new(&source(), "dead"))
    );
    assert!(text.contains("ssl.key.password") && !text.contains("hunter"), "{text}");
}
