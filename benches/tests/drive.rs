//! The generator as its user runs it, against a server that can be made to fail. No
//! time is judged.

#[allow(dead_code)] // It is for other tests as well.
mod hub;

use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hub::{Fault, Hub, Speaks};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fanout-bench");

/// A drive of a second, with what it has written as JSON.
struct Drive {
    output: Output,
    json: Value,
}

fn command(urls: &[String], args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("drive").args(["--duration", "1"]).env_remove("FANOUT_BENCH_TOKEN");
    command.args(urls.iter().flat_map(|url| ["--url", url])).args(args);
    command
}

fn url(hub: &Hub) -> String {
    format!("ws://{}/ws", hub.addr)
}

fn drive(urls: &[String], args: &[&str]) -> Drive {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let name =
        format!("drive-{}-{}.json", std::process::id(), FILES.fetch_add(1, Ordering::SeqCst));
    let path = std::env::temp_dir().join(name);
    let output = command(urls, args).arg("--json").arg(&path).output().unwrap();
    let json = std::fs::read(&path).unwrap_or_else(|_| b"null".to_vec());
    let _ = std::fs::remove_file(&path);
    Drive { output, json: serde_json::from_slice(&json).unwrap() }
}

impl Drive {
    fn told(&self) -> (String, String) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&self.output.stdout), text(&self.output.stderr))
    }

    /// Received, lost, doubled and reordered messages.
    fn account(&self) -> [u64; 4] {
        assert!(self.output.status.success(), "{:?}", self.told());
        let of = |name: &str| self.json["messages"][name].as_u64().unwrap();
        ["received", "lost", "doubled", "reordered"].map(of)
    }
}

/// Waits for something, for no longer than a minute.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        // What is waited for is in another process.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn everything_is_received_and_counted() {
    for (speaks, proto) in
        [(Speaks::Plain, "plain"), (Speaks::Native, "native"), (Speaks::SocketIo, "socketio")]
    {
        let hub = Hub::start(speaks, Fault::None);
        let args = ["--clients", "20", "--publishers", "2", "--rate", "30", "--token", "secret"];
        let args = [&args[..], &["--processes", "2", "--proto", proto]].concat();
        let drive = drive(&[url(&hub)], &args);
        assert_eq!(drive.account(), [20 * 30, 0, 0, 0], "{proto}");
        let json = &drive.json;
        assert_eq!((&json["connected"], &json["published"]), (&20.into(), &30.into()));
        assert_eq!(json["latency_ms"]["count"], 20 * 30);
        assert_eq!(json["workers_cpu"].as_array().unwrap().len(), 2);
        let command = json["machine"]["command"].as_str().unwrap();
        assert!(command.contains("--token TOKEN"), "{command}");
        let (out, _) = drive.told();
        assert!(out.contains("connected     20 of 20 in "), "{out}");
        assert!(out.contains("delivered     600 in "), "{out}");
        assert!(out.contains("account       0 lost, 0 doubled, 0 reordered, 0 cut"), "{out}");
        assert!(out.contains("closed early  no connection"), "{out}");
    }
}

#[test]
fn clients_get_what_is_for_their_room_at_their_server() {
    let hubs = [Speaks::Plain; 2].map(|speaks| Hub::start(speaks, Fault::None));
    let urls = [url(&hubs[0]), url(&hubs[1])];
    let args = ["--clients", "30", "--rooms", "4", "--rate", "40", "--processes", "3"];
    let drive = drive(&urls, &[&args[..], &["--proto", "plain"]].concat());
    let delivered: u64 = hubs.iter().map(Hub::delivered).sum();
    assert!(delivered > 80, "each room has several clients");
    assert_eq!(drive.account(), [delivered, 0, 0, 0]);
    assert_eq!(drive.json["published"], 80);
    assert_eq!(drive.json["messages"]["misrouted"], 0);
}

