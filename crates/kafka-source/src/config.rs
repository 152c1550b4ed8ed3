//! What a [`KafkaSource`](crate::KafkaSource) reads, and how much of it at once.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::start::Start;

/// Longest name of a topic that Kafka takes.
const MAX_TOPIC_BYTES: usize = 249;

/// Properties that the source's promises rest on.
const RESERVED: [(&str, &str); 5] = [
    // What has been deleted must be noticed, not jumped over in silence.
    ("auto.offset.reset", "error"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("bootstrap.servers", ""),
];

/// Defaults that a property may replace.
const DEFAULTS: [(&str, &str); 10] = [
    // `assign` wants a group; nobody joins it.
    ("group.id", "fanout"),
    ("client.id", "fanout"),
    // librdkafka's defaults let a backlog grow memory by hundreds of megabytes.
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "20000"),
    // Defaults of 500 and 1000 are felt as latency after every hiccup.
    ("fetch.error.backoff.ms", "50"),
    ("fetch.queue.backoff.ms", "50"),
    ("fetch.wait.max.ms", "100"),
    // How soon a broker that came back is noticed; the default is 10 s.
    ("reconnect.backoff.ms", "100"),
    ("reconnect.backoff.max.ms", "1000"),
    ("log.connection.close", "false"),
];

/// Defaults of the consumer that reads again, before those: it reads what is there, and
/// then nothing for long.
const REPLAY_DEFAULTS: [(&str, &str); 3] = [
    ("queued.max.messages.kbytes", "4096"),
    ("queued.min.messages", "5000"),
    // It waits only where a range ends with what is no record.
    ("fetch.wait.max.ms", "10"),
];

/// What to read, from where, and how much of it at once.
///
/// ```
/// use std::time::Duration;
/// use kafka_source::{KafkaConfig, Start};
///
/// let config = KafkaConfig::new("kafka-1:9092,kafka-2:9092")
///     .topics(["order.created", "order.cancelled"])
///     .start(Start::Latest)
///     .json(true)
///     .metadata_interval(Duration::from_secs(30))
///     .property("security.protocol", "plaintext");
/// ```
#[derive(Clone)]
pub struct KafkaConfig {
    pub(crate) brokers: String,
    pub(crate) topics: Vec<String>,
    pub(crate) start: Start,
    pub(crate) json: bool,
    pub(crate) max_batch: usize,
    pub(crate) max_batch_bytes: usize,
    pub(crate) max_queued_batches: usize,
    pub(crate) metadata_interval: Duration,
    pub(crate) missing_grace: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) log_identity: Option<String>,
    pub(crate) search_by_time: bool,
    properties: BTreeMap<String, String>,
}

/// Why a [`KafkaConfig`] cannot be used. Retrying cannot help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No broker is named.
    #[error("brokers: empty; name at least one as host:port")]
    NoBrokers,
    /// There is nothing to read.
    #[error("topics: empty; name at least one")]
    NoTopics,
    /// Kafka has no topic of such a name.
    #[error(
        "topics: `{topic}` is no name of a topic: 1 to {MAX_TOPIC_BYTES} of A-Z a-z 0-9 . _ - \
         and neither `.` nor `..`"
    )]
    BadTopic {
        /// The name.
        topic: String,
    },
    /// A limit of nothing would stop the source.
    #[error("{name}: must be more than 0")]
    Zero {
        /// The setting's name.
        name: &'static str,
    },
    /// A property that the source sets itself.
    #[error("property `{name}` is set by the source and cannot be changed")]
    Reserved {
        /// The property's name.
        name: String,
    },
    /// librdkafka refused a property, or their combination.
    #[error("librdkafka refused its configuration")]
    Client(#[source] rdkafka::error::KafkaError),
}

impl KafkaConfig {
    /// Default of [`max_batch`](Self::max_batch).
    pub const DEFAULT_MAX_BATCH: usize = 256;
    /// Default of [`max_batch_bytes`](Self::max_batch_bytes): 1 MiB.
    pub const DEFAULT_MAX_BATCH_BYTES: usize = 1 << 20;
    /// Default of [`max_queued_batches`](Self::max_queued_batches).
    pub const DEFAULT_MAX_QUEUED_BATCHES: usize = 8;
    /// Default of [`metadata_interval`](Self::metadata_interval).
    pub const DEFAULT_METADATA_INTERVAL: Duration = Duration::from_secs(10);
    /// Default of [`missing_grace`](Self::missing_grace).
    pub const DEFAULT_MISSING_GRACE: Duration = Duration::from_secs(5);
    /// Default of [`request_timeout`](Self::request_timeout).
    pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

