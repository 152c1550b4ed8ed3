//! What a [`KafkaSource`](crate::KafkaSource) reads, and how much of it at once.

mod check;
mod client;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::start::Start;

pub use check::ConfigError;
pub(crate) use check::is_topic;

/// What to read, from where, and how much of it at once.
///
/// ```
/// use std::time::Duration;
/// use kafka_source::{KafkaConfig, Start};
///
/// let config = KafkaConfig::new("kafka-1:9092,kafka-2:9092")
///     .topics(["order.created", "order.cancelled"])
///     .topic_pattern("^invoice\\..*")
///     .start(Start::Latest)
///     .metadata_interval(Duration::from_secs(30))
///     .property("security.protocol", "plaintext");
/// ```
#[derive(Clone)]
pub struct KafkaConfig {
    pub(crate) brokers: String,
    pub(crate) topics: Vec<String>,
    topic_patterns: Vec<String>,
    pub(crate) start: Start,
    pub(crate) tombstones: bool,
    pub(crate) max_partitions: usize,
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

    /// Default of [`max_partitions`](Self::max_partitions): what a client's cursor can name.
    pub const DEFAULT_MAX_PARTITIONS: usize = 1_000;

    /// No topic yet, from [`Start::Latest`]. `brokers` are
    /// `host:port`, with commas between.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topics: Vec::new(),
            topic_patterns: Vec::new(),
            start: Start::default(),
            tombstones: false,
            max_partitions: Self::DEFAULT_MAX_PARTITIONS,
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

    /// Adds all topics whose whole name matches a regular expression, such as
    /// `^orders\..*`: those there are, and those that are made later. May be given several
    /// times, and beside names.
    ///
    /// `^` and `$` may be left out; letters and digits are those of ASCII, as in all names
    /// of topics (see the crate `regex` for what can be written, without its Unicode
    /// classes). Topics whose names begin with `__` are Kafka's own and never match.
    ///
    /// The brokers are asked for all their topics then, and list only those that one may
    /// describe. What matches in the first answer that holds anything that matches is read
    /// from [`start`](Self::start), what appears later from its beginning. Where nothing
    /// matches for [`missing_grace`](Self::missing_grace), the source is ready without.
    pub fn topic_pattern(mut self, pattern: impl Into<String>) -> Self {
        let pattern = pattern.into();
        if !self.topic_patterns.contains(&pattern) {
            self.topic_patterns.push(pattern);
        }
        self
    }

    /// Where reading begins. Default: [`Start::Latest`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Whether a record without a value, a tombstone, is an event with an empty payload.
    /// Without, it is passed over and counted. Default: false.
    pub fn tombstones(mut self, kept: bool) -> Self {
        self.tombstones = kept;
        self
    }

    /// Most partitions that are read, of all topics together. Topics that are named come
    /// first, then those that match a pattern by their names. What is over the limit is not
    /// read, the status says so, and the source is ready without; once there is room it is
    /// read, from [`start`](Self::start) if it was known at start, else whole.
    /// Default: [`Self::DEFAULT_MAX_PARTITIONS`]; a client's cursor cannot name more.
    pub fn max_partitions(mut self, partitions: usize) -> Self {
        self.max_partitions = partitions;
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

    /// How often new partitions and topics are looked for. Default:
    /// [`Self::DEFAULT_METADATA_INTERVAL`].
    pub fn metadata_interval(mut self, interval: Duration) -> Self {
        self.metadata_interval = interval;
        self
    }

    /// How long a topic has to be denied, by every answer, before it counts as not made
    /// yet. Until then the source is not ready: brokers that are starting, or have not
    /// heard of a new topic yet, deny what exists. Afterwards the source is ready without
    /// it, and reads all of it once it appears. A topic that is read and is denied for as
    /// long was deleted: its lanes are closed. Default: [`Self::DEFAULT_MISSING_GRACE`];
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
    /// Without, [`Start::Recent`] counts records only, and [`Start::At`] is refused.
    /// Default: true.
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
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names only: values of properties may be passwords.
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("topics", &self.topics)
            .field("topic_patterns", &self.topic_patterns)
            .field("start", &self.start)
            .field("properties", &self.properties.keys())
            .finish_non_exhaustive()
    }
}
