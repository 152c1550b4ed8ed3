//! The comparison as its user runs it, small. No figure is judged: a busy machine is
//! no fault of the code.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use benches::load::{Load, LoadError, Problem};
use benches::message::text_len;
use benches::process::{Process, ProcessError};
use benches::servers::Kind;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fanout-bench");
const SERVERS: [Kind; 3] = [Kind::Floor, Kind::Fanout, Kind::Broadcast];

fn bench(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn every_server_delivers_everything_and_it_is_reported() {
    let json = std::env::temp_dir().join(format!("fanout-bench-{}.json", std::process::id()));
    let path = json.to_str().unwrap();
    let args = ["--clients", "20", "--bursts", "1,7", "--messages", "21", "--repetitions", "2"];
    let output = bench(&[&args[..], &["--json", path]].concat());
    let (out, err) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    let (out, err) = (out.unwrap(), err.unwrap());
    assert!(output.status.success(), "{err}");
    let report = std::fs::read_to_string(&json).unwrap();
    std::fs::remove_file(&json).unwrap();

    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let cases = report["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for (case, burst, bursts) in [(&cases[0], 1, 21), (&cases[1], 7, 3)] {
        assert_eq!((&case["burst"], &case["bursts"]), (&burst.into(), &bursts.into()));
        assert_eq!(case["deliveries"], 20 * 21);
        let rows = case["rows"].as_array().unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row["server"].as_str().unwrap()).collect();
        assert_eq!(names, ["floor", "fanout", "broadcast"]);
        for row in rows {
            for figure in ["cpu_us", "to_floor", "to_fanout", "deliveries_per_s"] {
                let spread = &row[figure];
                let value = |name: &str| spread[name].as_f64().unwrap();
                let ordered = 0.0 < value("min") && value("min") <= value("median");
                assert!(ordered && value("median") <= value("max"), "{figure}: {spread}");
            }
            assert!(row["latency_p50_us"].as_f64() <= row["latency_p99_us"].as_f64());
        }
        assert_eq!(rows[0]["to_floor"]["median"], 1.0);
    }
    assert!(out.contains("20 clients, payload 200 B, burst 7: 2 repetitions of 3 bursts"), "{out}");
    assert!(out.contains("$ fanout-bench --clients 20 "), "{out}");
    assert_eq!(err.matches("repetition 2, ").count(), 6, "{err}");
}

/// A server with clients in its room.
fn serving(kind: Kind, clients: usize) -> (Process, Load) {
    let mut process = Process::start(Path::new(PROGRAM), kind, 200, soon()).unwrap();
    let mut load = Load::new(text_len(200)).unwrap();
    join(&mut process, &mut load, clients, clients);
    (process, load)
}

/// Connects more, until `inside` are in the room.
fn join(process: &mut Process, load: &mut Load, more: usize, inside: usize) {
    let deadline = soon();
    load.connect(process.addr(), more, deadline).unwrap();
    while process.clients(deadline).unwrap() < inside {
        load.idle(Duration::from_millis(1)).unwrap();
    }
}

#[test]
fn less_than_was_expected_is_late() {
    for kind in SERVERS {
        let (mut process, mut load) = serving(kind, 3);
        process.publish(5).unwrap();
        load.receive(15, soon()).unwrap();
        assert!(process.cpu(soon()).unwrap() > Duration::ZERO);
        process.publish(1).unwrap();
        let late = load.receive(19, Instant::now() + Duration::from_millis(300)).unwrap_err();
        assert!(matches!(late, LoadError::Late { received: ..=18, expected: 19 }), "{late:?}");
        load.receive(18, soon()).unwrap();
        process.finish();
        load.finish(soon()).unwrap();
    }
}

/// With the floor: it has written everything before it reads its next line.
#[test]
fn more_than_was_expected_is_an_error() {
    let (mut process, mut load) = serving(Kind::Floor, 1);
    process.publish(2).unwrap();
    let extra = load.receive(1, soon()).unwrap_err();
    assert!(matches!(extra, LoadError::Extra { extra: 1 }), "{extra:?}");

    let (mut process, mut load) = serving(Kind::Floor, 3);
    process.publish(1).unwrap();
    load.receive(3, soon()).unwrap();
    process.publish(1).unwrap();
    process.finish();
    let extra = load.finish(soon()).unwrap_err();
    assert!(matches!(extra, LoadError::Extra { extra: 3 }), "{extra:?}");
}

#[test]
fn whoever_comes_late_has_missed_the_beginning() {
    for kind in SERVERS {
        let (mut process, mut load) = serving(kind, 1);
        process.publish(2).unwrap();
        load.receive(2, soon()).unwrap();
        join(&mut process, &mut load, 1, 2);
        process.publish(1).unwrap();
        let wrong = load.receive(4, soon()).unwrap_err();
        let missed = Problem::Order { expected: 0, got: 2 };
        assert!(
            matches!(wrong, LoadError::Wrong { client: 1, source } if source == missed),
            "{}: {wrong:?}",
            kind.name()
        );
    }
}

/// Its status, waiting for no longer than a minute.
fn ended(mut child: Child) -> bool {
    // Its stdout ends when it does.
    let mut stdout = child.stdout.take().unwrap();
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let ended = stdout.read_to_end(&mut Vec::new());
        let _ = sender.send(ended);
    });
    let ended = receiver.recv_timeout(Duration::from_secs(60));
    if ended.is_err() {
        child.kill().unwrap();
    }
    child.wait().unwrap().success() && ended.is_ok()
}

#[test]
fn a_server_ends_when_its_stdin_closes_even_with_clients() {
    for kind in SERVERS {
        let mut serve = Command::new(PROGRAM);
        serve.args(["serve", kind.name()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = serve.spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let addr = line.trim().strip_prefix("listening ").unwrap().parse().unwrap();
        let mut load = Load::new(text_len(200)).unwrap();
        load.connect(addr, 2, soon()).unwrap();
        drop(child.stdin.take());
        child.stdout = Some(stdout.into_inner());
        assert!(ended(child), "{}", kind.name());
        load.finish(soon()).unwrap();
    }
}

#[test]
fn what_a_server_is_not_told_to_do_ends_it() {
    let mut serve = Command::new(PROGRAM);
    serve.args(["serve", "floor"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = serve.stderr(Stdio::null()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"jump\n").unwrap();
    assert!(!ended(child));
}

#[test]
fn what_cannot_be_started_is_told() {
    let none = Process::start(Path::new("no-such-program"), Kind::Floor, 200, soon());
    assert!(matches!(none, Err(ProcessError::Start(_))), "{none:?}");
    let small = Process::start(Path::new(PROGRAM), Kind::Floor, 1, soon());
    assert!(matches!(small, Err(ProcessError::Ended)), "{small:?}");

    let refused = bench(&["--payload", "68"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert_eq!(told, "fanout-bench: --payload: 68 is not from 69 to 32768\n");
}
