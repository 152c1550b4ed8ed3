//! The command line.

mod cases;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};

use self::cases::Grid;
use crate::backlog;
use crate::comparison::Comparison;
use crate::control::MAX_BURST;
use crate::drive;
use crate::message::{MAX_PAYLOAD, MIN_PAYLOAD};
use crate::run::{Case, Rooms};
use crate::scenario;
use crate::servers::{Kind, Programs, Serve};

/// Descriptors of a process beside those of its clients.
const SPARE: usize = 100;

/// What a message costs a server, over real WebSockets on loopback, beside other
/// servers in the same run.
///
/// Every server is a process of its own and gets the same clients, which check that
/// each message comes once and in order; a burst is published when all have the last
/// one.
#[derive(Debug, Parser)]
#[command(name = "fanout-bench", version, args_conflicts_with_subcommands = true)]
#[non_exhaustive]
pub struct Cli {
    /// What else the program does.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What is compared.
    #[command(flatten)]
    pub options: Options,
}

/// What the program does for itself.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Be a server, on loopback, until stdin closes.
    #[command(hide = true)]
    Serve(Serve),
    /// Drive any server with many clients, and tell what they get.
    Drive(drive::Options),
    /// Play what happens to a hub under trouble, and tell what came of it.
    Scenarios(scenario::Args),
    /// Read a backlog from Kafka, by a bare loop and by all of this library, and tell what
    /// each costs.
    Backlog(Box<backlog::Args>),
}

/// What is compared.
///
/// Where nothing is said of clients, bursts, payload, rooms and stalled clients, a set of
/// cases is run that shows each of them.
#[derive(Args, Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Clients; several numbers are several cases. 1000 where another case option is given.
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    pub clients: Vec<usize>,

    /// Messages published at once; several numbers are several cases. 1,16,64 where another
    /// case option is given.
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    pub bursts: Vec<usize>,

    /// Bytes of a message's payload; several numbers are several cases. 200 where another
    /// case option is given.
    #[arg(long, value_name = "BYTES,...", value_delimiter = ',')]
    pub payload: Vec<usize>,

    /// Which rooms clients are in: all in one, or each in one of its own, where every message
    /// is for a random one. `one` where another case option is given.
    #[arg(long, value_name = "ROOMS,...", value_delimiter = ',')]
    pub rooms: Vec<Rooms>,

    /// Of a hundred clients in one room, how many stop reading before anything is measured;
    /// several numbers are several cases. 0 where another case option is given.
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',')]
    pub stalled: Vec<usize>,

    /// Only 1,000 clients in one room, bursts of 1, 16 and 64.
    #[arg(long, conflicts_with_all = ["clients", "bursts", "payload", "rooms", "stalled"])]
    pub quick: bool,

    /// How often each server is run for each case.
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub repetitions: usize,

    /// Messages published in each run, rounded up to whole bursts. By default as many as take
    /// about a second, and at least 10 bursts.
    #[arg(long, value_name = "N")]
    pub messages: Option<usize>,

    /// The servers; ratios need `floor` and `fanout` among them. By default all that are
    /// installed.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub servers: Vec<Kind>,

    /// The folder of the servers outside of Rust, which `install.sh` there installs. By
    /// default this package's own.
    #[arg(long, value_name = "DIR", env = "FANOUT_BENCH_PEERS")]
    pub peers: Option<PathBuf>,

    /// How many shards this library has; as many as processors by default.
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,

    /// Also writes everything to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Also writes a page with charts to this file: one that needs no other.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Seconds that one run may take before it is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub time_limit: u64,
}

/// An option that cannot be used; says which, and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionsError(String);

impl Options {
    /// What to run, with `program` as the servers in Rust.
    ///
    /// # Errors
    /// [`OptionsError`] names the option, its bounds and what was given.
    pub fn comparison(&self, program: PathBuf) -> Result<Comparison, OptionsError> {
        within("shards", self.shards.as_slice(), 1, 64)?;
        within("repetitions", &[self.repetitions], 1, 1000)?;
        within("messages", self.messages.as_slice(), 1, 10_000_000)?;
        within("time-limit", &[self.time_limit as usize], 1, 3600)?;
        let peers = self.peers.clone().unwrap_or_else(Programs::peers_here);
        let programs = Programs { own: program, peers, shards: self.shards };
        Ok(Comparison {
            servers: self.servers(&programs)?,
            cases: self.cases()?,
            programs,
            repetitions: self.repetitions,
            limit: Duration::from_secs(self.time_limit),
        })
    }

    fn servers(&self, programs: &Programs) -> Result<Vec<Kind>, OptionsError> {
        if self.servers.is_empty() {
            let there = |kind: &Kind| programs.available(*kind).is_ok();
            return Ok(Kind::ALL.into_iter().filter(there).collect());
        }
        let mut servers = self.servers.clone();
        servers.sort_unstable();
        servers.dedup();
        if servers.len() < self.servers.len() {
            return Err(OptionsError("--servers: each server once".to_owned()));
        }
        for server in servers {
            let missing = programs.available(server);
            missing.map_err(|missing| OptionsError(format!("--servers: {missing}")))?;
        }
        Ok(self.servers.clone())
    }

