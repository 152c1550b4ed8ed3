//! The command line of `fanout-bench drive`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::lines::Share;
use super::run::Plan;
use super::stamp::{MIN_PAYLOAD, RUNS};
use super::target::Target;
use crate::clock;
use crate::load::Dialect;
use crate::message::MAX_PAYLOAD;
use crate::options::raise_descriptors;

/// Descriptors of a process beside those of its clients.
const SPARE: usize = 100;
const MAX_URLS: usize = 16;
const MAX_SERVER_PIDS: usize = 16;
const MAX_CLIENTS: usize = 1_000_000;
const MAX_PROCESSES: usize = 64;
const MAX_PUBLISHERS: u32 = 64;
const MAX_ROOMS: u32 = 1_000_000;
/// Rooms times publishers: each is numbered, in every process.
const MAX_NUMBERED: u64 = 4_000_000;
const MAX_MESSAGES: f64 = 100_000_000.0;
const MAX_TOKEN: usize = 16 * 1024;

/// What is driven, and how.
#[derive(Args, Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Be a worker: the share comes on stdin.
    #[arg(long, hide = true, exclusive = true)]
    pub worker: bool,

    /// A server, as ws://HOST:PORT/PATH (no TLS); given several times, the clients are
    /// divided among them.
    #[arg(long = "url", value_name = "URL", required_unless_present = "worker")]
    pub urls: Vec<String>,

    /// What the servers speak. `plain`: the same texts as `native`, without a welcome.
    #[arg(long, value_name = "DIALECT", value_enum, default_value_t = Dialect::Native)]
    pub proto: Dialect,

    /// Clients, at all servers together.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub clients: usize,

    /// Processes that share the clients.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub processes: usize,

    /// Clients that begin to connect each second.
    #[arg(long, value_name = "N", default_value_t = 2000.0)]
    pub connect_rate: f64,

    /// Rooms that the clients of each server are spread over, by `?room=r:00000000` and
    /// on; every message is for one of them. 0: no room is named, all messages are for
    /// everybody.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rooms: u32,

    /// Connections more at each server, in `?room=publishers`, that publish
    /// `{"event":"publish","data":{...}}`. 0: only receive, where a server publishes by
    /// itself.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub publishers: u32,

    /// Messages published at each server each second, by its publishers together.
    #[arg(long, value_name = "MESSAGES/s", default_value_t = 10.0)]
    pub rate: f64,

    /// Bytes of a message's payload.
    #[arg(long, value_name = "BYTES", default_value_t = 200)]
    pub payload: usize,

    /// For how long, once all are connected.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub duration: u64,

    /// Sent by everybody as `Authorization: Bearer`. Other users of this machine may see
    /// the command line: the environment is safer.
    #[arg(long, value_name = "TOKEN", env = "FANOUT_BENCH_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// A server's process on this machine; given once for each, their CPU time a delivery
    /// and their memory are told. Linux only.
    #[arg(long = "server-pid", value_name = "PID")]
    pub server_pids: Vec<u32>,

    /// Also writes everything to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// An option that cannot be used; says which, and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionsError(String);

impl Options {
    /// What is to be done.
    pub(super) fn plan(&self) -> Result<Plan, OptionsError> {
        within("url", self.urls.len(), 1, MAX_URLS)?;
        within("clients", self.clients, 1, MAX_CLIENTS)?;
        within("processes", self.processes, 1, MAX_PROCESSES.min(self.clients))?;
        within("connect-rate", self.connect_rate, 1.0, 100_000.0)?;
        within("rooms", self.rooms, 0, MAX_ROOMS)?;
        within("publishers", self.publishers, 0, MAX_PUBLISHERS)?;
        within("rate", self.rate, 0.01, 100_000.0)?;
        within("payload", self.payload, MIN_PAYLOAD, MAX_PAYLOAD)?;
        within("duration", self.duration, 1, 3600)?;
        within("server-pid", self.server_pids.len(), 0, MAX_SERVER_PIDS)?;
        self.together()?;
        let targets = self.urls.iter().map(|url| {
            let target = Target::new(url, self.proto);
            target.map_err(|wrong| OptionsError(format!("--url {url}: {wrong}")))
        });
        let share = Share {
            run: (clock::monotonic_ns() ^ u64::from(std::process::id())) % RUNS,
            dialect: self.proto,
            targets: targets.collect::<Result<_, _>>()?,
            token: self.token.clone(),
            first: 0,
            clients: self.clients,
            connect_rate: self.connect_rate,
            rooms: self.rooms,
            publishers: self.publishers,
            payload: self.payload,
        };
        Ok(Plan {
            share,
            processes: self.processes,
            rate: self.rate,
            duration: Duration::from_secs(self.duration),
            server_pids: self.server_pids.clone(),
        })
    }

