//! A backlog in Kafka, read by a bare loop and by all of this library: what each record costs,
//! how long it takes, and how much memory.
//!
//! `fanout-bench backlog [PART...]`. Without a broker of one's own (`--kafka`) or one to start
//! (`--control`) it is the one inside librdkafka, which keeps 5 MiB of a partition: then the
//! backlog is smaller, so that the start of a reader counts for more, and nothing is read from
//! a disk. The figures are those of a real broker; the check is the same.
//!
//! ```text
//! parent process                                   child process, one a run
//!   store     the broker, the topic, what is in it
//!   cost      records/s, CPU, memory     <-lines->  job     bare       a loop
//!   latency   open loop, both at once                       library    source; pipeline, sinks
//!   memory    gigabytes, fast and slow                      account    each record once
//! ```
//!
//! No figure is judged but memory, which has a bound. What is judged is that each reader gets
//! every record of each partition once and in its order: a run that does not fails.

mod account;
mod bare;
mod cost;
mod job;
mod latency;
mod library;
mod memory;
mod record;
mod store;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::broker::Topic;
use crate::machine::Machine;
use crate::scenario::Failure;
use crate::scenario::figures::Outcome;
use job::{How, Job, Report};
use store::{Backlog, Store};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[non_exhaustive]
pub enum Part {
    /// What a record costs, beside the bare loop.
    Cost,
    /// How long a record takes, beside the bare loop.
    Latency,
    /// How much memory gigabytes take.
    Memory,
}

/// How the records of the memory part are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[non_exhaustive]
pub enum Compression {
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// What is read, and how.
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
#[non_exhaustive]
pub struct Args {
    /// Be a reader.
    #[command(subcommand)]
    pub read: Option<Read>,

    /// Which parts; all by default.
    #[arg(value_name = "PART")]
    pub parts: Vec<Part>,

    /// A broker, in place of the embedded one. Topics are made there, and deleted at the end.
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,

    /// A broker that is started and ended: `PROGRAM DIR`, of which `PROGRAM start DIR` says
    /// the address and `PROGRAM stop DIR` ends it.
    #[arg(long, value_name = "COMMAND", conflicts_with = "kafka")]
    pub control: Option<String>,

    /// Partitions of each topic.
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub partitions: u32,

    /// Of `cost`: records. 1,000,000 by default, or as many as the embedded broker keeps.
    #[arg(long, value_name = "N")]
    pub records: Option<u64>,

    /// Of `cost` and `latency`: bytes of a record's value.
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    pub payload: usize,

    /// Users that are connected, of 128 that records are for. One connection more gets all
    /// records, and one those of one type.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub connections: usize,

    /// Of `cost`: how often each reader has its turn.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub repetitions: usize,

    /// Of `latency`: records a second.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub rate: u32,

    /// Of `latency`: for how long.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub seconds: u64,

    /// Of `latency`: also to a client over a WebSocket.
    #[arg(long)]
    pub sockets: bool,

    /// Of `memory`: how much is read. With the embedded broker no more than it keeps.
    #[arg(long, value_name = "GIB", default_value_t = 1.0)]
    pub backlog_gib: f64,

    /// Of `memory`: how it is packed.
    #[arg(long, value_name = "CODEC", default_value = "zstd")]
    pub compression: Compression,

    /// Of `memory`: what the pipeline may hold at most, in place of what its bounds add up to.
    #[arg(long, value_name = "MIB")]
    pub memory_bound_mib: Option<u64>,

    /// A property of librdkafka for every reader; may be given several times.
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = job::property)]
    pub properties: Vec<(String, String)>,

    /// Also writes everything to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Seconds that one part may take before everything is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 1200)]
    pub time_limit: u64,
}

/// What a reader's process does.
#[derive(clap::Subcommand, Clone, Debug)]
#[non_exhaustive]
pub enum Read {
    /// Be a reader.
    #[command(hide = true)]
    Read(Box<Job>),
}

