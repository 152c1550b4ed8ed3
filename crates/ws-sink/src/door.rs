//! The door: a server loop for strangers, in place of `axum::serve`.
//!
//! hyper answers requests well, but it lets a client hold a connection for ever by doing
//! nothing, and takes as many as come. Here every wait has an end and every number a bound:
//!
//! ```text
//! accept --> place? --no--> 503 or 429, gone within a second
//!              |
//!              yes --> TLS in time --> headers in time, few and small --> address of the
//!                                          |          client --> place? --no--> 429
//!                                          '--> 431, 414            |
//!                                                                   yes --> the application
//! ```
//!
//! Each request carries a [`Client`]: the address that it came from, and the place that it
//! has among the connections. [`Ws`](crate::Ws) and [`Sse`](crate::Sse) keep it for as long as
//! theirs lives, so a connection counts until it is gone, also after its upgrade.
//!
//! | module | owns |
//! |---|---|
//! | `client` | whose connection or request it is |
//! | `proxies` | whom to believe when he says for whom he asks |
//! | `connection` | one connection, from its first byte until it ends or is upgraded |
//! | `service` | what is checked of each request |
//! | `body` | a request's body, in time |
//! | `io` | a socket that has to take what is written |
//! | `refuse` | an answer without a server |
//! | `tls` | certificates (feature `tls`) |
//!
//! Metrics: `fanout_door_connections`; `fanout_door_refused_total` by `limit`;
//! `fanout_door_aborted_total` by `reason`; `fanout_door_accept_errors_total`;
//! `fanout_door_bad_forwarded_total`; `fanout_door_tls_reloads_total` by `outcome`.

mod body;
mod client;
mod connection;
mod io;
mod proxies;
mod refuse;
mod service;
#[cfg(feature = "tls")]
mod tls;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanout::Throttle;
use http::{Request, Response};
use hyper::body::Body;
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower_service::Service;

use crate::admission::Admission;
use client::Peer;

pub use body::RequestBody;
pub use client::Client;
pub(crate) use client::Held;
pub(crate) use io::Timed;
pub use proxies::{ForwardedHeader, ProxyError, TrustedProxies};
#[cfg(feature = "tls")]
pub use tls::{TlsConfig, TlsError};

/// What hyper asks for, to hold a whole header in its buffer.
const LEAST_BUFFER: usize = 8 * 1024;

/// After an accept that failed for want of something: it will be wanting still.
const BREATH: Duration = Duration::from_millis(100);

/// Between two looks at the certificate's files.
#[cfg(feature = "tls")]
const LOOK: Duration = Duration::from_secs(60);

/// The times and sizes of a [`Door`]; how many may come in is its [`Admission`]'s. Each has a
/// default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DoorConfig {
    /// How many may come in. Shared with `WsConfig::admission` and `SseConfig::admission`.
    pub admission: Admission,
    /// Whom to believe when he says for whom he asks. By default nobody.
    pub trusted_proxies: TrustedProxies,
    /// How long a client may take until all headers of a request are there: from its
    /// connection on, and after each answer, so idle connections are kept no longer. 10 s.
    pub header_timeout: Duration,
    /// How long a client may take for the body of a request; the application's reading ends
    /// with an error then. 30 s.
    pub body_timeout: Duration,
    /// How long a client may take nothing of what is written to it before its connection is
    /// dropped. Upgraded connections have `fanout::Limits::write_timeout`. 30 s.
    pub write_timeout: Duration,
    /// Most headers of a request; more are answered with 431. 64.
    pub max_headers: usize,
    /// Most bytes of a request's line and headers, cookies included; more are answered with
    /// 431. At least 8 KiB. 32 KiB.
    pub max_header_bytes: usize,
    /// Most bytes of a request's address, its query included; more are answered with 414.
    /// 16 KiB: a cursor and a ticket may have 8 KiB each.
    pub max_target_bytes: usize,
    /// Connections that are being told why they are not let in, for a second at most; more
    /// are dropped without a word. 64.
    pub refusals: usize,
    /// How long requests that are under way when the server stops may take. 10 s.
    pub shutdown_timeout: Duration,
    /// The certificate; without one the door speaks plain HTTP.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsConfig>,
    /// How long a client may take for the TLS handshake. 5 s.
    #[cfg(feature = "tls")]
    pub handshake_timeout: Duration,
}

