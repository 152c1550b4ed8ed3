//! The library as its user has it: the source alone, and all of it up to the sinks.
//!
//! ```text
//! KafkaSource -> JsonPayload -> Shop -> Hub -> orders:all         one desk
//!                                          '-> user:N             a user each
//!                                          '-> orders:cancelled   one warehouse
//! ```
//!
//! The desk checks every record; the others take theirs and count nothing, which the hub does.
//! Frames are those of the native protocol, with their positions.

use std::io::{self, IoSlice, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use axum::{Router as Routes, extract::Request as Http, routing::get};
use fanout::{
    Access, Close, Emission, Event, Gap, Hub, Identity, Input, JsonPayload, Pipeline, RoleAccess,
    Room, RouteError, Router, Session, Sink, Source as _,
};
use futures::future::{BoxFuture, ready};
use kafka_source::{KafkaConfig, KafkaSource, Start};
use serde::Deserialize;
use tokio::runtime::Runtime;
use ws_sink::auth::{AuthError, Authenticator, Credential};
use ws_sink::{Native, Sockets, Ws};

use super::account::{Account, Seen};
use super::job::{Begun, Job, Report};
use super::record::{CANCELLED, Record, SERVICE, SOURCE_HEADER, TYPES, USERS};
use crate::broker;
use crate::in_memory::NullSink;

const ALL: &str = "orders:all";
const ONLY_CANCELLED: &str = "orders:cancelled";
/// How long what was read may take to its last sink.
const PATIENCE: Duration = Duration::from_mins(1);

fn config(job: &Job) -> KafkaConfig {
    let config = broker::config(&job.brokers, &job.topic, job.log_identity.as_deref());
    let properties = job.properties.iter();
    let config = properties.fold(config, |config, (name, value)| config.property(name, value));
    config.start(Start::Earliest)
}

/// The source alone, until the account is full or wrong.
pub(super) fn source(job: &Job, account: &mut Account) -> io::Result<()> {
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let mut source = KafkaSource::start(config(job)).map_err(io::Error::other)?;
        while !account.is_over() {
            let batch = source.next().await.map_err(io::Error::other)?;
            let batch = batch.ok_or_else(|| io::Error::other("the source has ended"))?;
            for event in &batch.events {
                account.take(event.lane.partition as usize, &event.payload);
            }
        }
        Ok(())
    })
}

/// All of it, until every sink has what is for it.
pub(super) fn pipeline(job: &Job, account: Account, output: impl Write) -> io::Result<Report> {
    let runtime = Runtime::new()?;
    let entered = runtime.enter();
    let hub = hub(job)?;
    let checked = runtime.block_on(connect(&hub, job, account))?;
    let addr = if job.sockets { Some(runtime.block_on(serve(&hub))?) } else { None };
    let begun = Begun::now(addr, output)?;
    let source = KafkaSource::start(config(job)).map_err(io::Error::other)?;
    let pipeline = Pipeline::new(source, Shop::new().map_err(io::Error::other)?, hub.clone());
    let (failed, failure) = sync_channel(1);
    runtime.spawn(async move {
        let ended = pipeline.decoder(JsonPayload).run().await;
        let _ = failed.try_send(ended.map_err(|error| error.to_string()));
    });
    drop(entered);
    let mut seen = wait(&checked, &failure)?;
    let wanted = deliveries(job.records, job.connections);
    let deadline = Instant::now() + PATIENCE;
    // Beside the desk's.
    while seen.wrong.is_none() && hub.stats().deliveries < wanted && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let got = hub.stats().deliveries;
    let report = begun.report(seen.clone(), got);
    // Sockets are those of somebody else, who counts himself.
    if seen.wrong.is_none() && !job.sockets && got != wanted {
        seen.wrong = Some(format!("{got} frames were delivered, not {wanted}"));
    }
    Ok(Report { seen, ..report })
}

/// What the desk says in the end.
fn wait(checked: &Receiver<Seen>, failure: &Receiver<Result<(), String>>) -> io::Result<Seen> {
    loop {
        match checked.recv_timeout(Duration::from_millis(100)) {
            Ok(seen) => return Ok(seen),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the desk was disconnected"));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Ok(ended) = failure.try_recv() {
            return Err(io::Error::other(format!("the pipeline has ended: {ended:?}")));
        }
    }
}

/// Frames that the sinks get of so many records.
pub(super) fn deliveries(records: u64, connections: usize) -> u64 {
    let of = |record: Record| {
        let user = record.user() < connections as u64;
        1 + u64::from(user) + u64::from(record.event_type() == CANCELLED)
    };
    (0..records).map(Record::new).map(of).sum()
}

fn hub(job: &Job) -> io::Result<Hub> {
    let access = Access::new([
        RoleAccess::new("user").joins("user:{subject}"),
        RoleAccess::new("desk").joins(ALL),
        RoleAccess::new("warehouse").joins(ONLY_CANCELLED),
    ]);
    let hub = Hub::builder(access.map_err(io::Error::other)?);
    if job.sockets { hub.readiness(Sockets::new).build() } else { hub.build() }
}

