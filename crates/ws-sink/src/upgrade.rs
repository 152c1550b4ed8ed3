//! From an HTTP request to a connection of the hub.
//!
//! ```text
//! request --checked--> 101 --upgraded--> credential? --no--> anonymous, or first frame in time
//!    |                                       |                      |
//!    '--> 400 403 426 503                    '----> identity <------'
//!                                                    |      '--> 4500, 4002, 4004
//!                                                    '--> hub, its shard reads on
//! ```
//!
//! A browser cannot read the status of a refused upgrade: whoever is not let in for
//! what he is gets 101, and a close code that says why.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanout::{Close, Hub, Identity, ProtocolRef, Room};
use http::{Request, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::auth::{AuthError, Authenticator, Credential};
use crate::close::Row;
use crate::codec::{Decoder, Limits, Message, encode};
use crate::events::ClientEvents;
use crate::gate::{Gate, Pass, may_enter, unavailable};
use crate::handshake::{Handshake, MAX_ROOMS, Origins, Query, Refusal};
use crate::protocol::{self, Native, Own, Request as Frame};
use crate::sink::{Opening, Shared, WsSink};
#[cfg(unix)]
use crate::socket::Tcp;
use crate::socket::{Socket, Woken};

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
}

impl Default for WsConfig {
    fn default() -> Self {
        Self {
            origins: Origins::default(),
            limits: Limits::default(),
            pending: 1024,
            auth_timeout: Duration::from_secs(5),
            send_buffer: Some(64 * 1024),
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
        let shared =
            Shared { authenticator: Arc::new(authenticator), limits: config.limits, events: None };
        Self(Arc::new(Inner {
            native: hub.protocol(Native),
            hub: hub.clone(),
            shared: Arc::new(shared),
            gate: Gate::new(config.pending, ready),
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
        let permit = match self.0.gate.enter() {
            Ok(permit) => permit,
            Err(shut) => {
                count(shut.name());
                return shut.response();
            }
        };
        let ws = self.clone();
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => ws.open(upgraded, head.headers, query, permit).await,
                Err(error) => tracing::debug!(%error, "upgrade failed"),
            }
        });
        count("upgraded");
        handshake.response()
    }

    async fn open(&self, upgraded: Upgraded, headers: http::HeaderMap, query: Query, permit: Pass) {
        let downcast = tcp(upgraded);
        #[cfg(unix)]
        if self.0.hub.watches_sockets() {
            match downcast {
                Ok((stream, first)) => {
                    self.tune(&stream);
                    return self.admit(stream, &first, headers, query, permit, Tcp::new).await;
                }
                Err(upgraded) => {
                    let (io, woken) = (TokioIo::new(upgraded), |io| Ok(Woken::new(io)));
                    return self.admit(io, &[], headers, query, permit, woken).await;
                }
            }
        }
        match downcast {
            Ok((stream, first)) => {
                self.tune(&stream);
                let woken = |io| Ok(Woken::new(io));
                self.admit(stream, &first, headers, query, permit, woken).await;
            }
            Err(upgraded) => {
                let (io, woken) = (TokioIo::new(upgraded), |io| Ok(Woken::new(io)));
                self.admit(io, &[], headers, query, permit, woken).await;
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
        headers: http::HeaderMap,
        query: Query,
        permit: Pass,
        socket: impl FnOnce(I) -> std::io::Result<S>,
    ) where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let mut decoder = Decoder::default();
        // What came right behind the handshake.
        let mut first = first.to_vec();
        drop(decoder.feed(&mut first, &self.0.config.limits));
        let identified = self.identify(&mut io, &mut decoder, &headers, query);
        let in_time = tokio::time::timeout(self.0.config.auth_timeout, identified).await;
        let identified = in_time.unwrap_or(Err(Some(Close::Unauthenticated)));
        let admitted = identified.and_then(|(identity, opening)| {
            may_enter(&self.0.hub, &identity).map_err(Some)?;
            Ok((identity, opening))
        });
        match admitted {
            Ok((identity, opening)) => match socket(io) {
                Ok(socket) => {
                    let sink = WsSink::new(socket, decoder, self.0.shared.clone(), opening);
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
                    let said = refuse(&mut io, &close);
                    let _ = tokio::time::timeout(self.0.config.auth_timeout, said).await;
                }
            }
        }
        drop(permit);
    }

    /// The identity, from what the request carried or from the first frame. `Err(None)`
    /// where the client has gone.
    async fn identify<I: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: &mut I,
        decoder: &mut Decoder,
        headers: &http::HeaderMap,
        query: Query,
    ) -> Result<(Identity, Opening), Option<Close>> {
        let authenticator = &self.0.shared.authenticator;
        let refused = |error: AuthError| {
            tracing::debug!(%error, "not authenticated");
            Some(error.close())
        };
        let presented = Credential::presented(headers, query.ticket.as_deref());
        let Some(credential) = presented.map_err(refused)? else {
            if let Some(identity) = authenticator.anonymous(&query) {
                let opening = Opening { id: None, cursor: query.cursor, rooms: query.rooms };
                return Ok((identity, opening));
            }
            return self.first_frame(io, decoder, query).await;
        };
        let identity = authenticator.authenticate(credential).await.map_err(refused)?;
        Ok((identity, Opening { id: None, cursor: query.cursor, rooms: query.rooms }))
    }

    async fn first_frame<I: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: &mut I,
        decoder: &mut Decoder,
        query: Query,
    ) -> Result<(Identity, Opening), Option<Close>> {
        let (auth, id) = loop {
            if let Some(auth) = next_auth(io, decoder, &self.0.config.limits).await? {
                break auth;
            }
        };
        let mut opening = Opening { id, cursor: query.cursor, rooms: query.rooms };
        opening.cursor = auth.cursor.or(opening.cursor);
        for room in &auth.rooms {
            let Ok(room) = Room::new(room) else { return Err(Some(Close::Protocol)) };
            if !opening.rooms.contains(&room) {
                opening.rooms.push(room);
            }
        }
        if opening.rooms.len() > MAX_ROOMS {
            return Err(Some(Close::Protocol));
        }
        let credential = Credential::Bearer(&auth.token).checked();
        let identity = match credential {
            Ok(credential) => self.0.shared.authenticator.authenticate(credential).await,
            Err(error) => Err(error),
        };
        let identity = identity.map_err(|error| {
            tracing::debug!(%error, "not authenticated");
            Some(error.close())
        })?;
        Ok((identity, opening))
    }
}

