//! The lease of the relay: who may publish the outbox, as which in the row of all who
//! did, and until when.
//!
//! ```text
//! free --take: term + 1--> held --not kept in time, or released--> free
//!                           '-- keep: the same term --'
//! ```
//!
//! Processes that share a database share a machine, since SQLite's WAL is shared memory,
//! and so they share a clock. It is read inside of the transaction: waiting for the lock
//! takes nothing off the lease. Where that clock is set back, a lease that lasts longer
//! than any was given is of the time before, and free.
//!
//! A term is held by one process only and never comes back, so whoever keeps a lease by
//! holder and term learns of every other holder that came in between.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::outbox::{self, Waiting};
use super::{Store, StoreError};
use crate::time::Time;

/// How long a lease lasts unless it is kept, in milliseconds.
pub(crate) const LIFE: i64 = 5_000;

/// A lease with less left than this is renewed when it is looked at.
pub(crate) const RENEW_BELOW: i64 = 4_000;

/// How long it counts that somebody else would publish.
pub(crate) const WANTED: i64 = 3_000;

/// A lease that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who took it.
    pub holder: String,
    /// As which of all.
    pub term: i64,
}

/// How the one before came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Before {
    /// There was none yet.
    Nobody,
    /// It said so.
    Released,
    /// It did not keep it.
    Expired,
}

/// A lease that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// For how many more milliseconds.
    pub left: i64,
    /// Whether somebody else reaches Kafka and sees records that are stuck.
    pub wanted: bool,
}

/// What somebody who holds no lease sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether it can be taken.
    pub free: bool,
    /// The record that waits for the longest time.
    pub oldest: Option<i64>,
}

struct Row {
    holder: String,
    term: i64,
    until: i64,
    wanted: i64,
}

impl Row {
    fn read(connection: &Connection) -> Result<Self, StoreError> {
        let row = connection
            .prepare_cached("SELECT holder, term, until, wanted FROM lease")?
            .query_row([], |row| {
                Ok(Self {
                    holder: row.get(0)?,
                    term: row.get(1)?,
                    until: row.get(2)?,
                    wanted: row.get(3)?,
                })
            })
            .optional()?;
        row.ok_or_else(|| StoreError::Corrupt("the relay's lease has no row".into()))
    }

    fn is_free(&self, now: i64) -> bool {
        self.until <= now || self.until > now + 2 * LIFE
    }

    fn is(&self, lease: &Lease) -> bool {
        self.holder == lease.holder && self.term == lease.term
    }
}

impl Store {
    /// Takes the lease where it is free.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// It may be taken all the same; then nobody has it until it expires.
    pub async fn take_lease(&self, holder: String) -> Result<Option<(Lease, Before)>, StoreError> {
        self.run_in_turn(move |connection| take(connection, holder, Time::now)).await
    }

    /// Renews the lease where little of it is left; `None` where another has it.
    ///
    /// # Errors
    /// [`StoreError`]; it may have been renewed.
    ///
    /// # Cancel safety
    /// It may be renewed all the same.
    pub async fn keep_lease(&self, lease: Lease) -> Result<Option<Kept>, StoreError> {
        self.run_in_turn(move |connection| keep(connection, &lease, Time::now)).await
    }

    /// The oldest records that wait, at most `max`, for the one who holds this lease,
    /// which is kept; `None` where another has it.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// As [`keep_lease`](Self::keep_lease).
    pub async fn next_wave(
        &self,
        lease: Lease,
        max: u32,
    ) -> Result<Option<(Kept, Vec<Waiting>)>, StoreError> {
        self.run_in_turn(move |connection| {
            let Some(kept) = keep(connection, &lease, Time::now)? else { return Ok(None) };
            Ok(Some((kept, outbox::waiting(connection, max)?)))
        })
        .await
    }

