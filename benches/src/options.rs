//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::comparison::Comparison;
use crate::control::MAX_BURST;
use crate::message::{MAX_PAYLOAD, MIN_PAYLOAD};
use crate::run::{Case, Rooms};
use crate::servers::Kind;

/// Descriptors of a process beside those of its clients.
const SPARE: usize = 100;
/// Deliveries of a run where nothing else was asked for, and fewest bursts.
const DELIVERIES: usize = 400_000;
const FEWEST_BURSTS: usize = 30;

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
    Serve {
        /// Which.
        server: Kind,
        /// Where; 0 is any that is free.
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Bytes of a payload.
        #[arg(long, default_value_t = 200)]
        payload: usize,
    },
}

/// What is compared.
#[derive(Args, Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Clients, all in one room; several numbers are several cases.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1000")]
    pub clients: Vec<usize>,

    /// Messages published at once; several numbers are several cases.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,16,64")]
    pub bursts: Vec<usize>,

    /// Bytes of a message's payload; several numbers are several cases.
    #[arg(long, value_name = "BYTES,...", value_delimiter = ',', default_value = "200")]
    pub payload: Vec<usize>,

    /// How often each server is run for each case.
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub repetitions: usize,

    /// Messages published in each run, rounded up to whole bursts. By default as many as
    /// make 400,000 deliveries, and at least 30 bursts.
    #[arg(long, value_name = "N")]
    pub messages: Option<usize>,

    /// The servers; ratios need `floor` and `fanout` among them.
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        default_value = "floor,fanout,broadcast"
    )]
    pub servers: Vec<Kind>,

    /// Also writes everything to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Seconds that one run may take before everything is given up.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub time_limit: u64,
}

/// An option that cannot be used; says which, and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionsError(String);

impl Options {
    /// What to run, with `program` as the servers.
    ///
    /// # Errors
    /// [`OptionsError`] names the option, its bounds and what was given.
    pub fn comparison(&self, program: PathBuf) -> Result<Comparison, OptionsError> {
        within("clients", &self.clients, 1, raise_descriptors().saturating_sub(SPARE))?;
        within("bursts", &self.bursts, 1, MAX_BURST)?;
        within("payload", &self.payload, MIN_PAYLOAD, MAX_PAYLOAD)?;
        within("repetitions", &[self.repetitions], 1, 1000)?;
        within("messages", self.messages.as_slice(), 1, 10_000_000)?;
        within("time-limit", &[self.time_limit as usize], 1, 3600)?;
        let mut servers = self.servers.clone();
        servers.sort_unstable();
        servers.dedup();
        if servers.len() < self.servers.len() {
            return Err(OptionsError("--servers: each server once".to_owned()));
        }
        let mut cases = Vec::new();
        for &payload in &self.payload {
            for &clients in &self.clients {
                for &burst in &self.bursts {
                    cases.push(self.case(clients, payload, burst));
                }
            }
        }
        Ok(Comparison {
            program,
            servers: self.servers.clone(),
            cases,
            repetitions: self.repetitions,
            limit: Duration::from_secs(self.time_limit),
        })
    }

    fn case(&self, clients: usize, payload: usize, burst: usize) -> Case {
        let bursts = match self.messages {
            Some(messages) => messages.div_ceil(burst),
            None => DELIVERIES.div_ceil(clients * burst).max(FEWEST_BURSTS),
        };
        Case { clients, payload, burst, bursts, rooms: Rooms::One, stalled: 0 }
    }
}

fn within(option: &str, values: &[usize], min: usize, max: usize) -> Result<(), OptionsError> {
    match values.iter().find(|value| !(min..=max).contains(*value)) {
        None => Ok(()),
        Some(value) => Err(OptionsError(format!("--{option}: {value} is not from {min} to {max}"))),
    }
}

/// Asks for as many descriptors as a process may have, which its children then have as
/// well; says how many that are.
fn raise_descriptors() -> usize {
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
    fn every_combination_is_a_case() {
        let cases = comparison(&["--clients", "10,20", "--payload", "200,1024"]).unwrap().cases;
        assert_eq!(cases.len(), 2 * 2 * 3);
        assert_eq!((cases[0].clients, cases[0].payload, cases[0].bursts), (10, 200, 40_000));
        let cases = comparison(&["--messages", "100"]).unwrap().cases;
        assert_eq!(cases.iter().map(|case| case.bursts).collect::<Vec<_>>(), [100, 7, 2]);
        let cases = comparison(&["--clients", "5000"]).unwrap().cases;
        assert_eq!(cases[2].bursts, FEWEST_BURSTS);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (args, error) in [
            (["--clients", "0"], "--clients: 0 is not from 1 to "),
            (["--bursts", "1,5000"], "--bursts: 5000 is not from 1 to 4096"),
            (["--payload", "68"], "--payload: 68 is not from 69 to 32768"),
            (["--repetitions", "0"], "--repetitions: 0 is not from 1 to 1000"),
            (["--servers", "floor,floor"], "--servers: each server once"),
        ] {
            let refused = comparison(&args).unwrap_err().to_string();
            assert!(refused.starts_with(error), "{refused}");
        }
    }

    #[test]
    fn the_command_line_is_well_made() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
