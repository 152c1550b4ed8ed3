//! The course of a drive: connect, publish, wait for the rest, report.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::lines::{Account, Progress, Reasons, Share, Told, nanos};
use super::options::{Options, OptionsError};
use super::publishers::{Published, Publishers, Schedule, probe};
use super::report::{Course, Report};
use super::server_process::{ServerProcess, Usage};
use super::worker;
use super::workers::{WorkerError, Workers};
use crate::clock;
use crate::load::handshake::HandshakeError;

/// How long a server may take to let publishers in.
const PUBLISHER_PATIENCE: Duration = Duration::from_secs(20);
/// How long workers may have nothing new to say.
const SLACK: Duration = Duration::from_mins(1);
/// From the order to publish until the first message.
const AHEAD: Duration = Duration::from_millis(100);
/// Once all is published: nothing has come for so long, nothing will.
const QUIET: Duration = Duration::from_secs(2);
/// Once all is published: for no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// As if one worker had all clients.
    pub(super) share: Share,
    pub(super) processes: usize,
    /// Messages at each server each second.
    pub(super) rate: f64,
    pub(super) duration: Duration,
    pub(super) server_pids: Vec<u32>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriveError {
    /// An option cannot be used.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A server does not let a first connection in.
    #[error("--url {url}")]
    Refused {
        /// Which server.
        url: String,
        /// Why not.
        #[source]
        source: Box<HandshakeError>,
    },
    /// The process of a server tells nothing.
    #[error("--server-pid {pid}")]
    ServerPid {
        /// Which.
        pid: u32,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Nobody was let in.
    #[error("no client has connected: {0}")]
    Nobody(String),
    /// Some are neither in nor given up.
    #[error(
        "of {clients} clients {connected} have connected and {failed} have not, and there is \
             no word of the others for a minute"
    )]
    Stuck {
        /// How many there should be.
        clients: usize,
        /// How many are in.
        connected: usize,
        /// How many are not.
        failed: usize,
    },
    /// The worker processes.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The publishers' thread.
    #[error("the publishers have ended before their time")]
    Publishers,
    /// The file for `--json`.
    #[error("--json {path}")]
    Json {
        /// Which.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The system refuses something else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<(String, HandshakeError)> for DriveError {
    fn from((url, source): (String, HandshakeError)) -> Self {
        Self::Refused { url, source: Box::new(source) }
    }
}

/// Drives what the options say, and prints what came of it; or is a worker of such a
/// drive. `program` is this program.
///
/// # Errors
/// [`DriveError`]; no process is left behind.
pub fn drive(options: &Options, program: &Path) -> Result<(), DriveError> {
    if options.worker {
        let input = io::BufReader::new(io::stdin());
        return Ok(worker::work(input, io::stdout().lock())?);
    }
    let plan = options.plan()?;
    if cfg!(debug_assertions) {
        eprintln!("This build is not optimised: its figures mean little. Use --release.");
    }
    let report = run(&plan, program)?;
    print!("{}", report.table());
    if let Some(path) = &options.json {
        let written = report.write(path, options.token.as_deref());
        let path = path.display().to_string();
        written.map_err(|source| DriveError::Json { path, source })?;
    }
    Ok(())
}

