//! Sets of public keys that change while the server runs.
//!
//! A provider rotates its keys: it adds one, signs with it, and takes the old one away.
//! The set is asked for again so often that a key that was taken away soon counts no
//! more, and out of turn for a token of an unknown key; never by two at a time, and for
//! unknown keys at most once a minute, or whoever makes up key names would have the
//! provider flooded. While it cannot be had the keys of before are kept, but not for ever.
//!
//! ```text
//! Empty --loaded--> Fresh --due--> loading --loaded--> Fresh
//!   |                 ^              '--failed--> kept --max_stale--> Stale
//!   '--failed: retried'                            '------loaded-------'-> Fresh
//! ```
//!
//! Invariants: at most one load runs; the lock is held over no await; a load belongs to
//! nobody who waits for it.

mod cache;
mod error;
mod file;
mod set;
mod source;
#[cfg(feature = "jwks-url")]
mod url;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use self::cache::{Cache, Why};
use self::file::FileSource;
use self::set::{Found, KeySet};
use self::source::{Loaded, Source};
use super::AuthError;
use super::keys::{Algorithm, Key, KeyError};

pub use error::JwksError;

/// Most bytes of a set of keys.
pub const MAX_JWKS_BYTES: usize = 256 * 1024;

/// Most keys of a set.
pub const MAX_JWKS_KEYS: usize = 64;

/// How often a set is asked for out of turn, for a token of an unknown key, at most.
pub const UNKNOWN_KEY_EVERY: Duration = Duration::from_secs(60);

/// How often a URL is asked while all goes well, where nothing else is said.
pub const DEFAULT_REFRESH_EVERY: Duration = Duration::from_secs(600);

/// How soon a source that failed is asked again, at the earliest.
pub const RETRY_EVERY: Duration = Duration::from_secs(10);

/// How long keys are believed that cannot be asked for again, where nothing else is said.
pub const DEFAULT_MAX_STALE: Duration = Duration::from_secs(24 * 3600);

/// How long a source may take.
pub const LOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A set of public keys from a file or a URL (RFC 7517), read again as it changes.
///
/// - A token with `kid` is checked with the key of that name, one without with the only
///   key that fits the algorithm; where several fit it is refused.
/// - Keys for other uses, algorithms and curves are passed over, as are private and weak
///   ones, with a line in the log. A set has at most [`MAX_JWKS_KEYS`] keys and
///   [`MAX_JWKS_BYTES`] bytes.
/// - It is asked for when it is used: a URL every [`refresh_every`](Self::refresh_every),
///   a file when it changes (looked at once a second), both for an unknown key at most once
///   in [`UNKNOWN_KEY_EVERY`]. However many tokens wait, there is one request.
/// - When it cannot be had, its keys are kept for [`max_stale`](Self::max_stale), and after
///   that tokens are [`AuthError::Unavailable`].
///
/// Metrics: `fanout_jwks_refreshes_total{outcome}` (`loaded`, `unchanged`, `failed`),
/// `fanout_jwks_age_seconds` (since it was last had, or found unchanged).
///
/// ```no_run
/// use ws_sink::auth::{Algorithm, Jwks, Jwt, Keys};
///
/// # fn run() -> Result<Jwt, Box<dyn std::error::Error>> {
/// let jwks = Jwks::file("/etc/shop/jwks.json")?;
/// let jwt = Jwt::new(Algorithm::Rs256, Keys::jwks(jwks))?.audience("realtime");
/// # Ok(jwt)
/// # }
/// ```
#[derive(Clone)]
pub struct Jwks(Arc<Shared>);

struct Shared {
    source: Box<dyn Source>,
    /// Whether a secret can be in it.
    secrets: bool,
    state: Mutex<State>,
}

struct State {
    cache: Cache,
    /// Who waits for the load that runs; its sender goes away when it has ended, however
    /// it has.
    load: Option<watch::Receiver<()>>,
}

impl State {
    /// The load that runs.
    fn running(&self) -> Option<watch::Receiver<()>> {
        self.load.as_ref().filter(|load| load.has_changed().is_ok()).cloned()
    }
}

