//! The data folder: who may use it at once, and what is made in it once.
//!
//! ```text
//! lock         held alone with the embedded broker, shared with --kafka
//! orders.db    the database, and what SQLite keeps beside it
//! secret       of the development login
//! cursor-keys  where none are given
//! ```
//!
//! Servers that write to one Kafka share a folder: one of them relays at a time
//! ([`relay`](crate::relay)). An embedded broker is seen by its own process only, so that
//! two of them on one folder would each have half of the events.
//!
//! What is made once is written to a file of another name and linked to its own, which
//! fails where somebody else came first; then that one's is read. Nobody ever reads half
//! of it, and all that share the folder sign and seal with the same.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::cursor_keys::{CursorKeys, KeysError};
use crate::order::random_id;

/// Who else may use the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Nobody: the broker is embedded.
    Alone,
    /// Those who share it too.
    Shared,
}

/// A data folder that this server uses, until it is dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    // Unlocked when closed, also when the process is killed.
    _lock: File,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// This server has an embedded broker, and others are there.
    #[error(
        "data folder {0} is in use by another order-server, and with the embedded broker a \
         folder belongs to one alone; stop the other, give another --data, or let all of them \
         use one Kafka with --kafka"
    )]
    InUse(PathBuf),
    /// Who is there has an embedded broker.
    #[error(
        "data folder {0} is in use by an order-server with an embedded broker, which shares it \
         with nobody; start that one with --kafka too, or give another --data"
    )]
    HeldAlone(PathBuf),
    /// Something in it cannot be made, read or written.
    #[error("data folder: {path}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The secret is not what was written there.
    #[error(
        "data folder: {path} has {len} bytes and not {SECRET_BYTES}; delete it, and a new one is \
         made: then everybody logs in again"
    )]
    Secret {
        /// Where it is.
        path: PathBuf,
        /// How many it has.
        len: usize,
    },
    /// The keys are not what was written there.
    #[error("data folder: {path}")]
    Keys {
        /// Where they are.
        path: PathBuf,
        /// What is wrong.
        source: KeysError,
    },
    /// The system gives no random numbers.
    #[error("no random numbers for a secret")]
    Random(#[from] getrandom::Error),
}

