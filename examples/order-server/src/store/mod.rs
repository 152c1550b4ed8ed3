//! Orders in SQLite, their past, and the outbox of records that Kafka has yet to get.
//!
//! One connection on a thread of its own takes jobs from a bounded queue: SQLite
//! writes one at a time in any case, and the runtime never waits for a disk. An
//! order, its status and its record are written in one transaction, so that an order
//! that was taken is told of, whatever happens to Kafka or to this process.
//!
//! Several processes may have the same file open. What reads and then writes begins as a
//! writer (`BEGIN IMMEDIATE`), so that no other comes in between: versions, transitions
//! and idempotency keys hold across processes, and records are numbered in the order of
//! their commits. What reads twice does so in one transaction. A process that is paused
//! in the midst of a write holds SQLite's lock: nobody else writes before it goes on or
//! is killed, and requests that write are answered 503 meanwhile.

mod lease;
mod orders;
mod outbox;
mod schema;
mod stats;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{Notify, mpsc, oneshot};

pub use lease::{Before, Kept, Lease, Look};
pub use orders::{Found, Listed, Page, Placed};
pub use outbox::Waiting;
pub use stats::Stats;

use crate::status::TransitionError;

/// Jobs that may wait for the store before it refuses more.
const QUEUE: usize = 256;

/// How long a lock is waited for that another program holds.
const BUSY: Duration = Duration::from_secs(2);

/// Between two looks at such a lock. SQLite's own `busy_timeout` looks less and less
/// often, up to ten times a second, and so hardly ever finds it free beside a process
/// that writes all the time.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Gone with the process.
    Memory,
    /// This file, made where it is missing.
    File(PathBuf),
}

/// The handle to the store; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    waiting: Arc<Notify>,
}

/// The store's thread; dropping it does not wait.
#[derive(Debug)]
pub struct StoreThread(JoinHandle<()>);

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Too many jobs wait; a moment later it may work. Nothing was done.
    #[error("the store is busy: {QUEUE} requests wait for it")]
    Busy,
    /// The store has stopped; only a restart helps.
    #[error("the store has stopped")]
    Closed,
    /// The database refused; retrying helps where a disk is full or a file locked.
    /// The transaction was rolled back.
    #[error("the database failed")]
    Database(#[from] rusqlite::Error),
    /// The database holds what this program did not write.
    #[error("the database holds something unreadable: {0}")]
    Corrupt(String),
    /// The database is of a newer program.
    #[error("the database has version {found}, this program knows {known}")]
    Newer {
        /// Of the file.
        found: i64,
        /// Of this program.
        known: usize,
    },
    /// There is no such order, or not for who asks.
    #[error("there is no such order")]
    NotFound,
    /// The status cannot follow.
    #[error(transparent)]
    Transition(#[from] TransitionError),
    /// The idempotency key was used for another order.
    #[error("this Idempotency-Key was used for an order with other contents")]
    KeyReused,
}

impl Store {
    /// Opens the database and starts its thread.
    ///
    /// # Errors
    /// [`StoreError`] where the file cannot be opened or is of another version.
    pub fn open(place: &Place) -> Result<(Self, StoreThread), StoreError> {
        let mut connection = match place {
            Place::Memory => Connection::open_in_memory()?,
            Place::File(path) => Connection::open(path)?,
        };
        connection.busy_handler(Some(wait_for_lock))?;
        prepare(&mut connection)?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut connection);
            }
        });
        let thread = thread.map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok((Self { jobs, waiting: Arc::default() }, StoreThread(thread)))
    }

    /// Runs `job` on the store's thread.
    ///
    /// # Errors
    /// The job's, and [`StoreError::Busy`] and [`StoreError::Closed`].
    ///
    /// # Cancel safety
    /// Once queued the job runs, whether or not anybody waits for its answer.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, answered) = answering(job);
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// As [`run`](Self::run), but waits for its turn where many wait: for the relay,
    /// which is one and must not lose its lease to requests.
    async fn run_in_turn<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, answered) = answering(job);
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Whether the database can be written to now.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.run(|connection| {
            Ok(connection.execute_batch("BEGIN IMMEDIATE; SELECT 1 FROM orders; ROLLBACK")?)
        })
        .await
    }
}

/// A job for the thread, and where its answer comes.
fn answering<T: Send + 'static>(
    job: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
) -> (Job, oneshot::Receiver<Result<T, StoreError>>) {
    let (answer, answered) = oneshot::channel();
    let job: Job = Box::new(move |connection| {
        // Whoever asked may have gone.
        let _ = answer.send(job(connection));
    });
    (job, answered)
}

impl StoreThread {
    /// Waits until every handle is gone and every job is done.
    ///
    /// # Cancel safety
    /// The thread goes on and ends by itself.
    pub async fn join(self) {
        let _ = tokio::task::spawn_blocking(move || self.0.join()).await;
    }
}

/// Called by SQLite each time it finds the file locked, with how often before.
fn wait_for_lock(before: i32) -> bool {
    std::thread::park_timeout(LOOK_AGAIN);
    LOOK_AGAIN * before.unsigned_abs() < BUSY
}

/// Sets the file up. Where several processes open a new one at once, SQLite refuses some
/// of them without asking [`wait_for_lock`].
fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    let deadline = Instant::now() + BUSY;
    loop {
        match schema::prepare(connection) {
            Err(StoreError::Database(error))
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::park_timeout(LOOK_AGAIN);
            }
            prepared => return prepared,
        }
    }
}

impl Place {
    /// The database in a data folder, or in memory where that is `:memory:`.
    pub fn in_folder(folder: &Path) -> Self {
        if folder == Path::new(":memory:") {
            Self::Memory
        } else {
            Self::File(folder.join("orders.db"))
        }
    }
}

#[cfg(test)]
mod tests;
