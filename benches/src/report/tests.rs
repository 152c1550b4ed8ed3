use super::*;
use crate::run::{Case, Rooms};
use crate::summary::tests::{CASE, measured, outcome};

/// A thousand clients; Node fails, and what Bun sends is more than the clients can take.
fn thousand(case: Case) -> Summary {
    let us = case.deliveries();
    let (floor, broadcast) = ([us, us * 2], [us * 21, us * 21]);
    let runs = |cpu: [u64; 2]| cpu.map(|cpu| (cpu, 1_000_000));
    let mut outcome = outcome(
        case,
        &[
            (Kind::Floor, &runs(floor)),
            (Kind::Broadcast, &runs(broadcast)),
            (Kind::Bun, &runs(floor)),
            (Kind::Ws, &[]),
        ],
    );
    for runs in &mut outcome.runs {
        let bun = runs[2].as_mut().unwrap();
        (bun.load_cpu, bun.idle_bytes) = (bun.elapsed, None);
        let broadcast = runs[1].as_mut().unwrap();
        (broadcast.idle_bytes, broadcast.latency) =
            (Some(135_000.0), measured(1, 20_000_000).latency);
    }
    outcome.failures.push((Kind::Ws, "there is no `node` here".to_owned()));
    Summary::of(&outcome)
}

const THOUSAND: Case = Case { clients: 1000, burst: 1, bursts: 5, ..CASE };

#[test]
fn columns_stand_below_each_other() {
    let expected = "\
1,000 clients, payload 200 B, burst 1: 2 repetitions of 5 bursts, 5,000 deliveries
             CPU us    min to max  x floor  x fanout  deliveries/s  p50 ms  p99 ms  p99.9 ms  B/conn idle
  floor        1.50  1.00 to 2.00     1.00         -    5,000,000     1.00    1.00      1.00          400
  broadcast    21.0  21.0 to 21.0     15.8         -    5,000,000     20.0    20.0      20.0      135,000
  bun          1.50  1.00 to 2.00     1.00         -    5,000,000*    1.00    1.00      1.00            -
  ws: left out: there is no `node` here
";
    assert_eq!(table(&thousand(THOUSAND)), expected);
}

#[test]
fn lines_fit_into_a_terminal() {
    let mut summary = thousand(THOUSAND);
    let row = &mut summary.rows[1];
    row.server = Kind::Socketioxide;
    row.cpu_us = Spread::of(&mut [100.1, 1234.5]).unwrap();
    row.deliveries_per_s = Spread::of(&mut [12_345_678.0]).unwrap();
    (row.to_floor, row.to_fanout) = (Spread::of(&mut [123.0]), Spread::of(&mut [123.0]));
    row.latency.p999_us = 12_345_678.0;
    let stalled = thousand(Case { stalled: 10, rooms: Rooms::Each, ..THOUSAND });
    let text = table(&summary) + &Report::new(&Machine::here(), &[summary, stalled]).end();
    for line in text.lines() {
        assert!(line.chars().count() <= 120, "{line}");
    }
}

#[test]
fn at_the_end_the_cases_are_seen_together() {
    let stalled = Case { stalled: 10, bursts: 10, ..THOUSAND };
    let cases = [thousand(THOUSAND), thousand(stalled), thousand(Case { burst: 16, ..THOUSAND })];
    let end = Report::new(&Machine::here(), &cases).end();
    let expected = "\
1,000 clients, payload 200 B, burst 1, 10 % stalled: the clients that read, beside the same case without stalled ones
             x CPU us  x deliveries/s  x p50  x p99
  floor          1.00            1.80   1.00   1.00
  broadcast      1.00            1.80   1.00   1.00
  bun            1.00            1.80   1.00   1.00

CPU time, times that of the floor, medians
                                                       broadcast   bun
  1,000 clients, payload 200 B, burst 1                     15.8  1.00
  1,000 clients, payload 200 B, burst 1, 10 % stalled       15.8  1.00
  1,000 clients, payload 200 B, burst 16                    15.8  1.00

CPU us: ";
    assert!(end.starts_with(expected), "{end}");
    // Without the floor there is no ratio to it.
    let mut cases = [thousand(THOUSAND)];
    cases[0].rows.remove(0);
    assert_eq!(Report::new(&Machine::here(), &cases).end(), LEGEND);
}

#[test]
fn the_file_holds_everything() {
    let machine = Machine::here();
    let cases = [thousand(THOUSAND), thousand(Case { stalled: 10, ..THOUSAND })];
    let json = serde_json::to_value(Report::new(&machine, &cases)).unwrap();
    let case = &json["cases"][0];
    assert_eq!((&case["clients"], &case["rooms"]), (&1000.into(), &"one".into()));
    assert_eq!(case["left_out"][0]["reason"], "there is no `node` here");
    let row = &case["rows"][1];
    assert_eq!(row["idle_bytes"]["median"], 135_000.0);
    assert_eq!(row["latency_curve"][0]["percentile"], 0.0);
    assert_eq!(case["rows"][2]["load_bound"], true);
    assert_eq!(json["stalled"][0]["rows"][0]["server"], "floor");
    assert_eq!(json["machine"]["commit"], machine.commit);
}

#[test]
fn a_file_that_cannot_be_written_is_told_and_one_that_is_there_stays() {
    let folder = std::env::temp_dir().join(format!("fanout-bench-report-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("report.json");
    std::fs::write(&file, "before").unwrap();
    let ok = (writable(&file).is_ok(), writable(&folder).is_ok());
    let kept = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!((ok, &*kept), ((true, false), "before"));
    assert!(writable(&file).is_err());
}