#[test]
fn what_a_server_does_wrong_is_counted() {
    // Ten clients, twenty messages each. The last one is among those dropped.
    for (fault, account) in [
        (Fault::Drops(5), [160, 40, 0, 0]),
        (Fault::Doubles(5), [200, 0, 40, 0]),
        (Fault::Delays(3), [200, 0, 0, 60]),
    ] {
        let hub = Hub::start(Speaks::Plain, fault);
        let args = ["--clients", "10", "--rate", "20", "--proto", "plain"];
        assert_eq!(drive(&[url(&hub)], &args).account(), account, "{fault:?}");
    }
    let hub = Hub::start(Speaks::Plain, Fault::Cuts);
    let cut = drive(&[url(&hub)], &["--clients", "10", "--rate", "2", "--proto", "plain"]);
    assert_eq!(cut.json["messages"]["cut"], 20);
    assert_eq!(cut.account(), [0, 20, 0, 0]);
}

#[test]
fn lost_connections_are_counted_by_their_code() {
    let hub = Hub::start(Speaks::Plain, Fault::Closes(4, 4001));
    let args = ["--clients", "10", "--rate", "20", "--proto", "plain", "--processes", "2"];
    let drive = drive(&[url(&hub)], &args);
    // What came after they had gone is not lost.
    assert_eq!(drive.account(), [30, 0, 0, 0]);
    assert_eq!(drive.json["connections_lost"], serde_json::json!({"code 4001": 10}));
    let (out, _) = drive.told();
    assert!(out.contains("closed early  10 connections: 10 x code 4001"), "{out}");
}

#[test]
fn without_publishers_it_only_listens() {
    let hub = Hub::start(Speaks::Plain, Fault::None);
    let args = ["--clients", "5", "--publishers", "0", "--proto", "plain"];
    let args = [&args[..], &["--duration", "1"]].concat();
    let mut command = Command::new(PROGRAM);
    command.args(["drive", "--url", &url(&hub)]).args(args).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    wait_for("the drive ends", || {
        hub.say("all", r#"{"event":"tick","data":{}}"#);
        child.try_wait().unwrap().is_some()
    });
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !out.contains("published"), "{out}");
    assert!(out.contains("delivered ") && !out.contains("delivered     0 in "), "{out}");
    assert!(out.contains("other texts") && !out.contains(", 0 other texts"), "{out}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_process_is_looked_at() {
    let hub = Hub::start(Speaks::Plain, Fault::None);
    // The server is this process.
    let pid = std::process::id().to_string();
    let args = ["--clients", "5", "--proto", "plain", "--server-pid", &pid];
    let drive = drive(&[url(&hub)], &args);
    assert_eq!(drive.account(), [50, 0, 0, 0]);
    let servers = &drive.json["servers"];
    assert!(servers["cpu_us_per_delivery"].is_f64());
    assert!(servers["processes"][0]["memory_bytes"].as_u64() > Some(0));
    assert!(drive.told().0.contains(&format!("pid {pid}")), "{:?}", drive.told());
}

#[test]
fn what_cannot_be_done_is_told() {
    let failed = |urls: &[String], args: &[&str]| {
        let drive = drive(urls, args);
        assert!(!drive.output.status.success() && drive.json.is_null());
        drive.told().1
    };
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = [format!("ws://{gone}/ws")];
    for publishers in ["0", "1"] {
        let told = failed(&gone, &["--publishers", publishers]);
        let expected = format!("fanout-bench: --url {}: no connection: ", gone[0]);
        assert!(told.contains(&expected), "{told}");
    }
    let native = Hub::start(Speaks::Native, Fault::None);
    let told = failed(&[url(&native)], &["--token", "wrong"]);
    assert!(told.contains("the server closes the connection with code 4500"), "{told}");
    let told = failed(&[url(&native)], &["--server-pid", "0"]);
    assert!(told.contains("fanout-bench: --server-pid 0: "), "{told}");
    let told = failed(&[url(&native)], &["--payload", "1"]);
    assert!(told.contains("fanout-bench: --payload: 1 is not from "), "{told}");
    let told = failed(&["http://127.0.0.1/".to_owned()], &[]);
    assert!(told.contains("--url http://127.0.0.1/: it has to begin with ws://"), "{told}");
}

#[test]
fn workers_end_with_their_parent() {
    let hub = Hub::start(Speaks::Plain, Fault::None);
    let args = ["--clients", "20", "--processes", "2", "--proto", "plain"];
    let mut command = Command::new(PROGRAM);
    command.args(["drive", "--url", &url(&hub), "--duration", "60"]).args(args);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("all are connected", || hub.connections() == 21);
    // It has no chance to tell them.
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("their connections end", || hub.connections() == 0);
}
