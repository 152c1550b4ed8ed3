//! Who may come in, whichever the way: whether now, how many at a time, and whom the hub
//! would take.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fanout::{AccessError, Close, ConnectError, Hub, Identity};
use http::{Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lets a bounded number of connections be opened at a time, once the source has been
/// read up to where it was at the start. Clones are the same.
#[derive(Clone)]
pub(crate) struct Gate {
    pending: Arc<Semaphore>,
    ready: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// One connection that is being opened, until it is dropped.
pub(crate) type Pass = OwnedSemaphorePermit;

/// Why nobody is let in now. Whoever tries again may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shut {
    NotReady,
    Overloaded,
}

impl Gate {
    pub(crate) fn new(pending: usize, ready: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let pending = Arc::new(Semaphore::new(pending.min(Semaphore::MAX_PERMITS)));
        Self { pending, ready: Arc::new(ready) }
    }

    pub(crate) fn enter(&self) -> Result<Pass, Shut> {
        if !(self.ready)() {
            return Err(Shut::NotReady);
        }
        self.pending.clone().try_acquire_owned().map_err(|_| Shut::Overloaded)
    }
}

impl Shut {
    /// For metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::Overloaded => "overloaded",
        }
    }

    pub(crate) fn response<B: From<String>>(self) -> Response<B> {
        unavailable(&self.to_string())
    }
}

impl fmt::Display for Shut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "not ready yet: try again",
            Self::Overloaded => "too many connections are being opened: try again",
        })
    }
}

pub(crate) fn unavailable<B: From<String>>(why: &str) -> Response<B> {
    let mut response = Response::new(B::from(why.to_owned()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// Whether the hub would take the connection, as far as can be told beforehand:
/// afterwards nothing can be said to the client any more.
pub(crate) fn may_enter(hub: &Hub, identity: &Identity) -> Result<(), Close> {
    match hub.access().rights(identity) {
        Ok(_) => {}
        Err(AccessError::NoRole | AccessError::Subject(_)) => return Err(Close::Forbidden),
        Err(_) => return Err(Close::ServerError),
    }
    match hub.may_connect() {
        Ok(()) => Ok(()),
        Err(ConnectError::Draining) => Err(Close::Draining { within: Duration::from_secs(5) }),
        Err(_) => Err(Close::ServerError),
    }
}