/// Lets everybody in; hands back what the desk says in the end.
async fn connect(hub: &Hub, job: &Job, account: Account) -> io::Result<Receiver<Seen>> {
    let native = hub.protocol(Native);
    let (done, checked) = sync_channel(1);
    let (payload, slow) = (job.payload, Duration::from_micros(job.slow_us));
    let desk = Desk { account, payload, slow, done: Some(done) };
    let connected = hub.connect(&native, Identity::new("desk", ["desk"]), desk).await;
    connected.map_err(io::Error::other)?;
    let warehouse = Identity::new("warehouse", ["warehouse"]);
    let connected = hub.connect(&native, warehouse, NullSink::default()).await;
    connected.map_err(io::Error::other)?;
    for user in 0..job.connections.min(USERS as usize) {
        let user = Identity::new(user.to_string(), ["user"]);
        let connected = hub.connect(&native, user, NullSink::default()).await;
        connected.map_err(io::Error::other)?;
    }
    Ok(checked)
}

/// Serves WebSockets to desks.
async fn serve(hub: &Hub) -> io::Result<SocketAddr> {
    let ws = Ws::new(hub, Desks);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let addr = listener.local_addr()?;
    let app = Routes::new().route("/ws", get(async move |request: Http| ws.upgrade(request)));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(addr)
}

/// Whoever comes is a desk.
struct Desks;

impl Authenticator for Desks {
    fn authenticate<'a>(&'a self, _: Credential<'a>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        Box::pin(ready(Ok(Identity::new("desk", ["desk"]))))
    }
}

/// A router as an order server has one: the headers say whether it is for it, the value whom
/// it is for.
struct Shop {
    all: Room,
    cancelled: Room,
}

impl Shop {
    fn new() -> Result<Self, fanout::RoomError> {
        Ok(Self { all: Room::new(ALL)?, cancelled: Room::new(ONLY_CANCELLED)? })
    }
}

/// What it reads of a record.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order<'a> {
    event_type: &'a str,
    user_id: &'a str,
}

impl Router for Shop {
    fn route(&self, event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
        let source = event.header(SOURCE_HEADER).ok_or("no header `source`")?;
        if **source != *SERVICE.as_bytes() {
            return Ok(());
        }
        let key = event.key.clone().ok_or("no key")?;
        let order: Order<'_> = event.parse()?;
        let kind = TYPES.into_iter().find(|kind| *kind == order.event_type);
        let kind = kind.ok_or("an unknown type")?;
        let user = Room::of("user", order.user_id)?;
        let mut emission = Emission::new(user, kind, event.json()?).and_to(self.all.clone());
        if kind == CANCELLED {
            emission = emission.and_to(self.cancelled.clone());
        }
        out.push(emission.with_key(key));
        Ok(())
    }
}

/// Takes every record and checks that each comes once; says so when all have.
struct Desk {
    account: Account,
    payload: usize,
    slow: Duration,
    done: Option<SyncSender<Seen>>,
}

impl Sink for Desk {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = 0;
        for slice in slices {
            let texts = texts(slice, |text| {
                // The value is what a text ends with, but for one brace.
                let end = text.len().saturating_sub(1);
                let value = text.get(end.saturating_sub(self.payload)..end);
                self.account.take_value(value.unwrap_or_default());
                if !self.slow.is_zero() {
                    wait_for(self.slow);
                }
            });
            texts.ok_or_else(|| io::Error::other("no whole text frames"))?;
            taken += slice.len();
        }
        if self.account.is_over()
            && let Some(done) = self.done.take()
        {
            // Whoever waits has room for it, or has gone.
            let _ = done.try_send(self.account.seen());
        }
        Ok(taken)
    }

    fn try_read(&mut self, _: &mut Session<'_>, _: &mut [u8]) -> io::Result<Input> {
        Ok(Input::Blocked)
    }

    fn opened(&mut self, _: &mut Session<'_>) {}

    fn heartbeat(&mut self, _: &mut Session<'_>) {}

    fn gap(&mut self, _: &mut Session<'_>, _: &Gap) {}

    fn closing(&mut self, session: &mut Session<'_>, _: &Close) {
        session.finish();
    }
}

/// As a sink must not: the hub is what is to be slow.
fn wait_for(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// Each whole text frame of these bytes; `None` where there is anything else.
fn texts(mut bytes: &[u8], mut each: impl FnMut(&[u8])) -> Option<()> {
    while !bytes.is_empty() {
        let [0x81, short, rest @ ..] = bytes else { return None };
        let (len, rest) = match short {
            126 => {
                rest.split_first_chunk().map(|(len, rest)| (u16::from_be_bytes(*len).into(), rest))
            }
            127 => rest.split_first_chunk().map(|(len, rest)| (u64::from_be_bytes(*len), rest)),
            len => Some((u64::from(*len), rest)),
        }?;
        let (text, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        each(text);
        bytes = rest;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use ws_sink::codec::encode;

    use super::*;

    #[test]
    fn whole_texts_are_told_apart() {
        let (mut bytes, mut lens) = (BytesMut::new(), Vec::new());
        for len in [0, 125, 126, 70_000] {
            encode::text(&mut bytes, &[&vec![b'x'; len]]);
        }
        assert_eq!(texts(&bytes, |text| lens.push(text.len())), Some(()));
        assert_eq!(lens, [0, 125, 126, 70_000]);
        assert_eq!(texts(&bytes[..bytes.len() - 1], |_| ()), None);
        encode::ping(&mut bytes, b"p").unwrap();
        assert_eq!(texts(&bytes, |_| ()), None);
    }

    #[test]
    fn each_record_is_for_one_to_three() {
        assert_eq!(deliveries(0, 10), 0);
        let (none, all) = (deliveries(1000, 0), deliveries(1000, USERS as usize));
        assert!((1001..1999).contains(&none), "{none}");
        assert_eq!(all, none + 1000);
    }
}
