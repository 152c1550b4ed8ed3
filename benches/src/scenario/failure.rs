//! Why a scenario is worth nothing.

use std::io;

use crate::broker::BrokerError;
use crate::load::{FrameError, HandshakeError};
use crate::process::ProcessError;

/// Why a client did not get what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwarmError {
    /// A client was not let in.
    #[error("client {0} did not connect")]
    Handshake(usize, #[source] HandshakeError),
    /// It was not told that it is in its room.
    #[error("client {0} is not welcome: {1}")]
    Unwelcome(usize, String),
    /// Lost, doubled or out of order.
    #[error("client {client}: message {got} came where {expected} was next")]
    Order {
        /// Which.
        client: usize,
        /// The number that was next.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// Something that nobody has asked for.
    #[error("client {0} was told {1}")]
    Told(usize, String),
    /// No frame.
    #[error("client {0} got what is no frame")]
    Frame(usize, #[source] FrameError),
    /// The server does not want it any more.
    #[error("client {0} was closed with code {1:?}")]
    Closed(usize, Option<u16>),
    /// A connection is gone before its time.
    #[error("client {0} has lost its connection")]
    Lost(usize),
    /// Not everything came in time.
    #[error("{reached} of {clients} clients had {messages} messages in time")]
    Late {
        /// How many had.
        reached: usize,
        /// How many there are.
        clients: usize,
        /// How many they should have.
        messages: u64,
    },
    /// More came than was published.
    #[error("client {client} has {got} messages, not {expected}")]
    Count {
        /// Which.
        client: usize,
        /// How many it has.
        got: u64,
        /// How many it should have.
        expected: u64,
    },
    /// The server has ended, its connections have not.
    #[error("{0} connections were left open")]
    Open(usize),
    /// Nothing can be waited for.
    #[error("sockets cannot be polled")]
    Poll(#[from] io::Error),
}

/// Why a scenario is worth nothing. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server's process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The clients.
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    /// More clients than this process or its server can have.
    #[error(
        "{needed} clients need more than the {descriptors} descriptors that a process may have \
         here: use a smaller --scale, or raise the limit (ulimit -n)"
    )]
    Descriptors {
        /// How many clients.
        needed: usize,
        /// How many descriptors there are.
        descriptors: usize,
    },
    /// Where clients' messages come from.
    #[error("the broker")]
    Broker(#[from] BrokerError),
    /// What has to hold does not.
    #[error("{0}")]
    Wrong(String),
    /// Somebody else has failed meanwhile, who says why.
    #[error("the other clients did not get theirs in time")]
    Waiting,
    /// The system.
    #[error("the system")]
    Io(#[from] io::Error),
}

impl Failure {
    /// Whether it may follow from what others did not do.
    fn follows(&self) -> bool {
        matches!(
            self,
            Self::Waiting
                | Self::Swarm(SwarmError::Late { .. } | SwarmError::Lost(_))
                | Self::Process(ProcessError::Silent(_))
        )
    }
}

/// Does both at once, the first on a thread of its own.
pub(super) fn beside<A: Send, B>(
    aside: impl FnOnce() -> Result<A, Failure> + Send,
    here: impl FnOnce() -> Result<B, Failure>,
) -> Result<(A, B), Failure> {
    std::thread::scope(|scope| {
        let aside = scope.spawn(aside);
        let here = here();
        let aside = aside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (aside, here) {
            (Ok(aside), Ok(here)) => Ok((aside, here)),
            (Err(cause), Err(error)) if error.follows() => Err(cause),
            (_, Err(error)) | (Err(error), _) => Err(error),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_told_and_not_what_follows_from_it() {
        let cause = || Err::<(), _>(Failure::Wrong("lost".to_owned()));
        for error in [
            beside(cause, || Err::<(), _>(Failure::Waiting)),
            beside(|| Err::<(), _>(Failure::Waiting), cause),
            beside(cause, || Ok(())),
        ] {
            assert_eq!(error.unwrap_err().to_string(), "lost");
        }
        assert_eq!(beside(|| Ok(1), || Ok(2)).unwrap(), (1, 2));
    }
}
