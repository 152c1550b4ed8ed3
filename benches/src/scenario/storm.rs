//! `storm`: most clients leave at once, and come apart one by one in their shards.
//!
//! The others are in another room: all that they share with those who leave is the
//! shards that have to take them out of their rooms and close their sockets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::Name;
use super::control::{Request, Setting};
use super::failure::{Failure, beside};
use super::figures::Outcome;
use super::stage::Stage;

const LEAVE: usize = 15_000;
const STAY: usize = 1_000;
/// Messages a second to those who stay.
const HZ: u32 = 100;
/// Messages before, and from when they leave on.
const STREAM: usize = 300;
/// Of those, how many are looked at in any case: they may be gone before the next one.
const AT_LEAST: u64 = 50;

pub(super) fn run(stage: &Stage) -> Result<Outcome, Failure> {
    let (leave, stay) = (stage.count(LEAVE, 100), stage.count(STAY, 10));
    let mut server = stage.server(leave + stay, &Setting::default())?;
    let leaving = stage.clients(&server, 0, leave)?;
    let mut others = stage.clients(&server, 1, stay)?;
    let (messages, deadline) = (stage.count(STREAM, 50), stage.deadline);
    let published = 2 * messages as u64;
    let stream = Request::Stream { room: 1, hz: HZ, messages };

    others.record();
    server.tell(&[stream])?;
    others.receive(messages as u64, deadline)?;
    let before = others.recorded();

    let gone = AtomicBool::new(false);
    others.record();
    server.tell(&[stream])?;
    // A gap is between two: the first comes before they leave.
    let first = messages as u64 + 1;
    others.receive(first, deadline)?;
    let (times, during) = beside(
        || {
            let began = Instant::now();
            drop(leaving);
            let closed = began.elapsed();
            while server.stats()?.connections != stay {
                stage.pause()?;
            }
            gone.store(true, Ordering::Relaxed);
            Ok((closed, began.elapsed()))
        },
        || {
            let mut during = None;
            for n in first..=published {
                others.receive(n, deadline)?;
                let enough = n - first >= AT_LEAST && gone.load(Ordering::Relaxed);
                if during.is_none() && enough {
                    during = Some(others.recorded());
                }
            }
            Ok(during.unwrap_or_else(|| others.recorded()))
        },
    )?;
    let done = format!(
        "{leave} of {} clients leave at once, {stay} in another room get {HZ} messages a second.",
        leave + stay,
    );
    let mut outcome = Outcome::new(Name::Storm, done);
    outcome.latency("others, before", &before.latency);
    outcome.latency("others, until all of them are out", &during.latency);
    outcome.figure("longest gap, before", before.gap.as_secs_f64() * 1e3, "ms");
    outcome.figure("longest gap, until they are out", during.gap.as_secs_f64() * 1e3, "ms");
    outcome.figure("until their sockets were closed", times.0.as_secs_f64() * 1e3, "ms");
    outcome.figure("until the hub has none of them", times.1.as_secs_f64() * 1e3, "ms");
    outcome.checked(format!("all {published} messages came to all others, once and in order"));
    outcome.checked(format!("the hub has {stay} connections"));
    server.finish();
    others.finish(published, deadline)?;
    Ok(outcome)
}
