//! Who may come in, whichever the way: whether now, how many at a time, and whom the hub
//! would take.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fanout::{AccessError, Close, ConnectError, Hub, Identity};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::admission::{Admission, Refused, SubjectPlace};
use crate::door::{Client, Held};

/// Lets a bounded number of connections be opened at a time, once the source has been
/// read up to where it was at the start. Clones are the same.
#[derive(Clone)]
pub(crate) struct Gate {
    pending: Arc<Semaphore>,
    admission: Admission,
    ready: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// One connection that is being opened, until it is dropped.
pub(crate) type Pass = OwnedSemaphorePermit;

/// The places of a connection among those of its client and of its subject, for as long as
/// it lives.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Where it came through a door.
    pub(crate) _client: Option<Held>,
    /// Where it has shown who it is.
    pub(crate) _subject: Option<SubjectPlace>,
}

/// Why nobody is let in now. Whoever tries again may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shut {
    NotReady,
    Overloaded,
    Refused(Refused),
}

impl Gate {
    pub(crate) fn new(
        pending: usize,
        admission: Admission,
        ready: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let pending = Arc::new(Semaphore::new(pending.min(Semaphore::MAX_PERMITS)));
        Self { pending, admission, ready: Arc::new(ready) }
    }

    pub(crate) fn enter(&self, client: Option<&Client>) -> Result<Pass, Shut> {
        if !(self.ready)() {
            return Err(Shut::NotReady);
        }
        self.admission.upgrade(client.map(|client| client.address)).map_err(Shut::Refused)?;
        self.pending.clone().try_acquire_owned().map_err(|_| Shut::Overloaded)
    }
}

impl Shut {
    /// For metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::Overloaded => "overloaded",
            Self::Refused(_) => "rate_limited",
        }
    }

    pub(crate) fn response<B: From<String>>(self) -> Response<B> {
        match self {
            Self::Refused(refused) => refused.response(),
            Self::NotReady | Self::Overloaded => unavailable(&self.to_string()),
        }
    }
}

impl fmt::Display for Shut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("not ready yet: try again"),
            Self::Overloaded => f.write_str("too many connections are being opened: try again"),
            Self::Refused(refused) => refused.fmt(f),
        }
    }
}

pub(crate) fn unavailable<B: From<String>>(why: &str) -> Response<B> {
    let mut response = Response::new(B::from(why.to_owned()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Whether the hub would take the connection, as far as can be told beforehand:
/// afterwards nothing can be said to the client any more.
pub(crate) fn may_enter(hub: &Hub, identity: &Identity) -> Result<(), Close> {
    match hub.validate(identity.clone()) {
        Ok(_) => {}
        Err(ConnectError::Revoked) => return Err(Close::Revoked),
        Err(ConnectError::Outdated) => return Err(Close::TokenExpired),
        Err(ConnectError::Access(AccessError::NoRole | AccessError::Subject(_))) => {
            return Err(Close::Forbidden);
        }
        Err(_) => return Err(Close::ServerError),
    }
    match hub.may_connect() {
        Ok(()) => Ok(()),
        Err(ConnectError::Draining) => Err(Close::Draining { within: Duration::from_secs(5) }),
        Err(_) => Err(Close::ServerError),
    }
}
