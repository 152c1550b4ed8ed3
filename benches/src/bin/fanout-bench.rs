//! The comparison: see `--help`.

use std::error::Error;
use std::process::ExitCode;

use benches::machine::Machine;
use benches::options::{Cli, Command, Options};
use benches::report;
use benches::servers;
use benches::summary::Summary;
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Serve { server, port, payload }) => {
            servers::serve(server, port, payload).map_err(Into::into)
        }
        _ => compare(&cli.options),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    let mut cause: Option<&dyn Error> = Some(&*error);
    let mut causes = Vec::new();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    eprintln!("fanout-bench: {}", causes.join(": "));
    ExitCode::FAILURE
}

fn compare(options: &Options) -> Result<(), Box<dyn Error>> {
    let comparison = options.comparison(std::env::current_exe()?)?;
    let machine = Machine::here();
    if cfg!(debug_assertions) {
        eprintln!("This build is not optimised: its figures mean nothing. Use --release.");
    }
    println!("{machine}\n");
    let mut summaries: Vec<Summary> = Vec::new();
    comparison.run(
        |run| {
            let (case, server) = (run.case, run.server.name());
            eprintln!(
                "[{:>3}/{}] {} clients, {} B, burst {}: repetition {}, {server}",
                run.done + 1,
                run.total,
                case.clients,
                case.payload,
                case.burst,
                run.repetition + 1,
            );
        },
        |outcome| {
            if let Some(summary) = Summary::of(&outcome) {
                println!("{}", report::table(&summary));
                summaries.push(summary);
            }
        },
    )?;
    println!("{}", report::LEGEND);
    if let Some(path) = &options.json {
        report::write_json(path, &machine, &summaries)
            .map_err(|error| format!("--json: {}: {error}", path.display()))?;
    }
    Ok(())
}