    /// What somebody sees who holds no lease.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn look_at_lease(&self) -> Result<Look, StoreError> {
        self.run_in_turn(|connection| look(connection, Time::now())).await
    }

    /// Says for a while that somebody stands by who reaches Kafka, while records are
    /// stuck.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// It may be said all the same.
    pub async fn want_lease(&self) -> Result<(), StoreError> {
        self.run_in_turn(|connection| want(connection, Time::now)).await
    }

    /// Frees the lease of whoever had it: for who has the database alone, and need not
    /// wait until that of a process expires that was killed.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// It may be freed all the same.
    pub async fn free_lease(&self) -> Result<(), StoreError> {
        self.run_in_turn(free).await
    }

    /// Lets another take the lease at once; nothing where another has it.
    ///
    /// # Errors
    /// [`StoreError`]; then it expires.
    ///
    /// # Cancel safety
    /// It may be released all the same.
    pub async fn release_lease(&self, lease: Lease) -> Result<(), StoreError> {
        self.run_in_turn(move |connection| release(connection, &lease)).await
    }
}

fn take(
    connection: &mut Connection,
    holder: String,
    now: impl FnOnce() -> Time,
) -> Result<Option<(Lease, Before)>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (now, row) = (now().as_millis(), Row::read(&transaction)?);
    if !row.is_free(now) {
        return Ok(None);
    }
    let lease = Lease { holder, term: row.term + 1 };
    transaction
        .prepare_cached("UPDATE lease SET holder = ?1, term = ?2, until = ?3, wanted = 0")?
        .execute(params![lease.holder, lease.term, now + LIFE])?;
    transaction.commit()?;
    let before = match (row.term, row.until) {
        (0, _) => Before::Nobody,
        (_, 0) => Before::Released,
        _ => Before::Expired,
    };
    Ok(Some((lease, before)))
}

fn keep(
    connection: &mut Connection,
    lease: &Lease,
    now: impl Fn() -> Time,
) -> Result<Option<Kept>, StoreError> {
    let row = Row::read(connection)?;
    let left = row.until - now().as_millis();
    let wanted = |now: i64| row.wanted > now && row.wanted <= now + 2 * WANTED;
    if !row.is(lease) {
        return Ok(None);
    }
    // More than was given is of a clock that was set back since.
    if (RENEW_BELOW..=LIFE).contains(&left) {
        return Ok(Some(Kept { left, wanted: wanted(row.until - left) }));
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = now().as_millis();
    // One that has expired is renewed as well, as long as nobody else has taken it.
    let renewed = transaction
        .prepare_cached("UPDATE lease SET until = ?3 WHERE holder = ?1 AND term = ?2")?
        .execute(params![lease.holder, lease.term, now + LIFE])?;
    transaction.commit()?;
    Ok((renewed == 1).then(|| Kept { left: LIFE, wanted: wanted(now) }))
}

fn look(connection: &Connection, now: Time) -> Result<Look, StoreError> {
    let row = Row::read(connection)?;
    let oldest =
        connection.prepare_cached("SELECT min(id) FROM outbox")?.query_row([], |row| row.get(0))?;
    Ok(Look { free: row.is_free(now.as_millis()), oldest })
}

fn want(connection: &mut Connection, now: impl FnOnce() -> Time) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let until = now().as_millis() + WANTED;
    transaction.prepare_cached("UPDATE lease SET wanted = ?1")?.execute([until])?;
    Ok(transaction.commit()?)
}

fn free(connection: &mut Connection) -> Result<(), StoreError> {
    connection.execute("UPDATE lease SET until = 0", [])?;
    Ok(())
}

