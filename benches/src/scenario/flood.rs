//! `flood`: a few clients send as much as they can, and read what they are answered.
//!
//! Every frame is one that the hub has to act on: subscribe, unsubscribe, ping. A shard
//! reads a bounded number of sockets a turn, each for one buffer at most, so the others
//! should not have to wait for long.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::Name;
use super::control::{Request, Setting};
use super::failure::{Failure, beside};
use super::figures::{KIB, Outcome};
use super::stage::{Stage, growth, kernel_memory};
use super::swarm::Swarm;
use crate::load::{TEXT, masked};
use crate::message;

const FLOODERS: usize = 10;
const OTHERS: usize = 990;
/// Messages a second to all.
const HZ: u32 = 100;
/// Messages without and with the flood.
const STREAM: usize = 300;
/// A room that nothing is published to.
const ROOM: usize = 1;
/// How often the frames are repeated in what is written at once.
const REPEATED: usize = 100;
/// What the kernel may hold on the side of a client that floods: the rest is the server's.
const SEND_BUFFER: usize = 64 * 1024;
/// Between two looks whether a socket takes more, where nothing comes from it.
const TICK: Duration = Duration::from_millis(1);

pub(super) fn run(stage: &Stage) -> Result<Outcome, Failure> {
    let (few, many) = (stage.count(FLOODERS, 2), stage.count(OTHERS, 20));
    let mut server = stage.server(few + many, &Setting::default())?;
    let mut flooders = stage.clients(&server, 0, few)?;
    for client in &flooders.clients {
        SockRef::from(&client.stream).set_send_buffer_size(SEND_BUFFER)?;
    }
    let mut others = stage.clients(&server, 0, many)?;
    let (messages, deadline) = (stage.count(STREAM, 50), stage.deadline);
    let stream = Request::Stream { room: 0, hz: HZ, messages };
    let each = messages as u64;

    let (cpu, began) = (server.cpu()?, Instant::now());
    others.record();
    server.tell(&[stream])?;
    let read = || Ok(flooders.receive(each, deadline)?);
    beside(read, || Ok(others.receive(each, deadline)?))?;
    let before = others.recorded();
    let cpu_before =
        server.cpu()?.saturating_sub(cpu).as_secs_f64() / began.elapsed().as_secs_f64();

    let (cpu, began, over) = (server.cpu()?, Instant::now(), AtomicBool::new(false));
    others.record();
    server.tell(&[stream])?;
    let (flood, ()) = beside(
        || flood(&mut flooders, 2 * each, &over, deadline),
        || {
            let received = others.receive(2 * each, deadline);
            // Also where it fails, or the flood would go on.
            over.store(true, Ordering::Relaxed);
            Ok(received?)
        },
    )?;
    let during = others.recorded();
    let cpu_during =
        server.cpu()?.saturating_sub(cpu).as_secs_f64() / began.elapsed().as_secs_f64();

    let done = format!(
        "{few} of {} clients send as much as they can, all get {HZ} messages a second.",
        few + many,
    );
    let mut outcome = Outcome::new(Name::Flood, done);
    outcome.latency("others, without the flood", &before.latency);
    outcome.latency("others, with it", &during.latency);
    outcome.figure("p99 against without", during.latency.p99_ms / before.latency.p99_ms, "times");
    outcome.figure("frames taken of those who flood", flood.answered_per_s, "a second");
    if let Some(kernel) = flood.kernel {
        let each = kernel / few as f64 / KIB;
        outcome.figure("kernel memory for each of them, unread", each, "KiB");
    }
    outcome.figure("server's CPU, without the flood", cpu_before, "cores");
    outcome.figure("server's CPU, with it", cpu_during, "cores");
    outcome.checked(format!("all {} messages came to all, once and in order", 2 * each));
    outcome.checked(format!("each of {} frames was answered", flood.sent));
    server.finish();
    others.finish(2 * each, deadline)?;
    flooders.finish(2 * each, deadline)?;
    Ok(outcome)
}

struct Flood {
    sent: u64,
    /// What the kernel held for it at the end, in bytes.
    kernel: Option<f64>,
    /// While it went on.
    answered_per_s: f64,
}

/// Frames, again and again, that are written from anywhere on.
struct Frames {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Frames {
    fn new() -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let room = message::room(ROOM);
        let request = |event: &str| {
            format!(r#"{{"event":"{event}","data":{{"room":"{room}"}}}}"#).into_bytes()
        };
        for _ in 0..REPEATED {
            for (kind, payload) in [
                (TEXT, request("subscribe")),
                (0x89, b"still there?".to_vec()),
                (TEXT, request("unsubscribe")),
            ] {
                masked(&mut bytes, kind, &[&payload]);
                ends.push(bytes.len());
            }
        }
        Self { bytes, ends }
    }

    /// The end of the frame that `at` is in, or at the end of.
    fn end(&self, at: usize) -> usize {
        self.ends[self.ends.partition_point(|end| *end < at)]
    }

    /// How many end after `from` and up to `to`.
    fn between(&self, from: usize, to: usize) -> u64 {
        let before = |at: usize| self.ends.partition_point(|end| *end <= at);
        (before(to) - before(from)) as u64
    }
}

/// Sends as much as the server takes until it is over, then reads until everything was
/// answered and all `messages` have come.
fn flood(
    flooders: &mut Swarm,
    messages: u64,
    over: &AtomicBool,
    deadline: Instant,
) -> Result<Flood, Failure> {
    let frames = Frames::new();
    let mut places = vec![0; flooders.clients.len()];
    let (began, mut sent, mut answered_per_s) = (Instant::now(), 0, None);
    let (before, mut kernel) = (kernel_memory(), None);
    flooders.aim(messages);
    loop {
        let over = over.load(Ordering::Relaxed);
        if over && answered_per_s.is_none() {
            kernel = growth(before, kernel_memory());
            answered_per_s = Some(flooders.answers as f64 / began.elapsed().as_secs_f64());
        }
        let mut whole = true;
        for (client, at) in flooders.clients.iter_mut().zip(&mut places) {
            // What has begun is sent whole.
            let to = if over && *at > 0 { frames.end(*at) } else { frames.bytes.len() };
            if over && (*at == 0 || *at == to) {
                continue;
            }
            match client.stream.write(&frames.bytes[*at..to]) {
                Ok(written) => {
                    sent += frames.between(*at, *at + written);
                    *at += written;
                    whole &= *at == to;
                    if *at == frames.bytes.len() {
                        *at = 0;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => whole = false,
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(answered_per_s) = answered_per_s
            && whole
            && flooders.answers == sent
            && flooders.has_reached()
        {
            return Ok(Flood { sent, kernel, answered_per_s });
        }
        flooders.turn(Instant::now() + TICK)?;
        if Instant::now() >= deadline {
            let answers = flooders.answers;
            return Err(Failure::Wrong(format!(
                "{answers} of {sent} frames were answered in time"
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_are_written() {
        let frames = Frames::new();
        let (first, all) = (frames.ends[0], frames.bytes.len());
        assert_eq!(frames.between(0, all), 3 * REPEATED as u64);
        assert_eq!((frames.between(0, first - 1), frames.between(first - 1, first)), (0, 1));
        assert_eq!(
            (frames.end(1), frames.end(first), frames.end(first + 1)),
            (first, first, frames.ends[1])
        );
        assert_eq!(frames.between(first, all), 3 * REPEATED as u64 - 1);
    }
}
