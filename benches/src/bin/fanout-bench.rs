//! The comparison: see `--help`.

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use benches::backlog;
use benches::drive;
use benches::machine::Machine;
use benches::options::{Cli, Command, Options};
use benches::progress::Shown;
use benches::report::{self, Report};
use benches::scenario;
use benches::servers;
use benches::summary::Summary;
use clap::Parser;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Serve(serve)) => servers::serve(&serve).map_err(Into::into),
        Some(Command::Drive(options)) => std::env::current_exe()
            .map_err(Into::into)
            .and_then(|program| drive::drive(&options, &program).map_err(Into::into)),
        Some(Command::Scenarios(args)) => scenario::run(&args),
        Some(Command::Backlog(args)) => backlog::run(&args),
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
    let files = [("--json", &options.json), ("--html", &options.html)];
    for (option, path) in files {
        path.as_deref().map_or(Ok(()), |path| told(option, path, report::writable(path)))?;
    }
    let machine = Machine::here();
    if !machine.optimised {
        eprintln!("This build is not optimised: its figures mean nothing. Use --release.");
    }
    println!("{machine}\n");
    let shown = Shown::here();
    let mut cases: Vec<Summary> = Vec::new();
    let ran = comparison.run(
        |run| shown.begin(&run),
        |outcome| {
            let summary = Summary::of(&outcome);
            shown.print(&report::table(&summary));
            cases.push(summary);
        },
    );
    shown.finish();
    if cases.is_empty() {
        return Ok(ran?);
    }
    // Also where a later case has failed.
    let report = Report::new(&machine, &cases);
    println!("{}", report.end());
    if let Some(path) = &options.json {
        told("--json", path, report.write_json(path))?;
    }
    if let Some(path) = &options.html {
        told("--html", path, report.write_html(path))?;
    }
    Ok(ran?)
}

fn told(option: &str, path: &Path, result: io::Result<()>) -> Result<(), String> {
    result.map_err(|error| format!("{option}: {}: {error}", path.display()))
}
