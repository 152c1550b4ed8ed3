//! Runs all servers for all cases, interleaved.
//!
//! A machine is not equally fast all the time. Each repetition runs every server once,
//! and each time another one is first; ratios are made within a repetition.

use std::error::Error;
use std::time::Duration;

use crate::load::{LoadError, Problem};
use crate::run::{self, Case, Measured, RunError};
use crate::servers::{Kind, Programs};

/// What is run.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)] // Made by whoever runs it.
pub struct Comparison {
    /// The programs that serve.
    pub programs: Programs,
    /// The servers, each once.
    pub servers: Vec<Kind>,
    /// The cases.
    pub cases: Vec<Case>,
    /// How often each server is run for each case.
    pub repetitions: usize,
    /// How long one run may take.
    pub limit: Duration,
}

/// What came of one case.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Which.
    pub case: Case,
    /// The servers, as asked for.
    pub servers: Vec<Kind>,
    /// By repetition, then by server. A server that is among the failures has none.
    pub runs: Vec<Vec<Option<Measured>>>,
    /// The peers whose figures mean nothing here, and why.
    pub failures: Vec<(Kind, String)>,
}

/// A run that is about to begin.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// How many were before it.
    pub done: usize,
    /// How many there are in all.
    pub total: usize,
    /// Of which case.
    pub case: Case,
    /// Of which server.
    pub server: Kind,
    /// Of which repetition, from 0.
    pub repetition: usize,
}

/// The run that failed.
#[derive(Debug, thiserror::Error)]
#[error("{}, {} clients, burst {}, repetition {}", .server.name(), .case.clients, .case.burst, .repetition + 1)]
#[non_exhaustive]
pub struct ComparisonError {
    /// Of which case.
    pub case: Case,
    /// Of which server.
    pub server: Kind,
    /// Of which repetition, from 0.
    pub repetition: usize,
    /// Why.
    #[source]
    pub source: RunError,
}

impl Comparison {
    /// Runs it; tells `progress` of each run, and `outcome` of each case, which it may
    /// print or keep.
    ///
    /// What it costs to deliver wrongly is of no interest: a peer that loses or doubles a
    /// message, or fails otherwise, is left out of what remains of that case.
    ///
    /// # Errors
    /// [`ComparisonError`] with the first run that failed of what is no peer: without this
    /// library, or the floor, there is nothing to compare.
    pub fn run(
        &self,
        mut progress: impl FnMut(Progress),
        mut outcome: impl FnMut(Outcome),
    ) -> Result<(), ComparisonError> {
        let total = self.cases.len() * self.repetitions * self.servers.len();
        let mut done = 0;
        for &case in &self.cases {
            let mut came = Outcome::of(case, &self.servers);
            for repetition in 0..self.repetitions {
                came.runs.push(self.servers.iter().map(|_| None).collect());
                for at in order(self.servers.len(), repetition) {
                    let server = self.servers[at];
                    if !came.failed(server) {
                        progress(Progress { done, total, case, server, repetition });
                        match run::run(&self.programs, server, &case, self.limit) {
                            Ok(measured) => came.runs[repetition][at] = Some(measured),
                            Err(error) if server.is_peer() => came.leave_out(at, &error),
                            Err(source) => {
                                return Err(ComparisonError { case, server, repetition, source });
                            }
                        }
                    }
                    done += 1;
                }
            }
            outcome(came);
        }
        Ok(())
    }
}

impl Outcome {
    fn of(case: Case, servers: &[Kind]) -> Self {
        Self { case, servers: servers.to_vec(), runs: Vec::new(), failures: Vec::new() }
    }

    fn failed(&self, server: Kind) -> bool {
        self.failures.iter().any(|(failed, _)| *failed == server)
    }

    /// What it did before is worth as little.
    fn leave_out(&mut self, at: usize, error: &RunError) {
        for runs in &mut self.runs {
            runs[at] = None;
        }
        self.failures.push((self.servers[at], reason(error)));
    }
}

/// The error with its causes, behind what that says of a server.
fn reason(error: &RunError) -> String {
    let says = match error {
        RunError::Load(LoadError::Wrong { source: Problem::Order { .. }, .. }) => {
            Some("loses or reorders messages")
        }
        RunError::Load(LoadError::Late { .. }) => Some("loses messages, or is too slow"),
        RunError::Load(LoadError::Extra { .. }) => Some("doubles messages"),
        _ => None,
    };
    let mut reasons: Vec<String> = says.map(str::to_owned).into_iter().collect();
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        reasons.push(error.to_string());
        cause = error.source();
    }
    reasons.join(": ")
}

/// The order of a repetition: each time the next one is first.
fn order(servers: usize, repetition: usize) -> impl Iterator<Item = usize> {
    (0..servers).map(move |at| (at + repetition) % servers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_once_in_a_repetition_and_in_turn_first() {
        let orders: Vec<Vec<usize>> = (0..4).map(|r| order(3, r).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }

    #[test]
    fn a_reason_says_what_a_server_does_and_where_it_was_seen() {
        let source = Problem::Order { expected: 4, got: 5 };
        let wrong = RunError::Load(LoadError::Wrong { client: 3, source });
        let told = "loses or reorders messages: client 3: message 5 came where 4 was next";
        assert_eq!(reason(&wrong), told);
        let late = RunError::Load(LoadError::Late { received: 1, expected: 2 });
        let told = "loses messages, or is too slow: 1 of 2 messages came in time";
        assert_eq!(reason(&late), told);
        let outside = RunError::Outside { inside: 1, clients: 2 };
        assert_eq!(reason(&outside), "1 of 2 clients are in the room in time");
    }
}
