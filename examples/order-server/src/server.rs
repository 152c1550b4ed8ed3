//! One process: store, broker, relay, source, hub and HTTP, from start to drain.
//!
//! ```text
//! REST -> store -> outbox -> relay -> Kafka -> source -> router -> hub -> sockets
//! ```
//!
//! Several of them may share a data folder, where they share a Kafka: then each does
//! everything but to relay, which one does at a time.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::routing::get;
use axum::serve::ListenerExt;
use fanout::{Hub, JsonPayload, KeyError, Limits, Pipeline, PipelineStop, Poison, SourceStatus};
use kafka_source::{
    DeadLetterConfig, DeadLetterStartError, EmbeddedError, KafkaDeadLetters, KafkaSource,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use ws_sink::{Sse, SseConfig, Ws, WsConfig};

use crate::access;
use crate::auth::ShopAuth;
use crate::config::{AuthMode, Config, ConfigError};
use crate::cursor_keys::CursorKeys;
use crate::folder::{DataFolder, FolderError, Use, random_secret};
use crate::http::{self, Shop, chain};
use crate::kafka::properties::PropertyError;
use crate::kafka::{Broker, NewTopics};
use crate::rate::RateLimit;
use crate::relay::Relay;
use crate::routing::ShopRouter;
use crate::store::{Place, Store, StoreError, StoreThread};

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
    hub: Hub,
    drain: Duration,
    stop_http: CancellationToken,
    stop_relay: CancellationToken,
    stop_pipeline: PipelineStop,
    http: JoinHandle<io::Result<()>>,
    relay: JoinHandle<()>,
    pipeline: JoinHandle<()>,
    store: StoreThread,
    _cut_off: tokio_util::sync::DropGuard,
    _folder: Option<DataFolder>,
}

