//! `walk`: a message to a room of one stands in the log behind one to a large room.
//!
//! A shard walks the log in order, so the small room waits until the shard has written to
//! its share of the large one. It lets other tasks run meanwhile: how long those wait is
//! the probe's to say.

use std::sync::mpsc::sync_channel;
use std::time::Instant;

use super::Name;
use super::control::{Request, Setting, Waited};
use super::failure::{Failure, beside};
use super::figures::{Latency, Outcome};
use super::server::Server;
use super::stage::Stage;
use super::swarm::Swarm;

const MEMBERS: usize = 15_000;
const SHARDS: [usize; 2] = [1, 2];
/// Messages to the large room at once.
const BURSTS: [usize; 2] = [1, 16];
const ROUNDS: usize = 30;

/// What was seen in one round after the other.
struct Walked {
    alone: Latency,
    small: Latency,
    large: Latency,
    waited: Waited,
}

pub(super) fn run(stage: &Stage) -> Result<Outcome, Failure> {
    let (members, rounds) = (stage.count(MEMBERS, 50), stage.count(ROUNDS, 10));
    let done = format!(
        "A message to a room of one, right behind one (or {} at once) to a room of {members}.",
        BURSTS[1],
    );
    let mut outcome = Outcome::new(Name::Walk, done);
    for shards in SHARDS {
        let setting = Setting { shards: Some(shards), ..Setting::default() };
        let mut server = stage.server(members + 1, &setting)?;
        let mut large = stage.clients(&server, 0, members)?;
        let mut small = stage.clients(&server, 1, 1)?;
        let mut published = [0, 0];
        for burst in BURSTS {
            let rooms = (&mut large, &mut small);
            let walked = walk(stage, &mut server, rooms, &mut published, (burst, rounds))?;
            let plural = if shards == 1 { "" } else { "s" };
            let told = |what: &str| format!("{shards} shard{plural}, behind {burst}: {what}");
            outcome.latency(&told("room of one"), &walked.small);
            outcome.latency(&told("room of one, alone"), &walked.alone);
            outcome.latency(&told("large room"), &walked.large);
            outcome.latency(&told("a task's turn"), &walked.waited.turn);
            outcome.latency(&told("a timer, late"), &walked.waited.timer);
        }
        server.finish();
        large.finish(published[0], stage.deadline)?;
        small.finish(published[1], stage.deadline)?;
    }
    outcome.checked("all messages came to all, once and in order");
    Ok(outcome)
}

fn walk(
    stage: &Stage,
    server: &mut Server,
    (large, small): (&mut Swarm, &mut Swarm),
    published: &mut [u64; 2],
    (burst, rounds): (usize, usize),
) -> Result<Walked, Failure> {
    let deadline = stage.deadline;
    small.record();
    for _ in 0..rounds {
        server.tell(&[Request::Publish(1, 1)])?;
        published[1] += 1;
        small.receive(published[1], deadline)?;
    }
    let alone = small.recorded().latency;

    small.record();
    large.record();
    server.tell(&[Request::Probe])?;
    let (sender, round_over) = sync_channel(1);
    let had = published[0];
    beside(
        || {
            for n in 1..=rounds as u64 {
                large.receive(had + n * burst as u64, deadline)?;
                // An error means that nobody waits for it any more.
                let _ = sender.send(());
            }
            Ok(())
        },
        || {
            for _ in 0..rounds {
                server.tell(&[Request::Publish(0, burst), Request::Publish(1, 1)])?;
                published[0] += burst as u64;
                published[1] += 1;
                small.receive(published[1], deadline)?;
                let left = deadline.saturating_duration_since(Instant::now());
                round_over.recv_timeout(left).map_err(|_| Failure::Waiting)?;
            }
            Ok(())
        },
    )?;
    let waited = server.waited()?;
    Ok(Walked { alone, small: small.recorded().latency, large: large.recorded().latency, waited })
}
