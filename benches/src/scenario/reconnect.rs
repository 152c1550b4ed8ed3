//! `reconnect`, `reconnect-warm`: a server is killed, and all clients come back with their
//! cursors to the one that is started after it.
//!
//! ```text
//!  all are live | kill -9 | everybody misses events | start | all come back, in seconds
//!  others: a stream that is measured                | others: the same stream, measured
//! ```
//!
//! A server that has just been started has nothing in memory: what was missed has to be read
//! again from Kafka, for all of them at once and not for each. Started warm, it has read what
//! is recent before it lets anybody in. The others come first and bring no cursor, so that
//! nothing was read again before the storm begins.
//!
//! The scenario fails where a client misses or doubles anything, is told of a gap, or where
//! more is read again than five times what was missed. The broker is in this process, or a
//! real one; the server is a process of its own, which shares the machine with both.

mod herd;
mod member;
mod seen;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use self::herd::Herd;
use self::seen::{Seen, read_again};
use super::PAYLOAD;
use super::control::KafkaSetting;
use super::failure::{Failure, SwarmError, beside};
use super::figures::{Latency, Outcome};
use super::server::Server;
use super::stage::{SPARE, Stage};
use crate::broker::{BrokerError, Topic, Writer};
use crate::clock;
use crate::message::{self, Messages};
use crate::run::Rooms;

const CLIENTS: usize = 10_000;
/// Messages that each of them misses.
const MISSED: usize = 1_000;
/// Clients in a room, where there are enough of them.
const IN_A_ROOM: usize = 100;
/// Rooms in any case: what is read again is not all for everybody.
const LEAST_ROOMS: usize = 4;
/// Clients that are there before the others come.
const OTHERS: usize = 100;
/// Messages a second to them.
const HZ: u64 = 100;
/// Of those, how many are looked at in any case.
const STREAM: usize = 300;
/// Messages of each room before the server is killed.
const BEFORE: u64 = 5;
/// Partitions, beside the one of the others.
const PARTITIONS: u32 = 16;
/// Most records, at most this many bytes each: the embedded broker drops the oldest beyond
/// 5 MiB of a partition.
const MAX_RECORDS: usize = PARTITIONS as usize * (4 << 20) / RECORD;
const RECORD: usize = PAYLOAD + 120;
/// How often it is looked at meanwhile how much was read again.
const LOOK: Duration = Duration::from_secs(2);

/// What `reconnect` and `reconnect-warm` are told.
#[derive(clap::Args, Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Of `reconnect`: how many clients come back. 10,000 times the scale by default.
    #[arg(long, value_name = "N")]
    pub clients: Option<usize>,

    /// Of `reconnect`: how many messages each has missed. 1,000 times the scale by default.
    #[arg(long, value_name = "N")]
    pub missed: Option<usize>,

    /// Of `reconnect`: seconds within which they come.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub within: f64,

    /// Of `reconnect`: bytes of what was read again that the server keeps at once, in place of
    /// the library's default.
    #[arg(long, value_name = "BYTES")]
    pub replay_bytes: Option<u64>,

    /// Of `reconnect`: a broker, in place of the embedded one. A topic is made there, and
    /// deleted at the end.
    #[arg(long, value_name = "HOST:PORT")]
    pub kafka: Option<String>,
}

impl Options {
    /// What cannot be used of it, and why.
    pub(super) fn check(&self) -> Result<(), String> {
        for (name, given) in [("clients", self.clients), ("missed", self.missed)] {
            if let Some(given) = given.filter(|given| !(1..=1_000_000).contains(given)) {
                return Err(format!("--{name}: {given} is not from 1 to 1000000"));
            }
        }
        if !(0.0..=60.0).contains(&self.within) {
            return Err(format!("--within: {} is not from 0 to 60", self.within));
        }
        Ok(())
    }
}

/// What is played, and with what.
struct Play<'a> {
    stage: &'a Stage,
    topic: Topic,
    writer: Writer,
    /// What comes next in each room; the last is that of the others.
    rooms: Vec<Messages>,
    /// Messages of all rooms so far.
    written: u64,
    /// Messages of each room but the last, and of that.
    in_each: u64,
    to_others: u64,
}

pub(super) fn run(stage: &Stage, warm: bool) -> Result<Outcome, Failure> {
    let options = &stage.reconnect;
    let clients = options.clients.unwrap_or_else(|| stage.count(CLIENTS, 20));
    let missed = options.missed.unwrap_or_else(|| stage.count(MISSED, 50));
    let others = stage.count(OTHERS, 5);
    if clients + others + SPARE > stage.descriptors {
        let (needed, descriptors) = (clients + others, stage.descriptors);
        return Err(Failure::Descriptors { needed, descriptors });
    }
    let rooms = (clients / IN_A_ROOM).max(LEAST_ROOMS);
    if options.kafka.is_none() && rooms * missed > MAX_RECORDS {
        let told = format!(
            "{missed} missed messages of {rooms} rooms are more than the {MAX_RECORDS} records \
             that the embedded broker keeps: use fewer, or a broker of your own (--kafka)"
        );
        return Err(Failure::Wrong(told));
    }
    let mut play = Play::new(stage, rooms)?;
    let (seen, deliveries) = play.storm(clients, others, missed as u64, warm)?;
    seen.outcome(warm, clients, missed, rooms, deliveries)
}

