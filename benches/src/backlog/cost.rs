//! What a record of a backlog costs, from the broker to the sinks, and what it costs to read
//! it with nothing behind.
//!
//! The readers take turns, each in a process of its own and with the whole backlog; ratios are
//! made within a repetition, and the median is told.

use super::job::{How, Job, Reader, Report};
use super::store::{Backlog, Store};
use super::{Args, Failure, Play, check};
use crate::scenario::figures::{Figure, MIB, Outcome, Row};
use crate::summary::Spread;

/// How many times the CPU time of the bare loop the whole pipeline may take.
pub(super) const TARGET: f64 = 1.5;

const RECORDS: u64 = 1_000_000;

/// A backlog for all of them.
pub(super) fn run(play: &Play<'_>) -> Result<Outcome, Failure> {
    let Play { args, store, .. } = play;
    let backlog = backlog(args, store)?;
    let topic = store.topic(backlog.partitions)?;
    backlog.write(&topic, "none")?;
    let mut runs: Vec<[Report; 4]> = Vec::new();
    for repetition in 0..args.repetitions {
        let mut reports = [const { None }; 4];
        for turn in 0..How::ALL.len() {
            // Whoever is first finds other caches than who is last.
            let at = (turn + repetition) % How::ALL.len();
            let job = Job { how: How::ALL[at], ..play.job(&topic, backlog) };
            eprintln!("repetition {}, {}", repetition + 1, job.how.name());
            reports[at] = Some(read(play, &job)?);
        }
        runs.push(reports.map(|report| report.expect("each had a turn")));
    }
    Ok(outcome(play, backlog, &runs))
}

fn backlog(args: &Args, store: &Store) -> Result<Backlog, Failure> {
    let (partitions, payload) = (args.partitions, args.payload);
    let most = store.most(partitions, payload as u64);
    let records = args.records.unwrap_or_else(|| RECORDS.min(most));
    if records > most {
        return Err(Failure::Wrong(format!(
            "--records: {records} are more than the {most} of {payload} bytes that the embedded \
             broker keeps in {partitions} partitions: use more --partitions, or a broker (--kafka)"
        )));
    }
    Ok(Backlog { partitions, records, payload, random: 0 })
}

/// One reader's run, in which every record came once.
pub(super) fn read(play: &Play<'_>, job: &Job) -> Result<Report, Failure> {
    let reader = Reader::start(play.program, job, play.deadline)?;
    let report = reader.report()?;
    check(job, &report)?;
    Ok(report)
}

fn outcome(play: &Play<'_>, backlog: Backlog, runs: &[[Report; 4]]) -> Outcome {
    let Backlog { partitions, records, payload, .. } = backlog;
    let mut outcome = Outcome {
        name: "cost",
        done: format!(
            "{records} records of {payload} bytes in {partitions} partitions of {}, read by each \
             {} times.",
            play.store.name(),
            runs.len()
        ),
        rows: Vec::new(),
        checked: Vec::new(),
    };
    for (at, how) in How::ALL.into_iter().enumerate() {
        let spread = |value: &dyn Fn(&[Report; 4]) -> f64| {
            Spread::of(&mut runs.iter().map(value).collect::<Vec<_>>())
        };
        let median = |value: &dyn Fn(&[Report; 4]) -> f64| spread(value).map_or(0.0, |s| s.median);
        let ratio = |run: &[Report; 4]| run[at].cpu_us(records) / run[0].cpu_us(records);
        let mut figures = vec![
            Figure { name: "", value: median(&|run| run[at].rate(records)), unit: "records/s" },
            Figure { name: "CPU", value: median(&|run| run[at].cpu_us(records)), unit: "us" },
            Figure { name: "x bare", value: median(&ratio), unit: "" },
            Figure { name: "peak", value: median(&|run| peak(&run[at])), unit: "MiB" },
            Figure { name: "first", value: median(&|run| ms(&run[at])), unit: "ms" },
        ];
        if let Some(Spread { min, max, .. }) = spread(&ratio).filter(|_| at > 0) {
            figures.push(Figure { name: "least", value: min, unit: "x" });
            figures.push(Figure { name: "most", value: max, unit: "x" });
            if how == How::Pipeline {
                let ratio = median(&ratio);
                let met = if ratio <= TARGET { "met" } else { "not met" };
                let text = format!("target: at most {TARGET} x the bare loop's CPU: {met}");
                outcome.rows.push(Row { what: text, of: None, figures: Vec::new() });
            }
        }
        let row = Row { what: how.title().to_owned(), of: Some(runs.len() as u64), figures };
        outcome.rows.push(row);
    }
    let frames = runs.first().map_or(0, |run| run[3].deliveries);
    outcome
        .checked(format!("every run read all {records} records once, each partition in its order"));
    outcome.checked(format!("every run of the pipeline delivered {frames} frames"));
    outcome
}

pub(super) fn peak(report: &Report) -> f64 {
    report.peak.map_or(f64::NAN, |bytes| bytes as f64 / MIB)
}

fn ms(report: &Report) -> f64 {
    report.first.as_secs_f64() * 1e3
}
