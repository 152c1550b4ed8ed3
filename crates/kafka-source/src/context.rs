//! What librdkafka says by itself: its log lines and errors.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use fanout::{SourceReporter, Throttle};
use metrics::counter;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::metrics::ERRORS;
use crate::report::unreachable;
use crate::trouble::{Trouble, Weight};

pub(crate) type Consumer = BaseConsumer<Context>;

/// How long an error that says more stands against those that say less. librdkafka repeats
/// one of its errors every 30 seconds at most.
const STANDS: Duration = Duration::from_secs(60);

/// Counts errors, keeps the words of the one that says most, and tells the log now and then.
///
/// While a broker is away librdkafka repeats itself several times a second.
#[derive(Debug)]
pub(crate) struct Context {
    said: Mutex<Said>,
    /// Whose status is told at once, and what the brokers are called there.
    status: OnceLock<(Weak<SourceReporter>, String)>,
}

#[derive(Debug)]
struct Said {
    /// What was wrong, and when that was said, until somebody could be reached again.
    last: Option<(Trouble, Instant)>,
    /// Those that somebody has to do something about are not held back by others.
    refusals: Throttle,
    errors: Throttle,
    lines: Throttle,
}

impl Said {
    /// Notes what is wrong, unless what is known says more.
    fn note(&mut self, trouble: Trouble, now: Instant) {
        let stands = self.last.as_ref().is_some_and(|(last, said)| {
            last.weight > trouble.weight && now.duration_since(*said) < STANDS
        });
        if !stands {
            self.last = Some((trouble, now));
        }
    }

    fn last_words(&self) -> Option<&str> {
        self.last.as_ref().map(|(trouble, _)| trouble.words.as_str())
    }
}

impl Context {
    pub(crate) fn new() -> Self {
        let throttle = || Throttle::new(3, Duration::from_secs(30));
        let said = Said { last: None, refusals: throttle(), errors: throttle(), lines: throttle() };
        Self { said: Mutex::new(said), status: OnceLock::new() }
    }

    /// Tells this status at once what is wrong, as long as nobody is reached: asking the
    /// brokers takes its time to fail.
    pub(crate) fn tell(&self, reporter: &Arc<SourceReporter>, brokers: &str) {
        // Whoever told it first stays.
        let _ = self.status.set((Arc::downgrade(reporter), brokers.to_owned()));
    }

    /// What librdkafka last said was wrong.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.said().last_words().map(str::to_owned)
    }

    /// Forgets what was wrong.
    pub(crate) fn clear_error(&self) {
        self.said().last = None;
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        // Nothing in there can be left half changed.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_status(&self, words: &str) {
        let Some((reporter, brokers)) = self.status.get() else { return };
        let Some(reporter) = reporter.upgrade() else { return };
        reporter.update(|health| {
            if !health.connected {
                health.problem = Some(unreachable(brokers, words));
            }
        });
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
        let trouble = Trouble::new(&error, reason);
        let now = Instant::now();
        let mut said = self.said();
        let refused = trouble.weight == Weight::Refused;
        let throttle = if refused { &mut said.refusals } else { &mut said.errors };
        let passed = throttle.pass(now);
        let words = trouble.words.clone();
        said.note(trouble, now);
        let last = said.last_words().unwrap_or_default().to_owned();
        drop(said);
        match passed {
            Some(held_back) if refused => tracing::error!(held_back, "kafka: {words}"),
            Some(held_back) => tracing::warn!(%error, held_back, "kafka: {words}"),
            None => {}
        }
        self.tell_status(&last);
    }
}

impl ConsumerContext for Context {}

#[cfg(test)]
mod tests {
    use fanout::SourceStatus;

    use super::*;

    fn trouble(weight: Weight, words: &str) -> Trouble {
        Trouble { weight, words: words.into() }
    }

    #[test]
    fn what_says_more_stands_for_a_while() {
        let (context, start) = (Context::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let note = |weight, words, seconds| {
            context.said().note(trouble(weight, words), at(seconds));
            context.last_error().unwrap()
        };
        assert_eq!(note(Weight::Some, "all down", 0), "all down");
        assert_eq!(note(Weight::Refused, "password", 1), "password");
        assert_eq!(note(Weight::Connection, "hung up", 2), "password");
        assert_eq!(note(Weight::Some, "all down", 60), "password");
        assert_eq!(note(Weight::Refused, "certificate", 61), "certificate");
        assert_eq!(note(Weight::Connection, "hung up", 121), "hung up");
        context.clear_error();
        assert_eq!(context.last_error(), None);
    }

    #[test]
    fn the_status_is_told_at_once_unless_a_broker_answers() {
        let (reporter, status) = SourceStatus::new();
        let (context, reporter) = (Context::new(), Arc::new(reporter));
        let refuse = || {
            let error = KafkaError::Global(RDKafkaErrorCode::Authentication);
            context.error(error, "sasl_plaintext://b:1/1: wrong password (after 1ms)");
        };
        refuse();
        assert_eq!(status.health().problem, None, "it was told nobody to tell");
        context.tell(&reporter, "b:1");
        refuse();
        let problem = status.health().problem.unwrap();
        assert!(problem.contains("b:1: wrong password; check"), "{problem}");

        reporter.update(|health| (health.connected, health.problem) = (true, None));
        refuse();
        assert_eq!(status.health().problem, None);
    }
}
