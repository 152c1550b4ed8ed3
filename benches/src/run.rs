//! One run: one server, one case.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::clock;
use crate::load::{Endpoint, Load, LoadError};
use crate::process::{Process, ProcessError};
use crate::servers::{Kind, Missing, Programs};

/// Most bursts before anything is measured, where a burst goes to everybody: buffers
/// have grown, memory is there.
const WARM_UP: usize = 10;
/// Between two questions whether all clients are in.
const PAUSE: Duration = Duration::from_millis(2);
/// How long nothing may come before the rest of a burst is given up.
const QUIET: Duration = Duration::from_secs(10);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[allow(clippy::exhaustive_structs)] // Made by whoever runs it.
pub struct Case {
    /// Clients in one room.
    pub clients: usize,
    /// Bytes of a payload.
    pub payload: usize,
    /// Messages published at once.
    pub burst: usize,
    /// Bursts that are measured.
    pub bursts: usize,
    /// Who is where.
    pub rooms: Rooms,
    /// Of a hundred clients, how many stop reading before anything is measured.
    pub stalled: usize,
}

/// Which rooms the clients of a case are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::exhaustive_enums)] // Every server has to know all of them.
pub enum Rooms {
    /// All in one room.
    #[default]
    One,
    /// Each in a room of its own; every message is for a random one.
    Each,
}

impl Rooms {
    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Each => "each",
        }
    }
}

impl Case {
    /// Clients that do not read while it is measured.
    pub fn stalled_clients(&self) -> usize {
        self.clients * self.stalled / 100
    }

    /// Messages that the clients which read get while it is measured, all together.
    pub fn deliveries(&self) -> u64 {
        (self.deliveries_a_burst(self.stalled_clients()) * self.bursts) as u64
    }

    /// Messages of one burst to all clients together, where some do not read.
    fn deliveries_a_burst(&self, stalled: usize) -> usize {
        match self.rooms {
            Rooms::One => (self.clients - stalled) * self.burst,
            Rooms::Each => self.burst,
        }
    }

    /// Bursts before anything is measured: enough, too, for a runtime that compiles what
    /// it has run often.
    fn warm_up(&self) -> usize {
        match self.rooms {
            Rooms::One => self.bursts.div_ceil(3).min(WARM_UP),
            Rooms::Each => self.bursts.div_ceil(10),
        }
    }
}

/// What came of a run in which every client got every message once and in order.
#[derive(Debug)]
#[non_exhaustive]
pub struct Measured {
    /// CPU time of the server's process, user and system.
    pub cpu: Duration,
    /// CPU time of this process, which is the clients.
    pub load_cpu: Duration,
    /// From the first burst until the last client had the last one.
    pub elapsed: Duration,
    /// From publishing to the client, in nanoseconds, one value a delivery.
    pub latency: Histogram<u64>,
    /// What the server's process holds for each connection before the first message, in
    /// bytes of its own memory; `None` where the system does not tell.
    pub idle_bytes: Option<f64>,
    /// The most that the process has held in all, in bytes of its own memory.
    pub peak_bytes: Option<f64>,
}

/// Why a run is worth nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The server is not there.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The server's process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The clients.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Clients are connected that the server never lets into the room.
    #[error("{inside} of {clients} clients are in the room in time")]
    Outside {
        /// How many are in it.
        inside: usize,
        /// How many should be.
        clients: usize,
    },
}

/// Runs one server for one case, for at most `limit`.
///
/// # Errors
/// [`RunError`]; nothing is left running either way.
pub fn run(
    programs: &Programs,
    server: Kind,
    case: &Case,
    limit: Duration,
) -> Result<Measured, RunError> {
    let deadline = Instant::now() + limit;
    // Before the process: where this fails nothing has to be ended.
    let mut load = Load::new(case.payload).map_err(LoadError::from)?;
    let mut process = Process::start(programs.command(server, case)?, deadline)?;
    let before = process.memory();
    connect(&mut process, &mut load, server, case, deadline)?;
    let idle = process.memory();

    let mut closed_loop = ClosedLoop { process, load, case, deadline };
    closed_loop.publish(case.warm_up(), case.deliveries_a_burst(0))?;
    let warm = closed_loop.process.memory();
    closed_loop.load.stall(case.stalled_clients());
    closed_loop.load.record();
    let cpu = closed_loop.process.cpu(deadline)?;
    let (load_cpu, began) = (clock::process_cpu(), Instant::now());
    closed_loop.publish(case.bursts, case.deliveries_a_burst(case.stalled_clients()))?;
    let elapsed = began.elapsed();
    let load_cpu = clock::process_cpu().saturating_sub(load_cpu);
    let cpu = closed_loop.process.cpu(deadline)?.saturating_sub(cpu);
    let ClosedLoop { mut process, mut load, .. } = closed_loop;
    let latency = load.recorded().expect("it was recorded");
    let peak = [idle, warm, process.memory()].into_iter().flatten().map(|memory| memory.peak).max();

    process.finish();
    load.finish(deadline)?;
    let idle = before.zip(idle).map(|(before, idle)| idle.held as f64 - before.held as f64);
    Ok(Measured {
        cpu,
        load_cpu,
        elapsed,
        latency,
        idle_bytes: idle.map(|bytes| bytes / case.clients as f64),
        peak_bytes: peak.map(|bytes| bytes as f64),
    })
}

/// Brings all clients in.
fn connect(
    process: &mut Process,
    load: &mut Load,
    server: Kind,
    case: &Case,
    deadline: Instant,
) -> Result<(), RunError> {
    let endpoint = Endpoint {
        addr: process.addr(),
        path: server.path().to_owned(),
        dialect: server.dialect(),
        rooms: case.rooms,
    };
    load.connect(&endpoint, case.clients, deadline)?;
    let mut inside = process.clients(deadline)?;
    while inside != case.clients {
        if Instant::now() > deadline {
            return Err(RunError::Outside { inside, clients: case.clients });
        }
        load.idle(PAUSE)?;
        inside = process.clients(deadline)?;
    }
    Ok(())
}

/// A burst is published when all clients that read have the last one.
struct ClosedLoop<'a> {
    process: Process,
    load: Load,
    case: &'a Case,
    deadline: Instant,
}

impl ClosedLoop<'_> {
    fn publish(&mut self, bursts: usize, deliveries: usize) -> Result<(), RunError> {
        for _ in 0..bursts {
            self.process.publish(self.case.burst)?;
            self.receive(self.load.received() + deliveries as u64)?;
        }
        Ok(())
    }

    /// What is lost is known when nothing comes any more, not when the run's time is over.
    fn receive(&mut self, total: u64) -> Result<(), LoadError> {
        loop {
            let (before, quiet) = (self.load.received(), Instant::now() + QUIET);
            match self.load.receive(total, quiet.min(self.deadline)) {
                Err(LoadError::Late { received, .. })
                    if received > before && Instant::now() < self.deadline => {}
                result => return result,
            }
        }
    }
}
