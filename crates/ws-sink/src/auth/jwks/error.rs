//! Why a set of keys cannot be had.

use std::io;
use std::time::Duration;

use super::{LOAD_TIMEOUT, MAX_JWKS_BYTES, MAX_JWKS_KEYS};
use crate::auth::KeyError;

/// Why a set of keys cannot be had. Nothing of a key is in it.
///
/// Where keys were had before, they are kept for a time; see [`Jwks`](super::Jwks).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// The file cannot be read.
    #[error("key set cannot be read")]
    Read(#[source] io::Error),
    /// More than a set of keys has.
    #[error("key set exceeds {MAX_JWKS_BYTES} bytes")]
    TooLarge,
    /// Not a JSON object with an array `keys` of objects, each name once.
    #[error("key set is not JSON of the form `{{\"keys\": [{{..}}]}}`")]
    Malformed,
    /// More than are looked through for each token.
    #[error("key set has {len} keys, at most {MAX_JWKS_KEYS} are taken")]
    TooManyKeys {
        /// How many it has.
        len: usize,
    },
    /// All were passed over, the first of them for this reason.
    #[error("key set has no key that could be used, the first because of: {0}")]
    Unusable(#[source] KeyError),
    /// Not a place that keys may come from.
    #[error("key set cannot come from this URL: {0}")]
    Url(&'static str),
    /// The system's certificates cannot be read, so no server could be believed.
    #[error("certificates of the system cannot be read")]
    Roots(#[source] io::Error),
    /// The server cannot be reached, or is not who it should be.
    #[error("key set cannot be fetched")]
    Fetch(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server says something else. Redirects are not followed.
    #[error("key set was answered with status {status}")]
    Status {
        /// What it was answered with.
        status: u16,
    },
    /// The file system or the server takes too long.
    #[error("key set was not there within {LOAD_TIMEOUT:?}")]
    TimedOut,
    /// It could not be had for so long that the keys of then are no longer believed.
    #[error("key set could not be had for more than {max_stale:?}")]
    Stale {
        /// How long they are believed.
        max_stale: Duration,
    },
    /// It was not had yet, and is not asked for: no runtime is there to do so.
    #[error("key set was not loaded yet")]
    NotLoaded,
}
