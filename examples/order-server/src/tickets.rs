//! Tickets: for clients that can set neither header nor subprotocol. Each opens one
//! connection, soon, and is worth nothing afterwards.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanout::Identity;

use crate::order::random_id;

/// How long a ticket waits to be used.
pub const LIFE: Duration = Duration::from_secs(30);

/// Tickets that wait to be used.
#[derive(Debug, Default)]
pub struct Tickets(Mutex<HashMap<String, (Identity, Instant)>>);

/// Why there is no ticket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// Too many wait to be used; it helps to try again in a while.
    #[error("{} tickets wait to be used", Tickets::MAX)]
    TooMany,
    /// The system gives no random numbers.
    #[error("no random numbers")]
    Random(#[from] getrandom::Error),
}

impl Tickets {
    /// Most tickets that wait.
    pub const MAX: usize = 10_000;

    /// A ticket for `identity`.
    ///
    /// # Errors
    /// [`TicketError`]; then there is none.
    pub fn issue(&self, identity: Identity, now: Instant) -> Result<String, TicketError> {
        let ticket = random_id("", 24)?;
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= Self::MAX {
            waiting.retain(|_, (_, until)| *until > now);
            if waiting.len() >= Self::MAX {
                return Err(TicketError::TooMany);
            }
        }
        waiting.insert(ticket.clone(), (identity, now + LIFE));
        Ok(ticket)
    }

    /// Whom a ticket was for; it is used up.
    pub fn redeem(&self, ticket: &str, now: Instant) -> Option<Identity> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (identity, until) = waiting.remove(ticket)?;
        (until > now).then_some(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_and_soon() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let ann = Identity::new("ann", ["user"]);
        let ticket = tickets.issue(ann.clone(), now).unwrap();
        assert_eq!(tickets.redeem(&ticket, now), Some(ann.clone()));
        assert_eq!(tickets.redeem(&ticket, now), None);
        let late = tickets.issue(ann, now).unwrap();
        assert_eq!(tickets.redeem(&late, now + LIFE), None);
        assert_eq!(tickets.redeem("made up", now), None);
    }

    #[test]
    fn their_number_is_bounded() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let ann = Identity::new("ann", ["user"]);
        for _ in 0..Tickets::MAX {
            tickets.issue(ann.clone(), now).unwrap();
        }
        assert!(matches!(tickets.issue(ann.clone(), now), Err(TicketError::TooMany)));
        assert!(tickets.issue(ann, now + LIFE).is_ok());
    }
}
