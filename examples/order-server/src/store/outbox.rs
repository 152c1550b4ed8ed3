//! The outbox: records in the order they were written, until Kafka has them.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::{Store, StoreError};
use crate::record::Record;

/// A record of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its number; rises in the order of writing.
    pub id: i64,
    /// What is to be published.
    pub record: Record,
}

/// Writes a record, to be published once the transaction has been committed.
pub(super) fn push(transaction: &Transaction<'_>, record: &Record) -> Result<(), StoreError> {
    transaction
        .prepare_cached("INSERT INTO outbox (topic, key, payload) VALUES (?1, ?2, ?3)")?
        .execute(params![record.topic, record.key, record.payload])?;
    Ok(())
}

pub(super) fn waiting(connection: &Connection, max: u32) -> Result<Vec<Waiting>, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT id, topic, key, payload FROM outbox ORDER BY id LIMIT ?1")?;
    let rows = select.query_map([max], |row| {
        let record = Record { topic: row.get(1)?, key: row.get(2)?, payload: row.get(3)? };
        Ok(Waiting { id: row.get(0)?, record })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Store {
    /// The oldest records that wait, at most `max`.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn waiting(&self, max: u32) -> Result<Vec<Waiting>, StoreError> {
        self.run(move |connection| waiting(connection, max)).await
    }

    /// Removes records that Kafka has, whoever holds the lease by now: each of them that
    /// the next one does not find is one less that is published twice.
    ///
    /// # Errors
    /// [`StoreError`]; then none was removed.
    ///
    /// # Cancel safety
    /// They may be removed all the same.
    pub async fn published(&self, ids: Vec<i64>) -> Result<(), StoreError> {
        self.run_in_turn(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut delete = transaction.prepare_cached("DELETE FROM outbox WHERE id = ?1")?;
                for id in ids {
                    delete.execute([id])?;
                }
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    /// Waits until this process may have written a record since the last call returned.
    ///
    /// # Cancel safety
    /// No wake-up is lost.
    pub async fn outbox_changed(&self) {
        self.waiting.notified().await;
    }

    pub(super) fn wake_outbox(&self) {
        self.waiting.notify_one();
    }
}
