//! The server of a scenario that reads Kafka: it may be killed and started again, and its
//! clients go on from their cursors.
//!
//! Clients may come once the source has caught up with what was there at the start.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use axum::{Router, extract::Request as Http, routing::get};
use fanout::{
    Access, Emission, Event, Hub, Keyring, Limits, Pipeline, RoleAccess, Room, RouteError,
    SourceHealth,
};
use kafka_source::{KafkaSource, Start};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use ws_sink::{Sockets, Ws};

use super::counters::Counters;
use super::fanout::Everybody;
use crate::broker;
use crate::clock;
use crate::message::EVENT;
use crate::scenario::control::{HubStats, KafkaSetting, Request};

/// The same in each process, so that what one has sealed the next can read.
const SECRET: &[u8] = b"no secret: it guards nothing but a benchmark";

/// Serves on loopback until `input` ends.
///
/// # Errors
/// Where it cannot listen or read, a line is no request, or nobody reads `output`.
pub(crate) fn serve(
    setting: &KafkaSetting,
    input: impl BufRead,
    mut output: impl Write,
) -> io::Result<()> {
    let counters = Counters::install()?;
    let runtime = Runtime::new()?;
    let entered = runtime.enter();
    let hub = hub(setting)?;
    // Before anything is read: what is in the log by then has no place for its frames, and
    // would be encoded for each client anew.
    let ws = Ws::new(&hub, Everybody::default());
    let start = if setting.warm {
        Start::Recent { age: Duration::from_hours(1), records: u64::MAX }
    } else {
        Start::Latest
    };
    let KafkaSetting { brokers, topic, log_identity, .. } = setting;
    let config = broker::config(brokers, topic, log_identity.as_deref()).start(start);
    let source = KafkaSource::start(config).map_err(io::Error::other)?;
    let pipeline = Pipeline::new(source, route, hub.clone());
    let mut status = pipeline.status();
    runtime.spawn(async move {
        if let Err(error) = pipeline.run().await {
            eprintln!("fanout-bench: the source has ended: {error}");
        }
    });
    // Whoever has started this gives up sooner.
    if !runtime.block_on(status.wait_for(SourceHealth::ready)) {
        return Err(io::Error::other("the source has ended"));
    }
    // By tokio, for its queue of those who wait to be accepted.
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
    let addr = listener.local_addr()?;
    let app = Router::new().route("/ws", get(async move |request: Http| ws.upgrade(request)));
    runtime.spawn(async move { axum::serve(listener, app).await });
    drop(entered);

    writeln!(output, "listening {addr}")?;
    output.flush()?;
    for line in input.lines() {
        match line?.parse().map_err(io::Error::other)? {
            Request::Stats => {
                let stats = HubStats::of(&hub.stats());
                writeln!(output, "stats {}", serde_json::to_string(&stats)?)?;
            }
            Request::Cpu => writeln!(output, "cpu {}", clock::process_cpu().as_nanos())?,
            Request::Counters => {
                writeln!(output, "counters {}", serde_json::to_string(&counters.now())?)?;
            }
            other => return Err(io::Error::other(format!("`{other}`: not of this server"))),
        }
        output.flush()?;
    }
    Ok(())
}

/// As by default, but for what is measured in records and bytes: the scenario may be larger
/// than what they are meant for.
fn hub(setting: &KafkaSetting) -> io::Result<Hub> {
    let access = Access::new([RoleAccess::new("user").joins("user:{subject}").may_join("r:*")]);
    let mut limits = Limits::default();
    limits.log_bytes = limits.log_bytes.max(setting.log_bytes);
    limits.replay_records = limits.replay_records.max(setting.replay_records);
    limits.replay_bytes = setting.replay_bytes.unwrap_or(limits.replay_bytes);
    let keys = Keyring::new('b', SECRET).map_err(io::Error::other)?;
    let hub = Hub::builder(access.map_err(io::Error::other)?).limits(limits).keys(keys);
    hub.readiness(Sockets::new).build()
}

/// An event is for the room that its key names.
fn route(event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
    let key = event.key.as_deref().unwrap_or_default();
    let room = Room::new(&*String::from_utf8_lossy(key))?;
    out.push(Emission::new(room, EVENT, event.json()?));
    Ok(())
}
