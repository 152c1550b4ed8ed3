//! `stalled` and `reread`: a fifth of a room stops reading while messages go on, and then
//! reads again.
//!
//! A client that is behind is a place in the log: however many there are, the server's
//! memory grows by the log alone, and the kernel holds for each what its send buffer
//! allows. The log is large enough here, so that they get everything in the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Name;
use super::control::{Request, Setting};
use super::failure::{Failure, beside};
use super::figures::{KIB, MIB, Outcome};
use super::server::Server;
use super::stage::{Stage, growth, kernel_memory};
use super::swarm::{Seen, Swarm};

const CLIENTS: usize = 5_000;
/// One of so many stops reading.
const STALLED: usize = 5;
const BURST: usize = 64;
/// Bursts that everybody reads.
const BEFORE: usize = 24;
/// Bursts that the stalled do not read: 1.5 MB for each, several times what the kernel
/// takes. Not to scale, or nobody would fall behind.
const WHILE: usize = 96;
/// Messages a second once they read again.
const HZ: u32 = 20;
/// Messages of a stream.
const STREAM: usize = 60;
/// What the kernel may hold on the side of a client that is going to stall. It is also
/// what such a client is given at once when it reads again: one with more of it has caught
/// up sooner.
const RECEIVE_BUFFER: usize = 16 * 1024;
/// What the server's memory may grow by beside the log, for each that is stalled.
const EACH: f64 = KIB;
/// And for all of them: buffers that frames are joined in, what the allocator keeps.
const SLACK: f64 = 4.0 * MIB;

/// A room in which some do not read.
struct Stall {
    server: Server,
    setting: Setting,
    others: Swarm,
    stalled: Swarm,
    /// Messages so far.
    published: u64,
    before: Seen,
    during: Seen,
    /// The server's, before the first message and with those who do not read.
    memory: [Option<u64>; 2],
    /// The log's.
    log: [u64; 2],
    /// What the kernel holds more, once they do not read.
    kernel: Option<f64>,
    behind: usize,
}

impl Stall {
    fn begin(stage: &Stage) -> Result<Self, Failure> {
        let clients = stage.count(CLIENTS, 20);
        let setting = Setting { patient: true, ..Setting::default() };
        let mut server = stage.server(clients, &setting)?;
        let (addr, deadline, few) = (server.addr(), stage.deadline, clients / STALLED);
        let mut stalled = Swarm::open(addr, 0, few, Some(RECEIVE_BUFFER), deadline)?;
        let mut others = stage.clients(&server, 0, clients - few)?;
        let mut published = 0;

        let first = (server.memory(), server.stats()?);
        let bursts_before = stage.count(BEFORE, 4);
        let all_read = (bursts_before * BURST) as u64;
        let ((), before) = beside(
            || Ok(stalled.receive(all_read, deadline)?),
            || bursts(stage, &mut server, &mut others, &mut published, bursts_before),
        )?;
        let kernel = kernel_memory();
        let during = bursts(stage, &mut server, &mut others, &mut published, WHILE)?;
        let kernel = growth(kernel, kernel_memory());
        let second = (server.memory(), server.stats()?);
        let stall = Self {
            server,
            setting,
            others,
            stalled,
            published,
            before,
            during,
            memory: [first.0, second.0],
            log: [first.1.log_bytes, second.1.log_bytes],
            kernel,
            behind: second.1.behind,
        };
        stall.check()?;
        Ok(stall)
    }

    /// What the server's memory may have grown by: by the log, with what the allocator
    /// adds, and a little for each that is behind.
    fn bound(&self) -> f64 {
        1.5 * (self.log[1] - self.log[0]) as f64 + EACH * self.stalled.clients.len() as f64 + SLACK
    }

    fn check(&self) -> Result<(), Failure> {
        let stalled = self.stalled.clients.len();
        if self.behind < stalled {
            let behind = self.behind;
            return Err(Failure::Wrong(format!("{behind} of {stalled} clients are behind")));
        }
        match growth(self.memory[0], self.memory[1]) {
            Some(grown) if grown > self.bound() => Err(Failure::Wrong(format!(
                "the server's memory has grown by {:.1} MiB while {stalled} clients did not read, \
                 with {:.1} MiB of log: more than {:.1} MiB",
                grown / MIB,
                (self.log[1] - self.log[0]) as f64 / MIB,
                self.bound() / MIB,
            ))),
            _ => Ok(()),
        }
    }

    fn report(&self, outcome: &mut Outcome) {
        outcome.latency("others, while all read", &self.before.latency);
        outcome.latency("others, while some do not", &self.during.latency);
        outcome.figure("the log", (self.log[1] - self.log[0]) as f64 / MIB, "MiB");
        let stalled = self.stalled.clients.len() as f64;
        for (what, memory) in ["memory, before", "memory, while some do not read"]
            .into_iter()
            .zip(self.memory.iter().flatten())
        {
            outcome.figure(what, *memory as f64 / MIB, "MiB");
        }
        if let Some(kernel) = self.kernel {
            outcome.figure("kernel memory for each that does not", kernel / stalled / KIB, "KiB");
        }
        outcome.figure(
            "its send buffer, as configured",
            self.setting.send_buffer as f64 / KIB,
            "KiB",
        );
        // Linux takes twice as much as it is asked for.
        outcome.figure("its own receive buffer, of that", 2.0 * RECEIVE_BUFFER as f64 / KIB, "KiB");
    }

