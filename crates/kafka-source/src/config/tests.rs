use super::*;
use crate::start::Offsets;

fn config() -> KafkaConfig {
    KafkaConfig::new("localhost:9092").topic("t")
}

fn refused(config: &KafkaConfig) -> ConfigError {
    config.client().expect_err("must be refused")
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    assert_eq!(refused(&KafkaConfig::new(" ,").topic("t")), ConfigError::NoBrokers);
    assert_eq!(refused(&KafkaConfig::new("b:1")), ConfigError::NoTopics);
    for topic in ["", "..", "a b", "^order.*", "a/b", &"x".repeat(250)] {
        let error = refused(&config().topic(topic));
        assert_eq!(error, ConfigError::BadTopic { topic: topic.into() });
    }
    assert_eq!(refused(&config().max_batch(0)), ConfigError::Zero { name: "max_batch" });
    let none = config().max_partitions(0);
    assert_eq!(refused(&none), ConfigError::Zero { name: "max_partitions" });
    let error = refused(&config().property("enable.auto.commit", "true"));
    assert!(error.to_string().contains("enable.auto.commit"), "{error}");
}

#[test]
fn a_pattern_is_enough_to_read_and_has_to_be_one() {
    assert!(KafkaConfig::new("b:1").topic_pattern("^order\\..*").client().is_ok());
    let error = refused(&config().topic_pattern("fine").topic_pattern("order.("));
    assert!(error.to_string().starts_with("topic_pattern: `order.(` cannot"), "{error}");
}

#[test]
fn a_start_that_cannot_work_is_refused_by_name() {
    let offsets = |topic| Start::Offsets(Offsets::otherwise(Start::Latest).at(topic, 0, 7));
    assert!(config().start(offsets("t")).client().is_ok());
    assert!(config().topic_pattern("u.*").start(offsets("u1")).client().is_ok());
    let error = refused(&config().start(offsets("u1")));
    assert_eq!(error, ConfigError::StrayOffset { topic: "u1".into() });
    let by_time = config().start(Start::At(std::time::SystemTime::UNIX_EPOCH));
    assert!(by_time.client().is_ok());
    assert_eq!(refused(&by_time.search_by_time(false)), ConfigError::NoSearch);
}

#[test]
fn ends_are_asked_for_as_they_are_read() {
    assert!(!config().ends().uncommitted);
    assert!(config().property("isolation.level", "read_uncommitted").ends().uncommitted);
}

#[test]
fn properties_replace_defaults_but_not_promises() {
    let client = config().property("fetch.wait.max.ms", "2").client().expect("usable");
    assert_eq!(client.get("fetch.wait.max.ms"), Some("2"));
    assert_eq!(client.get("auto.offset.reset"), Some("error"));
    assert_eq!(client.get("bootstrap.servers"), Some("localhost:9092"));
    client.create_native_config().expect("librdkafka knows every property");
}

#[test]
fn what_reads_again_fetches_less_ahead_unless_told_otherwise() {
    let cap = |config: &KafkaConfig| {
        let client = config.replay_client().expect("usable");
        client.create_native_config().expect("librdkafka knows every property");
        client.get("queued.max.messages.kbytes").map(str::to_owned)
    };
    assert_eq!(cap(&config()).as_deref(), Some("4096"));
    let told = config().property("queued.max.messages.kbytes", "100");
    assert_eq!(cap(&told).as_deref(), Some("100"));
}

#[test]
fn debug_output_holds_no_password() {
    let config = config().property("sasl.password", "hunter2");
    let text = format!("{config:?}");
    assert!(text.contains("sasl.password") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_topic_named_twice_is_read_once() {
    assert_eq!(config().topics(["t", "u", "t"]).topics, ["t", "u"]);
}
