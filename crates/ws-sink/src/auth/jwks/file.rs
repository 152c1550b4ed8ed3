//! Keys from a file.
//!
//! The file is looked at often and read when it is another: a new time, length or inode,
//! so that a file that was moved into place (or a link that was turned, as Kubernetes
//! does) counts too. One that is half written is no set and changes nothing.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::SystemTime;

use futures::future::{BoxFuture, FutureExt};

use super::set::{KeySet, Secrets};
use super::source::{Loaded, Source};
use super::{JwksError, MAX_JWKS_BYTES};

pub(super) struct FileSource {
    path: PathBuf,
    /// What the set in use was read from.
    read: Mutex<Option<Stamp>>,
}

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    file: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let file = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let file = 0;
        Self { modified: metadata.modified().ok(), len: metadata.len(), file }
    }
}

impl FileSource {
    pub(super) fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self { path, read: Mutex::default() })
    }

    /// On this thread, which it may block.
    pub(super) fn read(&self, force: bool) -> Result<Loaded, JwksError> {
        // Where a file system hangs, the one thread that hangs with it is enough.
        let mut read = match self.read.try_lock() {
            Ok(read) => read,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(JwksError::TimedOut),
        };
        let file = File::open(&self.path).map_err(JwksError::Read)?;
        // Of what was opened, not of what may be there by now.
        let stamp = Stamp::of(&file.metadata().map_err(JwksError::Read)?);
        if !force && *read == Some(stamp) {
            return Ok(Loaded::Unchanged);
        }
        let mut json = Vec::new();
        // One more is enough to know that it is too much.
        file.take(MAX_JWKS_BYTES as u64 + 1).read_to_end(&mut json).map_err(JwksError::Read)?;
        let set = KeySet::read(&json, Secrets::Taken)?;
        *read = Some(stamp);
        Ok(Loaded::Set(set))
    }
}

impl Source for Arc<FileSource> {
    fn load(&self, force: bool) -> BoxFuture<'static, Result<Loaded, JwksError>> {
        let this = Arc::clone(self);
        async move {
            match tokio::task::spawn_blocking(move || this.read(force)).await {
                Ok(loaded) => loaded,
                Err(error) => Err(JwksError::Read(error.into())),
            }
        }
        .boxed()
    }
}
