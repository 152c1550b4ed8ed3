//! When a set of keys is asked for, and how long it is believed. Knows the time only as
//! it is told, and does nothing itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::set::{Found, KeySet};
use super::source::Loaded;
use super::{DEFAULT_MAX_STALE, JwksError, RETRY_EVERY, UNKNOWN_KEY_EVERY};
use crate::auth::{Algorithm, AuthError};

pub(super) struct Cache {
    pub(super) every: Duration,
    pub(super) max_stale: Duration,
    /// How long after it was due nobody waits for it.
    grace: Duration,
    keys: Option<KeySet>,
    /// When it was had, or found unchanged, the last time.
    had: Option<Instant>,
    /// When it was asked for the last time.
    tried: Option<Instant>,
    /// When it was asked for out of turn the last time.
    asked: Option<Instant>,
    /// Why it was not had the last time.
    failure: Option<Arc<JwksError>>,
    /// How many loads have ended, without those that found nothing new.
    loads: u64,
}

/// What a set is asked for for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It is time.
    Due,
    /// A token is of a key that is not in it.
    Unknown,
}

impl Cache {
    pub(super) fn new(every: Duration, grace: Duration) -> Self {
        Self {
            every,
            max_stale: DEFAULT_MAX_STALE,
            grace,
            keys: None,
            had: None,
            tried: None,
            asked: None,
            failure: None,
            loads: 0,
        }
    }

    pub(super) fn keys(&self) -> Option<&KeySet> {
        self.keys.as_ref()
    }

    pub(super) fn loads(&self) -> u64 {
        self.loads
    }

    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.had.map(|had| now.duration_since(had))
    }

    pub(super) fn started(&mut self, why: Why, now: Instant) {
        self.tried = Some(now);
        if why == Why::Unknown {
            self.asked = Some(now);
        }
    }

    pub(super) fn settle(&mut self, loaded: Result<Loaded, JwksError>, now: Instant) {
        match loaded {
            Ok(Loaded::Set(keys)) => {
                self.keys = Some(keys);
                self.loads += 1;
            }
            Ok(Loaded::Unchanged) => {}
            Err(error) => {
                // It was had, and the keys of before are not in it.
                if let (JwksError::Unusable(_), Some(keys)) = (&error, &mut self.keys) {
                    *keys = KeySet::default();
                }
                self.failure = Some(Arc::new(error));
                self.loads += 1;
                return;
            }
        }
        self.failure = None;
        self.had = Some(now);
    }

    /// Whether it is time to ask for it.
    pub(super) fn due(&self, now: Instant) -> bool {
        let every = if self.failure.is_some() { RETRY_EVERY } else { self.every };
        self.tried.is_none_or(|tried| now.duration_since(tried) >= every)
    }

    /// Whether it may be asked for out of turn.
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        self.asked.is_none_or(|asked| now.duration_since(asked) >= UNKNOWN_KEY_EVERY)
    }

    /// Whether a load that runs is worth waiting for by who has a key: there is none that
    /// is believed, or it was due long ago, because nobody came. Where it cannot be had
    /// now, nobody waits.
    pub(super) fn outdated(&self, now: Instant) -> bool {
        let late = self.age(now).is_none_or(|age| age >= self.every.saturating_add(self.grace));
        self.usable(now).is_err() || (late && self.failure.is_none())
    }

    /// Whether its keys are believed.
    pub(super) fn usable(&self, now: Instant) -> Result<(), Arc<JwksError>> {
        match self.age(now) {
            Some(age) if age <= self.max_stale => Ok(()),
            Some(_) => Err(Arc::new(JwksError::Stale { max_stale: self.max_stale })),
            None => Err(self.failure.clone().unwrap_or_else(|| Arc::new(JwksError::NotLoaded))),
        }
    }

    pub(super) fn find(&self, algorithm: Algorithm, id: Option<&str>) -> Found<'_> {
        self.keys.as_ref().map_or(Found::None, |keys| keys.find(algorithm, id))
    }

    /// What a token of an unknown key is told.
    pub(super) fn unknown(&self, id: Option<&str>) -> AuthError {
        match (&self.failure, id) {
            // It may be the key that could not be fetched.
            (Some(failure), _) => AuthError::Unavailable(Arc::clone(failure).into()),
            (None, Some(_)) => AuthError::Invalid("`kid` is of no key that fits"),
            (None, None) => AuthError::Invalid("there is no `kid`, and no key fits"),
        }
    }
}