impl Args {
    /// What cannot be used of it, and why.
    fn check(&self) -> Result<(), String> {
        let bounds = [
            ("partitions", u64::from(self.partitions), 1, 1000),
            ("records", self.records.unwrap_or(1), 1, record::MAX_RECORDS),
            (
                "payload",
                self.payload as u64,
                record::MIN_PAYLOAD as u64,
                record::MAX_PAYLOAD as u64,
            ),
            ("connections", self.connections as u64, 0, record::USERS),
            ("repetitions", self.repetitions as u64, 1, 1000),
            ("rate", u64::from(self.rate), 1, 100_000),
            ("seconds", self.seconds, 1, 3600),
            ("memory-bound-mib", self.memory_bound_mib.unwrap_or(1), 1, 1 << 20),
            ("time-limit", self.time_limit, 1, 86_400),
        ];
        for (name, given, min, max) in bounds {
            if !(min..=max).contains(&given) {
                return Err(format!("--{name}: {given} is not from {min} to {max}"));
            }
        }
        if !(self.backlog_gib > 0.0 && self.backlog_gib <= 100.0) {
            return Err(format!(
                "--backlog-gib: {} is not above 0 and at most 100",
                self.backlog_gib
            ));
        }
        Ok(())
    }
}

/// What every part is given.
struct Play<'a> {
    args: &'a Args,
    store: &'a Store,
    /// This package's own program.
    program: &'a Path,
    deadline: Instant,
}

impl Play<'_> {
    /// A job of the whole pipeline.
    fn job(&self, topic: &Topic, backlog: Backlog) -> Job {
        Job {
            how: How::Pipeline,
            brokers: topic.brokers().to_owned(),
            topic: topic.name().to_owned(),
            log_identity: topic.log_identity().map(str::to_owned),
            partitions: backlog.partitions,
            records: backlog.records,
            payload: backlog.payload,
            connections: self.args.connections,
            latency_from: None,
            sockets: false,
            slow_us: 0,
            properties: self.args.properties.clone(),
        }
    }
}

/// Fails where a reader did not get what was written.
fn check(job: &Job, report: &Report) -> Result<(), Failure> {
    let checked = report.seen.check(job.partitions, job.records, job.payload as u64);
    checked.map_err(|wrong| Failure::Wrong(format!("{}: {wrong}", job.how.title())))
}

#[derive(Serialize)]
struct Written<'a> {
    machine: &'a Machine,
    parts: &'a [Outcome],
}

/// Plays the parts and prints what came of each.
///
/// # Errors
/// Where an option cannot be used, or a part fails: which, and why.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    if let Some(Read::Read(job)) = &args.read {
        return Ok(job.serve(io::stdout().lock())?);
    }
    args.check()?;
    let program = std::env::current_exe()?;
    let machine = Machine::here();
    if cfg!(debug_assertions) {
        eprintln!("This build is not optimised: its figures mean nothing. Use --release.");
    }
    println!("{machine}\n");
    let store = Store::new(args.kafka.as_deref(), args.control.as_deref())?;
    if store.is_embedded() {
        println!("With the embedded broker: a smaller backlog, and none of it from a disk.\n");
    }
    let all = [Part::Cost, Part::Latency, Part::Memory];
    let parts = if args.parts.is_empty() { &all[..] } else { &args.parts[..] };
    let mut outcomes = Vec::new();
    for part in parts {
        let deadline = Instant::now() + Duration::from_secs(args.time_limit);
        let play = Play { args, store: &store, program: &program, deadline };
        let (name, outcome) = match part {
            Part::Cost => ("cost", cost::run(&play)),
            Part::Latency => ("latency", latency::run(&play)),
            Part::Memory => ("memory", memory::run(&play)),
        };
        let outcome = outcome.map_err(|failure| Failed { name, failure })?;
        println!("{outcome}");
        outcomes.push(outcome);
    }
    if let Some(path) = &args.json {
        let mut json = serde_json::to_vec_pretty(&Written { machine: &machine, parts: &outcomes })?;
        json.push(b'\n');
        let written = std::fs::write(path, json);
        written.map_err(|error| format!("--json: {}: {error}", path.display()))?;
    }
    Ok(())
}

/// The part that failed.
#[derive(Debug, thiserror::Error)]
#[error("{name}")]
struct Failed {
    name: &'static str,
    #[source]
    failure: Failure,
}
