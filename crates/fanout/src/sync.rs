//! The primitives that what is model-checked is written on: std's, or the model
//! checker's under `--cfg fanout_model`.
//!
//! shuttle schedules at its own locks and atomics. Its `Weak` is std's and it has no
//! `OnceLock`, so both are reached through here with an explicit scheduling point.

#[cfg(not(fanout_model))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

#[cfg(fanout_model)]
pub(crate) use shuttle::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use std::sync::{Arc, OnceLock, Weak};

/// Where the model checker may switch to another thread.
#[inline]
pub(crate) fn point() {
    #[cfg(fanout_model)]
    shuttle::thread::yield_now();
}

/// A strong reference, where there is one left.
#[inline]
pub(crate) fn upgrade<T>(weak: &Weak<T>) -> Option<Arc<T>> {
    point();
    weak.upgrade()
}

/// Set once by one thread, read by many.
#[derive(Debug)]
pub(crate) struct Link<T>(OnceLock<T>);

impl<T> Default for Link<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T> Link<T> {
    /// The value, once it was set.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        point();
        self.0.get()
    }

    /// Sets the value; whoever calls is the only one who ever does.
    pub(crate) fn set(&self, value: T) {
        point();
        assert!(self.0.set(value).is_ok(), "a link is set once");
    }

    /// Takes the value out of a link that nobody else can see.
    pub(crate) fn take(&mut self) -> Option<T> {
        self.0.take()
    }
}