impl<'a> Play<'a> {
    fn new(stage: &'a Stage, rooms: usize) -> Result<Self, Failure> {
        let topic = Topic::new(stage.reconnect.kafka.as_deref(), PARTITIONS + 1)?;
        let writer = topic.writer()?;
        let messages = Messages::new(PAYLOAD, Rooms::One, 1).map_err(std::io::Error::other)?;
        let rooms = vec![messages; rooms + 1];
        Ok(Self { stage, topic, writer, rooms, written: 0, in_each: 0, to_others: 0 })
    }

    /// A server that clients can come to.
    fn server(&self, warm: bool, records: u64) -> Result<Server, Failure> {
        let setting = KafkaSetting {
            brokers: self.topic.brokers().to_owned(),
            topic: self.topic.name().to_owned(),
            log_identity: self.topic.log_identity().map(str::to_owned),
            warm,
            log_bytes: 3 * records * RECORD as u64,
            replay_records: 2 * records,
            replay_bytes: self.stage.reconnect.replay_bytes,
        };
        Ok(Server::start_kafka(&self.stage.program, &setting, self.stage.deadline)?)
    }

    fn write(&mut self, room: usize, sent: u64) -> Result<(), BrokerError> {
        let last = self.rooms.len() - 1;
        let partition = if room == last { PARTITIONS } else { room as u32 % PARTITIONS };
        let payload = self.rooms[room].draw(sent).payload;
        self.writer.write(partition, &message::room(room), payload)?;
        self.written += 1;
        Ok(())
    }

    /// So many messages more to each room but that of the others, which take turns.
    fn write_to_all(&mut self, messages: u64) -> Result<(), BrokerError> {
        for _ in 0..messages {
            for room in 0..self.rooms.len() - 1 {
                self.write(room, clock::monotonic_ns())?;
            }
        }
        self.in_each += messages;
        self.writer.flush()
    }

    /// Messages to the others, which read them, until it is over; at least as many as are to
    /// be looked at.
    fn stream(&mut self, others: &mut Herd, over: &AtomicBool) -> Result<Latency, Failure> {
        let (room, began) = (self.rooms.len() - 1, clock::monotonic_ns());
        let least = self.stage.count(STREAM, 30) as u64;
        let mut sent = 0;
        others.record();
        while sent < least || !over.load(Ordering::Relaxed) {
            let due = began + sent * 1_000_000_000 / HZ;
            let now = clock::monotonic_ns();
            if due <= now {
                self.write(room, due)?;
                sent += 1;
            } else {
                others.turn(Duration::from_nanos(due - now))?;
            }
            if Instant::now() >= self.stage.deadline {
                return Err(Failure::Waiting);
            }
        }
        self.to_others += sent;
        others.receive(self.to_others, self.stage.deadline)?;
        self.writer.flush()?;
        Ok(others.recorded())
    }

    /// The scenario.
    fn storm(
        &mut self,
        clients: usize,
        others: usize,
        missed: u64,
        warm: bool,
    ) -> Result<(Seen, u64), Failure> {
        let (deadline, rooms) = (self.stage.deadline, self.rooms.len() - 1);
        let records = (missed + BEFORE) * rooms as u64;
        let within = Duration::from_secs_f64(self.stage.reconnect.within);
        let mut all = Herd::new((0..clients).map(|n| n % rooms))?;
        let mut others = Herd::new(vec![rooms; others])?;

        let server = self.server(false, records)?;
        all.come(server.addr(), within);
        others.come(server.addr(), Duration::ZERO);
        all.receive(0, deadline)?;
        others.receive(0, deadline)?;
        self.write_to_all(BEFORE)?;
        all.receive(self.in_each, deadline)?;
        let before = self.stream(&mut others, &AtomicBool::new(true))?;
        server.kill()?;
        all.leave();
        others.leave();

        self.write_to_all(missed)?;
        let (range, started) = (self.written, Instant::now());
        let mut server = self.server(warm, records)?;
        let ready = started.elapsed();
        others.begin_anew(self.to_others);
        others.come(server.addr(), Duration::ZERO);
        others.receive(self.to_others, deadline)?;
        let (memory, cpu) = (server.memory(), server.cpu()?);
        let (over, expected) = (AtomicBool::new(false), self.in_each);
        let addr = server.addr();
        let (all_live, during) = beside(
            || {
                let began = Instant::now();
                all.come(addr, within);
                let came = come_back(&mut all, &mut server, expected, range, deadline);
                let all_live = began.elapsed();
                over.store(true, Ordering::Relaxed);
                came?;
                Ok(all_live)
            },
            || self.stream(&mut others, &over),
        )?;
        let cpu = server.cpu()?.saturating_sub(cpu);
        let (times, refused, slow) = (all.times(), all.refused, all.slow);

        // That they are live shows in what comes now.
        self.write_to_all(1)?;
        all.receive(self.in_each, deadline)?;
        let (counters, peak) = (server.counters()?, server.peak_memory());
        let deliveries = clients as u64 * missed;
        server.finish();
        all.finish(self.in_each, deadline)?;
        others.finish(self.to_others, deadline)?;
        let seen = Seen {
            before,
            during,
            times,
            ready,
            all_live,
            cpu,
            refused,
            slow,
            range,
            memory,
            peak,
            counters,
        };
        Ok((seen, deliveries))
    }
}

/// Waits until all have what they missed, unless far too much is read again for that.
fn come_back(
    all: &mut Herd,
    server: &mut Server,
    expected: u64,
    range: u64,
    deadline: Instant,
) -> Result<(), Failure> {
    loop {
        let look = deadline.min(Instant::now() + LOOK);
        match all.receive(expected, look) {
            Err(SwarmError::Late { .. }) if look < deadline => {
                read_again(&server.counters()?, range, all.slow)?;
            }
            result => return Ok(result?),
        }
    }
}
