//! What librdkafka says by itself: its log lines and errors.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::counter;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::metrics::ERRORS;
use crate::throttle::Throttle;

pub(crate) type Consumer = BaseConsumer<Context>;

/// Counts errors, keeps the last one's words, and tells the log now and then.
///
/// While a broker is away librdkafka repeats itself several times a second.
#[derive(Debug)]
pub(crate) struct Context(Mutex<Said>);

#[derive(Debug)]
struct Said {
    /// The last error's words, until somebody could be reached again.
    last: Option<String>,
    errors: Throttle,
    lines: Throttle,
}

impl Context {
    pub(crate) fn new() -> Self {
        let throttle = || Throttle::new(3, Duration::from_secs(30));
        Self(Mutex::new(Said { last: None, errors: throttle(), lines: throttle() }))
    }

    /// What librdkafka last said was wrong.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.said().last.clone()
    }

    /// Forgets what was wrong.
    pub(crate) fn clear_error(&self) {
        self.said().last = None;
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        // Nothing in there can be left half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        use RDKafkaLogLevel::{Alert, Critical, Emerg, Error, Warning};
        let loud = matches!(level, Emerg | Alert | Critical | Error | Warning);
        let passed = loud.then(|| self.said().lines.pass(Instant::now())).flatten();
        if let Some(held_back) = passed {
            tracing::warn!(facility, held_back, "librdkafka: {line}");
        } else {
            tracing::debug!(facility, "librdkafka: {line}");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition comes as an error, and is none.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        counter!(ERRORS).increment(1);
        let mut said = self.said();
        // "1/1 brokers are down" follows the reason, and says less.
        let all_down = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if !all_down || said.last.is_none() {
            said.last = Some(reason.to_owned());
        }
        if let Some(held_back) = said.errors.pass(Instant::now()) {
            drop(said);
            tracing::warn!(%error, held_back, "kafka: {reason}");
        }
    }
}

impl ConsumerContext for Context {}