    /// No topic yet, from [`Start::Latest`], payloads unchecked. `brokers` are
    /// `host:port`, with commas between.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topics: Vec::new(),
            start: Start::default(),
            json: false,
            max_batch: Self::DEFAULT_MAX_BATCH,
            max_batch_bytes: Self::DEFAULT_MAX_BATCH_BYTES,
            max_queued_batches: Self::DEFAULT_MAX_QUEUED_BATCHES,
            metadata_interval: Self::DEFAULT_METADATA_INTERVAL,
            missing_grace: Self::DEFAULT_MISSING_GRACE,
            request_timeout: Self::DEFAULT_REQUEST_TIMEOUT,
            log_identity: None,
            search_by_time: true,
            properties: BTreeMap::new(),
        }
    }

    /// Adds a topic, which need not exist yet. Naming it twice changes nothing.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        let topic = topic.into();
        if !self.topics.contains(&topic) {
            self.topics.push(topic);
        }
        self
    }

    /// Adds several topics.
    pub fn topics<T: Into<String>>(self, topics: impl IntoIterator<Item = T>) -> Self {
        topics.into_iter().fold(self, Self::topic)
    }

    /// Where reading begins. Default: [`Start::Latest`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Whether a payload must be one JSON value; a record that is none is counted,
    /// logged and skipped, and [`Event::json`](fanout::Event::json) costs nothing.
    /// Default: false.
    pub fn json(mut self, json: bool) -> Self {
        self.json = json;
        self
    }

    /// Most records of one batch. Default: [`Self::DEFAULT_MAX_BATCH`].
    pub fn max_batch(mut self, records: usize) -> Self {
        self.max_batch = records;
        self
    }

    /// Bytes of payload after which a batch is closed: the last record may pass them.
    /// Default: [`Self::DEFAULT_MAX_BATCH_BYTES`].
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.max_batch_bytes = bytes;
        self
    }

    /// Batches that may wait to be taken before reading stops, and as many of those that
    /// are read again. Default: [`Self::DEFAULT_MAX_QUEUED_BATCHES`].
    pub fn max_queued_batches(mut self, batches: usize) -> Self {
        self.max_queued_batches = batches;
        self
    }

    /// How often new partitions are looked for. Default:
    /// [`Self::DEFAULT_METADATA_INTERVAL`].
    pub fn metadata_interval(mut self, interval: Duration) -> Self {
        self.metadata_interval = interval;
        self
    }

    /// How long a topic has to be denied, by every answer, before it counts as not made
    /// yet. Until then the source is not ready: brokers that are starting, or have not
    /// heard of a new topic yet, deny what exists. Afterwards the source is ready without
    /// it, and reads all of it once it appears. Default: [`Self::DEFAULT_MISSING_GRACE`];
    /// zero believes the first answer.
    pub fn missing_grace(mut self, grace: Duration) -> Self {
        self.missing_grace = grace;
        self
    }

    /// How long a question to the broker (its topics, their ends) may take, five minutes
    /// at most, and how long reading again may come to nothing before it is given up.
    /// Default: [`Self::DEFAULT_REQUEST_TIMEOUT`].
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// What [`Lane::log`](fanout::Lane::log) is, in place of the cluster's id and the id
    /// that the topic got when it was made. It has to be the same on all nodes, and another
    /// when the log is another: nobody notices then that a topic was made anew.
    pub fn log_identity(mut self, identity: impl Into<String>) -> Self {
        self.log_identity = Some(identity.into());
        self
    }

    /// Whether the broker finds records by their time, as every Kafka does;
    /// [`EmbeddedBroker::config`](crate::EmbeddedBroker::config) says that it does not.
    /// Without, [`Start::Recent`] counts records only. Default: true.
    pub fn search_by_time(mut self, able: bool) -> Self {
        self.search_by_time = able;
        self
    }

    /// Sets a property of librdkafka, for the consumer that reads and for the one that
    /// reads again; see its `CONFIGURATION.md`.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// What librdkafka is started with.
    pub(crate) fn client(&self) -> Result<ClientConfig, ConfigError> {
        self.client_with(&[])
    }

    /// What the librdkafka that reads again is started with.
    pub(crate) fn replay_client(&self) -> Result<ClientConfig, ConfigError> {
        self.client_with(&REPLAY_DEFAULTS)
    }

    fn client_with(&self, defaults: &[(&str, &str)]) -> Result<ClientConfig, ConfigError> {
        self.check()?;
        let mut client = ClientConfig::new();
        let given = self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let defaults = DEFAULTS.into_iter().chain(defaults.iter().copied());
        for (name, value) in defaults.chain(given).chain(RESERVED) {
            client.set(name, value);
        }
        client.set("bootstrap.servers", &self.brokers);
        client.set_log_level(RDKafkaLogLevel::Warning);
        Ok(client)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.brokers.split(',').all(|broker| broker.trim().is_empty()) {
            return Err(ConfigError::NoBrokers);
        }
        if self.topics.is_empty() {
            return Err(ConfigError::NoTopics);
        }
        if let Some(topic) = self.topics.iter().find(|topic| !is_topic(topic)) {
            return Err(ConfigError::BadTopic { topic: topic.clone() });
        }
        let limits = [
            ("max_batch", self.max_batch == 0),
            ("max_batch_bytes", self.max_batch_bytes == 0),
            ("max_queued_batches", self.max_queued_batches == 0),
            ("metadata_interval", self.metadata_interval.is_zero()),
            ("request_timeout", self.request_timeout.is_zero()),
        ];
        if let Some((name, _)) = limits.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError::Zero { name });
        }
        let reserved = |name: &&String| RESERVED.iter().any(|(reserved, _)| reserved == name);
        match self.properties.keys().find(reserved) {
            Some(name) => Err(ConfigError::Reserved { name: name.clone() }),
            None => Ok(()),
        }
    }
}

/// Whether Kafka takes this as the name of a topic.
pub(crate) fn is_topic(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_TOPIC_BYTES).contains(&name.len())
        && name.bytes().all(legal)
        && !matches!(name, "." | "..")
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names only: values of properties may be passwords.
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("topics", &self.topics)
            .field("start", &self.start)
            .field("json", &self.json)
            .field("properties", &self.properties.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let error = refused(&config().property("enable.auto.commit", "true"));
        assert!(error.to_string().contains("enable.auto.commit"), "{error}");
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
}
