//! What librdkafka is started with.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::{ConfigError, KafkaConfig};
use crate::ends::Ends;

/// Properties that the source's promises rest on.
pub(super) const RESERVED: [(&str, &str); 5] = [
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

impl KafkaConfig {
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

    /// Asks for offsets as what is read sees them.
    pub(crate) fn ends(&self) -> Ends {
        let isolation = self.properties.get("isolation.level");
        Ends { uncommitted: isolation.is_some_and(|level| level == "read_uncommitted") }
    }
}
