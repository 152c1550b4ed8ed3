//! From an HTTP request to a connection of the hub.
//!
//! ```text
//! request --checked--> 101 --upgraded--> credential? --no--> anonymous, or first frame in time
//!    |                                       |                      |
//!    '--> 400 403 426 429 503                '----> identity <------'
//!                                                    |      '--> 4500, 4002, 4003, 4004
//!                                                    '--> hub, its shard reads on
//! ```
//!
//! `fanout_ws_upgrades_total` counts requests by `outcome`, `fanout_ws_aborted_total` the
//! connections that were ended for what their client sent, by `reason`: `frames`, `codec`,
//! `bad_frames`, `message_timeout`.
//!
//! A browser cannot read the status of a refused upgrade: whoever is not let in for
//! what he is gets 101, and a close code that says why.

mod first_frame;
mod stream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanout::{Close, Hub, Identity, ProtocolRef};
use http::{HeaderMap, Request, Response};
use hyper::upgrade::Upgraded;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::admission::rate::Used;
use crate::admission::{Admission, Rate, Refused};
use crate::auth::{AuthError, Authenticator, Credential};
use crate::codec::{Decoder, Limits};
use crate::door::{Client, Held};
use crate::events::ClientEvents;
use crate::gate::{Gate, Pass, Places, may_enter, unavailable};
use crate::handshake::{Handshake, Origins, Query, Refusal};
use crate::protocol::Native;
use crate::sink::{Newcomer, Opening, Pace, Shared, WsSink};
#[cfg(unix)]
use crate::socket::Tcp;
use crate::socket::{Socket, Woken};
use first_frame::FirstFrame;
use stream::Stream;

/// What a [`Ws`] lets in. Each bound has a default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WsConfig {
    /// Pages that may connect: by default those of the same host, and what is no page.
    pub origins: Origins,
    /// What a client may send.
    pub limits: Limits,
    /// Connections that may be upgrading or authenticating at a time; more get 503.
    /// 1,024.
    pub pending: usize,
    /// How long a client may take from the upgrade until it has said who it is. 5 s.
    pub auth_timeout: Duration,
    /// Bytes of its memory that the kernel may use for a client that does not read, about
    /// half of them for its own book-keeping. `None` leaves it to the kernel, which takes
    /// megabytes. 64 KiB; clients far away with much to get need more.
    pub send_buffer: Option<usize>,
    /// Frames of one client, pings and empty fragments too; one that sends more is closed
    /// with 4003. 100 a second, 500 at once.
    pub frames: Rate,
    /// How long a frame or a message, all its fragments together, may stay incomplete. Seen
    /// to whenever something comes, and at each heartbeat. 10 s.
    pub message_timeout: Duration,
    /// How many may come in, and how often. To be shared with the
    /// [`Door`](crate::door::Door) and with [`SseConfig`](crate::SseConfig).
    pub admission: Admission,
}

impl Default for WsConfig {
    fn default() -> Self {
        Self {
            origins: Origins::default(),
            limits: Limits::default(),
            pending: 1024,
            auth_timeout: Duration::from_secs(5),
            send_buffer: Some(64 * 1024),
            frames: Rate::new(100, 500),
            message_timeout: Duration::from_secs(10),
            admission: Admission::default(),
        }
    }
}

/// The native protocol over WebSocket, for one hub. Clones are the same.
///
/// ```no_run
/// use axum::{Router, extract::Request, routing::get};
/// # fn app(hub: fanout::Hub, tokens: ws_sink::auth::Hs256) -> Router {
/// let ws = ws_sink::Ws::new(&hub, tokens);
/// Router::new().route("/ws", get(async move |request: Request| ws.upgrade(request)))
/// # }
/// ```
#[derive(Clone)]
pub struct Ws(Arc<Inner>);

/// What a client came with, and what it holds until it is in.
struct Arrival {
    headers: HeaderMap,
    query: Query,
    client: Option<Held>,
    _pass: Pass,
}

struct Inner {
    hub: Hub,
    native: ProtocolRef,
    shared: Arc<Shared>,
    config: WsConfig,
    gate: Gate,
}

