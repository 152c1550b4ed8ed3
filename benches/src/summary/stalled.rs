//! What clients that stall cost the others: a case beside the same one without them.

use serde::Serialize;

use super::Summary;
use crate::run::Case;
use crate::servers::Kind;

/// A case with stalled clients, beside the same one without.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Beside {
    /// The case with them.
    #[serde(flatten)]
    pub case: Case,
    /// Servers that have run in both.
    pub rows: Vec<Times>,
}

/// How many times as much as without stalled clients: 1 where nobody notices them.
///
/// Of medians, since the two were not run in the same repetition.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Times {
    /// Which server.
    pub server: Kind,
    /// CPU time for a message that reached a client.
    pub cpu: f64,
    /// Messages that reached their clients in a second.
    pub deliveries: f64,
    /// Latency, half of the messages.
    pub p50: f64,
    /// Latency, 99 of 100.
    pub p99: f64,
}

/// Every case with stalled clients that was run without them as well.
pub fn beside(cases: &[Summary]) -> Vec<Beside> {
    let stalled = cases.iter().filter(|summary| summary.case.stalled > 0);
    stalled.filter_map(|summary| Some(compare(summary, calm(cases, &summary.case)?))).collect()
}

fn calm<'a>(cases: &'a [Summary], case: &Case) -> Option<&'a Summary> {
    // How long they were run may differ.
    cases.iter().find(|other| Case { stalled: 0, bursts: other.case.bursts, ..*case } == other.case)
}

fn compare(stalled: &Summary, calm: &Summary) -> Beside {
    let times = stalled.rows.iter().filter_map(|row| {
        let other = calm.row(row.server)?;
        Some(Times {
            server: row.server,
            cpu: row.cpu_us.median / other.cpu_us.median,
            deliveries: row.deliveries_per_s.median / other.deliveries_per_s.median,
            p50: row.latency.p50_us / other.latency.p50_us,
            p99: row.latency.p99_us / other.latency.p99_us,
        })
    });
    Beside { case: stalled.case, rows: times.collect() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CASE, outcome};
    use super::*;

    #[test]
    fn a_case_finds_its_like_without_stalled_clients() {
        let summary = |case: Case, cpu: u64| {
            Summary::of(&outcome(case, &[(Kind::Fanout, &[(cpu, cpu * 1_000)])]))
        };
        let cases = [
            summary(Case { burst: 1, ..CASE }, 1),
            summary(Case { bursts: 7, ..CASE }, 100),
            summary(Case { stalled: 10, ..CASE }, 200),
            summary(Case { stalled: 10, payload: 300, ..CASE }, 200),
        ];
        let beside = beside(&cases);
        let [only] = &beside[..] else { panic!("{beside:?}") };
        assert_eq!(only.case, cases[2].case);
        let times = only.rows[0];
        // 90 deliveries for 200 us, after 350 for 100 us.
        let expected = (200.0 / 90.0) / (100.0 / 350.0);
        assert!((times.cpu / expected - 1.0).abs() < 1e-9, "{times:?}");
        assert!((times.p99 - 2.0).abs() < 0.01, "{times:?}");
    }
}
