//! What the server of a scenario is told, and what it says: lines on its stdin and stdout.
//!
//! | line in | line out | what |
//! |---|---|---|
//! | | `listening ADDRESS` | once, when clients may come |
//! | `publish ROOM N` | | publish the next `N` messages of a room as one burst |
//! | `stream ROOM HZ N` | | publish `N` messages, `HZ` a second, on a thread of its own |
//! | `stats` | `stats JSON` | what the hub is doing: [`HubStats`] |
//! | `counters` | `counters JSON` | what it has counted, by name; of one that reads Kafka |
//! | `cpu` | `cpu NANOSECONDS` | what the process has used so far |
//! | `probe` | | from now on, look how long a task waits for its turn |
//! | `waited` | `waited JSON` | how long it did, and look no more: [`Waited`] |
//!
//! When stdin closes the process ends: a server never outlives who has started it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::figures::Latency;

/// Most messages of a burst or a stream.
pub const MAX_MESSAGES: usize = 100_000;
/// Most messages a second.
pub const MAX_HZ: u32 = 10_000;
/// Most rooms of a scenario.
pub const MAX_ROOMS: usize = 1024;

/// A line to the server of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)] // Both ends are in this package.
pub enum Request {
    /// Publish so many messages to this room at once.
    Publish(usize, usize),
    /// Publish messages one by one.
    Stream {
        /// To which room.
        room: usize,
        /// How many a second.
        hz: u32,
        /// How many in all.
        messages: usize,
    },
    /// What the hub is doing.
    Stats,
    /// What it has counted.
    Counters,
    /// What it has used.
    Cpu,
    /// Begin to look how long a task waits.
    Probe,
    /// How long it did.
    Waited,
}

/// A line that is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}`: not `publish ROOM N`, `stream ROOM HZ N`, `stats`, `counters`, `cpu`, `probe` or \
     `waited` with ROOM below {MAX_ROOMS}, HZ to {MAX_HZ} and N to {MAX_MESSAGES}"
)]
pub struct RequestError(String);

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(room, burst) => write!(f, "publish {room} {burst}"),
            Self::Stream { room, hz, messages } => write!(f, "stream {room} {hz} {messages}"),
            Self::Stats => f.write_str("stats"),
            Self::Counters => f.write_str("counters"),
            Self::Cpu => f.write_str("cpu"),
            Self::Probe => f.write_str("probe"),
            Self::Waited => f.write_str("waited"),
        }
    }
}

impl FromStr for Request {
    type Err = RequestError;

    fn from_str(line: &str) -> Result<Self, RequestError> {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str, min: usize, max: usize| {
            word.parse().ok().filter(|number| (min..=max).contains(number))
        };
        let room = |word| number(word, 0, MAX_ROOMS - 1);
        let messages = |word| number(word, 1, MAX_MESSAGES);
        let request = match words[..] {
            ["publish", to, burst] => {
                room(to).zip(messages(burst)).map(|(r, n)| Self::Publish(r, n))
            }
            ["stream", to, hz, count] => (|| {
                let (room, messages) = (room(to)?, messages(count)?);
                let hz = number(hz, 1, MAX_HZ as usize)? as u32;
                Some(Self::Stream { room, hz, messages })
            })(),
            ["stats"] => Some(Self::Stats),
            ["counters"] => Some(Self::Counters),
            ["cpu"] => Some(Self::Cpu),
            ["probe"] => Some(Self::Probe),
            ["waited"] => Some(Self::Waited),
            _ => None,
        };
        request.ok_or_else(|| RequestError(line.to_owned()))
    }
}

/// What a hub is doing, as far as a scenario asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)] // Both ends are in this package.
pub struct HubStats {
    /// Connections that are in their rooms.
    pub connections: usize,
    /// Connections that are behind.
    pub behind: usize,
    /// Bytes that the log holds.
    pub log_bytes: u64,
}

