//! The producer, and what keeps it useful.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, Producer as _};
use rdkafka::{ClientConfig, ClientContext};

use super::DeadLetterStartError;
use crate::bootstrap::Bootstrap;
use crate::config::ConfigError;
use crate::context::Context;

/// A producer that is dropped on a thread of its own: librdkafka waits there.
pub(super) struct Client {
    producer: Option<FutureProducer<Told>>,
    told: Told,
    bootstrap: Mutex<Bootstrap>,
}

impl Client {
    pub(super) fn new(config: &ClientConfig) -> Result<Self, DeadLetterStartError> {
        let told = Told(Arc::new(Context::new()));
        let producer = FutureProducer::from_config_and_context(config, told.clone())
            .map_err(ConfigError::from)?;
        let (producer, bootstrap) = (Some(producer), Mutex::default());
        Ok(Self { producer, told, bootstrap })
    }

    pub(super) fn producer(&self) -> &FutureProducer<Told> {
        self.producer.as_ref().expect("taken only when it is dropped")
    }

    /// Nothing was delivered for a while: it may have forgotten its brokers.
    pub(super) fn look(&self) {
        self.bootstrap().failed(self.producer().client());
    }

    /// Something was delivered.
    pub(super) fn worked(&self) {
        self.bootstrap().worked();
        self.told.0.clear_error();
    }

    /// Whether it delivers nothing any more, whatever happens. Asked each time: what it refuses
    /// then it refuses for this or for other reasons.
    pub(super) fn is_fatal(&self) -> bool {
        self.producer().client().fatal_error().is_some()
    }

    /// What librdkafka last said was wrong.
    pub(super) fn last_error(&self) -> Option<String> {
        self.told.0.last_error()
    }

    fn bootstrap(&self) -> std::sync::MutexGuard<'_, Bootstrap> {
        // Nothing in there can be left half changed.
        self.bootstrap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let producer = self.producer.take();
        // Where there is no thread, it is dropped here with what was to run there.
        drop(Builder::new().name("kafka-letters-end".into()).spawn(move || drop(producer)));
    }
}

/// What librdkafka says of the producer.
#[derive(Clone)]
pub(super) struct Told(Arc<Context>);

impl ClientContext for Told {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("fatal", &self.is_fatal()).finish_non_exhaustive()
    }
}
