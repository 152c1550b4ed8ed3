//! Where a set of keys comes from.

use futures::future::BoxFuture;

use super::JwksError;
use super::set::KeySet;

/// What came of asking for a set.
pub(super) enum Loaded {
    Set(KeySet),
    /// It is the one that is known already.
    Unchanged,
}

/// A place that a set is asked for, again and again. It is asked once at a time.
pub(super) trait Source: Send + Sync + 'static {
    /// The set, unless it is known not to have changed; with `force`, in any case.
    fn load(&self, force: bool) -> BoxFuture<'static, Result<Loaded, JwksError>>;
}