impl std::fmt::Debug for Ws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ws").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Ws {
    /// With the default bounds.
    pub fn new(hub: &Hub, authenticator: impl Authenticator) -> Self {
        Self::with_config(hub, authenticator, WsConfig::default())
    }

    /// With these bounds.
    pub fn with_config(hub: &Hub, authenticator: impl Authenticator, config: WsConfig) -> Self {
        Self::gated(hub, authenticator, config, || true)
    }

    /// Answers 503 while `ready` says no: before the source has been read up to where
    /// it was at the start, old events would look live.
    pub fn gated(
        hub: &Hub,
        authenticator: impl Authenticator,
        config: WsConfig,
        ready: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let pace = Pace {
            frames: config.frames,
            message_timeout: config.message_timeout,
            retry_after: config.admission.limits().retry_after,
            start: Instant::now(),
        };
        let shared = Shared {
            authenticator: Arc::new(authenticator),
            limits: config.limits,
            events: None,
            pace,
        };
        Self(Arc::new(Inner {
            native: hub.protocol(Native),
            hub: hub.clone(),
            shared: Arc::new(shared),
            gate: Gate::new(config.pending, config.admission.clone(), ready),
            config,
        }))
    }

    /// Takes events of the application's own from clients. Without, or on clones made
    /// before, they are answered with `bad_frame`.
    pub fn with_events(self, events: impl ClientEvents) -> Self {
        let Inner { hub, native, shared, config, gate } = &*self.0;
        Self(Arc::new(Inner {
            hub: hub.clone(),
            native: native.clone(),
            shared: Arc::new(Shared {
                authenticator: shared.authenticator.clone(),
                limits: shared.limits,
                events: Some(Box::new(events)),
                pace: shared.pace,
            }),
            config: config.clone(),
            gate: gate.clone(),
        }))
    }

    /// Answers a request to open a WebSocket. The connection goes on in a task of its
    /// own until it has an identity, then its shard has it and the task ends.
    ///
    /// Any server built on hyper will do: the request has to carry hyper's
    /// [`OnUpgrade`](hyper::upgrade::OnUpgrade), which axum's have.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn upgrade<B>(&self, request: Request<B>) -> Response<String> {
        let (mut head, _) = request.into_parts();
        let checked = Handshake::check(&head, &self.0.config.origins)
            .and_then(|handshake| Ok((handshake, Query::parse(head.uri.query())?)));
        let (handshake, query) = match checked {
            Ok(checked) => checked,
            Err(refusal) => {
                count("refused");
                return Refusal::response(&refusal);
            }
        };
        let Some(upgrade) = head.extensions.remove::<hyper::upgrade::OnUpgrade>() else {
            return unavailable("this server cannot upgrade connections");
        };
        let client = head.extensions.remove::<Client>();
        let pass = match self.0.gate.enter(client.as_ref()) {
            Ok(pass) => pass,
            Err(shut) => {
                count(shut.name());
                return shut.response();
            }
        };
        let ws = self.clone();
        let client = client.map(Client::into_held);
        let arrival = Arrival { headers: head.headers, query, client, _pass: pass };
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => ws.open(upgraded, arrival).await,
                Err(error) => tracing::debug!(%error, "upgrade failed"),
            }
        });
        count("upgraded");
        handshake.response()
    }

    async fn open(&self, upgraded: Upgraded, arrival: Arrival) {
        match stream::of(upgraded) {
            Stream::Tcp(stream, first) => {
                self.tune(&stream);
                #[cfg(unix)]
                if self.0.hub.watches_sockets() {
                    return self.admit(stream, &first, arrival, Tcp::new).await;
                }
                self.admit(stream, &first, arrival, |io| Ok(Woken::new(io))).await;
            }
            #[cfg(feature = "tls")]
            Stream::Tls(stream, first) => {
                self.tune(stream.get_ref().0);
                self.admit(stream, &first, arrival, |io| Ok(Woken::new(io))).await;
            }
            Stream::Other(stream) => {
                self.admit(stream, &[], arrival, |io| Ok(Woken::new(io))).await;
            }
        }
    }

    fn tune(&self, stream: &TcpStream) {
        // Both are for speed and memory alone: the connection works without.
        let _ = stream.set_nodelay(true);
        if let Some(bytes) = self.0.config.send_buffer {
            // Linux takes twice as much as it is asked for: socket(7).
            let bytes = if cfg!(target_os = "linux") { bytes / 2 } else { bytes };
            let _ = socket2::SockRef::from(stream).set_send_buffer_size(bytes);
        }
    }

    /// Finds out who is there, and hands the connection to the hub.
    async fn admit<I, S: Socket>(
        &self,
        mut io: I,
        first: &[u8],
        arrival: Arrival,
        socket: impl FnOnce(I) -> std::io::Result<S>,
    ) where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let mut decoder = Decoder::default();
        // What came right behind the handshake.
        let mut first = first.to_vec();
        drop(decoder.feed(&mut first, &self.0.config.limits));
        let Arrival { headers, query, client, _pass } = arrival;
        // Who is not let in counts until he has gone.
        let _held = client.clone();
        let mut frames = Used::default();
        let reader = FirstFrame {
            io: &mut io,
            decoder: &mut decoder,
            frames: &mut frames,
            shared: &self.0.shared,
        };
        let identified = self.identify(reader, &headers, query);
        let in_time = tokio::time::timeout(self.0.config.auth_timeout, identified).await;
        let identified = in_time.unwrap_or(Err(Some(Close::Unauthenticated)));
        let admitted = identified.and_then(|(identity, opening, shown)| {
            may_enter(&self.0.hub, &identity).map_err(Some)?;
            let place = shown.then(|| self.0.config.admission.subject(&identity.subject));
            let place = place.transpose().map_err(|refused| Some(Refused::close(refused)))?;
            Ok((identity, opening, Places { _client: client, _subject: place }))
        });
        match admitted {
            Ok((identity, opening, places)) => match socket(io) {
                Ok(socket) => {
                    let newcomer = Newcomer { decoder, frames, opening, places };
                    let sink = WsSink::new(socket, self.0.shared.clone(), newcomer);
                    if let Err(error) = self.0.hub.connect(&self.0.native, identity, sink).await {
                        count("not_connected");
                        tracing::debug!(%error, "connection not taken");
                    }
                }
                Err(error) => tracing::debug!(%error, "socket not taken over"),
            },
            Err(close) => {
                count("not_admitted");
                if let Some(close) = close {
                    let said = first_frame::refuse(&mut io, &close);
                    let _ = tokio::time::timeout(self.0.config.auth_timeout, said).await;
                }
            }
        }
    }

    /// The identity, from what the request carried or from the first frame, and whether a
    /// credential has shown it. `Err(None)` where the client has gone.
    async fn identify<I: AsyncRead + AsyncWrite + Unpin>(
        &self,
        reader: FirstFrame<'_, I>,
        headers: &HeaderMap,
        query: Query,
    ) -> Result<(Identity, Opening, bool), Option<Close>> {
        let authenticator = &self.0.shared.authenticator;
        let refused = |error: AuthError| {
            tracing::debug!(%error, "not authenticated");
            Some(error.close())
        };
        let presented = Credential::presented(headers, query.ticket.as_deref());
        let (identity, opening) = if let Some(credential) = presented.map_err(refused)? {
            let identity = authenticator.authenticate(credential).await.map_err(refused)?;
            (identity, Opening { id: None, cursor: query.cursor, rooms: query.rooms })
        } else if let Some(identity) = authenticator.anonymous(&query) {
            let opening = Opening { id: None, cursor: query.cursor, rooms: query.rooms };
            return Ok((identity, opening, false));
        } else {
            let (token, opening) = reader.read(query).await?;
            let credential = Credential::Bearer(&token).checked().map_err(refused)?;
            (authenticator.authenticate(credential).await.map_err(refused)?, opening)
        };
        Ok((identity, opening, true))
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("fanout_ws_upgrades_total", "outcome" => outcome).increment(1);
}