/// Why a server was not started. What was begun has been given up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The database cannot be used.
    #[error("database in {place}")]
    Store {
        /// Where it is.
        place: String,
        /// Why.
        source: StoreError,
    },
    /// Somebody else listens there, or it is no address of this machine.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The embedded broker did not start.
    #[error("the embedded broker did not start")]
    Broker(#[from] EmbeddedError),
    /// The source was refused its configuration, such as an empty `--kafka`.
    #[error("Kafka cannot be read")]
    Source(#[from] kafka_source::StartError),
    /// Dead letters cannot be written there, such as to a topic that is read.
    #[error("--dead-letters")]
    DeadLetters(#[from] DeadLetterStartError),
    /// librdkafka refused the relay's configuration.
    #[error("Kafka cannot be written to")]
    Producer(#[from] kafka_source::ConfigError),
    /// A property of librdkafka cannot be given.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// The keys of cursors are too many.
    #[error("cursor keys")]
    Keys(#[from] KeyError),
    /// The hub has nothing to wait on.
    #[error("the hub did not start")]
    Hub(#[source] io::Error),
    /// The secret is too short.
    #[error(transparent)]
    Secret(#[from] ws_sink::auth::SecretError),
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
        let auth = config.auth()?;
        let data = config.data_folder()?;
        let place = Place::in_folder(&data);
        let folder = match &place {
            Place::Memory => None,
            Place::File(_) => Some(DataFolder::open(&data, folder_use(&config))?),
        };
        let secret = match (auth.secret, &folder) {
            (Some(secret), _) => secret,
            (None, Some(folder)) => folder.secret()?,
            (None, None) => random_secret().map_err(FolderError::from)?,
        };
        let keys = cursor_keys(&config, folder.as_ref())?;
        tracing::debug!(?keys, "cursor keys");
        let life = Duration::from_secs(60 * u64::from(config.token_minutes));
        let shop_auth = Arc::new(ShopAuth::new(&secret, life)?);
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
        let poison = match &config.dead_letters {
            Some(topic) => Poison::DeadLetters(Box::new(KafkaDeadLetters::start(
                DeadLetterConfig::new(&reading, topic),
            )?)),
            None => Poison::Skip,
        };
        let source = KafkaSource::start(reading)?;
        let hub = hub(&config, &keys)?;
        let pipeline =
            Pipeline::new(source, ShopRouter, hub.clone()).decoder(JsonPayload).poison(poison);
        let (status, stop_pipeline) = (pipeline.status(), pipeline.stopper());

        let reached = status.clone();
        let relay = Relay::new(store.clone(), producer, move || reached.health().connected)
            .map_err(FolderError::from)?;
        let ws = socket(&config, &hub, shop_auth.clone(), status.clone());
        let sse = events(&config, &hub, shop_auth.clone(), status.clone());
        let cursor = hub.clone();
        let shop = Arc::new(Shop {
            store,
            auth: shop_auth,
            access: access::policy(),
            mode: auth.mode,
            origins: config.origins(),
            tax: config.tax_percent,
            currency: config.currency.clone(),
            limit: RateLimit::per_second(config.write_rate),
            source: status,
            relay: relay.status(),
            cursor: Box::new(move || cursor.cursor().to_string()),
            started: Instant::now(),
        });
        let ws = get(async move |request: Request| ws.upgrade(request));
        let sse = get(async move |request: Request| sse.respond(request));
        let app = http::routes(shop).route("/ws", ws).route("/events", sse);

        let (stop_http, stop_relay) = (cut_off.child_token(), cut_off.child_token());
        let creating = broker.clone();
        let stop_creating = cut_off.child_token();
        tokio::spawn(async move { creating.create_topics(new, stop_creating).await });
        tokio::spawn(upkeep(cut_off.child_token()));
        let serve = axum::serve(listener.tap_io(nodelay), app)
            .with_graceful_shutdown(stop_http.clone().cancelled_owned());
        Ok(Running {
            addr,
            broker,
            data: folder.as_ref().map(|_| data),
            mode: auth.mode,
            hub,
            drain: Duration::from_secs(config.drain_secs.into()),
            http: tokio::spawn(serve.into_future()),
            relay: tokio::spawn(relay.run(stop_relay.clone())),
            pipeline: tokio::spawn(run_pipeline(pipeline, cut_off.clone())),
            store: store_thread,
            stop_http,
            stop_relay,
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

fn nodelay(stream: &mut tokio::net::TcpStream) {
    // A connection that is gone already is noticed when it is read.
    let _ = stream.set_nodelay(true);
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

/// The given keys, or those of the folder, or such as end with the process.
fn cursor_keys(config: &Config, folder: Option<&DataFolder>) -> Result<CursorKeys, StartError> {
    match (config.cursor_keys()?, folder) {
        (Some(keys), _) => Ok(keys),
        (None, Some(folder)) => Ok(folder.cursor_keys()?),
        (None, None) => Ok(CursorKeys::random().map_err(FolderError::from)?),
    }
}

fn hub(config: &Config, keys: &CursorKeys) -> Result<Hub, StartError> {
    let mut limits = Limits::default();
    limits.log_bytes = config.log_bytes();
    limits.log_age = config.log_age();
    limits.replay_records = config.replay_records.into();
    let builder = Hub::builder(access::policy()).limits(limits).keys(keys.ring()?);
    #[cfg(unix)]
    let builder = builder.readiness(ws_sink::Sockets::new);
    builder.build().map_err(StartError::Hub)
}

/// Where browsers connect. Refuses until the source has caught up once: before, old
/// events would look live.
fn socket(config: &Config, hub: &Hub, auth: Arc<ShopAuth>, source: SourceStatus) -> Ws {
    let mut ws = WsConfig::default();
    ws.origins = config.origins();
    Ws::gated(hub, auth, ws, move || source.health().caught_up)
}

/// Where those connect that only listen.
fn events(config: &Config, hub: &Hub, auth: Arc<ShopAuth>, source: SourceStatus) -> Sse {
    let mut sse = SseConfig::default();
    sse.origins = config.origins();
    Sse::gated(hub, auth, sse, move || source.health().caught_up)
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
