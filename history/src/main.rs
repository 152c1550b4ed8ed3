//! Runs, and says by its exit code whether everything was right: 0, or 1 where something
//! was wrong, or 2 where it could not be judged.

use std::process::ExitCode;

use clap::Parser as _;
use history::{Command, Options};

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let ran = match options.command {
        Command::Run(run) => runtime.block_on(history::run(run)),
        _ => return ExitCode::from(2),
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("fanout-history: {error}");
    ExitCode::from(2)
}
