//! Why a run was not judged.

/// Why a run was not judged: something that it needs does not work. What is wrong with the
/// servers is no error but a fault in the report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Kafka refused, or did not answer in time.
    #[error("Kafka: {0}")]
    Kafka(String),
    /// A server's process could not be started, or never got ready.
    #[error("server {node}: {problem}")]
    Node {
        /// Which, from 0.
        node: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The broker could not be restarted.
    #[error("broker: {0}")]
    Broker(String),
    /// What was acknowledged before, or Kafka had told before, has changed.
    #[error("the log has changed under the run: {0}")]
    Changed(String),
    /// It was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The system refused something.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Anything else.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn other(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Other(Box::new(error))
    }

    pub(crate) fn kafka(error: impl std::fmt::Display) -> Self {
        Self::Kafka(error.to_string())
    }
}
