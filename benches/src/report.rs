//! What is shown: tables for people, JSON for programs.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::machine::Machine;
use crate::summary::{Row, Spread, Summary};

/// How the columns are to be read.
pub const LEGEND: &str = "\
CPU: user and system time of the server's process for each message that reached its client;
x floor, x fanout: how many times the CPU of that server, made within a repetition;
latency: from publishing (stamped in the message) to the client's read, all repetitions;
medians of the repetitions, with (least to greatest).";

#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    cases: &'a [Summary],
}

/// Writes everything to a file.
///
/// # Errors
/// Where it cannot be written.
pub fn write_json(path: &Path, machine: &Machine, cases: &[Summary]) -> io::Result<()> {
    let mut json = serde_json::to_vec_pretty(&Report { machine, cases })?;
    json.push(b'\n');
    std::fs::write(path, json)
}

/// One case as a table.
pub fn table(summary: &Summary) -> String {
    let case = &summary.case;
    let mut out = format!(
        "{} clients, payload {} B, burst {}: {} repetitions of {} bursts, {} deliveries\n",
        grouped(case.clients as f64),
        case.payload,
        case.burst,
        summary.repetitions,
        case.bursts,
        grouped(summary.deliveries as f64),
    );
    let head = ["CPU us/delivery", "x floor", "x fanout", "deliveries/s", "p50 ms", "p99 ms"];
    let mut lines = vec![std::iter::once("").chain(head).map(str::to_owned).collect()];
    lines.extend(summary.rows.iter().map(line));
    let width = |column: usize| lines.iter().map(|line: &Vec<String>| line[column].len()).max();
    let widths: Vec<usize> = (0..=head.len()).filter_map(width).collect();
    for line in &lines {
        let mut text = format!("  {:<1$}", line[0], widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            write!(text, "  {cell:>width$}").expect("a String takes all");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

fn line(row: &Row) -> Vec<String> {
    let ratio = |spread: &Option<Spread>| spread.map_or_else(|| "-".to_owned(), |s| spread_of(&s));
    vec![
        row.server.name().to_owned(),
        spread_of(&row.cpu_us),
        ratio(&row.to_floor),
        ratio(&row.to_fanout),
        grouped(row.deliveries_per_s.median),
        format!("{:.2}", row.latency_p50_us / 1e3),
        format!("{:.2}", row.latency_p99_us / 1e3),
    ]
}

fn spread_of(spread: &Spread) -> String {
    format!("{:.2} ({:.2} to {:.2})", spread.median, spread.min, spread.max)
}

/// A whole number with a comma between thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Case, Rooms};
    use crate::servers::Kind;

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!(
            [0.0, 999.4, 1000.0, 1_234_567.0].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn columns_stand_below_each_other() {
        let spread = |median| Spread { median, min: 1.0, max: 20.0 };
        let row = |server, cpu, to_floor: Option<f64>| Row {
            server,
            cpu_us: spread(cpu),
            to_floor: to_floor.map(spread),
            to_fanout: None,
            deliveries_per_s: spread(1e6),
            latency_p50_us: 1_000.0,
            latency_p99_us: 20_000.0,
            latency_p999_us: 20_000.0,
            load_cpu_us: spread(1.0),
        };
        let summary = Summary {
            case: Case {
                clients: 1000,
                payload: 200,
                burst: 1,
                bursts: 5,
                rooms: Rooms::One,
                stalled: 0,
            },
            repetitions: 3,
            deliveries: 5000,
            rows: vec![row(Kind::Floor, 1.5, Some(1.0)), row(Kind::Broadcast, 21.0, None)],
        };
        let expected = "\
1,000 clients, payload 200 B, burst 1: 3 repetitions of 5 bursts, 5,000 deliveries
                   CPU us/delivery               x floor  x fanout  deliveries/s  p50 ms  p99 ms
  floor       1.50 (1.00 to 20.00)  1.00 (1.00 to 20.00)         -     1,000,000    1.00   20.00
  broadcast  21.00 (1.00 to 20.00)                     -         -     1,000,000    1.00   20.00
";
        assert_eq!(table(&summary), expected);
    }
}
