//! Says how the source is doing: to its status, to the log, and in numbers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fanout::{SourceReporter, Throttle};
use metrics::counter;

use crate::metrics::{ERRORS, RECONNECTS};

/// How it stands with one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is read, as far as is known.
    #[default]
    Fine,
    /// It cannot be read.
    Problem(String),
    /// Nobody answers what is asked of it.
    Silent(String),
}

/// What was said last, so that the log is told only of what is new.
pub(crate) struct Report {
    reporter: SourceReporter,
    servers: String,
    state: Mutex<State>,
}

struct State {
    /// `None` before anything is known.
    link: Option<Result<(), String>>,
    streams: Vec<Standing>,
    /// What was told last.
    connected: Option<bool>,
    problem: Option<String>,
    problem_log: Throttle,
}

impl Report {
    pub(crate) fn new(reporter: SourceReporter, servers: String, streams: usize) -> Self {
        let state = State {
            link: None,
            streams: vec![Standing::Fine; streams],
            connected: None,
            problem: None,
            problem_log: Throttle::new(5, Duration::from_secs(60)),
        };
        Self { reporter, servers, state: Mutex::new(state) }
    }

    /// A server has taken the connection.
    pub(crate) fn connected(&self) {
        self.change(|state| state.link = Some(Ok(())));
    }

    /// There is no connection.
    pub(crate) fn disconnected(&self, reason: &str) {
        self.change(|state| state.link = Some(Err(reason.to_owned())));
    }

    /// How it stands with a stream, by its number.
    pub(crate) fn stream(&self, stream: usize, standing: Standing) {
        if matches!(standing, Standing::Silent(_)) {
            counter!(ERRORS).increment(1);
        }
        self.change(|state| state.streams[stream] = standing);
    }

    /// All that was there at start was handed on.
    pub(crate) fn caught_up(&self) {
        tracing::info!(servers = self.servers, "nats source has caught up");
        self.reporter.update(|health| health.caught_up = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let (connected, problem) = self.judge(&state);
        self.log(&mut state, connected, problem.as_deref());
        self.reporter.update(|health| (health.connected, health.problem) = (connected, problem));
    }

    /// Whether the server can be reached, and what is wrong.
    fn judge(&self, state: &State) -> (bool, Option<String>) {
        let servers = &self.servers;
        match &state.link {
            None => return (false, None),
            Some(Err(reason)) => {
                return (false, Some(format!("no server takes us at {servers}: {reason}")));
            }
            Some(Ok(())) => {}
        }
        let silent = state.streams.iter().find_map(|standing| match standing {
            Standing::Silent(reason) => Some(reason),
            _ => None,
        });
        if let Some(reason) = silent {
            return (false, Some(format!("no answer at {servers}: {reason}")));
        }
        let mut problems: Vec<&str> = Vec::new();
        for standing in &state.streams {
            match standing {
                // What is wrong with all is told once.
                Standing::Problem(problem) if !problems.contains(&problem.as_str()) => {
                    problems.push(problem);
                }
                _ => {}
            }
        }
        (true, (!problems.is_empty()).then(|| problems.join("; ")))
    }

    fn log(&self, state: &mut MutexGuard<'_, State>, connected: bool, problem: Option<&str>) {
        let servers = &self.servers;
        let before = state.connected;
        if state.link.is_some() {
            state.connected = Some(connected);
        }
        match (before, connected) {
            (Some(true), true) | (None | Some(false), false) => {}
            (Some(false), true) => {
                counter!(RECONNECTS).increment(1);
                tracing::info!(servers, "nats answers again");
            }
            (None, true) => tracing::info!(servers, "connected to nats"),
            (Some(true), false) => tracing::warn!(servers, "nats cannot be reached; trying on"),
        }
        if state.problem.as_deref() == problem {
            return;
        }
        let Some(held_back) = state.problem_log.pass(Instant::now()) else { return };
        if let Some(problem) = problem {
            tracing::warn!(held_back, "nats: {problem}; trying on");
        } else {
            tracing::info!(held_back, "nats: everything can be read");
        }
        state.problem = problem.map(str::to_owned);
    }
}

#[cfg(test)]
mod tests {
    use fanout::SourceStatus;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_until_it_is_right() {
        let (reporter, status) = SourceStatus::new();
        let report = Report::new(reporter, "nats://host:1".into(), 3);
        let told = || {
            let health = status.health();
            (health.connected, health.problem)
        };
        assert_eq!(told(), (false, None));
        report.disconnected("authorization violation");
        let problem = "no server takes us at nats://host:1: authorization violation";
        assert_eq!(told(), (false, Some(problem.into())));

        report.connected();
        assert_eq!(told(), (true, None));
        for stream in [0, 2] {
            report.stream(stream, Standing::Problem("no stream".into()));
        }
        report.stream(1, Standing::Problem("another".into()));
        assert_eq!(told(), (true, Some("no stream; another".into())));
        report.stream(1, Standing::Silent("no answer in 5s".into()));
        assert_eq!(told(), (false, Some("no answer at nats://host:1: no answer in 5s".into())));
        report.disconnected("the connection has ended");
        assert!(!told().0);

        (0..3).for_each(|stream| report.stream(stream, Standing::Fine));
        assert!(!told().0, "there is no connection");
        report.connected();
        assert_eq!(told(), (true, None));
    }
}
