//! How a connection takes frames, and what a shard waits on.
//!
//! A shard calls its sinks; they never call it. A sink that has a socket hands it
//! over to the shard's [`Readiness`], which tells of many sockets at once without a
//! task or a buffer for each. A sink that has none (TLS, memory, another system)
//! keeps the waker that its [`Session`] gives and wakes it when there is something to
//! read, or room to write again.

use std::io::{self, IoSlice};
#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::room::Room;
use crate::session::{Renewed, Session};

/// What is left to read after [`Sink::try_read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Something was read, and there may be more: ask again when it is this
    /// connection's turn.
    More,
    /// Nothing until the socket or the waker says so.
    Blocked,
    /// The peer is gone or has said goodbye: the connection is dropped once what is
    /// still to be written was written.
    Closed,
}

/// One connection's way out, and its way in.
///
/// Every method is called by the one shard that owns the connection, never at the
/// same time, and must not block: other connections wait meanwhile.
///
/// # Contract
/// - Bytes are taken in order, and those that were taken are not given again.
/// - [`try_write`](Sink::try_write) that takes less than all is full. When it can take more, the socket
///   becomes writable or the session's waker is woken, without being asked again.
/// - [`try_read`](Sink::try_read) that answers [`Input::Blocked`] is called again when the socket is
///   readable or the waker was woken.
///
/// `testing::sink_contract` (feature `test-util`) checks it.
pub trait Sink: Send + 'static {
    /// Writes as much of `slices`, in order, as is taken without waiting.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) where nothing was taken; any other
    /// error ends the connection.
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Reads once, at most `scratch` at a time, and acts on what it says through
    /// `session`.
    ///
    /// # Errors
    /// Any error ends the connection.
    fn try_read(&mut self, session: &mut Session<'_>, scratch: &mut [u8]) -> io::Result<Input>;

    /// The connection is in its rooms; the first chance to send.
    fn opened(&mut self, session: &mut Session<'_>);

    /// Called about every heartbeat interval.
    fn heartbeat(&mut self, session: &mut Session<'_>);

    /// Something is missing here, between what was written before and what comes next:
    /// the client has to be told.
    fn gap(&mut self, session: &mut Session<'_>, gap: &Gap);

    /// The identity was changed from outside: a role of it was taken away. It has left rooms,
    /// and may see another view; the session has what is left. Not called for what the sink
    /// itself asked for by [`Session::renew`]. Nothing, by default.
    fn renewed(&mut self, _session: &mut Session<'_>, _renewed: &Renewed) {}

    /// The connection is about to be closed: the last chance to send.
    fn closing(&mut self, session: &mut Session<'_>, close: &Close);

    /// The socket to watch, where there is one.
    #[cfg(unix)]
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// That emissions are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// In which rooms.
    pub rooms: Vec<Room>,
}

impl Gap {
    pub(crate) fn new(reason: GapReason, rooms: Vec<Room>) -> Self {
        Self { reason, rooms }
    }
}

/// Why emissions are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// Older than the source keeps.
    Expired,
    /// More than may be read again for one client, or it could not be read in time.
    Limit,
    /// The cursor is of another log, or cannot be read.
    Reset,
    /// The connection was too slow, and the room's policy drops.
    Overflow,
}

impl GapReason {
    /// Its name, on the wire and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Limit => "limit",
            Self::Reset => "reset",
            Self::Overflow => "overflow",
        }
    }
}

/// Why a connection is closed, in every protocol. How it looks on the wire is the
/// protocol's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Close {
    /// The application has ended it; do not come back.
    Normal,
    /// The peer was silent, or the application goes; come back.
    GoingAway,
    /// This node stops: come back at a random moment within.
    Draining {
        /// The window.
        within: Duration,
    },
    /// Too far behind: come back after, with the cursor.
    Slow {
        /// How long to wait.
        after: Duration,
    },
    /// The identity has ended: come back with a new token.
    TokenExpired,
    /// Too many requests: come back after.
    RateLimited {
        /// How long to wait.
        after: Duration,
    },
    /// Something failed here; come back.
    ServerError,
    /// No identity, or one that cannot be verified.
    Unauthenticated,
    /// The identity may not connect.
    Forbidden,
    /// The peer does not speak the protocol.
    Protocol,
    /// The identity was revoked.
    Revoked,
    /// A code of the transport's own.
    Wire(u16),
}

impl Close {
    /// A short name, for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::GoingAway => "going_away",
            Self::Draining { .. } => "draining",
            Self::Slow { .. } => "slow",
            Self::TokenExpired => "token_expired",
            Self::RateLimited { .. } => "rate_limited",
            Self::ServerError => "server_error",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Protocol => "protocol",
            Self::Revoked => "revoked",
            Self::Wire(_) => "wire",
        }
    }
}

/// Names a connection to a [`Readiness`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// That a socket can be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // Every source of readiness makes these.
pub struct Ready {
    /// Whose.
    pub token: Token,
    /// Something to read, or an end, or an error.
    pub readable: bool,
    /// Room to write, or an error.
    pub writable: bool,
}

/// What a shard waits on beside its log: the sockets of its connections.
///
/// Reading may be told by edges. Writing is asked for as a level: after
/// [`watch`](Readiness::watch) with `write`, an event comes even when the socket had become
/// writable before the call.
pub trait Readiness: Send + 'static {
    /// Whether it watches sockets at all.
    fn watches_sockets(&self) -> bool {
        true
    }

    /// Begins to watch a socket for reading.
    ///
    /// # Errors
    /// Where the system takes no more.
    #[cfg(unix)]
    fn add(&mut self, socket: BorrowedFd<'_>, token: Token) -> io::Result<()>;

    /// Watches a socket that was added for reading, and for writing where asked.
    ///
    /// # Errors
    /// The connection is dropped upon one.
    #[cfg(unix)]
    fn watch(&mut self, socket: BorrowedFd<'_>, token: Token, write: bool) -> io::Result<()>;

    /// Ends watching a socket.
    #[cfg(unix)]
    fn remove(&mut self, socket: BorrowedFd<'_>);

    /// Adds to `ready` what can be read or written; bounded, the rest comes with the
    /// next call. Pending where there is nothing, with the waker kept.
    fn poll_ready(&mut self, cx: &mut Context<'_>, ready: &mut Vec<Ready>) -> Poll<()>;
}

/// Watches no sockets: every sink has a waker.
#[derive(Clone, Copy, Debug, Default)]
pub struct WakersOnly;

impl Readiness for WakersOnly {
    fn watches_sockets(&self) -> bool {
        false
    }

    #[cfg(unix)]
    fn add(&mut self, _: BorrowedFd<'_>, _: Token) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the hub was built without readiness"))
    }

    #[cfg(unix)]
    fn watch(&mut self, _: BorrowedFd<'_>, _: Token, _: bool) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the hub was built without readiness"))
    }

    #[cfg(unix)]
    fn remove(&mut self, _: BorrowedFd<'_>) {}

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &mut Vec<Ready>) -> Poll<()> {
        Poll::Pending
    }
}
