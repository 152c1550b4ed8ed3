//! The report as a person reads it.

use std::fmt::Write;

use super::lines::nanos;
use super::report::{Report, Server, Servers, Spread};

impl Report {
    /// A line a subject.
    pub(super) fn table(&self) -> String {
        let mut table = String::new();
        let mut line = |name: &str, what: &str| {
            writeln!(table, "{name:<13} {what}").expect("a string takes everything");
        };
        let connect = &self.connect_ms;
        line(
            "connected",
            &format!(
                "{} of {} in {:.1} s ({}/s), p50 {}, p99 {}",
                count(self.connected as u64),
                count(self.clients as u64),
                self.connect_s,
                count(nanos(self.connected as f64 / self.connect_s.max(1e-9))),
                ms(connect.p50),
                ms(connect.p99),
            ),
        );
        if self.not_connected.total() > 0 {
            line("not connected", &self.not_connected.to_string());
        }
        if self.publishers > 0 {
            line(
                "published",
                &format!(
                    "{} messages of {} B, publishers: {}, late: {}",
                    count(self.published),
                    self.payload,
                    self.publishers,
                    count(self.late),
                ),
            );
        }
        let messages = &self.messages;
        line(
            "delivered",
            &format!(
                "{} in {:.1} s ({}/s)",
                count(self.delivered),
                self.elapsed_s,
                count(nanos(self.deliveries_per_s)),
            ),
        );
        line(
            "account",
            &format!(
                "{} lost, {} doubled, {} reordered, {} cut, {} misrouted, {} other texts",
                count(messages.lost),
                count(messages.doubled),
                count(messages.reordered),
                count(messages.cut),
                count(messages.misrouted),
                count(messages.other),
            ),
        );
        if self.latency_ms.count > 0 {
            line("latency", &spread(&self.latency_ms));
        }
        let closed = &self.connections_lost;
        line(
            "closed early",
            &match closed.total() {
                0 => "no connection".to_owned(),
                total => format!("{} connections: {closed}", count(total)),
            },
        );
        if self.publishers_lost.total() > 0 {
            line("", &format!("of publishers: {}", self.publishers_lost));
        }
        let workers: Vec<_> =
            self.workers_cpu.iter().map(|share| format!("{:.0} %", share * 100.0)).collect();
        line(
            "own CPU",
            &format!(
                "of a core each: publishers {:.0} %, workers {}",
                self.publishers_cpu * 100.0,
                workers.join(", "),
            ),
        );
        if let Some(servers) = &self.servers {
            line("servers", &together(servers));
            for Server { pid, cpu_s, memory_bytes } in &servers.processes {
                let memory = *memory_bytes as f64 / 1e6;
                line("", &format!("pid {pid}: {cpu_s:.2} s CPU, {memory:.1} MB of its own"));
            }
        }
        for warning in &self.warnings {
            line("WARNING", warning);
        }
        table
    }
}

fn together(servers: &Servers) -> String {
    let of = |value: Option<f64>, unit: &str| match value {
        Some(value) => format!("{value:.2} {unit}"),
        None => format!("no {unit}"),
    };
    let idle = servers.idle_bytes_per_connection.map(|bytes| bytes / 1000.0);
    let cpu = of(servers.cpu_us_per_delivery, "us CPU a delivery");
    format!("{cpu}, {}", of(idle, "kB grown by a connection"))
}

fn spread(spread: &Spread) -> String {
    format!(
        "p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
        ms(spread.p50),
        ms(spread.p90),
        ms(spread.p99),
        ms(spread.p999),
        ms(spread.max),
    )
}

/// Three digits or so.
fn ms(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.2} ms"),
        ..100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

/// With a comma for each thousand.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut told = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::report::tests::quiet;

    #[test]
    fn every_subject_has_its_line() {
        let mut report = quiet();
        let table = report.table();
        let connected =
            "connected     2,000 of 2,000 in 0.5 s (4,000/s), p50 0.20 ms, p99 0.00 ms\n";
        assert!(table.starts_with(connected), "{table}");
        assert!(table.contains("delivered     50,000 in 5.0 s (10,000/s)\n"), "{table}");
        assert!(table.contains("max 20.0 ms\nclosed early  no connection\n"), "{table}");
        assert!(!table.contains("not connected") && !table.contains("WARNING"), "{table}");
        report.not_connected.add("no answer in time", 3);
        report.connections_lost.add("code 4001", 8);
        report.warnings.push("slow".to_owned());
        let table = report.table();
        assert!(table.contains("not connected 3 x no answer in time\n"), "{table}");
        assert!(table.contains("closed early  8 connections: 8 x code 4001\n"), "{table}");
        assert!(table.ends_with("WARNING       slow\n"), "{table}");
    }

    #[test]
    fn figures_are_short() {
        let times = [0.1234, 12.34, 1234.5].map(ms);
        assert_eq!(times, ["0.12 ms", "12.3 ms", "1234 ms"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
