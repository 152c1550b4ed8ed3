//! What the checker is told.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Runs real servers on a real Kafka under trouble, and checks what every client was told
/// against what is in Kafka: nothing lost, doubled, out of order or forbidden.
#[derive(Clone, Debug, Parser)]
#[command(name = "fanout-history", version, max_term_width = 100)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Runs servers, clients, producers and trouble, and judges.
    Run(Run),
}

/// One run.
#[derive(Clone, Debug, Args)]
#[non_exhaustive]
pub struct Run {
    /// The broker, as host:port on this machine. Its shop topics are written to.
    #[arg(long, env = "FANOUT_TEST_KAFKA", value_name = "HOST:PORT")]
    pub kafka: String,

    /// A program and a folder, with a space between: `PROGRAM kill FOLDER`, `start` and
    /// `restart` do that to the broker, and return once it is true. Without it the broker
    /// is left alone.
    #[arg(long, env = "FANOUT_TEST_KAFKA_CONTROL", value_name = "PROGRAM FOLDER")]
    pub control: Option<String>,

    /// The order server's program.
    #[arg(long, value_name = "FILE")]
    pub server_binary: PathBuf,

    /// How long there is trouble, in seconds; starting and settling come to it.
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u64).range(5..=7200))]
    pub seconds: u64,

    /// Twenty seconds, whatever `--seconds` says.
    #[arg(long)]
    pub quick: bool,

    /// How many clients.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub clients: u16,

    /// How many servers.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub nodes: u8,

    /// What decides about everything that is random. How threads and processes are
    /// scheduled is not repeated by it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Records a second that are written to Kafka directly.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,

    /// Which clients there are.
    #[arg(long, value_enum, default_value_t = Wire::Both)]
    pub wire: Wire,

    /// Each server has a data folder of its own, instead of all the same.
    #[arg(long)]
    pub own_data: bool,

    /// Takes `recovered: false` and a gap `reset` for an answer. Without it they are faults,
    /// unless a topic has grown: the log stays the same one throughout the run.
    #[arg(long)]
    pub allow_reset: bool,

    /// Only these troubles, with commas between; none of them with `none`.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub trouble: Vec<Trouble>,

    /// Folder for the servers' data and logs. Without it one that is removed, unless
    /// something was wrong.
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}

/// How clients are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[non_exhaustive]
pub enum Wire {
    /// Half and half.
    Both,
    /// WebSocket alone.
    Ws,
    /// Server-Sent Events alone.
    Sse,
}

/// What happens to servers, broker and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[non_exhaustive]
pub enum Trouble {
    /// Nothing.
    None,
    /// A server is killed, and started again a little later.
    Kill,
    /// A server is stopped in order, and started again.
    Stop,
    /// All servers are killed at once.
    KillAll,
    /// A server is paused for some seconds.
    Pause,
    /// A server is paused for longer than it waits for anybody.
    LongPause,
    /// A server's connections to Kafka are cut, and new ones refused, for some seconds.
    CutKafka,
    /// A server's connections to Kafka stay, and nothing gets through.
    StallKafka,
    /// Clients' connections to a server are cut.
    CutClients,
    /// They stay, and nothing gets through.
    StallClients,
    /// The broker is stopped and started.
    RestartBroker,
    /// The broker is killed and started.
    KillBroker,
    /// A topic gets one more partition.
    Grow,
    /// What a partition has is deleted.
    Delete,
}

impl Trouble {
    /// Every one but none.
    pub(crate) const ALL: [Self; 13] = [
        Self::Kill,
        Self::Stop,
        Self::KillAll,
        Self::Pause,
        Self::LongPause,
        Self::CutKafka,
        Self::StallKafka,
        Self::CutClients,
        Self::StallClients,
        Self::RestartBroker,
        Self::KillBroker,
        Self::Grow,
        Self::Delete,
    ];

    /// What it is called in the summary.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::KillAll => "kill all",
            Self::Pause => "pause",
            Self::LongPause => "long pause",
            Self::CutKafka => "kafka cut",
            Self::StallKafka => "kafka stalled",
            Self::CutClients => "clients cut",
            Self::StallClients => "clients stalled",
            Self::RestartBroker => "broker restart",
            Self::KillBroker => "broker kill",
            Self::Grow => "partition growth",
            Self::Delete => "deletion",
        }
    }
}

impl Run {
    /// How long there is trouble, in seconds.
    pub(crate) fn trouble_seconds(&self) -> u64 {
        if self.quick { 20 } else { self.seconds }
    }

    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let all = if self.trouble.is_empty() { &Trouble::ALL[..] } else { &self.trouble };
        let can = |trouble: &Trouble| match trouble {
            Trouble::None => false,
            Trouble::RestartBroker | Trouble::KillBroker => self.control.is_some(),
            _ => true,
        };
        all.iter().copied().filter(can).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn flags_are_sound_and_troubles_are_what_was_asked_for() {
        Options::command().debug_assert();
        let troubles = |more: &[&str]| {
            let own = ["x", "run", "--kafka", "h:1", "--server-binary", "s"];
            let options = Options::parse_from(own.iter().chain(more));
            let Command::Run(run) = options.command;
            run.troubles()
        };
        assert_eq!(troubles(&["--trouble", "none"]), []);
        assert_eq!(troubles(&["--trouble", "kill,grow"]), [Trouble::Kill, Trouble::Grow]);
        assert!(!troubles(&[]).contains(&Trouble::KillBroker), "nobody said how");
        assert!(troubles(&["--control", "p d"]).contains(&Trouble::KillBroker));
    }
}
