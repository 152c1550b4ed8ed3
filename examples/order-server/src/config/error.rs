//! Why a configuration cannot be used.

use std::net::IpAddr;
use std::path::PathBuf;

use ws_sink::door::{ProxyError, TlsError};

use super::MIN_SECRET_BYTES;
use crate::cursor_keys::KeysError;

/// Why a configuration cannot be used. Retrying cannot help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Anybody could log in from anywhere.
    #[error(
        "listening on {listen} without a secret: the development login lets anybody in, as \
         admin too, and works on loopback only. Give --secret-file or ORDER_SERVER_SECRET (and \
         --auth dev, if anybody shall log in)"
    )]
    OpenToAll {
        /// Where it would listen.
        listen: IpAddr,
    },
    /// `--auth secret` without one.
    #[error("--auth secret needs --secret-file or ORDER_SERVER_SECRET")]
    NoSecret,
    /// A secret that could be guessed.
    #[error("the secret has {len} bytes, and needs at least {MIN_SECRET_BYTES}")]
    ShortSecret {
        /// How many it has.
        len: usize,
    },
    /// The secret's file cannot be read.
    #[error("--secret-file {path}")]
    SecretFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of the cursor keys cannot be read.
    #[error("--cursor-keys-file {path}")]
    CursorKeysFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was given as cursor keys is none.
    #[error("cursor keys of {given}")]
    CursorKeys {
        /// The flag, or its file.
        given: String,
        /// What is wrong.
        source: KeysError,
    },
    /// The system says nowhere where a user's data goes.
    #[error("the user has no folder for data; give one with --data")]
    NoDataFolder,
    /// What is no address and no network.
    #[error("{flag}")]
    Network {
        /// Which flag.
        flag: &'static str,
        /// What it shows.
        source: ProxyError,
    },
    /// The certificate or its key cannot be used.
    #[error("--tls-cert, --tls-key")]
    Tls(#[from] TlsError),
    /// Flags that are of no use without, or beside, each other.
    #[error("{flag}: {problem}")]
    Flag {
        /// Which flag.
        flag: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
}