    /// What options allow one by one and not together.
    fn together(&self) -> Result<(), OptionsError> {
        let refuse = |what: String| Err(OptionsError(what));
        let most = raise_descriptors().saturating_sub(SPARE);
        let each = self.clients.div_ceil(self.processes);
        if each > most {
            return refuse(format!(
                "--clients: {} over {} processes are {each} each, and a process may hold {most}: \
                 use --processes {}, or raise the limit of descriptors (ulimit -n)",
                self.clients,
                self.processes,
                self.clients.div_ceil(most.max(1)),
            ));
        }
        let publishers = u64::from(self.publishers) * self.urls.len() as u64;
        if publishers * u64::from(self.rooms) > MAX_NUMBERED {
            return refuse(format!(
                "--rooms: {} for each of {publishers} publishers are more than {MAX_NUMBERED}: \
                 use fewer of either",
                self.rooms,
            ));
        }
        let messages = self.rate * self.duration as f64 * self.urls.len() as f64;
        if self.publishers > 0 && messages > MAX_MESSAGES {
            return refuse(format!(
                "--rate: {messages} messages in all are more than {MAX_MESSAGES}: use a shorter \
                 --duration",
            ));
        }
        if self.publishers > 0 && self.rate * (self.duration as f64) < 1.0 {
            return refuse(format!(
                "--rate: not one message in {} s: use a longer --duration",
                self.duration
            ));
        }
        match &self.token {
            Some(token) if token.len() > MAX_TOKEN => {
                refuse(format!("--token: more than {MAX_TOKEN} bytes"))
            }
            Some(token) if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                refuse("--token: only printable ASCII, without spaces".to_owned())
            }
            _ => Ok(()),
        }
    }
}

fn within<T: PartialOrd + Copy + std::fmt::Display>(
    option: &str,
    value: T,
    min: T,
    max: T,
) -> Result<(), OptionsError> {
    if min <= value && value <= max {
        return Ok(());
    }
    Err(OptionsError(format!("--{option}: {value} is not from {min} to {max}")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn plan(args: &[&str]) -> Result<Plan, OptionsError> {
        let args = [&["drive", "--url", "ws://127.0.0.1:1/ws"], args].concat();
        Cli::try_parse_from(args).unwrap().options.plan()
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (args, told) in [
            (&["--clients", "0"][..], "--clients: 0 is not from 1 to 1000000"),
            (&["--processes", "65"], "--processes: 65 is not from 1 to 64"),
            (&["--clients", "2", "--processes", "3"], "--processes: 3 is not from 1 to 2"),
            (&["--connect-rate", "0.5"], "--connect-rate: 0.5 is not from 1 to 100000"),
            (&["--rate", "NaN"], "--rate: NaN is not from 0.01 to 100000"),
            (&["--rate", "0.1", "--duration", "1"], "--rate: not one message"),
            (&["--rate", "100000", "--duration", "3600"], "--rate: 360000000 messages"),
            (&["--duration", "3601"], "--duration: 3601 is not from 1 to 3600"),
            (&["--payload", "50"], "--payload: 50 is not from "),
            (&["--publishers", "64", "--rooms", "100000"], "--rooms: 100000 for each of 64"),
            (&["--token", "a b"], "--token: only printable ASCII"),
            (&["--url", "http://x/"], "--url http://x/: it has to begin with ws://"),
            (&["--clients", "1000000"], "--clients: 1000000 over 1 processes are "),
        ] {
            let refused = plan(args).unwrap_err().to_string();
            assert!(refused.starts_with(told), "{args:?}: {refused}");
        }
    }

    #[test]
    fn a_worker_needs_no_url_and_takes_nothing_else() {
        assert!(Cli::try_parse_from(["drive", "--worker"]).unwrap().options.worker);
        assert!(Cli::try_parse_from(["drive", "--worker", "--clients", "3"]).is_err());
        assert!(Cli::try_parse_from(["drive"]).is_err());
    }
}