impl Jwks {
    /// From a file, which is read now.
    ///
    /// # Errors
    /// [`JwksError`] where it cannot be read or has no usable key.
    pub fn file(path: impl Into<PathBuf>) -> Result<Self, JwksError> {
        let source = FileSource::new(path.into());
        let loaded = source.read(true)?;
        let jwks = Self::new(source, LOOK_EVERY, Duration::ZERO, true);
        jwks.0.lock().cache.started(Why::Due, Instant::now());
        jwks.0.settle(Ok(loaded));
        Ok(jwks)
    }

    /// From a URL: `https`, or `http` of a loopback address. It is asked for with the
    /// first token, or with [`loaded`](Self::loaded). Only with the feature `jwks-url`.
    ///
    /// The certificate has to be good by the system's own roots (or those of
    /// `SSL_CERT_FILE`). Redirects are not followed, secrets (`oct`) not taken.
    ///
    /// ```
    /// use ws_sink::auth::{Algorithm, Jwks, Jwt, Keys};
    ///
    /// # async fn run() -> Result<Jwt, Box<dyn std::error::Error>> {
    /// let jwks = Jwks::url("https://login.shop.example/.well-known/jwks.json")?;
    /// if let Err(error) = jwks.loaded().await {
    ///     // Tokens are `Unavailable` until it can be had.
    ///     eprintln!("{error}");
    /// }
    /// # Ok(Jwt::new(Algorithm::Es256, Keys::jwks(jwks))?)
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`JwksError::Url`] for another URL, [`JwksError::Roots`] where the certificates of
    /// the system cannot be read.
    #[cfg(feature = "jwks-url")]
    pub fn url(url: &str) -> Result<Self, JwksError> {
        let source = url::UrlSource::new(url)?;
        Ok(Self::new(source, DEFAULT_REFRESH_EVERY, UNKNOWN_KEY_EVERY, false))
    }

    fn new(source: impl Source, every: Duration, grace: Duration, secrets: bool) -> Self {
        let state = Mutex::new(State { cache: Cache::new(every, grace), load: None });
        Self(Arc::new(Shared { source: Box::new(source), secrets, state }))
    }

    /// Sets how often it is asked for while all goes well, at least a second:
    /// [`DEFAULT_REFRESH_EVERY`] for a URL, and for a file every second, to see whether it
    /// has changed. A key that was taken away counts for that long at most, and a minute.
    pub fn refresh_every(self, every: Duration) -> Self {
        self.0.lock().cache.every = every.max(LOOK_EVERY);
        self
    }

    /// Sets how long keys are believed when they cannot be had again:
    /// [`DEFAULT_MAX_STALE`] where nothing else is said.
    pub fn max_stale(self, stale: Duration) -> Self {
        self.0.lock().cache.max_stale = stale;
        self
    }

    /// Waits until it is loaded, for a start that needs it.
    ///
    /// # Errors
    /// Why it could not be had. A token asks again, after [`RETRY_EVERY`].
    ///
    /// # Cancel safety
    /// Nothing is lost: it goes on being loaded.
    pub async fn loaded(&self) -> Result<(), Arc<JwksError>> {
        let load = {
            let mut state = self.0.lock();
            let now = Instant::now();
            match state.cache.usable(now) {
                Ok(()) => return Ok(()),
                Err(_) => state.running().or_else(|| self.start(&mut state, Why::Due, now)),
            }
        };
        if let Some(load) = load {
            wait(load).await;
        }
        self.0.lock().cache.usable(Instant::now())
    }

    /// Whether a token of this algorithm could ever be checked with it.
    pub(super) fn fits(&self, algorithm: Algorithm) -> Result<(), KeyError> {
        if algorithm == Algorithm::Hs256 && !self.0.secrets {
            return Err(KeyError::SecretFromUrl);
        }
        match self.0.lock().cache.keys() {
            Some(keys) if !keys.fits(algorithm) => Err(KeyError::NoneFits { wanted: algorithm }),
            _ => Ok(()),
        }
    }

    /// The key of a token.
    pub(super) async fn key(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> Result<Key, AuthError> {
        let mut seen = None;
        // At most one turn to see whether it has changed, and one to ask out of turn.
        for _ in 0..2 {
            match self.look(algorithm, id, &mut seen) {
                Look::Done(answer) => return answer,
                Look::Wait(load) => wait(load).await,
            }
        }
        match self.look(algorithm, id, &mut Some(u64::MAX)) {
            Look::Done(answer) => answer,
            Look::Wait(_) => Err(self.0.lock().cache.unknown(id)),
        }
    }

    /// The key, or the load that could bring it. `seen` is how many loads had ended when
    /// the token came: who has waited for one knows all that there is to know.
    fn look(&self, algorithm: Algorithm, id: Option<&str>, seen: &mut Option<u64>) -> Look {
        let mut state = self.0.lock();
        let now = Instant::now();
        let loads = state.cache.loads();
        let last = *seen.get_or_insert(loads) != loads;
        if let Some(age) = state.cache.age(now) {
            metrics::gauge!("fanout_jwks_age_seconds").set(age.as_secs_f64());
        }
        let mut running = state.running();
        if running.is_none() && state.cache.due(now) {
            running = self.start(&mut state, Why::Due, now);
        }
        if last {
            running = None;
        }
        if let Some(load) = running.take_if(|_| state.cache.outdated(now)) {
            return Look::Wait(load);
        }
        if let Err(error) = state.cache.usable(now) {
            return Look::Done(Err(AuthError::Unavailable(error.into())));
        }
        match state.cache.find(algorithm, id) {
            Found::One(key) => return Look::Done(Ok(key.clone())),
            Found::Several => return Look::Done(Err(several(id))),
            Found::None => {}
        }
        if running.is_none() && !last && state.cache.may_ask(now) {
            running = self.start(&mut state, Why::Unknown, now);
        }
        match running {
            Some(load) => Look::Wait(load),
            None => Look::Done(Err(state.cache.unknown(id))),
        }
    }

    /// Has it loaded by a task of its own, so that nobody who goes away takes the load of
    /// others along. `None` outside of a runtime.
    fn start(&self, state: &mut State, why: Why, now: Instant) -> Option<watch::Receiver<()>> {
        let runtime = Handle::try_current().ok()?;
        let (ended, load) = watch::channel(());
        state.cache.started(why, now);
        state.load = Some(load.clone());
        let shared = Arc::clone(&self.0);
        runtime.spawn(async move {
            let load = shared.source.load(why == Why::Unknown);
            let loaded = tokio::time::timeout(LOAD_TIMEOUT, load).await;
            shared.settle(loaded.unwrap_or(Err(JwksError::TimedOut)));
            drop(ended);
        });
        Some(load)
    }
}

