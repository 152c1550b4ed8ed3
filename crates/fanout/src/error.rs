//! Why a hub refuses.

use crate::revoked::Void;
use crate::role::{AccessError, View};

/// Why [`Hub::publish`](crate::Hub::publish) refused emissions. None of them was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Retrying cannot help.
    #[error("event `{event}`: a body of {len} bytes exceeds {max}")]
    TooLarge {
        /// Which emission.
        event: String,
        /// How large.
        len: usize,
        /// How large it may be.
        max: usize,
    },
    /// No role of the access policy sees this view, so that it would reach nobody.
    #[error("event `{event}`: no role sees the view `{view}`")]
    UnknownView {
        /// Which emission.
        event: String,
        /// Which view.
        view: View,
    },
    /// It is for nobody.
    #[error("event `{event}`: no room")]
    NoRoom {
        /// Which emission.
        event: String,
    },
    /// Shutting down; another node may take them.
    #[error("the hub is shutting down")]
    Closed,
}

/// Why [`Hub::connect`](crate::Hub::connect) let nobody in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The identity may not connect; retrying cannot help.
    #[error("the identity may not connect")]
    Access(#[from] AccessError),
    /// The identity was revoked: a new one is needed, which its subject may not get.
    #[error("the identity was revoked")]
    Revoked,
    /// The identity is from before a time up to which more was revoked than is remembered:
    /// a new token is needed.
    #[error("the identity is too old: a new token is needed")]
    Outdated,
    /// As many connections as there may be; another node may take it.
    #[error("already {max} connections")]
    Full {
        /// How many that is.
        max: usize,
    },
    /// Shutting down; another node may take it.
    #[error("the hub is shutting down")]
    Draining,
    /// The socket cannot be watched.
    #[error("the socket cannot be watched")]
    Readiness(#[source] std::io::Error),
}

impl From<Void> for ConnectError {
    fn from(void: Void) -> Self {
        match void {
            Void::Revoked => Self::Revoked,
            Void::Outdated => Self::Outdated,
        }
    }
}