impl HubStats {
    pub(crate) fn of(stats: &fanout::Stats) -> Self {
        let (connections, behind) = (stats.connections, stats.behind);
        Self { connections, behind, log_bytes: stats.log.bytes }
    }
}

/// How long a task of the runtime waited for its turn while the shards worked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)] // Both ends are in this package.
pub struct Waited {
    /// How late a timer of a millisecond was; tokio rounds up to the next one.
    pub timer: Latency,
    /// How long until a task that could go on at once did so.
    pub turn: Latency,
}

/// How the server of a scenario is built.
#[derive(clap::Args, Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // Both ends are in this package.
pub struct Setting {
    /// Shards; as many as there are processors by default.
    #[arg(long)]
    pub shards: Option<usize>,
    /// Bytes of the log.
    #[arg(long, default_value_t = Self::default().log_bytes)]
    pub log_bytes: u64,
    /// Bytes that the kernel may hold for a client.
    #[arg(long, default_value_t = Self::default().send_buffer)]
    pub send_buffer: usize,
    /// Nobody is closed for being behind, as long as the log has what is missing.
    #[arg(long)]
    pub patient: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self { shards: None, log_bytes: 64 << 20, send_buffer: 64 << 10, patient: false }
    }
}

impl Setting {
    /// The arguments that it is read from.
    pub fn args(&self) -> Vec<String> {
        let mut args = vec![
            format!("--log-bytes={}", self.log_bytes),
            format!("--send-buffer={}", self.send_buffer),
        ];
        args.extend(self.shards.map(|shards| format!("--shards={shards}")));
        args.extend(self.patient.then(|| "--patient".to_owned()));
        args
    }
}

/// How the server of a scenario is built that reads Kafka.
#[derive(clap::Args, Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // Both ends are in this package.
pub struct KafkaSetting {
    /// Where the brokers are.
    #[arg(long)]
    pub brokers: String,
    /// What is read.
    #[arg(long)]
    pub topic: String,
    /// What the log is called, where the broker is an embedded one.
    #[arg(long)]
    pub log_identity: Option<String>,
    /// What was there before is read again at the start, and not only what is new.
    #[arg(long)]
    pub warm: bool,
    /// Bytes of the log, where the default is less.
    #[arg(long)]
    pub log_bytes: u64,
    /// Records that a client may have missed, where the default is less.
    #[arg(long)]
    pub replay_records: u64,
    /// Bytes of what was read again that are kept at once; the default where it is not said.
    #[arg(long)]
    pub replay_bytes: Option<u64>,
}

impl KafkaSetting {
    /// The arguments that it is read from.
    pub fn args(&self) -> Vec<String> {
        let mut args = vec![
            format!("--brokers={}", self.brokers),
            format!("--topic={}", self.topic),
            format!("--log-bytes={}", self.log_bytes),
            format!("--replay-records={}", self.replay_records),
        ];
        args.extend(self.replay_bytes.map(|bytes| format!("--replay-bytes={bytes}")));
        args.extend(self.log_identity.iter().map(|log| format!("--log-identity={log}")));
        args.extend(self.warm.then(|| "--warm".to_owned()));
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written() {
        for request in [
            Request::Publish(0, 1),
            Request::Publish(1, 64),
            Request::Stream { room: 1, hz: 100, messages: 300 },
            Request::Stats,
            Request::Counters,
            Request::Cpu,
            Request::Probe,
            Request::Waited,
        ] {
            assert_eq!(request.to_string().parse(), Ok(request));
        }
        for bad in [
            "",
            "publish",
            "publish 0",
            "publish 0 0",
            "publish 1024 1",
            "publish 0 100001",
            "publish 0 1 1",
            "stream 0 0 1",
            "stream 0 10001 1",
            "stream 0 1 x",
            "cpu 1",
            "stop",
        ] {
            assert!(bad.parse::<Request>().is_err(), "{bad}");
        }
    }
}
