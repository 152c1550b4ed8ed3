//! One reader, in a process of its own: what it is told, and what it says.
//!
//! ```text
//! out: ready ADDRESS     before it begins to read; where WebSockets are served, if any
//! out: report JSON       once every record has come, or one that should not
//! ```
//!
//! Its CPU time is that of the whole process, from before the client is made until all has
//! come: threads of librdkafka, of the source and of the hub are in it. When its stdin closes
//! it ends.

use std::io::{self, Read as _, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::account::{Account, Seen};
use super::{bare, library};
use crate::clock;
use crate::process::{Memory, Process, ProcessError};
use crate::scenario::Told;

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum How {
    /// `BaseConsumer::poll` in a loop, configured as the source is.
    Bare,
    /// The same with librdkafka's defaults.
    BareDefaults,
    /// `KafkaSource::next` in a loop.
    Source,
    /// Source, decoder, router, hub, sinks.
    Pipeline,
}

impl How {
    pub(super) const ALL: [Self; 4] =
        [Self::Bare, Self::BareDefaults, Self::Source, Self::Pipeline];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::BareDefaults => "bare-defaults",
            Self::Source => "source",
            Self::Pipeline => "pipeline",
        }
    }

    /// For people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare rdkafka loop",
            Self::BareDefaults => "bare, librdkafka's defaults",
            Self::Source => "KafkaSource alone",
            Self::Pipeline => "source, decoder, router, hub",
        }
    }
}

/// What a reader is told.
#[derive(clap::Args, Clone, Debug)]
#[allow(clippy::exhaustive_structs)] // Both ends are in this package.
pub struct Job {
    #[arg(long)]
    pub(super) how: How,
    #[arg(long)]
    pub(super) brokers: String,
    #[arg(long)]
    pub(super) topic: String,
    /// What the log is called, where the broker is an embedded one.
    #[arg(long)]
    pub(super) log_identity: Option<String>,
    #[arg(long)]
    pub(super) partitions: u32,
    #[arg(long)]
    pub(super) records: u64,
    #[arg(long)]
    pub(super) payload: usize,
    /// Of the pipeline: users that are connected.
    #[arg(long)]
    pub(super) connections: usize,
    /// From which record on the latency is taken, if at all.
    #[arg(long)]
    pub(super) latency_from: Option<u64>,
    /// Of the pipeline: whether WebSockets are served.
    #[arg(long)]
    pub(super) sockets: bool,
    /// Of the pipeline: microseconds that a sink takes for each record.
    #[arg(long, default_value_t = 0)]
    pub(super) slow_us: u64,
    /// Properties of librdkafka, in place of the source's.
    #[arg(long = "property", value_parser = property)]
    pub(super) properties: Vec<(String, String)>,
}

/// Reads `NAME=VALUE`.
pub(super) fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("not NAME=VALUE".to_owned()),
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) seen: Seen,
    /// From before the client was made to the first record, and to the last.
    pub(super) first: Duration,
    pub(super) elapsed: Duration,
    /// User and system, of all threads.
    pub(super) cpu: Duration,
    /// The most that the process has held in memory; `None` where the system does not tell.
    pub(super) peak: Option<u64>,
    /// Frames that sinks have taken.
    pub(super) deliveries: u64,
}

impl Report {
    /// Records in a second, from the first to the last.
    pub(super) fn rate(&self, records: u64) -> f64 {
        records.saturating_sub(1) as f64 / self.elapsed.saturating_sub(self.first).as_secs_f64()
    }

    /// Microseconds of CPU time for a record.
    pub(super) fn cpu_us(&self, records: u64) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / records as f64
    }
}

/// What a reader is measured by.
pub(super) struct Begun {
    ns: u64,
    cpu: Duration,
}

impl Begun {
    /// It can begin: says so, and takes the times.
    pub(super) fn now(addr: Option<SocketAddr>, mut output: impl Write) -> io::Result<Self> {
        let addr = addr.unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into());
        writeln!(output, "ready {addr}")?;
        output.flush()?;
        Ok(Self { ns: clock::monotonic_ns(), cpu: clock::process_cpu() })
    }

    /// All has come.
    pub(super) fn report(self, seen: Seen, deliveries: u64) -> Report {
        let since = |ns: u64| Duration::from_nanos(ns.saturating_sub(self.ns));
        Report {
            cpu: clock::process_cpu().saturating_sub(self.cpu),
            peak: Memory::of(std::process::id()).map(|memory| memory.peak),
            first: since(seen.first_ns),
            elapsed: since(seen.last_ns),
            seen,
            deliveries,
        }
    }
}

impl Job {
    /// Does it.
    ///
    /// # Errors
    /// Where nothing can be read, or nobody reads what is said.
    pub(crate) fn serve(&self, mut output: impl Write) -> io::Result<()> {
        let body = || {
            let _ = io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(1);
        };
        std::thread::Builder::new().name("stdin".to_owned()).spawn(body)?;
        let mut account = Account::new(self.partitions, self.records, self.latency_from);
        let report = match self.how {
            How::Bare | How::BareDefaults => {
                let begun = Begun::now(None, &mut output)?;
                bare::read(self, self.how == How::BareDefaults, &mut account)?;
                begun.report(account.seen(), 0)
            }
            How::Source => {
                let begun = Begun::now(None, &mut output)?;
                library::source(self, &mut account)?;
                begun.report(account.seen(), 0)
            }
            How::Pipeline => library::pipeline(self, account, &mut output)?,
        };
        writeln!(output, "report {}", serde_json::to_string(&report)?)?;
        output.flush()
    }

    fn args(&self) -> Vec<String> {
        let mut args = vec![
            format!("--how={}", self.how.name()),
            format!("--brokers={}", self.brokers),
            format!("--topic={}", self.topic),
            format!("--partitions={}", self.partitions),
            format!("--records={}", self.records),
            format!("--payload={}", self.payload),
            format!("--connections={}", self.connections),
            format!("--slow-us={}", self.slow_us),
        ];
        args.extend(self.log_identity.iter().map(|log| format!("--log-identity={log}")));
        args.extend(self.latency_from.map(|from| format!("--latency-from={from}")));
        args.extend(self.sockets.then(|| "--sockets".to_owned()));
        let property = |(name, value): &(String, String)| format!("--property={name}={value}");
        args.extend(self.properties.iter().map(property));
        args
    }
}

/// A reader's process, which ends with its handle.
#[derive(Debug)]
pub(super) struct Reader {
    process: Process,
    /// Where WebSockets are served, if any.
    pub(super) addr: SocketAddr,
    deadline: Instant,
}

impl Reader {
    /// Starts one, and waits until it begins.
    pub(super) fn start(
        program: &Path,
        job: &Job,
        deadline: Instant,
    ) -> Result<Self, ProcessError> {
        let mut command = Command::new(program);
        command.args(["backlog", "read"]).args(job.args());
        let mut process = Process::spawn(command)?;
        let addr = process.answer("ready", deadline)?;
        Ok(Self { process, addr, deadline })
    }

    /// What came of it, once it has ended.
    pub(super) fn report(mut self) -> Result<Report, ProcessError> {
        self.process.answer("report", self.deadline).map(|Told(report)| report)
    }
}
