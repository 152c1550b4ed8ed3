//! One run: one server, one case.

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::clock;
use crate::load::{Load, LoadError};
use crate::message::text_len;
use crate::process::{Process, ProcessError};
use crate::servers::Kind;

/// Bursts before anything is measured: buffers have grown, memory is there.
const WARM_UP: usize = 10;
/// Between two questions whether all clients are in.
const PAUSE: Duration = Duration::from_millis(2);

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

impl Case {
    /// Clients that do not read while it is measured.
    pub fn stalled_clients(&self) -> usize {
        self.clients * self.stalled / 100
    }

    /// Messages that the clients which read get while it is measured, all together.
    pub fn deliveries(&self) -> u64 {
        let readers = match self.rooms {
            Rooms::One => self.clients - self.stalled_clients(),
            Rooms::Each => 1,
        };
        (readers * self.burst * self.bursts) as u64
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
    program: &Path,
    server: Kind,
    case: &Case,
    limit: Duration,
) -> Result<Measured, RunError> {
    let deadline = Instant::now() + limit;
    // Before the process: where this fails nothing has to be ended.
    let mut load = Load::new(text_len(case.payload)).map_err(LoadError::from)?;
    let mut process = Process::start(program, server, case.payload, deadline)?;
    load.connect(process.addr(), case.clients, deadline)?;
    let mut inside = process.clients(deadline)?;
    while inside != case.clients {
        if Instant::now() > deadline {
            return Err(RunError::Outside { inside, clients: case.clients });
        }
        load.idle(PAUSE)?;
        inside = process.clients(deadline)?;
    }

    publish(&mut process, &mut load, case, WARM_UP, deadline)?;
    load.record();
    let (cpu, load_cpu, began) = (process.cpu(deadline)?, clock::process_cpu(), Instant::now());
    publish(&mut process, &mut load, case, case.bursts, deadline)?;
    let elapsed = began.elapsed();
    let load_cpu = clock::process_cpu().saturating_sub(load_cpu);
    let cpu = process.cpu(deadline)?.saturating_sub(cpu);
    let latency = load.recorded().expect("it was recorded");

    process.finish();
    load.finish(deadline)?;
    Ok(Measured { cpu, load_cpu, elapsed, latency, idle_bytes: None, peak_bytes: None })
}

/// Closed loop: a burst is published when all clients have the last one.
fn publish(
    process: &mut Process,
    load: &mut Load,
    case: &Case,
    bursts: usize,
    deadline: Instant,
) -> Result<(), RunError> {
    for _ in 0..bursts {
        process.publish(case.burst)?;
        load.receive(load.received() + (case.clients * case.burst) as u64, deadline)?;
    }
    Ok(())
}
