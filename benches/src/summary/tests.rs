use std::time::Duration;

use hdrhistogram::Histogram;

use super::*;

#[test]
fn a_median_is_in_the_middle() {
    let spread =
        |values: &[f64]| Spread::of(&mut values.to_vec()).map(|s| (s.median, s.min, s.max));
    assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((2.0, 1.0, 3.0)));
    assert_eq!(spread(&[4.0, 1.0, 2.0, 10.0]), Some((3.0, 1.0, 10.0)));
    assert_eq!(spread(&[f64::NAN, 1.0, f64::INFINITY]), Some((1.0, 1.0, 1.0)));
    assert_eq!(spread(&[f64::NAN]), None);
}

pub(crate) const CASE: Case =
    Case { clients: 10, payload: 200, burst: 5, bursts: 2, rooms: Rooms::One, stalled: 0 };

/// A run that took `cpu` microseconds, and each of its messages `latency` nanoseconds.
pub(crate) fn measured(cpu: u64, latency: u64) -> Measured {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    histogram.record_n(latency, 100).unwrap();
    Measured {
        cpu: Duration::from_micros(cpu),
        load_cpu: Duration::from_micros(50),
        elapsed: Duration::from_millis(1),
        latency: histogram,
        idle_bytes: Some(400.0),
        peak_bytes: None,
    }
}

/// What came of `servers`, each with its runs as [`measured`] has them.
pub(crate) fn outcome(case: Case, servers: &[(Kind, &[(u64, u64)])]) -> Outcome {
    let run = |at: usize| {
        let one = |(_, runs): &(Kind, &[(u64, u64)])| {
            runs.get(at).map(|(cpu, latency)| measured(*cpu, *latency))
        };
        servers.iter().map(one).collect()
    };
    let repetitions = servers.iter().map(|(_, runs)| runs.len()).max().unwrap_or_default();
    Outcome {
        case,
        servers: servers.iter().map(|(kind, _)| *kind).collect(),
        runs: (0..repetitions).map(run).collect(),
        failures: Vec::new(),
    }
}

#[test]
fn ratios_are_made_within_a_repetition() {
    // A machine that is three times slower from the second repetition on.
    let floor = [(100, 1_000), (300, 1_000), (300, 1_000)];
    let fanout = [(200, 2_000_000), (600, 2_000_000), (900, 2_000_000)];
    let outcome = outcome(CASE, &[(Kind::Floor, &floor), (Kind::Fanout, &fanout)]);
    let summary = Summary::of(&outcome);
    let [floor, fanout] = &summary.rows[..] else { panic!("{summary:?}") };
    let ratio = Spread { median: 2.0, min: 2.0, max: 3.0 };
    assert_eq!((fanout.to_floor, fanout.to_fanout.unwrap().max), (Some(ratio), 1.0));
    assert!((floor.to_fanout.unwrap().median - 0.5).abs() < 1e-9);
    assert_eq!(floor.cpu_us, Spread { median: 3.0, min: 1.0, max: 3.0 });
    assert!((fanout.deliveries_per_s.median - 100_000.0).abs() < 1e-6);
    assert!((fanout.latency.p99_us / 2_000.0 - 1.0).abs() < 0.001);
    assert_eq!((floor.idle_bytes.unwrap().max, floor.peak_bytes), (400.0, None));
    assert_eq!(summary.row(Kind::Fanout).unwrap().server, Kind::Fanout);
}

#[test]
fn who_fails_has_a_note_and_no_row() {
    let runs = [(100, 1_000), (300, 1_000)];
    let servers: [(Kind, &[_]); 3] =
        [(Kind::Floor, &runs), (Kind::Ws, &runs[..1]), (Kind::Bun, &[])];
    let mut outcome = outcome(CASE, &servers);
    outcome.failures.push((Kind::Ws, "a message is lost".to_owned()));
    let summary = Summary::of(&outcome);
    assert_eq!(servers_of(&summary), [Kind::Floor]);
    let left_out: Vec<_> =
        summary.left_out.iter().map(|left| (left.server, &*left.reason)).collect();
    assert_eq!(left_out, [(Kind::Ws, "a message is lost"), (Kind::Bun, "it was not run")]);
    assert_eq!(summary.rows[0].to_fanout, None);
}

fn servers_of(summary: &Summary) -> Vec<Kind> {
    servers(std::slice::from_ref(summary))
}

#[test]
fn clients_without_time_to_spare_are_told() {
    let mut outcome = outcome(CASE, &[(Kind::Floor, &[(100, 1_000)]), (Kind::Ws, &[(100, 1_000)])]);
    outcome.runs[0][1].as_mut().unwrap().load_cpu = Duration::from_micros(950);
    let summary = Summary::of(&outcome);
    assert_eq!([0, 1].map(|at| summary.rows[at].load_bound), [false, true]);
    assert!((summary.rows[1].load_cores.median - 0.95).abs() < 1e-9);
}

#[test]
fn a_case_is_named_by_what_makes_it_different() {
    assert_eq!(name(&CASE), "10 clients, payload 200 B, burst 5");
    let case = Case { clients: 1000, rooms: Rooms::Each, stalled: 10, ..CASE };
    assert_eq!(name(&case), "1,000 clients, payload 200 B, burst 5, a room each, 10 % stalled");
}
