//! What came of a drive, in figures.

use std::io;
use std::path::Path;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::lines::{Account, Reasons, Tally, histogram};
use super::publishers::Published;
use super::run::Plan;
use super::server_process::Usage;
use crate::load::Dialect;
use crate::machine::Machine;

/// Of a core: whoever uses more of it may be late by itself.
const BUSY: f64 = 0.85;

/// What was seen on the way.
#[derive(Debug)]
pub(super) struct Course {
    /// When the first message was due.
    pub(super) start: u64,
    /// `None` where only was received.
    pub(super) published: Option<Published>,
    /// One a worker.
    pub(super) accounts: Vec<Account>,
    /// What of a core the publishers have used.
    pub(super) cpu_share: f64,
    /// Of each server's process: before anybody came, once all were in, at the end.
    pub(super) before: Vec<Usage>,
    pub(super) idle: Vec<Usage>,
    pub(super) after: Vec<Usage>,
}

/// All figures.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) proto: Dialect,
    pub(super) urls: Vec<String>,
    pub(super) clients: usize,
    pub(super) rooms: u32,
    pub(super) publishers: usize,
    pub(super) rate: f64,
    pub(super) payload: usize,
    pub(super) duration_s: f64,

    pub(super) connected: usize,
    pub(super) not_connected: Reasons,
    pub(super) connect_s: f64,
    pub(super) connect_ms: Spread,
    pub(super) connections_lost: Reasons,

    pub(super) published: u64,
    pub(super) unsent: u64,
    pub(super) publishers_lost: Reasons,
    /// Sent more than ten milliseconds after being due.
    pub(super) late: u64,
    pub(super) lateness_ms: Spread,

    pub(super) messages: Tally,
    /// From the first message's time until the last one came.
    pub(super) elapsed_s: f64,
    /// Messages of this run; where it publishes none, what others have said.
    pub(super) delivered: u64,
    pub(super) deliveries_per_s: f64,
    pub(super) latency_ms: Spread,

    /// What of a core the publishers, and each worker, have used.
    pub(super) publishers_cpu: f64,
    pub(super) workers_cpu: Vec<f64>,
    /// `None` where their processes were not named.
    pub(super) servers: Option<Servers>,
    pub(super) warnings: Vec<String>,
}

/// How a time spreads, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) count: u64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    #[serde(rename = "p99.9")]
    pub(super) p999: f64,
    pub(super) max: f64,
}

/// The servers' processes.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Servers {
    pub(super) processes: Vec<Server>,
    /// Of all together; `None` where nothing was delivered.
    pub(super) cpu_us_per_delivery: Option<f64>,
    /// By how much all have grown while clients connected; `None` where nobody is.
    pub(super) idle_bytes_per_connection: Option<f64>,
}

/// A server's process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Server {
    pub(super) pid: u32,
    /// From the start of publishing until the last message.
    pub(super) cpu_s: f64,
    /// At the end, its own memory.
    pub(super) memory_bytes: u64,
}

impl Spread {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        Self {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
        }
    }
}

impl Report {
    pub(super) fn new(plan: &Plan, course: &Course) -> Self {
        let share = &plan.share;
        let (mut connect, mut latency) = (histogram(), histogram());
        let (mut failed, mut closed) = (Reasons::default(), Reasons::default());
        let mut messages = Tally::default();
        for account in &course.accounts {
            account.connect.add_to(&mut connect);
            account.latency.add_to(&mut latency);
            failed.add_all(&account.failed);
            closed.add_all(&account.closed);
            messages.add(&account.tally);
        }
        let accounts = || course.accounts.iter();
        let began = accounts().filter_map(|account| account.connecting).map(|(from, _)| from);
        let all_in = accounts().filter_map(|account| account.connecting).map(|(_, to)| to);
        let connecting = all_in.max().unwrap_or(0) - began.min().unwrap_or(0);
        let last = accounts().filter_map(|account| account.last).max();
        let elapsed_s = match last {
            Some(last) => last.saturating_sub(course.start) as f64 / 1e9,
            None => plan.duration.as_secs_f64(),
        };
        let published = course.published.as_ref();
        let connected = accounts().map(|account| account.connected).sum();
        // Where others publish, their texts are what is delivered.
        let delivered = match published {
            Some(_) => messages.received + messages.doubled,
            None => messages.other,
        };
        let mut report = Self {
            proto: share.dialect,
            urls: share.targets.iter().map(|target| target.url.clone()).collect(),
            clients: share.clients,
            rooms: share.rooms,
            publishers: share.publishers as usize * share.targets.len(),
            rate: plan.rate,
            payload: share.payload,
            duration_s: plan.duration.as_secs_f64(),
            connected,
            not_connected: failed,
            connect_s: connecting as f64 / 1e9,
            connect_ms: Spread::of(&connect),
            connections_lost: closed,
            published: published.map_or(0, |published| published.messages.iter().sum()),
            unsent: published.map_or(0, |published| published.unsent),
            publishers_lost: published.map_or_else(Reasons::default, |one| one.closed.clone()),
            late: published.map_or(0, |published| published.late),
            lateness_ms: published.map_or_else(Spread::default, |one| Spread::of(&one.lateness)),
            messages,
            elapsed_s,
            delivered,
            deliveries_per_s: delivered as f64 / elapsed_s.max(1e-9),
            latency_ms: Spread::of(&latency),
            publishers_cpu: course.cpu_share,
            workers_cpu: accounts().map(|account| account.cpu_share).collect(),
            servers: Servers::of(plan, course, connected, delivered),
            warnings: Vec::new(),
        };
        report.warnings = report.warn();
        report
    }

