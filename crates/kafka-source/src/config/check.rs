//! What of a configuration cannot be used, and why.

use super::KafkaConfig;
use super::client::RESERVED;
use crate::pattern::Patterns;

/// Longest name of a topic that Kafka takes.
const MAX_TOPIC_BYTES: usize = 249;

/// Why a [`KafkaConfig`] cannot be used. Retrying cannot help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No broker is named.
    #[error("brokers: empty; name at least one as host:port")]
    NoBrokers,
    /// There is nothing to read.
    #[error("topics: empty; name at least one, or a pattern")]
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
    /// A pattern that is none, or one that takes too much memory.
    #[error("topic_pattern: `{pattern}` cannot be used: {problem}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An offset is named for a topic that is not read.
    #[error("start: `{topic}` has an offset, and is not among the topics that are read")]
    StrayOffset {
        /// The topic.
        topic: String,
    },
    /// The start asks for a time, of a broker that finds nothing by time.
    #[error(
        "start: the broker does not find records by time (`search_by_time` is off, as for the \
         embedded one); begin with `Recent`, `Latest` or `Earliest`"
    )]
    NoSearch,
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
    /// librdkafka does not know a property, or not such a value of it.
    #[error("property `{name}`: {problem}")]
    Property {
        /// The property's name.
        name: String,
        /// What librdkafka says is wrong, without the value.
        problem: String,
    },
    /// The configuration asks for TLS, which is not built in.
    #[error("{problem}; build with the feature `tls` of kafka-source")]
    NoTls {
        /// What asks for it, and what librdkafka says.
        problem: String,
    },
    /// librdkafka refused the properties together.
    #[error("librdkafka refused its configuration")]
    Client(#[source] rdkafka::error::KafkaError),
}

impl KafkaConfig {
    /// Whether it can be used at all.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.brokers.split(',').all(|broker| broker.trim().is_empty()) {
            return Err(ConfigError::NoBrokers);
        }
        if self.topics.is_empty() && self.topic_patterns.is_empty() {
            return Err(ConfigError::NoTopics);
        }
        if let Some(topic) = self.topics.iter().find(|topic| !is_topic(topic)) {
            return Err(ConfigError::BadTopic { topic: topic.clone() });
        }
        self.check_start()?;
        let limits = [
            ("max_partitions", self.max_partitions == 0),
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

    fn check_start(&self) -> Result<(), ConfigError> {
        let patterns = self.patterns()?;
        let read = |topic: &str| self.names(topic) || patterns.matches(topic);
        if let Some(topic) = self.start.topics().into_iter().find(|topic| !read(topic)) {
            return Err(ConfigError::StrayOffset { topic: topic.to_owned() });
        }
        if self.start.needs_search() && !self.search_by_time {
            return Err(ConfigError::NoSearch);
        }
        Ok(())
    }

    /// Whether a topic is named.
    pub(crate) fn names(&self, topic: &str) -> bool {
        self.topics.iter().any(|named| named == topic)
    }

    /// The patterns, ready to match.
    pub(crate) fn patterns(&self) -> Result<Patterns, ConfigError> {
        Patterns::compile(&self.topic_patterns)
    }
}

/// Whether Kafka takes this as the name of a topic.
pub(crate) fn is_topic(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_TOPIC_BYTES).contains(&name.len())
        && name.bytes().all(legal)
        && !matches!(name, "." | "..")
}
