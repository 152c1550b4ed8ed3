//! `connections`: as many connections as a process can hold, and little to tell them.

use std::time::Instant;

use super::Name;
use super::control::{Request, Setting};
use super::failure::Failure;
use super::figures::{KIB, Outcome};
use super::stage::{Stage, growth, kernel_memory};

const CLIENTS: usize = 18_000;
/// Messages, one a second.
const MESSAGES: usize = 10;

pub(super) fn run(stage: &Stage) -> Result<Outcome, Failure> {
    let (clients, messages) = (stage.count(CLIENTS, 50), stage.count(MESSAGES, 2));
    let mut server = stage.server(clients, &Setting::default())?;
    let (memory, kernel, began) = (server.memory(), kernel_memory(), Instant::now());
    let mut all = stage.clients(&server, 0, clients)?;
    let connected = began.elapsed();
    let (memory, kernel) = (growth(memory, server.memory()), growth(kernel, kernel_memory()));
    let stats = server.stats()?;
    if stats.connections != clients {
        let got = stats.connections;
        return Err(Failure::Wrong(format!("the hub has {got} connections, not {clients}")));
    }
    all.record();
    server.tell(&[Request::Stream { room: 0, hz: 1, messages }])?;
    all.receive(messages as u64, stage.deadline)?;

    let done =
        format!("{clients} connections, all in one room, get {messages} messages, one a second.");
    let mut outcome = Outcome::new(Name::Connections, done);
    outcome.latency("to all of them", &all.recorded().latency);
    outcome.figure("connected, one after the other", connected.as_secs_f64(), "s");
    if let Some(memory) = memory {
        outcome.figure("memory for each", memory / clients as f64 / KIB, "KiB");
    }
    if let Some(kernel) = kernel {
        outcome.figure("kernel memory for each, both ends", kernel / clients as f64 / KIB, "KiB");
    }
    outcome.checked(format!("all {messages} messages came to all, once and in order"));
    outcome.checked(format!("the hub has {clients} connections"));
    server.finish();
    all.finish(messages as u64, stage.deadline)?;
    Ok(outcome)
}