/// The TCP socket under an upgraded connection, with what was read beyond the request.
/// Servers that tell HTTP/1 from HTTP/2 by looking at the first bytes, such as axum's,
/// have it inside of a reader of their own.
fn tcp(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    type Io = TokioIo<TcpStream>;
    match auto::upgrade::downcast::<Io>(upgraded) {
        Ok(parts) => Ok((parts.io.into_inner(), parts.read_buf)),
        Err(upgraded) => {
            let parts = upgraded.downcast::<Io>()?;
            Ok((parts.io.into_inner(), parts.read_buf))
        }
    }
}

/// Reads until there is an `auth` frame; `None` where more has to be read.
async fn next_auth<I: AsyncRead + AsyncWrite + Unpin>(
    io: &mut I,
    decoder: &mut Decoder,
    limits: &Limits,
) -> Result<Option<(protocol::Auth, protocol::Id)>, Option<Close>> {
    let mut buffer = vec![0; 4096];
    let read = if decoder.unread() > 0 {
        0
    } else {
        match io.read(&mut buffer).await {
            Ok(0) | Err(_) => return Err(None),
            Ok(read) => read,
        }
    };
    let mut pongs = bytes::BytesMut::new();
    let mut found = None;
    {
        let mut messages = decoder.feed(&mut buffer[..read], limits);
        loop {
            match messages.next_message() {
                Ok(None) => break,
                Ok(Some(Message::Text(text))) => match protocol::request(text) {
                    Ok((Frame::Own(Own::Auth(Some(auth))), id)) => {
                        found = Some((auth, id));
                        break;
                    }
                    _ => return Err(Some(Close::Unauthenticated)),
                },
                Ok(Some(Message::Ping(payload))) => {
                    encode::pong(&mut pongs, payload).expect("a ping's payload fits a pong");
                }
                Ok(Some(Message::Close(_))) => return Err(Some(Close::Normal)),
                Ok(Some(_)) => {}
                Err(error) => return Err(Some(error.into())),
            }
        }
    }
    if !pongs.is_empty() && io.write_all(&pongs).await.is_err() {
        return Err(None);
    }
    Ok(found)
}

/// Says why, and waits until the client has heard it: closing a socket that has
/// unread bytes would throw away what was sent.
async fn refuse<I: AsyncRead + AsyncWrite + Unpin>(io: &mut I, close: &Close) {
    if io.write_all(&Row::of(close).frame()).await.is_err() || io.shutdown().await.is_err() {
        return;
    }
    let mut rest = vec![0; 4096];
    while matches!(io.read(&mut rest).await, Ok(read) if read > 0) {}
}

fn count(outcome: &'static str) {
    metrics::counter!("fanout_ws_upgrades_total", "outcome" => outcome).increment(1);
}
