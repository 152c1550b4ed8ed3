//! Starts the order server, says where it is, and stops it when asked to.

use std::process::ExitCode;

use clap::Parser;
use order_server::config::{AuthMode, Config};
use order_server::kafka::Broker;
use order_server::server::{Running, Server, StartError};
use tracing_subscriber::EnvFilter;

// A record is allocated on one thread and freed on another, over which glibc's threads wait
// for each other: docs/performance.md has the figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = Config::parse();
    match EnvFilter::try_new(&config.log) {
        Ok(filter) => tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
        // Its text has its sources in it.
        Err(error) => {
            eprintln!("order-server: --log: {error}");
            return ExitCode::FAILURE;
        }
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed("no runtime", &error),
    };
    match runtime.block_on(run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed("not started", &error),
    }
}

fn failed(what: &str, error: &dyn std::error::Error) -> ExitCode {
    eprint!("order-server: {what}: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        eprint!(": {error}");
        source = error.source();
    }
    eprintln!();
    ExitCode::FAILURE
}

async fn run(config: Config) -> Result<(), StartError> {
    let running = Server::start(config).await?;
    greet(&running);
    wait_for_signal().await;
    println!("stopping: requests are finished, clients are told to come back (again to stop now)");
    tokio::select! {
        () = running.stop() => println!("stopped"),
        () = wait_for_signal() => println!("stopped at once"),
    }
    Ok(())
}

fn greet(running: &Running) {
    let kafka = match running.broker() {
        Broker::Embedded(_) => "embedded, on",
        _ => "at",
    };
    let orders = match running.data() {
        Some(folder) => format!("kept in {}", folder.display()),
        None => "kept in memory only".to_owned(),
    };
    let scheme = if running.tls() { "https" } else { "http" };
    let url = format!("{scheme}://{}", running.addr());
    println!("order-server {}", env!("CARGO_PKG_VERSION"));
    println!("  open    {url}/");
    println!("  admin   {url}/admin/orders");
    println!("  health  {url}/readyz, {url}/metrics");
    println!("  kafka   {kafka} {}", running.broker().address());
    println!("  orders  {orders}");
    match running.mode() {
        AuthMode::Dev => {
            println!("  log in  any e-mail, such as user@shop.example;");
            println!("          as admin one with `admin` in it, such as admin@shop.example");
        }
        AuthMode::Jwt => println!("  log in  by tokens that the given keys verify"),
        _ => println!("  log in  by tokens that are signed with the given secret"),
    }
}

/// Waits for Ctrl-C, and for what service managers send.
async fn wait_for_signal() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}
