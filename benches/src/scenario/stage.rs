//! What every scenario is given: how large it is, and how long it may take.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::control::Setting;
use super::failure::{Failure, SwarmError};
use super::reconnect;
use super::server::Server;
use super::swarm::Swarm;

/// Descriptors of a process beside those of its clients.
pub(super) const SPARE: usize = 100;

/// What every scenario is given.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// This package's own program.
    pub(super) program: PathBuf,
    /// How many of everything, against the default.
    pub(super) scale: f64,
    /// How many a process may have.
    pub(super) descriptors: usize,
    /// What the scenarios of those who come back are told beside that.
    pub(super) reconnect: reconnect::Options,
    /// When everything is given up.
    pub(super) deadline: Instant,
}

impl Stage {
    /// So many of them, to scale.
    pub(super) fn count(&self, normal: usize, least: usize) -> usize {
        #[allow(clippy::cast_sign_loss)] // Neither is below zero.
        let scaled = (normal as f64 * self.scale).round() as usize;
        scaled.max(least)
    }

    /// A server that can have so many clients.
    pub(super) fn server(&self, clients: usize, setting: &Setting) -> Result<Server, Failure> {
        if clients + SPARE > self.descriptors {
            let descriptors = self.descriptors;
            return Err(Failure::Descriptors { needed: clients, descriptors });
        }
        Ok(Server::start(&self.program, setting, self.deadline)?)
    }

    /// Clients of a server, in a room.
    pub(super) fn clients(
        &self,
        server: &Server,
        room: usize,
        count: usize,
    ) -> Result<Swarm, SwarmError> {
        Swarm::open(server.addr(), room, count, None, self.deadline)
    }

    /// Waits for a little, and fails where the time is over.
    pub(super) fn pause(&self) -> Result<(), Failure> {
        std::thread::park_timeout(Duration::from_millis(2));
        if Instant::now() < self.deadline { Ok(()) } else { Err(Failure::Waiting) }
    }
}

/// Bytes that the kernel holds for all TCP sockets of the machine, by Linux.
pub(super) fn kernel_memory() -> Option<u64> {
    let sockets = std::fs::read_to_string("/proc/net/sockstat").ok()?;
    let mut words = sockets.lines().find_map(|line| line.strip_prefix("TCP:"))?.split_whitespace();
    let pages: u64 = words.by_ref().skip_while(|word| *word != "mem").nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// How much more it is now, in bytes.
pub(super) fn growth(before: Option<u64>, after: Option<u64>) -> Option<f64> {
    Some(after? as f64 - before? as f64)
}
