//! Server-Sent Events: the native protocol's objects to clients that only listen, for
//! networks that break WebSocket, for `EventSource` and for `curl`.
//!
//! ```text
//! request --checked--> 200, body --> credential? --no--> anonymous, or 4500
//!    |                                   |                   |
//!    '--> 400 403 405 406 503            '---> identity <----'
//!                                                |    '--> event `close`: 4500, 4002, ...
//!                                                '--> hub, its shard writes to the body
//! ```
//!
//! An `EventSource` comes back by itself unless it was answered with an HTTP error, and then
//! never again: whoever is not let in for what he is gets 200, and an event that says why.
//!
//! | module | owns |
//! |---|---|
//! | `request` | what asks for events |
//! | `stream` | how events look on the wire |
//! | `sink` | one stream as a sink of the hub |
//! | `pipe` | the bytes between the sink and the body, bounded |
//! | `body` | the body that the server writes |

mod body;
mod pipe;
mod request;
mod sink;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use fanout::{Close, Hub, Identity, ProtocolRef};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response};

use crate::admission::{Admission, Refused, SubjectPlace};
use crate::auth::{AuthError, Authenticator, Credential};
use crate::door::{Client, Held};
use crate::gate::{Gate, Pass, Places, may_enter};
use crate::handshake::{Origins, Query};
use crate::sink::Opening;
use pipe::Writer;
use request::EVENT_STREAM;
use sink::SseSink;

pub use body::EventBody;
pub use stream::EventStream;

/// What an [`Sse`] lets in. Each bound has a default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SseConfig {
    /// Pages that may connect: by default those of the same host, and what is no page.
    pub origins: Origins,
    /// Connections that may be authenticating at a time; more get 503. 1,024.
    pub pending: usize,
    /// How long it may take to find out who a client is. 5 s.
    pub auth_timeout: Duration,
    /// Bytes that may be on their way to one client, beside what the kernel has of them.
    /// There is no buffer while there are none. 32 KiB.
    pub buffer: usize,
    /// How many may come in, and how often. To be shared with the
    /// [`Door`](crate::door::Door) and with [`WsConfig`](crate::WsConfig).
    pub admission: Admission,
}

impl Default for SseConfig {
    fn default() -> Self {
        Self {
            origins: Origins::default(),
            pending: 1024,
            auth_timeout: Duration::from_secs(5),
            buffer: 32 * 1024,
            admission: Admission::default(),
        }
    }
}

/// Server-Sent Events, for one hub. Clones are the same.
///
/// ```no_run
/// use axum::{Router, extract::Request, routing::get};
/// # fn app(hub: fanout::Hub, tokens: ws_sink::auth::Hs256) -> Router {
/// let sse = ws_sink::Sse::new(&hub, tokens);
/// Router::new().route("/events", get(async move |request: Request| sse.respond(request)))
/// # }
/// ```
#[derive(Clone)]
pub struct Sse(Arc<Inner>);

struct Inner {
    hub: Hub,
    protocol: ProtocolRef,
    authenticator: Arc<dyn Authenticator>,
    config: SseConfig,
    gate: Gate,
}

