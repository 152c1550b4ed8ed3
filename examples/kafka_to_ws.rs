//! A topic of Kafka to browsers: each record to the room that its key names.
//!
//! ```text
//! cargo run -p examples --example kafka_to_ws -- \
//!     --kafka 127.0.0.1:9092 --topic chat --secret "at least thirty-two bytes of a secret"
//! ```
//!
//! A record with the key `room:7` and a JSON value reaches everybody who has joined
//! `room:7`; whoever has a token (HS256, claims `sub`, `roles: ["member"]`, `exp`) may
//! join. Without `--kafka` a broker inside of this process is used, and a record is
//! written every second.

use std::time::Duration;

use axum::{Router, extract::Request, routing::get};
use clap::Parser;
use fanout::{
    Access, Emission, Event, Hub, Identity, JsonPayload, Pipeline, RoleAccess, Room, RouteError,
};
use kafka_source::rdkafka::ClientConfig;
use kafka_source::rdkafka::producer::{FutureProducer, FutureRecord};
use kafka_source::{EmbeddedBroker, KafkaConfig, KafkaSource};
use ws_sink::auth::Hs256;
use ws_sink::{Sockets, Ws};

#[derive(Parser)]
struct Args {
    /// Bootstrap servers, `host:port` with commas between.
    #[arg(long)]
    kafka: Option<String>,
    /// The topic to read.
    #[arg(long, default_value = "chat")]
    topic: String,
    /// What tokens are signed with, at least 32 bytes.
    #[arg(long, default_value = "an example's secret: take your own")]
    secret: String,
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: String,
}

/// The record's key is the room, its value is passed on as it is.
fn route(event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
    let key = event.key.as_deref().ok_or("a record without a key")?;
    out.push(Emission::new(Room::new(std::str::from_utf8(key)?)?, "message", event.json()?));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let args = Args::parse();
    let embedded = if args.kafka.is_none() { Some(EmbeddedBroker::start()?) } else { None };
    let config = match (&args.kafka, &embedded) {
        (Some(brokers), _) => KafkaConfig::new(brokers),
        (None, Some(broker)) => {
            broker.create_topic(&args.topic, 3)?;
            tokio::spawn(chatter(broker.bootstrap_servers().to_owned(), args.topic.clone()));
            broker.config()
        }
        (None, None) => unreachable!("one of the two is there"),
    };
    let source = KafkaSource::start(config.topic(&args.topic))?;

    let access = Access::new([RoleAccess::new("member").joins("everyone").may_join("room:*")])?;
    let hub = Hub::builder(access).readiness(Sockets::new).build()?;
    let pipeline = Pipeline::new(source, route, hub.clone()).decoder(JsonPayload);
    let (status, stop) = (pipeline.status(), pipeline.stopper());
    let running = tokio::spawn(pipeline.run());

    let tokens = Hs256::new(args.secret.as_bytes())?;
    let day = std::time::SystemTime::now() + Duration::from_secs(24 * 3600);
    let ann = Identity::new("ann", ["member"]).with_expiry(Some(day));
    println!("a token for ann: {}", tokens.sign(&ann, &serde_json::Map::new())?);
    let ws =
        Ws::gated(&hub, tokens, ws_sink::WsConfig::default(), move || status.health().caught_up);
    let app = Router::new()
        .route("/", get(async || "open the console of this page"))
        .route("/ws", get(async move |request: Request| ws.upgrade(request)));
    let listener = tokio::net::TcpListener::bind(&args.listen).await?;
    println!("ws://{}/ws", listener.local_addr()?);
    tokio::select! {
        served = axum::serve(listener, app) => served?,
        _ = tokio::signal::ctrl_c() => {}
    }
    stop.stop();
    running.await??;
    // Everybody is told to come back, to another node.
    hub.drain(Duration::from_secs(2), Duration::from_secs(5)).await;
    Ok(())
}

/// Writes a record a second.
async fn chatter(brokers: String, topic: String) {
    let producer = ClientConfig::new().set("bootstrap.servers", brokers).create::<FutureProducer>();
    let Ok(producer) = producer else { return };
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    for n in 0_u64.. {
        seconds.tick().await;
        let payload = format!("{{\"n\":{n}}}");
        let record = FutureRecord::to(&topic).key("room:7").payload(&payload);
        if let Err((error, _)) = producer.send(record, Duration::from_secs(5)).await {
            eprintln!("not written: {error}");
        }
    }
}
