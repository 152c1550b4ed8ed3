//! One process: store, broker, relay, source, hub and HTTP, from start to drain.
//!
//! ```text
//! REST -> store -> outbox -> relay -> Kafka -> source -> router -> hub -> sockets
//! ```
//!
//! Several of them may share a data folder, where they share a Kafka: then each does
//! everything but to relay, which one does at a time.

mod error;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use fanout::{Hub, JsonPayload, Limits, Pipeline, PipelineStop, Poison, Redaction};
use kafka_source::{
    DeadLetterConfig, DeadLetterStartError, KafkaConfig, KafkaDeadLetters, KafkaSource,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use ws_sink::door::{Door, DoorConfig};
use ws_sink::{Admission, Sse, SseConfig, Ws, WsConfig};

use crate::access;
use crate::auth::ShopAuth;
use crate::config::{Auth, AuthMode, Config, ConfigError};
use crate::control::Control;
use crate::cursor_keys::CursorKeys;
use crate::folder::{DataFolder, FolderError, Use, random_secret};
use crate::http::{self, Peers, Shop, chain};
use crate::kafka::{Broker, ControlTopic, NewTopics};
use crate::rate::RateLimit;
use crate::relay::Relay;
use crate::routing::ShopRouter;
use crate::store::{Place, Store, StoreError, StoreThread};
use crate::verify;
use crate::views;

pub use error::StartError;

/// Within which clients of a stopped server come back: long enough not to come all at
/// once.
const COME_BACK_WITHIN: Duration = Duration::from_secs(3);

/// How often metrics are tidied up.
const UPKEEP: Duration = Duration::from_secs(10);

/// The order server.
#[derive(Clone, Copy, Debug)]
pub struct Server;

/// A server that runs, until it is stopped.
///
/// Dropping it without [`stop`](Self::stop) cuts everybody off; no order is lost.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    broker: Arc<Broker>,
    data: Option<PathBuf>,
    mode: AuthMode,
    tls: bool,
    hub: Hub,
    drain: Duration,
    stop_http: CancellationToken,
    stop_relay: CancellationToken,
    stop_control: CancellationToken,
    stop_pipeline: PipelineStop,
    controls: JoinHandle<()>,
    http: JoinHandle<()>,
    relay: JoinHandle<()>,
    pipeline: JoinHandle<()>,
    store: StoreThread,
    _cut_off: tokio_util::sync::DropGuard,
    _folder: Option<DataFolder>,
}

impl Server {
    /// Starts everything and returns once requests are answered. Kafka need not be
    /// there: `/readyz` tells when it is.
    ///
    /// # Errors
    /// [`StartError`].
    ///
    /// # Cancel safety
    /// Dropping the future gives up what was begun.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        http::install_metrics();
        let auth = config.identity.auth(config.listen)?;
        let control_topic = control_topic(&config)?;
        let drain = Duration::from_secs(config.drain_secs.into());
        let door = config.door(drain)?;
        let peers = Peers { tls: door.tls.is_some(), metrics: config.door.metrics_from()? };
        let data = config.data_folder()?;
        let place = Place::in_folder(&data);
        let folder = match &place {
            Place::Memory => None,
            Place::File(_) => Some(DataFolder::open(&data, folder_use(&config))?),
        };
        let keys = cursor_keys(&config, folder.as_ref())?;
        tracing::debug!(?keys, "cursor keys");
        let mode = auth.mode;
        let secret = secret(auth, folder.as_ref())?;
        let shop_auth = Arc::new(verify::auth(&config.identity, mode, &secret)?);
        let (store, store_thread) =
            Store::open(&place).map_err(|source| no_store(&data, source))?;
        if folder_use(&config) == Use::Alone {
            store.free_lease().await.map_err(|source| no_store(&data, source))?;
        }
        // Before anything runs: an address in use is the commonest mistake.
        let listener = listen(config.address()).await?;
        let addr = listener
            .local_addr()
            .map_err(|source| StartError::Listen { address: config.address(), source })?;

        let cut_off = CancellationToken::new();
        let new = NewTopics { partitions: config.partitions, replication: config.replication };
        let broker = Arc::new(broker(&config, new)?);
        let producer = broker.producer()?;
        let reading = broker.source(config.warm_start());
        let poison = poison(&config, &reading)?;
        let source = KafkaSource::start(reading)?;
        let redaction = views::redaction(&access::policy())?;
        let hub = hub(&config, &keys, redaction.clone())?;
        let (said, says) =
            (KafkaSource::start(broker.control(&control_topic)?)?, broker.producer()?);
        let stop_control = cut_off.child_token();
        let (control, controls) =
            Control::start(says, &control_topic.name, hub.clone(), said, stop_control.clone());
        let pipeline =
            Pipeline::new(source, ShopRouter, hub.clone()).decoder(JsonPayload).poison(poison);
        let (status, stop_pipeline) = (pipeline.status(), pipeline.stopper());

