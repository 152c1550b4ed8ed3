//! The server under attack: a process, and what it takes of the machine.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::raw::Raw;
use crate::support::{DEADLINE, Folder};
use crate::wire::Place;

/// What tokens are signed with.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Memory that may be more than before, in KiB: the log and the broker keep the bystander's
/// orders, and an allocator what it has got for a while. Less than one read buffer for each
/// connection of a flood.
const SLACK_KIB: u64 = 16 * 1024;

/// Descriptors that may be more: librdkafka opens its connections to the broker when it likes.
const SLACK_DESCRIPTORS: usize = 8;

/// Limits that are none.
const UNLIMITED: [(&str, &str); 8] = [
    ("ORDER_SERVER_WRITE_RATE", "0"),
    ("ORDER_SERVER_LOGIN_RATE", "0"),
    ("ORDER_SERVER_MAX_CONNECTIONS_PER_ADDRESS", "100000"),
    ("ORDER_SERVER_MAX_CONNECTIONS_PER_SUBJECT", "100000"),
    ("ORDER_SERVER_UPGRADES_PER_SECOND", "1000000"),
    ("ORDER_SERVER_UPGRADES_PER_SECOND_PER_ADDRESS", "1000000"),
    ("ORDER_SERVER_FRAMES_PER_SECOND", "1000000"),
    ("ORDER_SERVER_REQUESTS_PER_SECOND", "1000000"),
];

/// What holds for itself where the server does not listen on loopback alone.
const FOR_STRANGERS: [(&str, &str); 4] = [
    ("ORDER_SERVER_LOGIN_RATE", "20"),
    ("ORDER_SERVER_MAX_CONNECTIONS_PER_ADDRESS", "200"),
    ("ORDER_SERVER_MAX_CONNECTIONS_PER_SUBJECT", "64"),
    ("ORDER_SERVER_UPGRADES_PER_SECOND_PER_ADDRESS", "20"),
];

/// Connections that the bystander has to the hub.
const BYSTANDER: f64 = 3.0;

/// A running server, which does not outlive the test.
pub(crate) struct Target {
    child: Child,
    pub(crate) addr: Place,
    /// What it has said on stderr.
    said: Arc<Mutex<String>>,
    folder: Folder,
}

/// What a server has of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) descriptors: usize,
    /// To clients.
    pub(crate) sockets: usize,
    pub(crate) threads: usize,
    /// Of its runtime.
    pub(crate) tasks: f64,
    /// Of the hub.
    pub(crate) connections: f64,
    /// In memory, in KiB.
    pub(crate) rss: u64,
}

impl Target {
    /// On the embedded broker, with these flags beside its own. It takes tokens that are
    /// signed with [`SECRET`], lets anybody log in, and has limits only where a flag sets
    /// them: what is attacked by many connections is not to hide behind those.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::spawn(flags, &UNLIMITED).await
    }

    /// With the limits that it comes with where strangers may connect.
    pub(crate) async fn start_as_it_comes(flags: &[&str]) -> Self {
        Self::spawn(flags, &FOR_STRANGERS).await
    }

    async fn spawn(flags: &[&str], limits: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        let mut command = Command::new(env!("CARGO_BIN_EXE_order-server"));
        command
            .args(["--port", "0", "--drain-secs", "2", "--data", folder.0.to_str().unwrap()])
            .args(flags)
            .env("ORDER_SERVER_LOG", "error")
            // Or the kernel may hold two MiB for a page of four KiB, when it likes.
            .env("MIMALLOC_ALLOW_THP", "0")
            .envs(limits.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if !flags.contains(&"--auth") {
            command.env("ORDER_SERVER_AUTH", "dev").env("ORDER_SERVER_SECRET", SECRET);
        }
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let saying = said.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = errors.next_line().await {
                let mut said = saying.lock().unwrap();
                said.push_str(&line);
                said.push('\n');
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addr = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                let url = line.trim().strip_prefix("open ").map(str::trim);
                let url = url.and_then(|url| url.split_once("://"));
                if let Some((scheme, addr)) = url {
                    let socket = addr.trim_end_matches('/').parse().unwrap();
                    return Place { socket, tls: scheme == "https" };
                }
            }
            panic!("not started: {}", said.lock().unwrap());
        };
        let addr = tokio::time::timeout(DEADLINE, addr).await.expect("started in time");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let target = Self { child, addr, said, folder };
        target.is_ready().await;
        target
    }

    async fn is_ready(&self) {
        let deadline = Instant::now() + DEADLINE;
        while Raw::open(self.addr).await.ask("GET /readyz", "", "").await.status != 200 {
            assert!(Instant::now() < deadline, "ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All that it has said on stderr.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// The sum of the series of one metric.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let metrics = Raw::open(self.addr).await.ask("GET /metrics", "", "").await.text();
        let series = metrics.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with([' ', '{'])
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The same, of what is counted.
    #[allow(clippy::cast_sign_loss, reason = "a count")]
    pub(crate) async fn count(&self, name: &str) -> u64 {
        self.metric(name).await as u64
    }

    /// What it has now.
    pub(crate) async fn usage(&self) -> Usage {
        let connections = self.metric("fanout_connections").await;
        let tasks = self.metric("order_server_tasks").await;
        assert!(tasks >= 1.0, "whoever answers is one");
        let of = format!("/proc/{}", self.child.id().expect("it runs"));
        let count = |what: &str| std::fs::read_dir(format!("{of}/{what}")).unwrap().count();
        let status = std::fs::read_to_string(format!("{of}/status")).unwrap();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.and_then(|rss| rss.split_whitespace().next()?.parse().ok());
        Usage {
            descriptors: count("fd"),
            sockets: self.sockets(),
            threads: count("task"),
            tasks,
            connections,
            rss: rss.expect("a size in kB"),
        }
    }

    /// Sockets of this machine at its port that it has not closed yet.
    fn sockets(&self) -> usize {
        let port = format!(":{:04X}", self.addr.port());
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let open = table.lines().filter(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            // Its own address, not the listener, and not left to the kernel.
            fields.len() > 9 && fields[1].ends_with(&port) && fields[3] != "0A" && fields[9] != "0"
        });
        open.count()
    }

    /// What it has once all but the bystander are gone.
    pub(crate) async fn settled(&self) -> Usage {
        let alone = |now: Usage| (now.connections - BYSTANDER).abs() < 0.5 && now.sockets <= 4 + 1;
        self.settle("nobody but the bystander", alone).await
    }

    /// Waits until it has no more than it had.
    pub(crate) async fn settles(&self, before: Usage) {
        self.settle(&format!("{before:?}"), |now| now.is_within(before)).await;
    }

    async fn settle(&self, wanted: &str, done: impl Fn(Usage) -> bool) -> Usage {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let now = self.usage().await;
            if done(now) {
                return now;
            }
            assert!(Instant::now() < deadline, "it should have {wanted}, and keeps {now:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it as a service manager does; nothing in it may have panicked.
    pub(crate) async fn end(mut self) {
        let id = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        let ended = tokio::time::timeout(DEADLINE, self.child.wait()).await;
        let ended = ended.expect("it ends in time").unwrap();
        let said = self.said();
        assert!(ended.success(), "{ended}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        drop(self.folder);
    }
}

impl Usage {
    fn is_within(self, before: Self) -> bool {
        self.descriptors <= before.descriptors + SLACK_DESCRIPTORS
            && self.sockets <= before.sockets
            && self.threads <= before.threads
            && self.tasks <= before.tasks
            && self.connections <= before.connections
            && self.rss <= before.rss + SLACK_KIB
    }
}
