//! A certificate and its key, read from files, and again when those change.
//!
//! Certificates are renewed while the server runs, by somebody else: every minute the files
//! are read, and what is in them is used for new connections where it is good. Where it is
//! not, for example because only one of the two has been written yet, what was good before
//! stays.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig, version};

/// What a [`Door`](super::Door) proves itself with: TLS 1.2 and 1.3, HTTP/1.1. Clones are the
/// same, so [`reload`](Self::reload) may be called on one that was kept.
///
/// ```no_run
/// use ws_sink::door::{DoorConfig, TlsConfig};
///
/// let mut config = DoorConfig::default();
/// config.tls = Some(TlsConfig::from_files("chain.pem", "key.pem")?);
/// # Ok::<(), ws_sink::door::TlsError>(())
/// ```
#[derive(Clone)]
pub struct TlsConfig(Arc<Inner>);

struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    hasher: RandomState,
    current: Mutex<Current>,
}

#[derive(Clone)]
struct Current {
    server: Arc<ServerConfig>,
    /// Of the files' bytes, keyed: what they are cannot be told from it.
    hash: u64,
}

/// What is wrong with a certificate or a key. Shows nothing of the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is damaged.
    #[error("`{}` is no PEM file: {what}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What was found.
        what: &'static str,
    },
    /// A file without a certificate in it.
    #[error("`{}` has no certificate: it needs a section `BEGIN CERTIFICATE`, the server's own first", path.display())]
    NoCertificate {
        /// Which.
        path: PathBuf,
    },
    /// A file without a private key in it.
    #[error("`{}` has no private key: it needs a section `BEGIN PRIVATE KEY`", path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// The key is of another certificate.
    #[error("the key in `{}` does not fit the certificate in `{}`", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A certificate or a key of a kind that is not known here, or that is damaged.
    #[error("the certificate in `{}` cannot be used with the key in `{}`", certificate.display(), key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl TlsConfig {
    /// Reads a certificate, with those of the authorities between after it, and its private
    /// key (PKCS #8, SEC 1 or PKCS #1), both in PEM. Waits for the files.
    ///
    /// # Errors
    /// [`TlsError`] names the file, and what is wrong.
    pub fn from_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let (certificate, key, hasher) = (certificate.into(), key.into(), RandomState::new());
        let read = Files::read(&certificate, &key)?;
        let current =
            Current { server: read.server(&certificate, &key)?, hash: read.hash(&hasher) };
        Ok(Self(Arc::new(Inner { certificate, key, hasher, current: Mutex::new(current) })))
    }

    /// Reads the files again; true where they have changed. New connections get what is in
    /// them. A [`Door`](super::Door) does so every minute. Waits for the files.
    ///
    /// # Errors
    /// [`TlsError`]; what was there before stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Inner { certificate, key, hasher, .. } = &*self.0;
        let read = Files::read(certificate, key)?;
        let hash = read.hash(hasher);
        if hash == self.current().hash {
            return Ok(false);
        }
        let server = read.server(certificate, key)?;
        *self.current() = Current { server, hash };
        Ok(true)
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current().server.clone())
    }

    /// Reads the files again and again, until the server stops.
    pub(super) async fn follow(self, every: Duration, mut stop: watch::Receiver<()>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = stop.changed() => return,
            }
            let tls = self.clone();
            // An error means that the runtime is going.
            let Ok(read) = tokio::task::spawn_blocking(move || tls.reload()).await else { return };
            self.tell(read);
        }
    }

    fn tell(&self, read: Result<bool, TlsError>) {
        let outcome = match read {
            Ok(false) => return,
            Ok(true) => {
                tracing::info!(certificate = %self.0.certificate.display(), "certificate renewed");
                "renewed"
            }
            Err(error) => {
                let source = std::error::Error::source(&error);
                tracing::error!(%error, source, "certificate not renewed: the old one stays in use");
                "failed"
            }
        };
        metrics::counter!("fanout_door_tls_reloads_total", "outcome" => outcome).increment(1);
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.current.lock().expect("no panic under this lock")
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { certificate, key, .. } = &*self.0;
        f.debug_struct("TlsConfig")
            .field("certificate", certificate)
            .field("key", key)
            .finish_non_exhaustive()
    }
}

/// What was in the files.
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
        };
        Ok(Self { certificate: read(certificate)?, key: read(key)? })
    }

    fn hash(&self, hasher: &RandomState) -> u64 {
        hasher.hash_one((&self.certificate, &self.key))
    }

    fn server(&self, certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
        let pem = |path: &Path, error: pem::Error| TlsError::Pem {
            path: path.to_owned(),
            what: match error {
                pem::Error::MissingSectionEnd { .. } => "a section has no end",
                pem::Error::IllegalSectionStart { .. } => "a section has no proper beginning",
                pem::Error::Base64Decode(_) => "a section is not base64",
                _ => "it cannot be read",
            },
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|error| pem(certificate, error))?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate { path: certificate.to_owned() });
        }
        let private = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::NoKey { path: key.to_owned() },
            error => pem(key, error),
        })?;
        let unusable = |source| TlsError::Unusable {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            source,
        };
        let versions = [&version::TLS13, &version::TLS12];
        let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&versions)
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    TlsError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
                }
                error => unusable(error),
            })?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(server))
    }
}