        let reached = status.clone();
        let relay = Relay::new(store.clone(), producer, move || reached.health().connected)
            .map_err(FolderError::from)?;
        let (read, known, said) =
            (status.clone(), control.known(), control.known().status().clone());
        let ready = move || read.health().caught_up && known.all();
        let live = live(&config, &hub, &shop_auth, &door.admission, ready);
        let cursor = hub.clone();
        let shop = Arc::new(Shop {
            store,
            auth: shop_auth,
            access: access::policy(),
            mode,
            origins: config.origins(),
            tax: config.tax_percent,
            currency: config.currency.clone(),
            limit: RateLimit::per_second("write", config.write_rate),
            logins: RateLimit::per_second("login", config.door.login_rate(config.listen)),
            redaction,
            peers,
            control,
            source: status,
            relay: relay.status(),
            cursor: Box::new(move || cursor.cursor().to_string()),
            started: Instant::now(),
        });
        let app = http::routes(shop, live);

        let (stop_http, stop_relay) = (cut_off.child_token(), cut_off.child_token());
        let (keeping, stop_keeping) = (broker.clone(), cut_off.child_token());
        tokio::spawn(
            async move { keeping.keep_topics(new, control_topic, said, stop_keeping).await },
        );
        tokio::spawn(upkeep(cut_off.child_token()));
        let tls = door.tls.is_some();
        let http = serve(door, listener, app, stop_http.clone());
        Ok(Running {
            addr,
            broker,
            data: folder.as_ref().map(|_| data),
            mode,
            tls,
            hub,
            drain,
            http: tokio::spawn(http),
            relay: tokio::spawn(relay.run(stop_relay.clone())),
            pipeline: tokio::spawn(run_pipeline(pipeline, cut_off.clone())),
            store: store_thread,
            controls,
            stop_http,
            stop_relay,
            stop_control,
            stop_pipeline,
            _cut_off: cut_off.drop_guard(),
            _folder: folder,
        })
    }
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The broker that events go through.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Where orders are kept; `None` for nowhere.
    pub fn data(&self) -> Option<&Path> {
        self.data.as_deref()
    }

    /// Whether it speaks TLS.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// Who may log in.
    pub fn mode(&self) -> AuthMode {
        self.mode
    }

    /// The hub: what is connected and delivered.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Stops in the order of the events' way, so that nothing is cut off by what comes
    /// before it: requests are answered to their end, orders published, sockets told
    /// to come back. Each step takes at most the configured time; orders that could
    /// not be published are published after the next start.
    ///
    /// # Cancel safety
    /// Dropping the future cuts off what has not ended yet.
    pub async fn stop(self) {
        self.stop_http.cancel();
        // Sockets are not requests: they are drained while requests end.
        let sockets = self.hub.drain(COME_BACK_WITHIN, self.drain);
        let requests = ended(self.http, self.drain, "requests");
        tokio::join!(sockets, requests);
        self.stop_relay.cancel();
        ended(self.relay, self.drain, "relay").await;
        self.stop_pipeline.stop();
        ended(self.pipeline, self.drain, "pipeline").await;
        self.stop_control.cancel();
        ended(self.controls, self.drain, "controls").await;
        if tokio::time::timeout(self.drain, self.store.join()).await.is_err() {
            tracing::warn!("the store is still busy");
        }
    }
}

