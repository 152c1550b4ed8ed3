//! The backlog as its user reads it, small and with the embedded broker; with a real one where
//! there is one. No figure is judged: a busy machine is no fault of the code. What is judged
//! the program judges itself: that every reader got every record once and in order, and that
//! memory stayed within its bound.

#![cfg(target_os = "linux")]

use std::process::{Command, Output};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fanout-bench");
/// A part is over in seconds.
const SMALL: [&str; 12] = [
    "--records",
    "3000",
    "--repetitions",
    "2",
    "--rate",
    "200",
    "--seconds",
    "1",
    "--backlog-gib",
    "0.02",
    "--time-limit",
    "100",
];

fn backlog(args: &[&str]) -> Output {
    Command::new(PROGRAM).arg("backlog").args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Plays one part, and hands back what it has reported.
fn play(part: &str, args: &[&str]) -> Value {
    let json = std::env::temp_dir().join(format!("backlog-{part}-{}.json", std::process::id()));
    let usual = [&[part, "--json", json.to_str().unwrap()], &SMALL[..]].concat();
    let output = backlog(&[&usual, args].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report = std::fs::read(&json).unwrap();
    std::fs::remove_file(&json).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let [outcome] = &report["parts"].as_array().unwrap()[..] else { panic!("{report}") };
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains(&format!("{part}: {}", outcome["done"].as_str().unwrap())), "{shown}");
    outcome.clone()
}

fn rows(outcome: &Value) -> Vec<&str> {
    let rows = outcome["rows"].as_array().unwrap();
    rows.iter().map(|row| row["what"].as_str().unwrap()).collect()
}

/// What one row says by this name, which is above zero.
fn figure(outcome: &Value, what: &str, name: &str) -> f64 {
    let rows = outcome["rows"].as_array().unwrap();
    let row = rows.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("{outcome}"));
    let figures = row["figures"].as_array().unwrap();
    let figure = figures.iter().find(|figure| figure["name"] == name);
    let value = figure.and_then(|figure| figure["value"].as_f64());
    value.filter(|value| *value > 0.0).unwrap_or_else(|| panic!("{what}, {name}: {outcome}"))
}

fn checked(outcome: &Value, what: &str) {
    let checked = outcome["checked"].as_array().unwrap();
    assert!(checked.iter().any(|line| line.as_str().unwrap().contains(what)), "{outcome}");
}

#[test]
fn cost() {
    let outcome = play("cost", &["--connections", "7", "--partitions", "3"]);
    checked(&outcome, "every run read all 3000 records once");
    for who in ["bare rdkafka loop", "KafkaSource alone", "source, decoder, router, hub"] {
        for name in ["", "CPU", "x bare", "peak", "first"] {
            figure(&outcome, who, name);
        }
    }
    assert!(rows(&outcome).contains(&"bare, librdkafka's defaults"), "{outcome}");
}

#[test]
fn latency() {
    let outcome = play("latency", &["--sockets", "--connections", "3"]);
    checked(&outcome, "all 400 records came to each, once and in order");
    let rows = outcome["rows"].as_array().unwrap();
    // Those of the first second do not count; the producer has no such second.
    for (row, (what, of)) in rows.iter().zip([
        ("bare rdkafka loop", 200),
        ("to a sink in memory", 200),
        ("to a WebSocket client", 200),
        ("the producer itself was late", 400),
    ]) {
        assert_eq!((&row["what"], &row["of"]), (&what.into(), &of.into()), "{outcome}");
        let [median, p99, max] = ["median", "p99", "max"].map(|name| figure(&outcome, what, name));
        assert!(median <= p99 && p99 <= max, "{outcome}");
    }
    assert_eq!(rows.len(), 4);
}

#[test]
fn memory() {
    let outcome = play("memory", &["--compression", "lz4"]);
    checked(&outcome, "the pipeline never held more than 472 MiB");
    checked(&outcome, "every record came once and in the order of its partition");
    // 20.48 MiB, in whole records of 100 KiB.
    assert!((20.0..20.5).contains(&figure(&outcome, "a slow hub", "read")), "{outcome}");
    figure(&outcome, "a fast hub", "peak");
}

#[test]
fn what_passes_the_bound_fails() {
    let args = ["memory", "--memory-bound-mib", "1", "--property", "fetch.wait.max.ms=3"];
    let told = stderr(&backlog(&[&args[..], &SMALL].concat()));
    assert!(told.contains("fanout-bench: memory: a fast hub held "), "{told}");
    assert!(told.contains(" MiB, more than 1\n"), "{told}");
}

#[test]
fn what_cannot_be_used_is_named() {
    let told = |args: &[&str]| stderr(&backlog(args));
    assert_eq!(
        told(&["--partitions", "0"]),
        "fanout-bench: --partitions: 0 is not from 1 to 1000\n"
    );
    let gib = "fanout-bench: --backlog-gib: 0 is not above 0 and at most 100\n";
    assert_eq!(told(&["--backlog-gib", "0"]), gib);
    let many = told(&["cost", "--records", "1000000", "--partitions", "1"]);
    assert!(
        many.contains("1000000 are more than the 13107 of 200 bytes that the embedded"),
        "{many}"
    );
    let control = told(&["--control", "start"]);
    assert!(control.contains("`start` is not a program, a space and a folder"), "{control}");
    assert!(told(&["--property", "x"]).contains("not NAME=VALUE"));
    let unknown = told(&["cost", "--records", "10", "--property", "no.such=1"]);
    assert!(unknown.contains("no.such"), "{unknown}");
}

#[test]
fn what_does_not_come_in_time_fails_the_part() {
    let args = ["latency", "--rate", "100", "--seconds", "5", "--time-limit", "1"];
    let told = stderr(&backlog(&args));
    assert!(told.contains("fanout-bench: latency: the server does not answer"), "{told}");
}

#[test]
#[ignore = "needs Kafka: FANOUT_TEST_KAFKA=HOST:PORT"]
fn real_kafka() {
    let kafka = std::env::var("FANOUT_TEST_KAFKA").expect("FANOUT_TEST_KAFKA=HOST:PORT");
    let kafka = ["--kafka", &kafka];
    checked(&play("cost", &kafka), "every run read all 3000 records once");
    checked(&play("latency", &kafka), "all 400 records came to each, once and in order");
    checked(&play("memory", &kafka), "the pipeline never held more than");
}