impl std::fmt::Debug for Sse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sse").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Sse {
    /// With the default bounds.
    pub fn new(hub: &Hub, authenticator: impl Authenticator) -> Self {
        Self::with_config(hub, authenticator, SseConfig::default())
    }

    /// With these bounds.
    pub fn with_config(hub: &Hub, authenticator: impl Authenticator, config: SseConfig) -> Self {
        Self::gated(hub, authenticator, config, || true)
    }

    /// Answers 503 while `ready` says no: before the source has been read up to where
    /// it was at the start, old events would look live.
    pub fn gated(
        hub: &Hub,
        authenticator: impl Authenticator,
        config: SseConfig,
        ready: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            protocol: hub.protocol(EventStream),
            hub: hub.clone(),
            authenticator: Arc::new(authenticator),
            gate: Gate::new(config.pending, config.admission.clone(), ready),
            config,
        }))
    }

    /// Answers a request for events. A task of its own finds out who asks, then a shard
    /// has the connection and the task ends; the body is what the server writes.
    ///
    /// Any server that takes an HTTP body will do, over any version of HTTP. Layers that
    /// compress or collect bodies must leave this one alone. CORS headers are the
    /// application's.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn respond<B>(&self, request: Request<B>) -> Response<EventBody> {
        let (mut head, _) = request.into_parts();
        let query = match request::check(&mut head, &self.0.config.origins) {
            Ok(query) => query,
            Err(refused) => {
                count("refused");
                return refused.response();
            }
        };
        let patience = self.0.hub.limits().close_timeout;
        let (writer, reader) = pipe::pipe(self.0.config.buffer, patience);
        let response = stream_of(EventBody::events(reader));
        if head.method == Method::HEAD {
            return response;
        }
        let client = head.extensions.remove::<Client>();
        let pass = match self.0.gate.enter(client.as_ref()) {
            Ok(pass) => pass,
            Err(shut) => {
                count(shut.name());
                return shut.response();
            }
        };
        // At once: some proxies wait for a first byte.
        writer.push(&stream::retry());
        let sse = self.clone();
        let client = client.map(Client::into_held);
        tokio::spawn(async move { sse.open(writer, head.headers, query, client, pass).await });
        count("opened");
        response
    }

    /// Finds out who is there, and hands the connection to the hub.
    async fn open(
        &self,
        writer: Writer,
        headers: HeaderMap,
        query: Query,
        client: Option<Held>,
        pass: Pass,
    ) {
        let admitted = tokio::select! {
            () = writer.gone() => return,
            admitted = self.admit(&headers, query) => admitted,
        };
        match admitted {
            Ok((identity, opening, subject)) => {
                let places = Places { _client: client, _subject: subject };
                let sink = SseSink::new(writer, opening, places);
                if let Err(error) = self.0.hub.connect(&self.0.protocol, identity, sink).await {
                    count("not_connected");
                    tracing::debug!(%error, "connection not taken");
                }
            }
            Err(close) => {
                count("not_admitted");
                writer.push(&stream::close(&close));
            }
        }
        drop(pass);
    }

    async fn admit(
        &self,
        headers: &HeaderMap,
        query: Query,
    ) -> Result<(Identity, Opening, Option<SubjectPlace>), Close> {
        let identified = self.identify(headers, &query);
        let in_time = tokio::time::timeout(self.0.config.auth_timeout, identified).await;
        let (identity, shown) = in_time.unwrap_or(Err(Close::ServerError))?;
        may_enter(&self.0.hub, &identity)?;
        let subject = shown.then(|| self.0.config.admission.subject(&identity.subject));
        let subject = subject.transpose().map_err(Refused::close)?;
        let opening = Opening { id: None, cursor: query.cursor, rooms: query.rooms };
        Ok((identity, opening, subject))
    }

    /// Who it is, and whether a credential has shown it.
    async fn identify(
        &self,
        headers: &HeaderMap,
        query: &Query,
    ) -> Result<(Identity, bool), Close> {
        let refused = |error: AuthError| {
            tracing::debug!(%error, "not authenticated");
            error.close()
        };
        let authenticator = &self.0.authenticator;
        let presented = Credential::presented(headers, query.ticket.as_deref());
        match presented.map_err(refused)? {
            Some(credential) => {
                let identity = authenticator.authenticate(credential).await.map_err(refused)?;
                Ok((identity, true))
            }
            None => {
                authenticator.anonymous(query).map(|who| (who, false)).ok_or(Close::Unauthenticated)
            }
        }
    }
}

fn stream_of(body: EventBody) -> Response<EventBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // What nginx asks about before it collects a response.
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    response
}

fn count(outcome: &'static str) {
    metrics::counter!("fanout_sse_requests_total", "outcome" => outcome).increment(1);
}
