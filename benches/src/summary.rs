//! From runs to what is reported: medians, with how far they spread.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::comparison::Outcome;
use crate::run::{Case, Measured};
use crate::servers::Kind;

/// The median of some values, and the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Spread {
    /// The middle one, or between the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of `values`, which are then in order; `None` where there are none.
    pub fn of(values: &mut [f64]) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Some(Self { median, min, max })
    }
}

/// One server in one case.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// Which.
    pub server: Kind,
    /// Microseconds of its CPU time, user and system, for a delivered message.
    pub cpu_us: Spread,
    /// How many times as much as the floor it needs; `None` where that did not run.
    pub to_floor: Option<Spread>,
    /// How many times as much as this library it needs; `None` where that did not run.
    pub to_fanout: Option<Spread>,
    /// Messages that reached their clients in a second.
    pub deliveries_per_s: Spread,
    /// Microseconds from publishing to the client, of all repetitions: half of the
    /// messages took no longer.
    pub latency_p50_us: f64,
    /// As above, for 99 of 100.
    pub latency_p99_us: f64,
    /// As above, for 999 of 1,000.
    pub latency_p999_us: f64,
    /// Microseconds of the clients' CPU time for a delivered message: where both
    /// together are all that the machine has, the clients held up the server.
    pub load_cpu_us: Spread,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Which.
    #[serde(flatten)]
    pub case: Case,
    /// How often each server was run.
    pub repetitions: usize,
    /// Messages that each of them delivered in each repetition, to all clients together.
    pub deliveries: u64,
    /// The servers, as they were asked for.
    pub rows: Vec<Row>,
}

impl Summary {
    /// Of a case that was run at least once; `None` where it was not.
    pub fn of(outcome: &Outcome) -> Option<Self> {
        let rows = (0..outcome.servers.len()).map(|at| row(outcome, at));
        Some(Self {
            case: outcome.case,
            repetitions: outcome.runs.len(),
            deliveries: outcome.case.deliveries(),
            rows: rows.collect::<Option<_>>()?,
        })
    }
}

fn row(outcome: &Outcome, at: usize) -> Option<Row> {
    let deliveries = outcome.case.deliveries() as f64;
    let spread = |value: &dyn Fn(&Measured) -> f64| {
        Spread::of(&mut outcome.runs.iter().map(|runs| value(&runs[at])).collect::<Vec<_>>())
    };
    let to = |kind: Kind| {
        let other = outcome.servers.iter().position(|server| *server == kind)?;
        let ratio =
            |runs: &Vec<Measured>| runs[at].cpu.as_secs_f64() / runs[other].cpu.as_secs_f64();
        Spread::of(&mut outcome.runs.iter().map(ratio).collect::<Vec<_>>())
    };
    let mut latency = Histogram::<u64>::new(3).ok()?;
    for runs in &outcome.runs {
        latency.add(&runs[at].latency).ok()?;
    }
    let quantile = |q| latency.value_at_quantile(q) as f64 / 1e3;
    Some(Row {
        server: outcome.servers[at],
        cpu_us: spread(&|run| run.cpu.as_secs_f64() * 1e6 / deliveries)?,
        to_floor: to(Kind::Floor),
        to_fanout: to(Kind::Fanout),
        deliveries_per_s: spread(&|run| deliveries / run.elapsed.as_secs_f64())?,
        latency_p50_us: quantile(0.5),
        latency_p99_us: quantile(0.99),
        latency_p999_us: quantile(0.999),
        load_cpu_us: spread(&|run| run.load_cpu.as_secs_f64() * 1e6 / deliveries)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::run::Rooms;

    #[test]
    fn a_median_is_in_the_middle() {
        let spread = |values: &mut [f64]| Spread::of(values).map(|s| (s.median, s.min, s.max));
        assert_eq!(spread(&mut [3.0, 1.0, 2.0]), Some((2.0, 1.0, 3.0)));
        assert_eq!(spread(&mut [4.0, 1.0, 2.0, 10.0]), Some((3.0, 1.0, 10.0)));
        assert_eq!(spread(&mut []), None);
    }

    fn measured(cpu: u64, latency: u64) -> Measured {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        histogram.record_n(latency, 100).unwrap();
        Measured {
            cpu: Duration::from_micros(cpu),
            load_cpu: Duration::from_micros(50),
            elapsed: Duration::from_millis(1),
            latency: histogram,
            idle_bytes: None,
            peak_bytes: None,
        }
    }

    #[test]
    fn ratios_are_made_within_a_repetition() {
        // A machine that is three times slower from the second repetition on.
        let runs = [(100, 200), (300, 600), (300, 900)];
        let outcome = Outcome {
            case: Case {
                clients: 10,
                payload: 200,
                burst: 5,
                bursts: 2,
                rooms: Rooms::One,
                stalled: 0,
            },
            servers: vec![Kind::Floor, Kind::Fanout],
            runs: runs.map(|(a, b)| vec![measured(a, 1_000), measured(b, 2_000_000)]).into(),
        };
        let summary = Summary::of(&outcome).unwrap();
        let [floor, fanout] = &summary.rows[..] else { panic!("{summary:?}") };
        let ratio = Spread { median: 2.0, min: 2.0, max: 3.0 };
        assert_eq!((fanout.to_floor, fanout.to_fanout.unwrap().max), (Some(ratio), 1.0));
        assert!((floor.to_fanout.unwrap().median - 0.5).abs() < 1e-9);
        assert_eq!(floor.cpu_us, Spread { median: 3.0, min: 1.0, max: 3.0 });
        assert!((fanout.deliveries_per_s.median - 100_000.0).abs() < 1e-6);
        assert!((fanout.latency_p99_us / 2_000.0 - 1.0).abs() < 0.001);
    }
}