impl Default for DoorConfig {
    fn default() -> Self {
        Self {
            admission: Admission::default(),
            trusted_proxies: TrustedProxies::default(),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            max_headers: 64,
            max_header_bytes: 32 * 1024,
            max_target_bytes: 16 * 1024,
            refusals: 64,
            shutdown_timeout: Duration::from_secs(10),
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "tls")]
            handshake_timeout: Duration::from_secs(5),
        }
    }
}

/// Lets connections in, and has a service answer their requests. Clones are the same.
///
/// ```no_run
/// use axum::{Router, extract::Request, routing::get};
/// use ws_sink::door::{Door, DoorConfig};
/// use ws_sink::{Ws, WsConfig};
///
/// # async fn run(hub: fanout::Hub, tokens: ws_sink::auth::Hs256) -> std::io::Result<()> {
/// let (door, mut config) = (DoorConfig::default(), WsConfig::default());
/// config.admission = door.admission.clone();
/// let ws = Ws::with_config(&hub, tokens, config);
/// let app = Router::new().route("/ws", get(async move |r: Request| ws.upgrade(r)));
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
/// Door::new(door).serve(listener, app, std::future::pending()).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Door(Arc<Shared>);

/// What all connections of a door share.
#[derive(Debug)]
struct Shared {
    config: DoorConfig,
    http: http1::Builder,
    refusals: Arc<Semaphore>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Door {
    /// With these bounds.
    pub fn new(config: DoorConfig) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_headers(config.max_headers)
            .max_header_size(config.max_header_bytes.max(LEAST_BUFFER))
            .max_buf_size(config.max_header_bytes.max(LEAST_BUFFER));
        let refusals = Arc::new(Semaphore::new(config.refusals.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Shared { config, http, refusals }))
    }

    /// Its bounds.
    pub fn config(&self) -> &DoorConfig {
        &self.0.config
    }

    /// Serves what comes to `listener` until `shutdown` is done; then nobody is let in, and
    /// requests under way are finished, in [`DoorConfig::shutdown_timeout`]. Connections that
    /// were upgraded are the hub's, and streams of events end with it: drain it meanwhile.
    ///
    /// `service` is anything that answers requests as an `axum::Router` does.
    ///
    /// # Cancel safety
    /// Dropping the future drops every connection that is not upgraded.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn serve<S, B>(
        &self,
        listener: TcpListener,
        service: S,
        shutdown: impl Future<Output = ()>,
    ) where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let (stop, stopped) = watch::channel(());
        let mut connections = JoinSet::new();
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.0.config.tls {
            connections.spawn(tls.clone().follow(LOOK, stopped.clone()));
        }
        let mut trouble = Throttle::new(1, Duration::from_secs(10));
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    self.take(stream, peer.ip(), &service, &stopped, &mut connections);
                }
                // Gone before it was accepted: accept(2).
                Err(error) if is_peers(&error) => {}
                Err(error) => {
                    metrics::counter!("fanout_door_accept_errors_total").increment(1);
                    if let Some(before) = trouble.pass(Instant::now()) {
                        tracing::warn!(%error, before, "no connection accepted: too few descriptors?");
                    }
                    tokio::select! {
                        () = &mut shutdown => break,
                        () = tokio::time::sleep(BREATH) => {}
                    }
                }
            }
        }
        drop((listener, stopped));
        let _ = stop.send(());
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.0.config.shutdown_timeout, ended).await.is_err() {
            tracing::warn!(left = connections.len(), "requests cut off: the server stops");
        }
        connections.shutdown().await;
    }

    /// Lets one in, or not.
    fn take<S, B>(
        &self,
        stream: TcpStream,
        address: std::net::IpAddr,
        service: &S,
        stop: &watch::Receiver<()>,
        connections: &mut JoinSet<()>,
    ) where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        match Peer::enter(address, &self.0.config) {
            Ok(peer) => {
                // For speed alone.
                let _ = stream.set_nodelay(true);
                let serve =
                    connection::serve(stream, peer, service.clone(), self.0.clone(), stop.clone());
                connections.spawn(serve);
            }
            Err(refused) => {
                #[cfg(feature = "tls")]
                if self.0.config.tls.is_some() {
                    // To say it would cost a handshake.
                    return;
                }
                if let Ok(permit) = self.0.refusals.clone().try_acquire_owned() {
                    connections.spawn(refuse::tell(stream, refused, permit));
                }
            }
        }
    }
}

fn is_peers(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Counts a connection that was ended from here.
fn aborted(reason: &'static str) {
    metrics::counter!("fanout_door_aborted_total", "reason" => reason).increment(1);
}
