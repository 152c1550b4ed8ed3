//! Says how the source is doing: to its status, to the log, and in numbers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanout::{SourceReporter, Throttle};
use metrics::counter;

use crate::metrics::RECONNECTS;

/// What was said last, so that the log is told only of what is new.
pub(crate) struct Report {
    reporter: Arc<SourceReporter>,
    brokers: String,
    /// `None` before anything is known.
    connected: Option<bool>,
    problem: Option<String>,
    problem_log: Throttle,
}

impl Report {
    pub(crate) fn new(reporter: Arc<SourceReporter>, brokers: String) -> Self {
        let problem_log = Throttle::new(5, Duration::from_secs(60));
        Self { reporter, brokers, connected: None, problem: None, problem_log }
    }

    /// A broker has answered; `problem` is what cannot be read nonetheless.
    pub(crate) fn answered(&mut self, problem: Option<String>) {
        match self.connected.replace(true) {
            Some(true) => {}
            Some(false) => {
                counter!(RECONNECTS).increment(1);
                tracing::info!(brokers = self.brokers, "kafka answers again");
            }
            None => tracing::info!(brokers = self.brokers, "connected to kafka"),
        }
        self.log_problem(problem.as_deref());
        self.reporter.update(|health| (health.connected, health.problem) = (true, problem));
    }

    /// No broker has answered.
    pub(crate) fn away(&mut self, reason: &str) {
        if self.connected.replace(false) != Some(false) {
            tracing::warn!(brokers = self.brokers, reason, "kafka cannot be reached; trying on");
        }
        let problem = Some(unreachable(&self.brokers, reason));
        self.reporter.update(|health| (health.connected, health.problem) = (false, problem));
    }

    fn log_problem(&mut self, problem: Option<&str>) {
        if self.problem.as_deref() == problem {
            return;
        }
        let Some(held_back) = self.problem_log.pass(Instant::now()) else { return };
        if let Some(problem) = problem {
            tracing::warn!(held_back, "kafka: {problem}; trying on");
        } else {
            tracing::info!(held_back, "kafka: everything can be read");
        }
        self.problem = problem.map(str::to_owned);
    }
}

/// What the status says while no broker can be used.
pub(crate) fn unreachable(brokers: &str, reason: &str) -> String {
    format!("no broker can be used at {brokers}: {reason}")
}