fn run(plan: &Plan, program: &Path) -> Result<Report, DriveError> {
    let before = usage(plan)?;
    let deadline = Instant::now() + PUBLISHER_PATIENCE;
    let mut publishing = None;
    if plan.share.publishers == 0 {
        probe(&plan.share, deadline)?;
    } else {
        let publishers = Publishers::connect(&plan.share, deadline)?;
        publishing = Some(Publishing::start(publishers)?);
    }

    let tick = Tick::new();
    let mut workers = Workers::start(program, &shares(plan))?;
    let (mut ready, mut since) = (0, Instant::now());
    while ready < plan.share.clients {
        workers.hear(LOOK)?;
        let Progress { connected, failed, .. } = workers.progress();
        tick.say(format!("{connected} of {} connected", plan.share.clients));
        // Each client is in or not after twenty seconds.
        if ready == connected + failed && since.elapsed() > SLACK {
            return Err(DriveError::Stuck { clients: plan.share.clients, connected, failed });
        }
        if ready < connected + failed {
            (ready, since) = (connected + failed, Instant::now());
        }
    }
    if workers.progress().connected == 0 {
        let accounts = workers.finish(SLACK)?;
        return Err(DriveError::Nobody(reasons(&accounts)));
    }

    let idle = usage(plan)?;
    let (cpu, wall) = (clock::process_cpu(), Instant::now());
    workers.tell(&Told::Go)?;
    let start = clock::monotonic_ns() + AHEAD.as_nanos() as u64;
    let published = match &publishing {
        None => {
            let end = Instant::now() + AHEAD + plan.duration;
            while Instant::now() < end {
                workers.hear(LOOK)?;
                tick.say(format!("{} received", workers.progress().received));
            }
            None
        }
        Some(publishing) => {
            let messages = nanos(plan.rate * plan.duration.as_secs_f64());
            publishing.order(Schedule { start, rate: plan.rate, messages })?;
            let published = loop {
                workers.hear(LOOK)?;
                let received = workers.progress().received;
                let sent = publishing.sent.load(Ordering::Relaxed);
                tick.say(format!("{sent} published, {received} received"));
                if let Some(published) = publishing.published()? {
                    break published;
                }
            };
            workers.tell(&Told::Published(published.messages.clone()))?;
            rest(&mut workers, &tick)?;
            Some(published)
        }
    };
    let after = usage(plan)?;
    let cpu = clock::process_cpu().saturating_sub(cpu);
    let cpu_share = cpu.as_secs_f64() / wall.elapsed().as_secs_f64();
    drop(tick);
    let accounts = workers.finish(SLACK)?;
    drop(publishing);
    Ok(Report::new(plan, &Course { start, published, accounts, cpu_share, before, idle, after }))
}

/// Waits for what is still on its way.
fn rest(workers: &mut Workers, tick: &Tick) -> Result<(), DriveError> {
    let began = Instant::now();
    let (mut received, mut since) = (workers.progress().received, Instant::now());
    while began.elapsed() < LONGEST_REST && since.elapsed() < QUIET {
        workers.hear(LOOK)?;
        let progress = workers.progress();
        if progress.outstanding == Some(0) {
            break;
        }
        if progress.received != received {
            (received, since) = (progress.received, Instant::now());
        }
        tick.say(format!("all published, {received} received"));
    }
    Ok(())
}

/// The clients of the plan, divided among its processes.
fn shares(plan: &Plan) -> Vec<Share> {
    let (clients, processes) = (plan.share.clients, plan.processes);
    let first = |at: usize| clients * at / processes;
    let share = |at: usize| Share {
        first: first(at),
        clients: first(at + 1) - first(at),
        connect_rate: plan.share.connect_rate / processes as f64,
        ..plan.share.clone()
    };
    (0..processes).map(share).collect()
}

fn usage(plan: &Plan) -> Result<Vec<Usage>, DriveError> {
    let usage = |&pid: &u32| {
        let usage = ServerProcess { pid }.usage();
        usage.map_err(|source| DriveError::ServerPid { pid, source })
    };
    plan.server_pids.iter().map(usage).collect()
}

fn reasons(accounts: &[Account]) -> String {
    let mut reasons = Reasons::default();
    for account in accounts {
        reasons.add_all(&account.failed);
    }
    reasons.to_string()
}

/// The publishers' thread. It ends when this is dropped.
struct Publishing {
    orders: Option<SyncSender<Schedule>>,
    done: Receiver<Published>,
    sent: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Publishing {
    fn start(publishers: Publishers) -> io::Result<Self> {
        let ((orders, ordered), (done, published)) = (sync_channel(1), sync_channel(1));
        let sent = Arc::new(AtomicU64::new(0));
        let count = sent.clone();
        let thread = std::thread::Builder::new().name("publishers".to_owned());
        let thread = thread.spawn(move || publishers.run(&ordered, &count, &done))?;
        Ok(Self { orders: Some(orders), done: published, sent, thread: Some(thread) })
    }

    fn order(&self, schedule: Schedule) -> Result<(), DriveError> {
        let orders = self.orders.as_ref().ok_or(DriveError::Publishers)?;
        orders.send(schedule).map_err(|_| DriveError::Publishers)
    }

    fn published(&self) -> Result<Option<Published>, DriveError> {
        match self.done.recv_timeout(Duration::ZERO) {
            Ok(published) => Ok(Some(published)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(DriveError::Publishers),
        }
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been printed.
            let _ = thread.join();
        }
    }
}

/// Says each second how it goes, where somebody watches.
struct Tick(ProgressBar);

impl Tick {
    fn new() -> Self {
        // Where stderr is no terminal nothing is drawn.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(1));
        Self(bar.with_style(ProgressStyle::with_template("{elapsed} {msg}").expect("well made")))
    }

    fn say(&self, what: String) {
        self.0.set_message(what);
    }
}

impl Drop for Tick {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
