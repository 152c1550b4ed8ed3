//! The tables, and how an older file gets them.

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// Each step brings a file from its index to the next version; none is ever changed.
const STEPS: [&str; 2] = [
    "
    CREATE TABLE orders (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        order_id TEXT NOT NULL UNIQUE,
        buyer_id TEXT NOT NULL,
        status TEXT NOT NULL,
        version INTEGER NOT NULL,
        currency TEXT NOT NULL,
        subtotal INTEGER NOT NULL,
        tax INTEGER NOT NULL,
        total INTEGER NOT NULL,
        items TEXT NOT NULL,
        shipping_address TEXT,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        cancelled_at INTEGER,
        reason TEXT
    ) STRICT;
    CREATE INDEX orders_of_buyer ON orders (buyer_id, seq);
    CREATE INDEX orders_in_status ON orders (status, seq);
    CREATE INDEX orders_of_buyer_in_status ON orders (buyer_id, status, seq);
    CREATE INDEX orders_sums ON orders (status, currency, total);
    CREATE INDEX orders_by_time ON orders (created_at);

    CREATE TABLE history (
        order_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        status TEXT NOT NULL,
        at INTEGER NOT NULL,
        reason TEXT,
        PRIMARY KEY (order_id, version)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        topic TEXT NOT NULL,
        key TEXT NOT NULL,
        payload BLOB NOT NULL
    ) STRICT;

    CREATE TABLE idempotency (
        subject TEXT NOT NULL,
        key TEXT NOT NULL,
        order_id TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        PRIMARY KEY (subject, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX idempotency_by_age ON idempotency (created_at);
",
    "
    CREATE TABLE lease (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        holder TEXT NOT NULL,
        term INTEGER NOT NULL,
        until INTEGER NOT NULL,
        wanted INTEGER NOT NULL
    ) STRICT;
    INSERT INTO lease VALUES (1, '', 0, 0, 0);
",
];

/// Sets the connection up and brings the file to this program's version.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    // An order that was answered must survive a power cut: in WAL mode that needs
    // FULL, which costs one fsync a commit.
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = STEPS.len();
    let steps = usize::try_from(found).ok().and_then(|done| STEPS.get(done..));
    let steps = steps.ok_or(StoreError::Newer { found, known })?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.execute_batch(&format!("PRAGMA user_version = {known}"))?;
    Ok(transaction.commit()?)
}
