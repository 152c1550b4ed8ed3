//! The scenarios as their user plays them, small. No figure is judged: a busy machine is
//! no fault of the code. What is judged the scenarios judge themselves: that everybody got
//! everything once and in order.

#![cfg(target_os = "linux")]

use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fanout-bench");
/// A hundredth: some ten clients each.
const SMALL: &str = "0.01";

fn scenarios(args: &[&str]) -> Output {
    Command::new(PROGRAM).arg("scenarios").args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Plays one, and hands back what it has reported, by line.
fn play(name: &str) -> serde_json::Value {
    play_with(name, &[])
}

fn play_with(name: &str, args: &[&str]) -> serde_json::Value {
    let json = std::env::temp_dir().join(format!("scenario-{name}-{}.json", std::process::id()));
    let usual = [name, "--scale", SMALL, "--json", json.to_str().unwrap()];
    let output = scenarios(&[&usual[..], args].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let report = std::fs::read(&json).unwrap();
    std::fs::remove_file(&json).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let [outcome] = &report["scenarios"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!(outcome["name"], name);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains(&format!("{name}: {}", outcome["done"].as_str().unwrap())), "{shown}");
    for row in outcome["rows"].as_array().unwrap() {
        assert!(shown.contains(row["what"].as_str().unwrap()), "{row} {shown}");
        assert_ne!(row["of"], 0, "{row}");
        for figure in row["figures"].as_array().unwrap() {
            // What cannot be a number is null in JSON.
            assert!(figure["value"].is_number(), "{row}");
        }
    }
    outcome.clone()
}

fn checked(outcome: &serde_json::Value, what: &str) {
    let checked = outcome["checked"].as_array().unwrap();
    assert!(checked.iter().any(|line| line.as_str().unwrap().contains(what)), "{outcome}");
}

#[test]
fn stalled() {
    let outcome = play("stalled");
    checked(&outcome, "messages came to all, once and in order");
    checked(&outcome, "memory has grown by less than");
}

#[test]
fn reread() {
    checked(&play("reread"), "messages came to all, once and in order");
}

#[test]
fn storm() {
    let outcome = play("storm");
    checked(&outcome, "all 100 messages came to all others, once and in order");
    checked(&outcome, "the hub has 10 connections");
}

#[test]
fn walk() {
    let outcome = play("walk");
    checked(&outcome, "messages came to all, once and in order");
    // Five lines for each of two numbers of shards and two of messages.
    assert_eq!(outcome["rows"].as_array().unwrap().len(), 20);
}

#[test]
fn flood() {
    let outcome = play("flood");
    checked(&outcome, "all 100 messages came to all, once and in order");
    checked(&outcome, "frames was answered");
}

#[test]
fn connections() {
    let outcome = play("connections");
    checked(&outcome, "all 2 messages came to all, once and in order");
    checked(&outcome, "the hub has 180 connections");
}

/// What one row of one figure says.
fn figure(outcome: &serde_json::Value, what: &str) -> f64 {
    let row = outcome["rows"].as_array().unwrap().iter().find(|row| row["what"] == what);
    row.unwrap_or_else(|| panic!("{what}: {outcome}"))["figures"][0]["value"].as_f64().unwrap()
}

/// All come at once, so that nothing is there before they ask.
const AT_ONCE: [&str; 6] = ["--clients", "60", "--missed", "70", "--within", "0"];

#[test]
fn reconnect() {
    let outcome = play_with("reconnect", &AT_ONCE);
    checked(&outcome, "all 4200 missed messages came to their clients, once and in order");
    checked(&outcome, "nobody was told of a gap");
    // Four rooms: what was missed is not in memory.
    assert!(figure(&outcome, "records read again") >= 4.0 * 70.0, "{outcome}");
    assert!(figure(&outcome, "passes") >= 1.0, "{outcome}");
}

#[test]
fn reconnect_warm() {
    let outcome = play_with("reconnect-warm", &AT_ONCE);
    checked(&outcome, "all 4200 missed messages came to their clients, once and in order");
    assert!(figure(&outcome, "records read again") < 1.0, "{outcome}");
}

#[test]
fn what_does_not_come_in_time_fails_the_scenario() {
    let late = stderr(&scenarios(&["connections", "--scale", SMALL, "--time-limit", "1"]));
    assert!(late.contains("fanout-bench: connections: "), "{late}");
}

#[test]
fn what_cannot_be_used_is_named() {
    let scale = stderr(&scenarios(&["--scale", "0"]));
    assert_eq!(scale, "fanout-bench: --scale: 0 is not above 0 and at most 10\n");
    let limit = stderr(&scenarios(&["--time-limit", "0"]));
    assert_eq!(limit, "fanout-bench: --time-limit: 0 is not from 1 to 3600\n");
    let within = stderr(&scenarios(&["reconnect", "--within", "61"]));
    assert_eq!(within, "fanout-bench: --within: 61 is not from 0 to 60\n");
    let missed = stderr(&scenarios(&["reconnect", "--missed", "0"]));
    assert_eq!(missed, "fanout-bench: --missed: 0 is not from 1 to 1000000\n");
    let missed = stderr(&scenarios(&["reconnect", "--scale", SMALL, "--missed", "1000000"]));
    assert!(missed.contains("records that the embedded broker keeps"), "{missed}");
    let name = stderr(&scenarios(&["earthquake"]));
    assert!(name.contains("[possible values: stalled, reread, storm"), "{name}");
}

#[test]
fn more_clients_than_descriptors_are_refused_before_anything_is_started() {
    let limited = format!("ulimit -n 128 && exec {PROGRAM} scenarios storm --scale {SMALL}");
    let output = Command::new("sh").args(["-c", &limited]).output().unwrap();
    let told = stderr(&output);
    assert!(told.contains("160 clients need more than the 128 descriptors"), "{told}");
}
