//! The smallest server that is any use to a load generator: what one says, all in the
//! room hear. No login, no Kafka.
//!
//! ```text
//! cargo run --release -p examples --example broadcast -- --port 3000
//! ```
//!
//! A connection to `ws://127.0.0.1:3000/ws` is in the room `all`; one to
//! `/ws?room=NAME` is in that room instead. Whatever anybody sends as
//!
//! ```text
//! {"event":"publish","data":{"n":1}}                 to the room `all`
//! {"event":"publish","room":"r:7","data":{"n":1}}    to the room `r:7`
//! ```
//!
//! reaches everybody in that room, the sender too where he is in it, in the order of
//! sending:
//!
//! ```text
//! {"event":"message","room":"all","data":{"n":1}}
//! ```
//!
//! The first frame to each client is a `welcome`; every 25 seconds there is a
//! `heartbeat`, and a ping that has to be answered. Frames read together are published
//! as one batch: bursts make it cheaper. Who sends faster than the hub takes is slowed
//! down by TCP.

use axum::{Router, extract::Request, routing::get};
use clap::Parser;
use fanout::{Access, Close, Emission, Hub, Identity, Limits, RequestRate, RoleAccess, Room};
use futures::future::{BoxFuture, FutureExt, ready};
use ws_sink::auth::{AuthError, Authenticator, Credential};
use ws_sink::handshake::Query;
use ws_sink::{ClientEvent, ClientEvents, Rate, Refused, Sender, Sockets, Ws, WsConfig};

#[derive(Parser)]
pub(crate) struct Args {
    /// Where to listen. Nobody logs in: think before you make it reachable from outside.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The port; 0 takes any that is free.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Tasks that share the connections, 1 to 64; as many as processors by default.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=64))]
    shards: Option<u8>,
}

/// Lets everybody in who does not try to log in.
struct Anyone;

impl Authenticator for Anyone {
    fn authenticate<'a>(&'a self, _: Credential<'a>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        ready(Err(AuthError::Invalid("nobody logs in here"))).boxed()
    }

    fn anonymous(&self, query: &Query) -> Option<Identity> {
        let role = if query.rooms.is_empty() { "in-all" } else { "in-room" };
        Some(Identity::new("anyone", [role]))
    }
}

/// Publishes what clients say.
struct Publish {
    hub: Hub,
    all: Room,
}

impl ClientEvents for Publish {
    fn check(&self, _: Sender<'_>, event: &ClientEvent) -> Result<(), Refused> {
        if event.event == "publish" { Ok(()) } else { Err(Refused::Unknown) }
    }

    fn take(
        &self,
        _: Sender<'_>,
        events: Vec<ClientEvent>,
    ) -> BoxFuture<'static, Result<(), Close>> {
        let to = |room: Option<Room>| room.unwrap_or_else(|| self.all.clone());
        let message = |e: ClientEvent| Emission::new(to(e.room), "message", e.data);
        let batch = events.into_iter().map(message).collect();
        let hub = self.hub.clone();
        async move { hub.publish(batch).await.map_err(|_| Close::GoingAway) }.boxed()
    }
}

/// What listens, and what answers there.
pub(crate) async fn server(
    args: &Args,
) -> Result<(tokio::net::TcpListener, Router), Box<dyn std::error::Error>> {
    // A `*` is one segment of a name: these are all names of up to four.
    let anywhere = ["*", "*:*", "*:*:*", "*:*:*:*"];
    let in_room = anywhere.into_iter().fold(RoleAccess::new("in-room"), RoleAccess::may_join);
    let access = Access::new([RoleAccess::new("in-all").joins("all"), in_room])?;
    // A load generator is no stranger: it may publish as fast as it can.
    let mut limits = Limits::default();
    limits.requests = RequestRate { per_second: 10_000_000, burst: 10_000_000 };
    let hub = Hub::builder(access).limits(limits).readiness(Sockets::new);
    let hub = if let Some(shards) = args.shards { hub.shards(shards.into()) } else { hub };
    let hub = hub.build()?;

    let mut config = WsConfig::default();
    // It may open all its connections at once.
    config.pending = 20_000;
    config.frames = Rate::new(10_000_000, 10_000_000);
    let publish = Publish { hub: hub.clone(), all: Room::new("all")? };
    let ws = Ws::with_config(&hub, Anyone, config).with_events(publish);
    let app = Router::new().route("/ws", get(async move |request: Request| ws.upgrade(request)));
    let listener = tokio::net::TcpListener::bind((args.host.as_str(), args.port)).await?;
    Ok((listener, app))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let (listener, app) = server(&Args::parse()).await?;
    println!("ws://{}/ws", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
