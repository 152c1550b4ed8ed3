//! Runs all servers for all cases, interleaved.
//!
//! A machine is not equally fast all the time. Each repetition runs every server once,
//! and each time another one is first; ratios are made within a repetition.

use std::path::PathBuf;
use std::time::Duration;

use crate::run::{self, Case, Measured, RunError};
use crate::servers::Kind;

/// What is run.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)] // Made by whoever runs it.
pub struct Comparison {
    /// The program that serves: this package's own.
    pub program: PathBuf,
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
    /// By repetition, then by server.
    pub runs: Vec<Vec<Measured>>,
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
    /// # Errors
    /// [`ComparisonError`] with the first run that failed. A server that loses or doubles a
    /// message fails: what it costs to deliver wrongly is of no interest.
    pub fn run(
        &self,
        mut progress: impl FnMut(Progress),
        mut outcome: impl FnMut(Outcome),
    ) -> Result<(), ComparisonError> {
        let total = self.cases.len() * self.repetitions * self.servers.len();
        let mut done = 0;
        for case in &self.cases {
            let mut runs = Vec::with_capacity(self.repetitions);
            for repetition in 0..self.repetitions {
                let mut measured: Vec<Option<Measured>> =
                    self.servers.iter().map(|_| None).collect();
                for at in order(self.servers.len(), repetition) {
                    let server = self.servers[at];
                    progress(Progress { done, total, case: *case, server, repetition });
                    let ran = run::run(&self.program, server, case, self.limit);
                    let ran = ran.map_err(|source| ComparisonError {
                        case: *case,
                        server,
                        repetition,
                        source,
                    })?;
                    measured[at] = Some(ran);
                    done += 1;
                }
                runs.push(measured.into_iter().flatten().collect());
            }
            outcome(Outcome { case: *case, servers: self.servers.clone(), runs });
        }
        Ok(())
    }
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
}