fn release(connection: &mut Connection, lease: &Lease) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction
        .prepare_cached("UPDATE lease SET until = 0 WHERE holder = ?1 AND term = ?2")?
        .execute(params![lease.holder, lease.term])?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    /// A database and its clock, which is set by hand.
    struct Bench {
        connection: Connection,
        now: i64,
    }

    impl Bench {
        fn new() -> Self {
            let mut connection = Connection::open_in_memory().unwrap();
            schema::prepare(&mut connection).unwrap();
            Self { connection, now: 1_700_000_000_000 }
        }

        fn clock(&self) -> impl Fn() -> Time + use<> {
            let now = Time::from_millis(self.now);
            move || now
        }

        fn take(&mut self, holder: &str) -> Option<(Lease, Before)> {
            let clock = self.clock();
            take(&mut self.connection, holder.into(), clock).unwrap()
        }

        fn keep(&mut self, lease: &Lease) -> Option<Kept> {
            let clock = self.clock();
            keep(&mut self.connection, lease, clock).unwrap()
        }

        fn is_free(&self) -> bool {
            look(&self.connection, Time::from_millis(self.now)).unwrap().free
        }
    }

    #[test]
    fn one_holds_it_until_it_expires() {
        let mut bench = Bench::new();
        let (ann, before) = bench.take("ann").unwrap();
        assert_eq!((ann.term, before), (1, Before::Nobody));
        assert_eq!(bench.take("bob"), None);
        // Not even who has it: two of one name are two.
        assert_eq!(bench.take("ann"), None);
        bench.now += LIFE - 1;
        assert!(!bench.is_free());
        assert_eq!(bench.take("bob"), None);
        bench.now += 1;
        assert!(bench.is_free());
        let (bob, before) = bench.take("bob").unwrap();
        assert_eq!((bob.term, before), (2, Before::Expired));
        assert_eq!(bench.keep(&ann), None);
        assert!(bench.keep(&bob).is_some());
    }

    #[test]
    fn who_keeps_it_has_it_for_ever() {
        let mut bench = Bench::new();
        let (ann, _) = bench.take("ann").unwrap();
        for _ in 0..10 {
            bench.now += LIFE - 1;
            assert_eq!(bench.take("bob"), None);
            assert_eq!(bench.keep(&ann), Some(Kept { left: LIFE, wanted: false }));
        }
        assert_eq!(ann.term, 1);
    }

    #[test]
    fn it_is_renewed_only_when_it_has_to_be() {
        let mut bench = Bench::new();
        let (ann, _) = bench.take("ann").unwrap();
        bench.now += LIFE - RENEW_BELOW;
        assert_eq!(bench.keep(&ann).unwrap().left, RENEW_BELOW);
        bench.now += 1;
        assert_eq!(bench.keep(&ann).unwrap().left, LIFE);
    }

    #[test]
    fn one_that_expired_is_kept_where_nobody_took_it() {
        let mut bench = Bench::new();
        let (ann, _) = bench.take("ann").unwrap();
        bench.now += 10 * LIFE;
        assert_eq!(bench.keep(&ann).unwrap().left, LIFE);
        assert_eq!(bench.take("bob"), None);
    }

    #[test]
    fn a_released_one_is_free_at_once_and_only_its_holder_releases_it() {
        let mut bench = Bench::new();
        let (ann, _) = bench.take("ann").unwrap();
        release(&mut bench.connection, &ann).unwrap();
        let (bob, before) = bench.take("bob").unwrap();
        assert_eq!(before, Before::Released);
        release(&mut bench.connection, &ann).unwrap();
        assert!(!bench.is_free());
        assert!(bench.keep(&bob).is_some());
    }

    #[test]
    fn one_that_is_freed_is_not_kept_by_who_is_followed() {
        let mut bench = Bench::new();
        let (ann, _) = bench.take("ann").unwrap();
        free(&mut bench.connection).unwrap();
        assert_eq!(bench.take("bob").unwrap().1, Before::Released);
        assert_eq!(bench.keep(&ann), None);
    }

    #[test]
    fn it_is_wanted_for_a_while_and_by_nobody_once_it_was_taken() {
        let mut bench = Bench::new();
        let (ann, _) = bench.take("ann").unwrap();
        let clock = bench.clock();
        want(&mut bench.connection, clock).unwrap();
        bench.now += WANTED - 1;
        assert!(bench.keep(&ann).unwrap().wanted);
        bench.now += 1;
        assert!(!bench.keep(&ann).unwrap().wanted);
        let clock = bench.clock();
        want(&mut bench.connection, clock).unwrap();
        release(&mut bench.connection, &ann).unwrap();
        let (bob, _) = bench.take("bob").unwrap();
        assert!(!bench.keep(&bob).unwrap().wanted);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_for_long() {
        let mut bench = Bench::new();
        let (ann, _) = bench.take("ann").unwrap();
        // Who holds it keeps it, in the new time.
        bench.now -= 3_600_000;
        assert_eq!(bench.keep(&ann).unwrap().left, LIFE);
        assert!(!bench.is_free());
        // Of one that is gone it is free.
        bench.now -= 3_600_000;
        assert!(bench.is_free());
        assert_eq!(bench.take("bob").unwrap().0.term, 2);
        assert_eq!(bench.keep(&ann), None);
    }
}