impl DataFolder {
    /// Makes the folder where it is missing, for its owner only, and takes it.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(path: &Path, how: Use) -> Result<Self, FolderError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| FolderError::Io { path, source }
        };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).map_err(failed(path))?;
        let name = path.join("lock");
        let mut options = File::options();
        let lock = options.create(true).truncate(false).write(true).open(&name);
        let lock = lock.map_err(failed(&name))?;
        let taken = match how {
            Use::Alone => lock.try_lock(),
            Use::Shared => lock.try_lock_shared(),
        };
        match (taken, how) {
            (Ok(()), _) => Ok(Self { path: path.to_owned(), _lock: lock }),
            (Err(TryLockError::WouldBlock), Use::Alone) => Err(FolderError::InUse(path.to_owned())),
            (Err(TryLockError::WouldBlock), Use::Shared) => {
                Err(FolderError::HeldAlone(path.to_owned()))
            }
            (Err(TryLockError::Error(source)), _) => Err(failed(&name)(source)),
        }
    }

    /// The secret kept here, made by whoever comes first: tokens survive a restart, and
    /// are good at every server of the folder.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn secret(&self) -> Result<Vec<u8>, FolderError> {
        let (path, secret) = self.kept("secret", random_secret)?;
        match secret.len() {
            SECRET_BYTES => Ok(secret),
            len => Err(FolderError::Secret { path, len }),
        }
    }

    /// The keys of cursors kept here, made by whoever comes first: a client resumes after
    /// a restart, and at every server of the folder.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn cursor_keys(&self) -> Result<CursorKeys, FolderError> {
        let (path, text) = self
            .kept("cursor-keys", || Ok(format!("{}\n", CursorKeys::random_line()?).into_bytes()))?;
        CursorKeys::parse(&text).map_err(|source| FolderError::Keys { path, source })
    }

    /// What this file holds, made where it is missing.
    fn kept(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Vec<u8>, getrandom::Error>,
    ) -> Result<(PathBuf, Vec<u8>), FolderError> {
        let path = self.path.join(name);
        let failed = |source| FolderError::Io { path: path.clone(), source };
        match fs::read(&path) {
            Ok(bytes) => return Ok((path, bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let draft = self.path.join(random_id(&format!("{name}."), 8)?);
        let linked = write_new(&draft, &make()?).and_then(|()| fs::hard_link(&draft, &path));
        // Nobody knows of it but this call.
        let _ = fs::remove_file(&draft);
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
        let bytes = fs::read(&path).map_err(failed)?;
        Ok((path, bytes))
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

const SECRET_BYTES: usize = 48;

/// A secret that nobody knows and that is kept nowhere.
///
/// # Errors
/// Where the system gives no random numbers.
pub fn random_secret() -> Result<Vec<u8>, getrandom::Error> {
    let mut secret = vec![0; SECRET_BYTES];
    getrandom::fill(&mut secret)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    /// A path in a folder that goes with its test.
    struct Nested(PathBuf);

    impl Nested {
        fn new() -> Self {
            Self(std::env::temp_dir().join(random_id("order-server-test-", 8).unwrap()))
        }

        fn path(&self) -> PathBuf {
            self.0.join("nested")
        }
    }

    impl Drop for Nested {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn many_share_a_folder_or_one_has_it_alone() {
        let nested = Nested::new();
        let open = |how| DataFolder::open(&nested.path(), how);
        let alone = open(Use::Alone).unwrap();
        assert!(matches!(open(Use::Alone), Err(FolderError::InUse(_))));
        assert!(matches!(open(Use::Shared), Err(FolderError::HeldAlone(_))));
        drop(alone);
        let (one, other) = (open(Use::Shared).unwrap(), open(Use::Shared).unwrap());
        drop(one);
        let refused = open(Use::Alone).unwrap_err();
        assert!(refused.to_string().contains("--kafka"), "{refused}");
        drop(other);
        open(Use::Alone).unwrap();
    }

    #[test]
    fn what_is_made_once_is_kept_for_its_owner_only() {
        let nested = Nested::new();
        let folder = DataFolder::open(&nested.path(), Use::Alone).unwrap();
        let (secret, keys) = (folder.secret().unwrap(), folder.cursor_keys().unwrap());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            let path = nested.path();
            assert_eq!(mode(&path), 0o700);
            assert_eq!(
                (mode(&path.join("secret")), mode(&path.join("cursor-keys"))),
                (0o600, 0o600)
            );
        }
        drop(folder);
        let folder = DataFolder::open(&nested.path(), Use::Alone).unwrap();
        assert_eq!((folder.secret().unwrap(), folder.cursor_keys().unwrap()), (secret, keys));
        // Lock, secret and keys, and no draft.
        assert_eq!(fs::read_dir(nested.path()).unwrap().count(), 3);
    }

    #[test]
    fn all_who_come_at_once_get_the_same() {
        let nested = Nested::new();
        let barrier = Barrier::new(8);
        let got: Vec<_> = std::thread::scope(|scope| {
            let come = || {
                let folder = DataFolder::open(&nested.path(), Use::Shared).unwrap();
                barrier.wait();
                (folder.secret().unwrap(), folder.cursor_keys().unwrap())
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(come)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(got.iter().all(|one| *one == got[0]));
        assert_eq!(fs::read_dir(nested.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_somebody_has_spoilt_is_named() {
        let nested = Nested::new();
        let folder = DataFolder::open(&nested.path(), Use::Alone).unwrap();
        fs::write(nested.path().join("secret"), b"short").unwrap();
        fs::write(nested.path().join("cursor-keys"), b"a:short").unwrap();
        assert!(matches!(folder.secret(), Err(FolderError::Secret { len: 5, .. })));
        assert!(matches!(folder.cursor_keys(), Err(FolderError::Keys { .. })));
    }
}