/// Waits for a task, and ends it where it takes too long.
async fn ended<T>(mut task: JoinHandle<T>, patience: Duration, what: &str) {
    match tokio::time::timeout(patience, &mut task).await {
        Ok(Err(error)) if error.is_panic() => tracing::error!(%error, "{what}: panicked"),
        Ok(_) => {}
        Err(_) => {
            tracing::warn!("{what}: cut off after {patience:?}");
            task.abort();
            let _ = task.await;
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| StartError::Listen { address, source })
}

fn no_store(data: &Path, source: StoreError) -> StartError {
    StartError::Store { place: data.display().to_string(), source }
}

async fn serve(door: DoorConfig, listener: TcpListener, app: Router, stop: CancellationToken) {
    Door::new(door).serve(listener, app, stop.cancelled_owned()).await;
}

fn broker(config: &Config, new: NewTopics) -> Result<Broker, StartError> {
    match &config.kafka {
        Some(brokers) => {
            let properties = config.kafka_properties()?;
            Ok(Broker::Remote { brokers: brokers.clone(), properties })
        }
        None => Ok(Broker::embedded(new)?),
    }
}

/// An embedded broker is seen by its own process only.
fn folder_use(config: &Config) -> Use {
    if config.kafka.is_some() { Use::Shared } else { Use::Alone }
}

fn control_topic(config: &Config) -> Result<ControlTopic, ConfigError> {
    let name = config.identity.control_topic()?.to_owned();
    Ok(ControlTopic { name, life: config.identity.revocation_life() })
}

fn poison(config: &Config, reading: &KafkaConfig) -> Result<Poison, DeadLetterStartError> {
    let Some(topic) = &config.dead_letters else { return Ok(Poison::Skip) };
    let letters = KafkaDeadLetters::start(DeadLetterConfig::new(reading, topic))?;
    Ok(Poison::DeadLetters(Box::new(letters)))
}

/// The given secret, or that of the folder, or one that ends with the process; none where
/// tokens are signed with private keys elsewhere.
fn secret(auth: Auth, folder: Option<&DataFolder>) -> Result<Vec<u8>, StartError> {
    Ok(match (auth.secret, folder) {
        (Some(secret), _) => secret,
        (None, _) if auth.mode == AuthMode::Jwt => Vec::new(),
        (None, Some(folder)) => folder.secret()?,
        (None, None) => random_secret().map_err(FolderError::from)?,
    })
}

/// The given keys, or those of the folder, or such as end with the process.
fn cursor_keys(config: &Config, folder: Option<&DataFolder>) -> Result<CursorKeys, StartError> {
    match (config.cursor_keys()?, folder) {
        (Some(keys), _) => Ok(keys),
        (None, Some(folder)) => Ok(folder.cursor_keys()?),
        (None, None) => Ok(CursorKeys::random().map_err(FolderError::from)?),
    }
}

fn hub(config: &Config, keys: &CursorKeys, redaction: Redaction) -> Result<Hub, StartError> {
    let mut limits = Limits::default();
    limits.log_bytes = config.log_bytes();
    limits.log_age = config.log_age();
    limits.replay_records = config.replay_records.into();
    limits.connections = config.door.max_connections as usize;
    limits.requests = config.door.requests();
    limits.expiry_grace = config.identity.expiry_grace();
    limits.revocation_life = config.identity.revocation_life();
    config.bounds.of_hub(&mut limits);
    let builder =
        Hub::builder(access::policy()).limits(limits).keys(keys.ring()?).redaction(redaction);
    #[cfg(unix)]
    let builder = builder.readiness(ws_sink::Sockets::new);
    builder.build().map_err(StartError::Hub)
}

/// Where browsers connect, and those that only listen. Refuses until the sources have caught
/// up once: before, old events would look live, and who was revoked would get in.
fn live(
    config: &Config,
    hub: &Hub,
    auth: &Arc<ShopAuth>,
    admission: &Admission,
    ready: impl Fn() -> bool + Clone + Send + Sync + 'static,
) -> Router<Arc<Shop>> {
    let (mut ws, mut sse) = (WsConfig::default(), SseConfig::default());
    (ws.origins, sse.origins) = (config.origins(), config.origins());
    (ws.admission, sse.admission) = (admission.clone(), admission.clone());
    ws.frames = config.door.frames();
    config.bounds.of_ws(&mut ws);
    config.bounds.of_sse(&mut sse);
    let ws = Ws::gated(hub, auth.clone(), ws, ready.clone());
    let sse = Sse::gated(hub, auth.clone(), sse, ready);
    Router::new()
        .route("/ws", get(async move |request: Request| ws.upgrade(request)))
        .route("/events", get(async move |request: Request| sse.respond(request)))
}

async fn run_pipeline(pipeline: Pipeline<KafkaSource, ShopRouter>, cut_off: CancellationToken) {
    tokio::select! {
        () = cut_off.cancelled() => {}
        ended = pipeline.run() => if let Err(error) = ended {
            tracing::error!(error = %chain(&error), "no more events are read; restart the server");
        }
    }
}

async fn upkeep(stop: CancellationToken) {
    while tokio::time::timeout(UPKEEP, stop.cancelled()).await.is_err() {
        http::install_metrics();
    }
}