    /// Where the generator itself was the bottleneck.
    fn warn(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let workers = self.workers_cpu.len();
        for (n, share) in self.workers_cpu.iter().enumerate().filter(|(_, share)| **share > BUSY) {
            warnings.push(format!(
                "worker {} of {workers} has used {:.0} % of a core: latencies are partly its own; \
                 use more --processes, or fewer --clients",
                n + 1,
                share * 100.0,
            ));
        }
        if self.publishers_cpu > BUSY {
            warnings.push(format!(
                "the publishers have used {:.0} % of a core: latencies are partly their own; use \
                 a lower --rate",
                self.publishers_cpu * 100.0,
            ));
        }
        if self.late > 0 {
            warnings.push(format!(
                "{} of {} messages were sent more than 10 ms late (p99 of lateness {:.1} ms): \
                 the generator did not get the processor in time",
                self.late, self.published, self.lateness_ms.p99,
            ));
        }
        if self.unsent > 0 {
            warnings.push(format!(
                "{} messages were not sent: the publisher had lost its connection, or the server \
                 did not read",
                self.unsent,
            ));
        }
        warnings
    }

    /// Writes everything as JSON, with the machine and the command, without the token.
    pub(super) fn write(&self, path: &Path, token: Option<&str>) -> io::Result<()> {
        #[derive(Serialize)]
        struct File<'a> {
            machine: Machine,
            #[serde(flatten)]
            report: &'a Report,
        }
        let mut machine = Machine::here();
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            machine.command = machine.command.replace(token, "TOKEN");
        }
        let file = File { machine, report: self };
        std::fs::write(path, serde_json::to_vec_pretty(&file)?)
    }
}

impl Servers {
    /// `None` where none was named.
    fn of(plan: &Plan, course: &Course, connected: usize, delivered: u64) -> Option<Self> {
        let usages = course.idle.iter().zip(&course.after);
        let server = |(pid, (idle, after)): (&u32, (&Usage, &Usage))| Server {
            pid: *pid,
            cpu_s: after.cpu.saturating_sub(idle.cpu).as_secs_f64(),
            memory_bytes: after.memory,
        };
        let processes: Vec<_> = plan.server_pids.iter().zip(usages).map(server).collect();
        let cpu_s: f64 = processes.iter().map(|server| server.cpu_s).sum();
        let grown = course.before.iter().zip(&course.idle);
        let grown = grown.map(|(before, idle)| idle.memory.saturating_sub(before.memory));
        let grown = grown.sum::<u64>() as f64;
        (!processes.is_empty()).then_some(Self {
            processes,
            cpu_us_per_delivery: (delivered > 0).then(|| cpu_s * 1e6 / delivered as f64),
            idle_bytes_per_connection: (connected > 0).then(|| grown / connected as f64),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A report of a quiet drive.
    pub(in crate::drive) fn quiet() -> Report {
        Report {
            proto: Dialect::Native,
            urls: vec!["ws://127.0.0.1:3000/ws".to_owned()],
            clients: 2000,
            rooms: 0,
            publishers: 1,
            rate: 5.0,
            payload: 200,
            duration_s: 5.0,
            connected: 2000,
            not_connected: Reasons::default(),
            connect_s: 0.5,
            connect_ms: Spread { count: 2000, p50: 0.2, ..Spread::default() },
            connections_lost: Reasons::default(),
            published: 25,
            unsent: 0,
            publishers_lost: Reasons::default(),
            late: 0,
            lateness_ms: Spread::default(),
            messages: Tally { received: 50_000, ..Tally::default() },
            elapsed_s: 5.0,
            delivered: 50_000,
            deliveries_per_s: 10_000.0,
            latency_ms: Spread { count: 50_000, p50: 1.5, max: 20.0, ..Spread::default() },
            publishers_cpu: 0.01,
            workers_cpu: vec![0.3, 0.84],
            servers: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_busy_generator_is_named() {
        let mut report = quiet();
        assert!(report.warn().is_empty());
        report.workers_cpu[1] = 0.93;
        report.publishers_cpu = 0.9;
        (report.late, report.lateness_ms.p99, report.unsent) = (3, 12.5, 2);
        let warnings = report.warn();
        assert!(warnings[0].starts_with("worker 2 of 2 has used 93 % of a core"), "{warnings:?}");
        assert!(warnings[1].starts_with("the publishers have used 90 %"), "{warnings:?}");
        let late = "3 of 25 messages were sent more than 10 ms late (p99 of lateness 12.5 ms)";
        assert!(warnings[2].starts_with(late), "{warnings:?}");
        assert!(warnings[3].starts_with("2 messages were not sent"), "{warnings:?}");
    }

    #[test]
    fn servers_are_judged_together() {
        let plan = Plan {
            share: crate::drive::ledger::tests::share(),
            processes: 1,
            rate: 1.0,
            duration: std::time::Duration::from_secs(1),
            server_pids: vec![7, 8],
        };
        let usage = |cpu, memory| Usage { cpu: std::time::Duration::from_secs(cpu), memory };
        let mut course = Course {
            start: 0,
            published: None,
            accounts: Vec::new(),
            cpu_share: 0.0,
            before: vec![usage(1, 100), usage(1, 500)],
            idle: vec![usage(2, 1100), usage(3, 1500)],
            after: vec![usage(3, 9000), usage(4, 1000)],
        };
        let servers = Servers::of(&plan, &course, 4, 1_000_000).unwrap();
        assert_eq!(servers.processes[0], Server { pid: 7, cpu_s: 1.0, memory_bytes: 9000 });
        assert_eq!(servers.cpu_us_per_delivery, Some(2.0));
        assert_eq!(servers.idle_bytes_per_connection, Some(500.0));
        (course.idle, course.after) = (Vec::new(), Vec::new());
        assert!(Servers::of(&plan, &course, 4, 0).is_none());
    }
}
