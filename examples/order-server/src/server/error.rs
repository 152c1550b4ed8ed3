//! Why a server was not started.

use std::io;
use std::net::SocketAddr;

use fanout::{KeyError, RedactionError};
use kafka_source::{DeadLetterStartError, EmbeddedError};

use crate::config::ConfigError;
use crate::folder::FolderError;
use crate::kafka::properties::PropertyError;
use crate::store::StoreError;
use crate::verify::VerifyError;

/// Why a server was not started. What was begun has been given up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The database cannot be used.
    #[error("database in {place}")]
    Store {
        /// Where it is.
        place: String,
        /// Why.
        source: StoreError,
    },
    /// Somebody else listens there, or it is no address of this machine.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The embedded broker did not start.
    #[error("the embedded broker did not start")]
    Broker(#[from] EmbeddedError),
    /// The source was refused its configuration, such as an empty `--kafka`.
    #[error("Kafka cannot be read")]
    Source(#[from] kafka_source::StartError),
    /// Dead letters cannot be written there, such as to a topic that is read.
    #[error("--dead-letters")]
    DeadLetters(#[from] DeadLetterStartError),
    /// librdkafka refused the relay's configuration.
    #[error("Kafka cannot be written to")]
    Producer(#[from] kafka_source::ConfigError),
    /// A property of librdkafka cannot be given.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// The keys of cursors are too many.
    #[error("cursor keys")]
    Keys(#[from] KeyError),
    /// The declaration of what each role sees does not fit to the policy.
    #[error("what each role sees")]
    Redaction(#[from] RedactionError),
    /// The hub has nothing to wait on.
    #[error("the hub did not start")]
    Hub(#[source] io::Error),
    /// Tokens cannot be checked so.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}
