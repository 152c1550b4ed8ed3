//! The server of a scenario, in a process of its own.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::control::{HubStats, KafkaSetting, Request, Setting, Waited};
use crate::process::{Process, ProcessError};

/// The server's process, which ends with its handle.
#[derive(Debug)]
pub(super) struct Server {
    process: Process,
    deadline: Instant,
}

impl Server {
    /// Starts `program`, which is this package's own, and waits until clients may come.
    /// Nothing is waited for after `deadline`.
    pub(super) fn start(
        program: &Path,
        setting: &Setting,
        deadline: Instant,
    ) -> Result<Self, ProcessError> {
        Self::start_as("serve", program, setting.args(), deadline)
    }

    /// The same, with a server that reads Kafka; until it has read what is there.
    pub(super) fn start_kafka(
        program: &Path,
        setting: &KafkaSetting,
        deadline: Instant,
    ) -> Result<Self, ProcessError> {
        Self::start_as("serve-kafka", program, setting.args(), deadline)
    }

    fn start_as(
        name: &str,
        program: &Path,
        args: Vec<String>,
        deadline: Instant,
    ) -> Result<Self, ProcessError> {
        let mut command = Command::new(program);
        command.args(["scenarios", name]).args(args);
        Ok(Self { process: Process::start(command, deadline)?, deadline })
    }

    /// Where it listens.
    pub(super) fn addr(&self) -> SocketAddr {
        self.process.addr()
    }

    /// Says all of them in one write, so that nothing comes between.
    pub(super) fn tell(&mut self, requests: &[Request]) -> Result<(), ProcessError> {
        let lines: Vec<String> = requests.iter().map(Request::to_string).collect();
        self.process.say(lines.join("\n"))
    }

    /// What its hub is doing.
    pub(super) fn stats(&mut self) -> Result<HubStats, ProcessError> {
        self.ask(Request::Stats).map(|Told(stats)| stats)
    }

    /// What it has counted, by name.
    pub(super) fn counters(&mut self) -> Result<BTreeMap<String, u64>, ProcessError> {
        self.ask(Request::Counters).map(|Told(counters)| counters)
    }

    /// How long a task has waited for its turn since [`Request::Probe`].
    pub(super) fn waited(&mut self) -> Result<Waited, ProcessError> {
        self.ask(Request::Waited).map(|Told(waited)| waited)
    }

    /// Bytes of its own memory; `None` where the system does not tell.
    pub(super) fn memory(&self) -> Option<u64> {
        Some(self.process.memory()?.held)
    }

    /// The most that it has held.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        Some(self.process.memory()?.peak)
    }

    /// What it has used, user and system.
    pub(super) fn cpu(&mut self) -> Result<Duration, ProcessError> {
        self.process.cpu(self.deadline)
    }

    /// Ends it at once: nobody is told.
    pub(super) fn kill(self) -> std::io::Result<()> {
        self.process.kill()
    }

    /// Closes its stdin, upon which it ends.
    pub(super) fn finish(&mut self) {
        self.process.finish();
    }

    fn ask<T: FromStr>(&mut self, request: Request) -> Result<T, ProcessError> {
        self.tell(&[request])?;
        self.process.answer(&request.to_string(), self.deadline)
    }
}

/// A value that is told as JSON.
pub(crate) struct Told<T>(pub(crate) T);

impl<T: DeserializeOwned> FromStr for Told<T> {
    type Err = io::Error;

    fn from_str(json: &str) -> io::Result<Self> {
        Ok(Self(serde_json::from_str(json)?))
    }
}
