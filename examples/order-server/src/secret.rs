//! The data folder: one server at a time, and the secret of the development login.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A data folder that this server alone uses, until it is dropped.
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
    /// Two relays would publish each order twice.
    #[error("data folder {0} is in use by another order-server; stop it or give another --data")]
    InUse(PathBuf),
    /// Something in it cannot be made, read or written.
    #[error("data folder: {path}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
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
    pub fn open(path: &Path) -> Result<Self, FolderError> {
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
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed(&name)(source)),
        }
    }

    /// The secret kept here, made at the first call: tokens survive a restart.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn secret(&self) -> Result<Vec<u8>, FolderError> {
        let path = self.path.join("secret");
        let failed = |source| FolderError::Io { path: path.clone(), source };
        match fs::read(&path) {
            Ok(secret) if secret.len() == SECRET_BYTES => return Ok(secret),
            // Cut short by a full disk, say: nobody can have a token of it.
            Ok(_) => fs::remove_file(&path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let secret = random_secret()?;
        let mut options = File::options();
        options.create_new(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(failed)?;
        file.write_all(&secret).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(secret)
    }
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
    use super::*;

    #[test]
    fn one_server_at_a_time_and_one_secret_for_all() {
        let name = crate::order::random_id("order-server-test-", 8).unwrap();
        let path = std::env::temp_dir().join(name).join("nested");
        let folder = DataFolder::open(&path).unwrap();
        assert!(matches!(DataFolder::open(&path), Err(FolderError::InUse(_))));
        let secret = folder.secret().unwrap();
        assert_eq!(folder.secret().unwrap(), secret);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(&path.join("secret"))), (0o700, 0o600));
        }
        drop(folder);
        let folder = DataFolder::open(&path).unwrap();
        assert_eq!(folder.secret().unwrap(), secret);
        fs::write(path.join("secret"), b"short").unwrap();
        assert_ne!(folder.secret().unwrap(), secret);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
