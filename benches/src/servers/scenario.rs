//! The server of a scenario: this library as in `fanout`, with more that it can be told.
//!
//! A client is in the rooms that it asks for. What is published is numbered room by
//! room; a stream stamps its messages with when they were due, so that a publisher that
//! has to wait is seen in the latency.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, BufRead, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::{Router, extract::Request as Http, routing::get};
use fanout::{Access, Emission, Hub, Json, Limits, Overflow, RequestRate, RoleAccess, Room};
use tokio::runtime::{Handle, Runtime};
use ws_sink::{Rate, Sockets, Ws, WsConfig};

use super::fanout::Everybody;
use crate::clock;
use crate::message::{self, EVENT, Messages};
use crate::run::Rooms;
use crate::scenario::PAYLOAD;
use crate::scenario::control::{HubStats, Request, Setting};
use crate::scenario::probe::Probe;

/// Longer than any scenario.
const LONG: Duration = Duration::from_secs(4_000);

/// More a second than any client can send.
const WITHOUT_LIMIT: u32 = 10_000_000;

/// Serves on loopback until `input` ends.
///
/// # Errors
/// Where it cannot listen, a line is no request, or nobody reads `output`.
pub(crate) fn serve(
    setting: &Setting,
    input: impl BufRead,
    mut output: impl Write,
) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let addr = listener.local_addr()?;
    let runtime = Runtime::new()?;
    let entered = runtime.enter();
    let hub = hub(setting)?;
    let mut config = WsConfig::default();
    config.send_buffer = Some(setting.send_buffer);
    config.frames = Rate::new(WITHOUT_LIMIT, WITHOUT_LIMIT);
    let ws = Ws::with_config(&hub, Everybody::default(), config);
    let app = Router::new().route("/ws", get(async move |request: Http| ws.upgrade(request)));
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    runtime.spawn(async move { axum::serve(listener, app).await });
    drop(entered);

    let rooms = Mutex::default();
    let publisher = Arc::new(Publisher { runtime: runtime.handle().clone(), hub, rooms });
    let (mut stream, mut probe) = (None, None);
    writeln!(output, "listening {addr}")?;
    output.flush()?;
    for line in input.lines() {
        match line?.parse().map_err(io::Error::other)? {
            Request::Publish(room, burst) => {
                publisher.publish(room, burst, clock::monotonic_ns())?;
            }
            Request::Stream { room, hz, messages } => {
                stream_ended(stream.take())?;
                let publisher = publisher.clone();
                let body = move || publisher.stream(room, hz, messages);
                let thread = std::thread::Builder::new().name("stream".to_owned()).spawn(body)?;
                stream = Some(thread);
            }
            Request::Stats => {
                let stats = HubStats::of(&publisher.hub.stats());
                writeln!(output, "stats {}", serde_json::to_string(&stats)?)?;
            }
            Request::Cpu => writeln!(output, "cpu {}", clock::process_cpu().as_nanos())?,
            Request::Counters => {
                return Err(io::Error::other("`counters`: not of this server"));
            }
            Request::Probe => probe = Some(Probe::start(runtime.handle())),
            Request::Waited => {
                let waited = probe.take().map(Probe::end).unwrap_or_default();
                writeln!(output, "waited {}", serde_json::to_string(&waited)?)?;
            }
        }
        output.flush()?;
    }
    stream_ended(stream)
}

/// A hub whose clients ask for their rooms.
fn hub(setting: &Setting) -> io::Result<Hub> {
    let access = Access::new([RoleAccess::new("user").joins("user:{subject}").may_join("r:*")]);
    let mut limits = Limits::default();
    limits.log_bytes = setting.log_bytes;
    limits.requests = RequestRate { per_second: WITHOUT_LIMIT, burst: WITHOUT_LIMIT };
    if setting.patient {
        limits.log_age = LONG;
        limits.heartbeat = LONG;
        limits.write_timeout = LONG;
        limits.overflow = Overflow::default().with_max_bytes(u64::MAX).with_grace(LONG);
    }
    let hub = Hub::builder(access.map_err(io::Error::other)?).limits(limits);
    let hub = hub.readiness(Sockets::new);
    match setting.shards {
        Some(shards) => hub.shards(shards),
        None => hub,
    }
    .build()
}

/// Waits for a stream, which is bounded in count and rate.
fn stream_ended(stream: Option<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    stream.join().unwrap_or_else(|_| Err(io::Error::other("the stream has panicked")))
}

struct Publisher {
    runtime: Handle,
    hub: Hub,
    /// What comes next in each room; held while it is published, so that numbers are in
    /// order.
    rooms: Mutex<HashMap<usize, (Room, Messages)>>,
}

impl Publisher {
    fn publish(&self, room: usize, burst: usize, sent: u64) -> io::Result<()> {
        let mut rooms = self.rooms.lock().expect("no panic under this lock");
        let (room, messages) = match rooms.entry(room) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let messages = Messages::new(PAYLOAD, Rooms::One, 1).map_err(io::Error::other)?;
                let name = Room::new(message::room(room)).map_err(io::Error::other)?;
                new.insert((name, messages))
            }
        };
        let emission = |_| {
            let body = Json::parse(messages.draw(sent).payload.to_vec().into());
            Ok(Emission::new(room.clone(), EVENT, body.map_err(io::Error::other)?))
        };
        let emissions: io::Result<Vec<_>> = (0..burst).map(emission).collect();
        self.runtime.block_on(self.hub.publish(emissions?)).map_err(io::Error::other)
    }

    fn stream(&self, room: usize, hz: u32, messages: usize) -> io::Result<()> {
        let (began, stamp) = (Instant::now(), clock::monotonic_ns());
        for n in 1..=messages as u64 {
            let due = Duration::from_nanos(n * 1_000_000_000 / u64::from(hz));
            while let Some(left) = due.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
                std::thread::park_timeout(left);
            }
            self.publish(room, 1, stamp + due.as_nanos() as u64)?;
        }
        Ok(())
    }
}
