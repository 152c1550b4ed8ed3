//! Tickets: for clients that can set neither header nor subprotocol. Each opens one
//! connection, soon, and is worth nothing afterwards.
//!
//! Those that wait are bounded, in all and for each subject: nobody can keep others from
//! theirs.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanout::Identity;

use crate::order::random_id;

/// How long a ticket waits to be used.
pub const LIFE: Duration = Duration::from_secs(30);

/// Tickets that wait to be used.
#[derive(Default)]
pub struct Tickets(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    tickets: HashMap<Arc<str>, (Identity, Instant)>,
    /// Each subject's, the oldest first.
    of: HashMap<Arc<str>, VecDeque<Arc<str>>>,
}

/// Why there is no ticket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// Too many wait to be used; it helps to try again in a while.
    #[error("{} tickets wait to be used", Tickets::MAX)]
    TooMany,
    /// This subject has too many that wait; it helps to use them, or to wait.
    #[error("{} tickets of yours wait to be used: use one, or wait", Tickets::MAX_OF_SUBJECT)]
    TooManyOfSubject {
        /// Until the oldest has gone.
        wait: Duration,
    },
    /// The system gives no random numbers.
    #[error("no random numbers")]
    Random(#[from] getrandom::Error),
}

impl Tickets {
    /// Most tickets that wait.
    pub const MAX: usize = 10_000;

    /// Most tickets of one subject that wait.
    pub const MAX_OF_SUBJECT: usize = 16;

    /// A ticket for `identity`.
    ///
    /// # Errors
    /// [`TicketError`]; then there is none.
    pub fn issue(&self, identity: Identity, now: Instant) -> Result<String, TicketError> {
        let ticket = random_id("", 24)?;
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let issued = waiting.issue(ticket.as_str().into(), identity, now);
        waiting.measure();
        match &issued {
            Ok(()) => {}
            Err(TicketError::TooManyOfSubject { .. }) => refused("subject"),
            Err(_) => refused("all"),
        }
        issued.map(|()| ticket)
    }

    /// Whom a ticket was for; it is used up.
    pub fn redeem(&self, ticket: &str, now: Instant) -> Option<Identity> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (identity, until) = waiting.remove(ticket)?;
        waiting.measure();
        (until > now).then_some(identity)
    }
}

impl Waiting {
    fn issue(
        &mut self,
        ticket: Arc<str>,
        identity: Identity,
        now: Instant,
    ) -> Result<(), TicketError> {
        if self.tickets.len() >= Tickets::MAX {
            self.forget(now);
            if self.tickets.len() >= Tickets::MAX {
                return Err(TicketError::TooMany);
            }
        }
        let subject = identity.subject.clone();
        while let Some(oldest) = self.full(&subject) {
            let until = self.tickets[&oldest].1;
            if until > now {
                return Err(TicketError::TooManyOfSubject { wait: until - now });
            }
            self.remove(&oldest);
        }
        self.tickets.insert(ticket.clone(), (identity, now + LIFE));
        self.of.entry(subject).or_default().push_back(ticket);
        Ok(())
    }

    /// The oldest ticket of a subject that has as many as it may.
    fn full(&self, subject: &str) -> Option<Arc<str>> {
        let own = self.of.get(subject).filter(|own| own.len() >= Tickets::MAX_OF_SUBJECT)?;
        own.front().cloned()
    }

    fn remove(&mut self, ticket: &str) -> Option<(Identity, Instant)> {
        let (identity, until) = self.tickets.remove(ticket)?;
        if let Some(own) = self.of.get_mut(&identity.subject) {
            own.retain(|other| **other != *ticket);
            if own.is_empty() {
                self.of.remove(&identity.subject);
            }
        }
        Some((identity, until))
    }

    /// Forgets those that nobody used in time.
    fn forget(&mut self, now: Instant) {
        let late = self.tickets.iter().filter(|(_, (_, until))| *until <= now);
        let late: Vec<_> = late.map(|(ticket, _)| ticket.clone()).collect();
        for ticket in late {
            self.remove(&ticket);
        }
    }

    fn measure(&self) {
        metrics::gauge!("order_server_tickets_waiting").set(self.tickets.len() as f64);
    }
}

fn refused(limit: &'static str) {
    metrics::counter!("order_server_tickets_refused_total", "limit" => limit).increment(1);
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Tickets").field("waiting", &waiting.tickets.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody(n: usize) -> Identity {
        Identity::new(format!("somebody-{n}"), ["user"])
    }

    #[test]
    fn once_and_soon() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let ann = Identity::new("ann", ["user"]);
        let ticket = tickets.issue(ann.clone(), now).unwrap();
        assert!(!format!("{tickets:?}").contains(&ticket));
        assert_eq!(tickets.redeem(&ticket, now), Some(ann.clone()));
        assert_eq!(tickets.redeem(&ticket, now), None);
        let late = tickets.issue(ann, now).unwrap();
        assert_eq!(tickets.redeem(&late, now + LIFE), None);
        assert_eq!(tickets.redeem("made up", now), None);
        let waiting = tickets.0.lock().unwrap();
        assert!(waiting.tickets.is_empty() && waiting.of.is_empty());
    }

    #[test]
    fn their_number_is_bounded() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        for n in 0..Tickets::MAX {
            tickets.issue(somebody(n), now).unwrap();
        }
        let one_more = tickets.issue(somebody(Tickets::MAX), now);
        assert!(matches!(one_more, Err(TicketError::TooMany)));
        assert!(tickets.issue(somebody(0), now + LIFE).is_ok());
        assert_eq!(tickets.0.lock().unwrap().of.len(), 1);
    }

    #[test]
    fn one_subject_cannot_take_the_place_of_others() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let first = tickets.issue(somebody(1), now).unwrap();
        for _ in 1..Tickets::MAX_OF_SUBJECT {
            tickets.issue(somebody(1), now + Duration::from_secs(1)).unwrap();
        }
        let refused = tickets.issue(somebody(1), now + Duration::from_secs(10));
        let Err(TicketError::TooManyOfSubject { wait }) = refused else { panic!("{refused:?}") };
        assert_eq!(wait, Duration::from_secs(20));
        assert!(tickets.issue(somebody(2), now).is_ok());
        // The oldest is used, or has gone.
        assert!(tickets.redeem(&first, now).is_some());
        assert!(tickets.issue(somebody(1), now + Duration::from_secs(2)).is_ok());
        assert!(tickets.issue(somebody(1), now + Duration::from_secs(31)).is_ok());
    }
}
