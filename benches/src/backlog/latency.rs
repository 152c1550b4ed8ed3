//! How long a record takes from when it should have been sent to the socket, beside how long
//! it takes to a bare loop.
//!
//! Both readers are there at once and read the same topic. The loop is open: a record's time
//! is when it was due, so that a producer which is late is seen in the latency of both.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::account::{Account, Seen};
use super::job::{How, Job, Reader};
use super::store::Backlog;
use super::{Failure, Play, check};
use crate::clock;
use crate::load::{Dialect, Frame, handshake};
use crate::scenario::SwarmError;
use crate::scenario::figures::{Latency, Outcome};

/// Seconds before anything counts, at most as many as count.
const WARM_UP: u64 = 3;
/// How long the last record may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes read at once.
const BUFFER: usize = 64 << 10;

pub(super) fn run(play: &Play<'_>) -> Result<Outcome, Failure> {
    let args = play.args;
    let (rate, warm_up) = (u64::from(args.rate), WARM_UP.min(args.seconds));
    let (partitions, payload) = (args.partitions, args.payload);
    let records = (warm_up + args.seconds) * rate;
    let most = play.store.most(partitions, payload as u64);
    if records > most {
        return Err(Failure::Wrong(format!(
            "--rate, --seconds: {records} records are more than the {most} that the embedded \
             broker keeps: use fewer, or a broker (--kafka)"
        )));
    }
    let backlog = Backlog { partitions, records, payload, random: 0 };
    let topic = play.store.topic(partitions)?;
    let latency_from = Some(warm_up * rate);
    let job = Job { latency_from, sockets: args.sockets, ..play.job(&topic, backlog) };
    let bare = Job { how: How::Bare, ..job.clone() };
    let loop_ = Reader::start(play.program, &bare, play.deadline)?;
    let library = Reader::start(play.program, &job, play.deadline)?;
    let addr = library.addr;
    let account = Account::new(partitions, records, latency_from);
    let client = args.sockets.then(|| Client::open(addr, account, payload, play.deadline));
    let client = client.transpose()?;

    let writer = topic.writer()?;
    let (late, seen) = std::thread::scope(|scope| {
        let client = client.map(|client| scope.spawn(|| client.read()));
        let late = produce(backlog, rate, |index, due, payload| {
            backlog.write_one(&writer, index, due, payload)
        });
        let seen = client.map(|client| client.join().expect("the client does not panic"));
        Ok::<_, Failure>((late?, seen.transpose()?))
    })?;
    writer.flush()?;
    let (bare, whole) = (loop_.report()?, library.report()?);
    check(&job, &bare)?;
    check(&job, &whole)?;

    let mut outcome = Outcome {
        name: "latency",
        done: format!(
            "{rate} records of {payload} bytes a second, for {} s after {warm_up} s, in \
             {partitions} partitions of {}.",
            args.seconds,
            play.store.name()
        ),
        rows: Vec::new(),
        checked: Vec::new(),
    };
    outcome.latency("bare rdkafka loop", &bare.seen.latency.unwrap_or_default());
    outcome.latency("to a sink in memory", &whole.seen.latency.unwrap_or_default());
    if let Some(seen) = seen {
        seen.check(partitions, records, payload as u64).map_err(Failure::Wrong)?;
        outcome.latency("to a WebSocket client", &seen.latency.unwrap_or_default());
    }
    outcome.latency("the producer itself was late", &late);
    outcome.checked(format!("all {records} records came to each, once and in order"));
    Ok(outcome)
}

/// Sends each record when it is due; says how late it was.
fn produce(
    backlog: Backlog,
    rate: u64,
    mut send: impl FnMut(u64, u64, &mut Vec<u8>) -> Result<(), Failure>,
) -> Result<Latency, Failure> {
    let (began, mut payload) = (clock::monotonic_ns(), Vec::new());
    let mut late = crate::scenario::figures::histogram();
    for index in 0..backlog.records {
        let due = began + index * 1_000_000_000 / rate;
        let mut now = clock::monotonic_ns();
        while now < due {
            std::thread::park_timeout(Duration::from_nanos(due - now));
            now = clock::monotonic_ns();
        }
        late.saturating_record((now - due).max(1));
        send(index, due, &mut payload)?;
    }
    Ok(Latency::of(&late))
}

/// A client over a real socket, which reads on a thread of its own.
struct Client {
    stream: std::net::TcpStream,
    bytes: Vec<u8>,
    account: Account,
    payload: usize,
    deadline: Instant,
}

impl Client {
    fn open(
        addr: SocketAddr,
        account: Account,
        payload: usize,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let request = handshake::request(&addr.to_string(), "/ws", Some("anybody"));
        let socket = handshake::socket(addr, None)?;
        let opened = handshake::open(socket, addr, &request, Some(Dialect::Native), deadline);
        let (stream, bytes) = opened.map_err(|error| SwarmError::Handshake(0, error))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, bytes, account, payload, deadline })
    }

    /// Reads until all has come.
    fn read(mut self) -> io::Result<Seen> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let mut done = 0;
            while let Some((frame, len)) =
                Frame::first(&self.bytes[done..]).map_err(io::Error::other)?
            {
                done += len;
                // A heartbeat is no record; a ping needs no answer as long as this lasts.
                let Frame::Text(text) = frame else { continue };
                if text.starts_with(br#"{"event":"order."#) {
                    let end = text.len() - 1;
                    let value = text.get(end.saturating_sub(self.payload)..end);
                    self.account.take_value(value.unwrap_or_default());
                }
            }
            self.bytes.drain(..done);
            if self.account.is_over() {
                return Ok(self.account.seen());
            }
            if Instant::now() >= self.deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.bytes.extend_from_slice(&buffer[..read]),
            }
        }
    }
}