    /// Ends everything; all must have had exactly what was published.
    fn end(mut self, stage: &Stage) -> Result<(), Failure> {
        self.server.finish();
        self.others.finish(self.published, stage.deadline)?;
        self.stalled.finish(self.published, stage.deadline)?;
        Ok(())
    }

    fn sentence(&self) -> String {
        format!(
            "{} clients in one room, {} of them stop reading for {} messages in bursts of {BURST}.",
            self.others.clients.len() + self.stalled.clients.len(),
            self.stalled.clients.len(),
            WHILE * BURST,
        )
    }
}

/// Publishes burst by burst, each when `others` have the last one.
fn bursts(
    stage: &Stage,
    server: &mut Server,
    others: &mut Swarm,
    published: &mut u64,
    count: usize,
) -> Result<Seen, Failure> {
    others.record();
    for _ in 0..count {
        server.tell(&[Request::Publish(0, BURST)])?;
        *published += BURST as u64;
        others.receive(*published, stage.deadline)?;
    }
    Ok(others.recorded())
}

/// They stop reading, and read again when nothing else happens.
pub(super) fn stalled(stage: &Stage) -> Result<Outcome, Failure> {
    let mut stall = Stall::begin(stage)?;
    let mut outcome = Outcome::new(Name::Stalled, stall.sentence());
    stall.report(&mut outcome);
    let began = Instant::now();
    stall.stalled.receive(stall.published, stage.deadline)?;
    let took = began.elapsed();
    if let Some(memory) = stall.server.memory() {
        outcome.figure("memory, after all have read", memory as f64 / MIB, "MiB");
    }
    outcome.figure("until they had all of it", took.as_secs_f64() * 1e3, "ms");
    outcome.checked(format!("all {} messages came to all, once and in order", stall.published));
    if stall.memory[0].is_some() {
        let bound = stall.bound() / MIB;
        outcome.checked(format!("memory has grown by less than {bound:.1} MiB: by the log"));
    }
    stall.end(stage)?;
    Ok(outcome)
}

/// They stop reading, and read again all at once while messages go on.
pub(super) fn reread(stage: &Stage) -> Result<Outcome, Failure> {
    let mut stall = Stall::begin(stage)?;
    let sentence = stall.sentence();
    let done =
        format!("{sentence} Then they read again at once while {HZ} messages a second go on.");
    let mut outcome = Outcome::new(Name::Reread, done);
    let (deadline, messages) = (stage.deadline, stage.count(STREAM, 10));
    let stream = Request::Stream { room: 0, hz: HZ, messages };

    stall.others.record();
    stall.server.tell(&[stream])?;
    stall.published += messages as u64;
    stall.others.receive(stall.published, deadline)?;
    let before = stall.others.recorded();

    let missed = stall.published;
    stall.published += messages as u64;
    let (published, caught_up) = (stall.published, AtomicBool::new(false));
    let (stalled, others) = (&mut stall.stalled, &mut stall.others);
    others.record();
    stall.server.tell(&[stream])?;
    let (took, during) = beside(
        || {
            let began = Instant::now();
            stalled.receive(missed, deadline)?;
            let took = began.elapsed();
            caught_up.store(true, Ordering::Relaxed);
            stalled.receive(published, deadline)?;
            Ok(took)
        },
        || {
            let mut during = None;
            for n in missed + 1..=published {
                others.receive(n, deadline)?;
                if during.is_none() && caught_up.load(Ordering::Relaxed) {
                    during = Some(others.recorded());
                }
            }
            Ok(during.unwrap_or_else(|| others.recorded()))
        },
    )?;
    report_reread(&mut outcome, &before, &during, took);
    if let Some(memory) = stall.server.memory() {
        outcome.figure("memory, after all have read", memory as f64 / MIB, "MiB");
    }
    outcome.checked(format!("all {published} messages came to all, once and in order"));
    while stall.server.stats()?.behind > 0 {
        stage.pause()?;
    }
    outcome.checked("nobody is behind any more");
    stall.end(stage)?;
    Ok(outcome)
}

fn report_reread(outcome: &mut Outcome, before: &Seen, during: &Seen, took: Duration) {
    outcome.latency("others, before they read again", &before.latency);
    outcome.latency("others, until they have caught up", &during.latency);
    let ratio = during.latency.p99_ms / before.latency.p99_ms;
    outcome.figure("p99 against before", ratio, "times");
    outcome.figure("until all had what they had missed", took.as_secs_f64() * 1e3, "ms");
}
