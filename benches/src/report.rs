//! What is shown: tables for people, JSON for programs.
//!
//! A table is to be read in a terminal of 120 columns; what does not fit is in the
//! files.

mod columns;

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use serde::Serialize;

use self::columns::align;
pub use self::columns::{grouped, short, times};
use crate::machine::Machine;
use crate::servers::Kind;
use crate::summary::stalled::Beside;
use crate::summary::{self, Row, Spread, Summary};

/// How the columns are to be read.
pub const LEGEND: &str = "\
CPU us: user and system time of the server's process for each message that reached its client,
  the median of the repetitions, and the least and the greatest;
x floor, x fanout: how many times the CPU time of that server, made within a repetition, median;
deliveries/s: messages that reached their clients, median; * where the clients had no time to
  spare: what they took is measured then, not what the server could have sent;
p50, p99, p99.9: from publishing (stamped in the message) to the client's read, all repetitions;
B/conn idle: the process's own memory for each connection before the first message, median.";

/// What a file of the comparison holds.
#[derive(Serialize)]
#[non_exhaustive]
pub struct Report<'a> {
    /// On what it was measured.
    pub machine: &'a Machine,
    /// What came of each case.
    pub cases: &'a [Summary],
    /// Those with stalled clients beside the same ones without.
    pub stalled: Vec<Beside>,
}

impl<'a> Report<'a> {
    /// Of these cases.
    pub fn new(machine: &'a Machine, cases: &'a [Summary]) -> Self {
        Self { machine, cases, stalled: summary::stalled::beside(cases) }
    }

    /// As JSON.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write_json(&self, path: &Path) -> io::Result<()> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        std::fs::write(path, json)
    }

    /// As a page with charts.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write_html(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, crate::html::page(self))
    }

    /// What is said when all cases have run: stalled clients, the overview, the legend.
    pub fn end(&self) -> String {
        let tables = self.stalled.iter().map(beside).chain([overview(self.cases)]);
        let tables = tables.filter(|table| !table.is_empty());
        tables.map(|table| table + "\n").collect::<String>() + LEGEND
    }
}

/// Whether a file can be written, before hours are spent on what is to be in it. What is
/// there stays.
///
/// # Errors
/// Where it cannot.
pub fn writable(path: &Path) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(path).map(drop)
}

/// One case as a table.
pub fn table(summary: &Summary) -> String {
    let mut out = heading(summary) + "\n";
    if !summary.rows.is_empty() {
        let head = [
            "",
            "CPU us",
            "min to max",
            "x floor",
            "x fanout",
            "deliveries/s",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "B/conn idle",
        ];
        out +=
            &align(std::iter::once(head.map(str::to_owned)).chain(summary.rows.iter().map(line)));
    }
    for left in &summary.left_out {
        let line = format!("  {}: left out: {}\n", left.server.name(), left.reason);
        out += &line;
    }
    out
}

/// A case, and how it was run.
pub fn heading(summary: &Summary) -> String {
    format!(
        "{}: {} repetitions of {} bursts, {} deliveries",
        summary::name(&summary.case),
        summary.repetitions,
        grouped(summary.case.bursts as f64),
        grouped(summary.deliveries as f64),
    )
}

fn line(row: &Row) -> [String; 10] {
    let median = |spread: Option<Spread>, show: fn(f64) -> String| {
        spread.map_or_else(|| "-".to_owned(), |spread| show(spread.median))
    };
    let ms = |us: f64| short(us / 1e3);
    [
        row.server.name().to_owned(),
        short(row.cpu_us.median),
        format!("{} to {}", short(row.cpu_us.min), short(row.cpu_us.max)),
        median(row.to_floor, times),
        median(row.to_fanout, times),
        // All others end a place earlier, so that digits stand below each other.
        grouped(row.deliveries_per_s.median) + if row.load_bound { "*" } else { " " },
        ms(row.latency.p50_us),
        ms(row.latency.p99_us),
        ms(row.latency.p999_us),
        median(row.idle_bytes, grouped),
    ]
}

/// Every case in a line: how many times the floor each server needs. Empty where the
/// floor did not run.
fn overview(cases: &[Summary]) -> String {
    let mut servers = summary::servers(cases);
    let floor = servers.iter().position(|server| *server == Kind::Floor);
    let Some(floor) = floor else { return String::new() };
    servers.remove(floor);
    let head = std::iter::once(String::new());
    let head = head.chain(servers.iter().map(|server| server.name().to_owned())).collect();
    let line = |summary: &Summary| -> Vec<String> {
        let ratio = |server: &Kind| summary.row(*server).and_then(|row| row.to_floor);
        let ratios = servers.iter().map(ratio);
        let shown = ratios.map(|r| r.map_or_else(|| "-".to_owned(), |r| times(r.median)));
        std::iter::once(summary::name(&summary.case)).chain(shown).collect()
    };
    let lines = std::iter::once(head).chain(cases.iter().map(line));
    format!("CPU time, times that of the floor, medians\n{}", align(lines))
}

/// What stalled clients cost the others.
fn beside(beside: &Beside) -> String {
    let head = ["", "x CPU us", "x deliveries/s", "x p50", "x p99"].map(str::to_owned);
    let lines = beside.rows.iter().map(|row| {
        let [cpu, deliveries, p50, p99] = [row.cpu, row.deliveries, row.p50, row.p99].map(times);
        [row.server.name().to_owned(), cpu, deliveries, p50, p99]
    });
    let name = summary::name(&beside.case);
    format!(
        "{name}: the clients that read, beside the same case without stalled ones\n{}",
        align(std::iter::once(head).chain(lines))
    )
}

#[cfg(test)]
mod tests;