enum Look {
    Done(Result<Key, AuthError>),
    Wait(watch::Receiver<()>),
}

/// Until the load has ended, well or not: its sender is gone then.
async fn wait(mut load: watch::Receiver<()>) {
    while load.changed().await.is_ok() {}
}

fn several(id: Option<&str>) -> AuthError {
    AuthError::Invalid(match id {
        Some(_) => "several keys have the name that `kid` says",
        None => "there is no `kid`, and several keys fit",
    })
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, loaded: Result<Loaded, JwksError>) {
        let outcome = match &loaded {
            Ok(Loaded::Set(keys)) => {
                tracing::info!(keys = keys.len(), "key set loaded");
                "loaded"
            }
            Ok(Loaded::Unchanged) => "unchanged",
            Err(error) => {
                let causes = causes(error);
                tracing::warn!(%error, causes, "key set cannot be had: the keys of before stay");
                "failed"
            }
        };
        metrics::counter!("fanout_jwks_refreshes_total", "outcome" => outcome).increment(1);
        let mut state = self.lock();
        let now = Instant::now();
        state.cache.settle(loaded, now);
        state.load = None;
        if let Some(age) = state.cache.age(now) {
            metrics::gauge!("fanout_jwks_age_seconds").set(age.as_secs_f64());
        }
    }
}

/// What is beneath an error: that a server was not believed, and why, is at the bottom.
fn causes(error: &JwksError) -> String {
    let mut causes = Vec::new();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        causes.push(error.to_string());
        source = error.source();
    }
    causes.join(": ")
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.lock().cache.keys().map(KeySet::len);
        f.debug_struct("Jwks").field("keys", &keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
