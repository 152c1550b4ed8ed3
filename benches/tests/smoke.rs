//! The comparison as its user runs it, small. No figure is judged: a busy machine is
//! no fault of the code.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use benches::comparison::{Comparison, Outcome};
use benches::load::{Endpoint, Load, LoadError, Problem};
use benches::process::{Process, ProcessError};
use benches::run::{self, Case, Rooms};
use benches::servers::{Kind, Programs};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fanout-bench");
/// Those in Rust.
const SERVERS: [Kind; 6] =
    [Kind::Floor, Kind::Fanout, Kind::Channel, Kind::Batched, Kind::Broadcast, Kind::Socketioxide];
const LIMIT: Duration = Duration::from_mins(1);

fn bench(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

fn soon() -> Instant {
    Instant::now() + LIMIT
}

#[test]
fn every_server_delivers_everything_and_it_is_reported() {
    let json = std::env::temp_dir().join(format!("fanout-bench-{}.json", std::process::id()));
    let path = json.to_str().unwrap();
    let args = ["--clients", "20", "--bursts", "1,7", "--messages", "21", "--repetitions", "2"];
    let names = SERVERS.map(Kind::name);
    let servers = names.join(",");
    let output = bench(&[&args[..], &["--json", path, "--servers", &servers]].concat());
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
        let shown: Vec<&str> = rows.iter().map(|row| row["server"].as_str().unwrap()).collect();
        assert_eq!(shown, names);
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
    assert_eq!(err.matches("repetition 2, ").count(), 2 * SERVERS.len(), "{err}");
}

/// This package's own servers, and a folder of peers.
fn programs(peers: &Path) -> Programs {
    Programs { own: PROGRAM.into(), peers: peers.to_owned(), shards: None }
}

fn no_peers() -> Programs {
    programs(Path::new("/no/such/folder"))
}

/// Small: what differs is said by whoever asks.
const CASE: Case =
    Case { clients: 20, payload: 200, burst: 7, bursts: 5, rooms: Rooms::One, stalled: 0 };

/// That every client gets everything once and in order a run checks itself.
fn delivers(kind: Kind, case: &Case) {
    let measured = run::run(&no_peers(), kind, case, LIMIT);
    let measured = measured.unwrap_or_else(|error| panic!("{}: {error:?}", kind.name()));
    assert_eq!(measured.latency.len(), case.deliveries(), "{}", kind.name());
    assert!(measured.cpu > Duration::ZERO, "{}", kind.name());
    if cfg!(target_os = "linux") {
        assert!(measured.idle_bytes.is_some() && measured.peak_bytes > Some(0.0));
    }
}

#[test]
fn every_server_delivers_to_whom_it_is_for() {
    for kind in SERVERS {
        delivers(kind, &Case { rooms: Rooms::Each, bursts: 50, ..CASE });
    }
}

#[test]
fn no_server_waits_for_clients_that_do_not_read() {
    for kind in SERVERS {
        // 8 MiB for each client: more than the kernel holds for one.
        let case = Case { payload: 8192, burst: 16, bursts: 64, stalled: 10, ..CASE };
        delivers(kind, &case);
    }
}

/// A folder of peers whose Bun is a shell and runs this script; gone when it is dropped.
struct Peers(PathBuf);

impl Peers {
    fn new(name: &str, script: &str) -> Self {
        let folder = format!("fanout-bench-{name}-{}", std::process::id());
        let peers = Self(std::env::temp_dir().join(folder));
        let bin = peers.0.join("node_modules/.bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::os::unix::fs::symlink("/bin/sh", bin.join("bun")).unwrap();
        std::fs::write(peers.0.join("bun.js"), script).unwrap();
        peers
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn comparison(programs: Programs, servers: &[Kind]) -> Comparison {
    let (servers, cases) = (servers.to_vec(), vec![CASE, Case { burst: 1, ..CASE }]);
    Comparison { programs, servers, cases, repetitions: 3, limit: LIMIT }
}

#[test]
fn a_peer_that_fails_is_named_and_the_rest_goes_on() {
    // Right in its first run, and from then on its messages are too long.
    let folder = std::env::temp_dir().join(format!("fanout-bench-ran-{}", std::process::id()));
    let ran = folder.display();
    let script = format!(
        "[ -e {ran} ] && set -- \"$@\" --payload 300\n: >{ran}\n\
         exec {PROGRAM} serve channel $(echo \"$@\" | sed 's/--payload 200 \\(.*300\\)/\\1/')\n"
    );
    let peers = Peers::new("fails", &script);
    let comparison = comparison(programs(&peers.0), &[Kind::Floor, Kind::Bun, Kind::Channel]);
    let (mut started, mut outcomes) = (Vec::new(), Vec::<Outcome>::new());
    let went = comparison
        .run(|run| started.push((run.done, run.server)), |outcome| outcomes.push(outcome));
    std::fs::remove_file(&folder).unwrap();
    went.unwrap();

    for outcome in &outcomes {
        let [(Kind::Bun, why)] = &outcome.failures[..] else { panic!("{outcome:?}") };
        assert!(why.contains(": message 0 has ") && why.contains(" bytes, not "), "{why}");
        assert_eq!(outcome.runs.len(), 3);
        for runs in &outcome.runs {
            let there: Vec<bool> = runs.iter().map(Option::is_some).collect();
            assert_eq!(there, [true, false, true]);
        }
    }
    assert_eq!(outcomes.len(), 2);
    let runs_of = |kind| started.iter().filter(|(_, server)| *server == kind).count();
    assert_eq!([Kind::Floor, Kind::Bun, Kind::Channel].map(runs_of), [6, 3, 6]);
    assert!(started.is_sorted() && started.last().unwrap().0 < 2 * 3 * 3);
}

#[test]
fn what_is_compared_with_may_not_fail() {
    let peers = Peers::new("ends", "exit 3\n");
    for (own, failed) in [(PROGRAM, None), ("no-such-program", Some(Kind::Fanout))] {
        let programs = Programs { own: own.into(), peers: peers.0.clone(), shards: None };
        let mut outcomes = Vec::new();
        let went = comparison(programs, &[Kind::Bun, Kind::Fanout])
            .run(|_| (), |outcome| outcomes.push(outcome));
        assert_eq!(went.err().map(|error| error.server), failed);
        for outcome in outcomes {
            let why = "the server's process has ended".to_owned();
            assert_eq!(outcome.failures, [(Kind::Bun, why)]);
        }
    }
}

fn endpoint(kind: Kind, addr: SocketAddr) -> Endpoint {
    let (path, dialect) = (kind.path().to_owned(), kind.dialect());
    Endpoint { addr, path, dialect, rooms: Rooms::One }
}

/// A server with clients in its room.
fn serving(kind: Kind, clients: usize) -> (Process, Load) {
    let command = no_peers().command(kind, &Case { clients, ..CASE }).unwrap();
    let mut process = Process::start(command, soon()).unwrap();
    let mut load = Load::new(CASE.payload).unwrap();
    join(kind, &mut process, &mut load, clients, clients);
    (process, load)
}

/// Connects more, until `inside` are in the room.
fn join(kind: Kind, process: &mut Process, load: &mut Load, more: usize, inside: usize) {
    let deadline = soon();
    load.connect(&endpoint(kind, process.addr()), more, deadline).unwrap();
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
        join(kind, &mut process, &mut load, 1, 2);
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
    let ended = receiver.recv_timeout(LIMIT);
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
        let mut load = Load::new(200).unwrap();
        load.connect(&endpoint(kind, addr), 2, soon()).unwrap();
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
    let none = Process::start(Command::new("no-such-program"), soon());
    assert!(matches!(none, Err(ProcessError::Start(_))), "{none:?}");
    let small = no_peers().command(Kind::Floor, &Case { payload: 1, ..CASE }).unwrap();
    let small = Process::start(small, soon());
    assert!(matches!(small, Err(ProcessError::Ended)), "{small:?}");
    let mut serve = Command::new(PROGRAM);
    serve.args(["serve", "bun"]).stdin(Stdio::null());
    let output = serve.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "fanout-bench: bun is no server of this program: see peers/\n");

    let refused = bench(&["--payload", "68"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert_eq!(told, "fanout-bench: --payload: 68 is not from 69 to 32768\n");
}
