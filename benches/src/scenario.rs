//! What a hub does under trouble, over real sockets: clients that stop reading, leave all
//! at once, send as much as they can or all come back after a restart, rooms that are large.
//!
//! `fanout-bench scenarios [NAME...]`. Nothing is compared and no time is judged. What is
//! judged is delivery: every client has to get every message of its room once and in
//! order, whatever the others do, or the scenario fails.
//!
//! ```text
//! parent process                                      child process, one a server
//!   stall, storm ...   what happens when
//!     server  <------------ control lines ----------->  servers/scenario   publish, stats
//!     swarm   <----------- WebSocket frames --------->    probe            how long tasks wait
//!     swarm   <---- a thread each ------------------->
//!   figures            lines of figures, JSON
//! ```
//!
//! Those who come back get what was written to Kafka: there the server is `servers/reconnect`,
//! and the clients are a herd of their own.
//!
//! Clients share the machine with their server, and what they read late counts as late: a
//! latency is at most what the server is guilty of.

mod connections;
pub mod control;
mod failure;
pub mod figures;
mod flood;
mod opening;
pub(crate) mod probe;
pub mod reconnect;
mod server;
mod stage;
mod stall;
mod storm;
mod swarm;
mod walk;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

pub use failure::{Failure, SwarmError};
pub(crate) use server::Told;

use crate::machine::Machine;
use crate::options::raise_descriptors;
use crate::servers::{reconnect as kafka, scenario as direct};
use control::{KafkaSetting, Setting};
use figures::Outcome;
use stage::Stage;

/// Bytes of a message's payload.
pub(crate) const PAYLOAD: usize = 200;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[non_exhaustive]
pub enum Name {
    /// A fifth of a room stops reading.
    Stalled,
    /// They read again, all at once, while messages go on.
    Reread,
    /// Most clients leave at once.
    Storm,
    /// A room of one behind a large one.
    Walk,
    /// A few clients send as much as they can.
    Flood,
    /// As many connections as a process can hold.
    Connections,
    /// All come back after a restart, and Kafka is read again for them.
    Reconnect,
    /// The same, with what they have missed in memory.
    ReconnectWarm,
}

impl Name {
    const ALL: [Self; 8] = [
        Self::Stalled,
        Self::Reread,
        Self::Storm,
        Self::Walk,
        Self::Flood,
        Self::Connections,
        Self::Reconnect,
        Self::ReconnectWarm,
    ];

    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stalled => "stalled",
            Self::Reread => "reread",
            Self::Storm => "storm",
            Self::Walk => "walk",
            Self::Flood => "flood",
            Self::Connections => "connections",
            Self::Reconnect => "reconnect",
            Self::ReconnectWarm => "reconnect-warm",
        }
    }

    fn run(self, stage: &Stage) -> Result<Outcome, Failure> {
        match self {
            Self::Stalled => stall::stalled(stage),
            Self::Reread => stall::reread(stage),
            Self::Storm => storm::run(stage),
            Self::Walk => walk::run(stage),
            Self::Flood => flood::run(stage),
            Self::Connections => connections::run(stage),
            Self::Reconnect => reconnect::run(stage, false),
            Self::ReconnectWarm => reconnect::run(stage, true),
        }
    }
}

/// What is played.
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
#[non_exhaustive]
pub struct Args {
    /// Be the server, on loopback, until stdin closes.
    #[command(subcommand)]
    pub serve: Option<Serve>,

    /// Which scenarios; all by default.
    #[arg(value_name = "NAME")]
    pub names: Vec<Name>,

    /// How many clients and messages, against what a scenario has by default.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub scale: f64,

    /// Also writes everything to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Seconds that one scenario may take before everything is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub time_limit: u64,

    /// What those who come back are told.
    #[command(flatten)]
    pub reconnect: reconnect::Options,
}

/// What a scenario's other process does.
#[derive(clap::Subcommand, Clone, Debug)]
#[non_exhaustive]
pub enum Serve {
    /// Be the server.
    #[command(hide = true)]
    Serve(Setting),
    /// Be the server that reads Kafka.
    #[command(hide = true)]
    ServeKafka(KafkaSetting),
}

#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    scale: f64,
    scenarios: &'a [Outcome],
}

/// Plays the scenarios and prints what came of each.
///
/// # Errors
/// Where an option cannot be used, or a scenario fails: its name and why.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    if let Some(serve) = &args.serve {
        let (input, output) = (io::stdin().lock(), io::stdout().lock());
        return Ok(match serve {
            Serve::Serve(setting) => direct::serve(setting, input, output),
            Serve::ServeKafka(setting) => kafka::serve(setting, input, output),
        }?);
    }
    args.reconnect.check()?;
    if !(args.scale > 0.0 && args.scale <= 10.0) {
        return Err(format!("--scale: {} is not above 0 and at most 10", args.scale).into());
    }
    if !(1..=3600).contains(&args.time_limit) {
        return Err(format!("--time-limit: {} is not from 1 to 3600", args.time_limit).into());
    }
    let program = std::env::current_exe()?;
    let machine = Machine::here();
    if cfg!(debug_assertions) {
        eprintln!("This build is not optimised: its figures mean nothing. Use --release.");
    }
    println!("{machine}\n");
    let names = if args.names.is_empty() { &Name::ALL[..] } else { &args.names[..] };
    let mut outcomes = Vec::new();
    let descriptors = raise_descriptors();
    for &name in names {
        let deadline = Instant::now() + Duration::from_secs(args.time_limit);
        let (program, reconnect) = (program.clone(), args.reconnect.clone());
        let stage = Stage { program, scale: args.scale, descriptors, reconnect, deadline };
        let outcome = name.run(&stage).map_err(|failure| Failed { name, failure })?;
        println!("{outcome}");
        outcomes.push(outcome);
    }
    println!("{LEGEND}");
    if let Some(path) = &args.json {
        let report = Report { machine: &machine, scale: args.scale, scenarios: &outcomes };
        write_json(path, &report)
            .map_err(|error| format!("--json: {}: {error}", path.display()))?;
    }
    Ok(())
}

/// How the figures are to be read.
const LEGEND: &str = "\
Latency is from publishing (in a stream: from when it was due) to the client's read, in which
the load has its share: it runs on the same machine. Memory is the server's anonymous memory;
kernel memory is all TCP buffers of the machine, of both ends of each connection.";

/// The scenario that failed.
#[derive(Debug, thiserror::Error)]
#[error("{}", name.name())]
struct Failed {
    name: Name,
    #[source]
    failure: Failure,
}

fn write_json(path: &Path, report: &Report<'_>) -> io::Result<()> {
    let mut json = serde_json::to_vec_pretty(report)?;
    json.push(b'\n');
    std::fs::write(path, json)
}
