//! The server as a process, which can be killed.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::{Client, DEADLINE, Folder};

/// How a process is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Kill,
    Terminate,
}

/// A running server, which does not outlive the test.
pub(crate) struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Process {
    /// Starts it in this folder, with a broker elsewhere.
    pub(crate) async fn start(folder: &Folder, broker: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_order-server"))
            .args(["--port", "0", "--write-rate", "0", "--drain-secs", "2", "--log", "error"])
            .args(["--kafka", broker, "--data", folder.0.to_str().unwrap()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addr = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it says where it listens");
                if let Some(url) = line.trim().strip_prefix("open ") {
                    let addr = url.trim().trim_start_matches("http://").trim_end_matches('/');
                    return addr.parse().unwrap();
                }
            }
        };
        let addr = tokio::time::timeout(DEADLINE, addr).await.expect("started in time");
        // What it says later has to be read, or it waits to say it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, addr }
    }

    /// What a server says that does not start with these flags.
    pub(crate) async fn refused(flags: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_order-server"));
        let output = command.args(["--port", "0"]).args(flags).kill_on_drop(true).output();
        let output = tokio::time::timeout(DEADLINE, output).await.expect("it ends").unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client { addr: self.addr, headers: http::HeaderMap::new() }
    }

    /// Pauses it, or lets it go on: `STOP` and `CONT`.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &id]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Ends it and waits until it is gone.
    pub(crate) async fn end(mut self, signal: Signal) {
        match signal {
            Signal::Kill => self.child.start_kill().unwrap(),
            Signal::Terminate => self.signal("TERM").await,
        }
        let ended = tokio::time::timeout(DEADLINE, self.child.wait()).await;
        let ended = ended.expect("it ends in time").unwrap();
        assert_eq!(ended.success(), signal == Signal::Terminate, "{ended}");
    }
}

impl Client {
    /// The same server, as somebody.
    pub(crate) async fn logged_in(&self, email: &str) -> Self {
        let answer = self.post("/api/login", &json!({"email": email})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.bearer(answer.json()["token"].as_str().unwrap())
    }
}