    fn cases(&self) -> Result<Vec<Case>, OptionsError> {
        let most = raise_descriptors().saturating_sub(SPARE);
        within("clients", &self.clients, 1, most)?;
        within("bursts", &self.bursts, 1, MAX_BURST)?;
        within("payload", &self.payload, MIN_PAYLOAD, MAX_PAYLOAD)?;
        within("stalled", &self.stalled, 0, cases::MAX_STALLED)?;
        let grid = Grid {
            clients: or(&self.clients, &[1000]),
            bursts: or(&self.bursts, &[1, 16, 64]),
            payload: or(&self.payload, &[200]),
            rooms: or(&self.rooms, &[Rooms::One]),
            stalled: or(&self.stalled, &[0]),
        };
        let lists = [&self.clients, &self.bursts, &self.payload, &self.stalled];
        let told = !self.rooms.is_empty() || lists.iter().any(|list| !list.is_empty());
        let cases = if told || self.quick {
            grid.cases(self.messages).map_err(|error| OptionsError(error.to_string()))?
        } else {
            cases::default_set(self.messages)
        };
        if let Some(case) = cases.iter().find(|case| case.clients > most) {
            let wanted = case.clients;
            return Err(OptionsError(format!(
                "{wanted} clients need more descriptors than a process may have here: raise the \
                 limit (`ulimit -Hn`), or choose at most {most} with --clients, or --quick"
            )));
        }
        Ok(cases)
    }
}

fn or<T: Clone>(given: &[T], otherwise: &[T]) -> Vec<T> {
    if given.is_empty() { otherwise } else { given }.to_vec()
}

fn within(option: &str, values: &[usize], min: usize, max: usize) -> Result<(), OptionsError> {
    match values.iter().find(|value| !(min..=max).contains(*value)) {
        None => Ok(()),
        Some(value) => Err(OptionsError(format!("--{option}: {value} is not from {min} to {max}"))),
    }
}

/// Asks for as many descriptors as a process may have, which its children then have as
/// well; says how many that are.
pub(crate) fn raise_descriptors() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it is refused, what there is has to do.
    let _ = setrlimit(Resource::Nofile, limit);
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(args: &[&str]) -> Result<Comparison, OptionsError> {
        let cli = Cli::try_parse_from([&["fanout-bench"], args].concat()).unwrap();
        cli.options.comparison("program".into())
    }

    #[test]
    fn what_is_not_said_of_a_case_has_a_default() {
        let cases = comparison(&["--clients", "10,20", "--payload", "200,1024"]).unwrap().cases;
        assert_eq!(cases.len(), 2 * 2 * 3);
        let cases = comparison(&["--rooms", "each", "--messages", "100"]).unwrap().cases;
        let numbers: Vec<_> = cases.iter().map(|case| (case.clients, case.bursts)).collect();
        assert_eq!(numbers, [(1000, 100), (1000, 7), (1000, 2)]);
        let cases = comparison(&["--quick"]).unwrap().cases;
        assert_eq!(cases.iter().map(|case| case.burst).collect::<Vec<_>>(), [1, 16, 64]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (args, error) in [
            (["--clients", "0"], "--clients: 0 is not from 1 to "),
            (["--bursts", "1,5000"], "--bursts: 5000 is not from 1 to 4096"),
            (["--payload", "68"], "--payload: 68 is not from 69 to 32768"),
            (["--stalled", "91"], "--stalled: 91 is not from 0 to 90"),
            (["--repetitions", "0"], "--repetitions: 0 is not from 1 to 1000"),
            (["--servers", "floor,floor"], "--servers: each server once"),
        ] {
            let refused = comparison(&args).unwrap_err().to_string();
            assert!(refused.starts_with(error), "{refused}");
        }
        let nobody = comparison(&["--clients", "20", "--stalled", "1"]).unwrap_err().to_string();
        assert_eq!(nobody, "--stalled: 1 % of 20 clients is nobody");
        let quick = Cli::try_parse_from(["fanout-bench", "--quick", "--clients", "1"]);
        assert!(quick.unwrap_err().to_string().contains("cannot be used with"));
    }

    #[test]
    fn a_server_that_is_not_there_is_left_out_unless_it_is_asked_for() {
        let servers = comparison(&["--quick", "--peers", "/no/such/folder"]).unwrap().servers;
        let rust = ["floor", "fanout", "channel", "batched", "broadcast", "socketioxide"];
        assert_eq!(servers.iter().map(|kind| kind.name()).collect::<Vec<_>>(), rust);
        let asked = ["--quick", "--peers", "/no/such/folder", "--servers", "floor,bun"];
        let error = comparison(&asked).unwrap_err().to_string();
        assert!(error.starts_with("--servers: bun is not installed: "), "{error}");
    }

    #[test]
    fn the_command_line_is_well_made() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
