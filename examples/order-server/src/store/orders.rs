//! Orders: place, find, list, change.

use std::str::FromStr;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::Serialize;

use super::{Store, StoreError, outbox};
use crate::order::{Order, Past};
use crate::record::{Change, Record};
use crate::status::Status;
use crate::time::Time;

/// How long an idempotency key stands for its order.
const KEY_SECS: i64 = 24 * 60 * 60;

/// A placed order.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The order; where the key was used before, that one as it is now.
    pub order: Order,
    /// Whether the key was used before.
    pub repeated: bool,
}

/// An order and its past.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// The order.
    #[serde(flatten)]
    pub order: Order,
    /// Its statuses, the oldest first; the last is what it has.
    pub history: Vec<Past>,
}

/// Which orders to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Only this buyer's.
    pub buyer: Option<String>,
    /// Only those in this status.
    pub status: Option<Status>,
    /// Only older ones than this number.
    pub before: Option<i64>,
    /// At most this many.
    pub limit: u32,
}

/// Some orders, the newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// At most the page's limit.
    pub orders: Vec<Order>,
    /// What to ask for next, where there are more.
    pub next: Option<i64>,
}

const COLUMNS: &str = "seq, order_id, buyer_id, status, version, currency, subtotal, tax, total, \
    items, shipping_address, created_at, updated_at, cancelled_at, reason";

impl Store {
    /// Writes a new order and its record, unless `key` has already made one.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] where `key` made an order with other contents.
    ///
    /// # Cancel safety
    /// The order may be placed all the same; the same key then finds it.
    pub async fn place(&self, order: Order, key: Option<String>) -> Result<Placed, StoreError> {
        let placed = self.run(move |connection| place(connection, order, key)).await?;
        self.wake_outbox();
        Ok(placed)
    }

    /// An order and its past; only `buyer`'s where one is given.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn find(&self, id: String, buyer: Option<String>) -> Result<Found, StoreError> {
        self.run(move |connection| {
            // An order and its past of one moment.
            let transaction = connection.transaction()?;
            let order = select(&transaction, &id, buyer.as_deref())?;
            let history = history(&transaction, &id)?;
            Ok(Found { order, history })
        })
        .await
    }

    /// Some orders, the newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn list(&self, page: Page) -> Result<Listed, StoreError> {
        self.run(move |connection| list(connection, &page)).await
    }

    /// Gives an order another status and writes its record; only `buyer`'s where one
    /// is given.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or [`StoreError::Transition`] where the status cannot
    /// follow.
    ///
    /// # Cancel safety
    /// The change may be made all the same.
    pub async fn change(
        &self,
        id: String,
        buyer: Option<String>,
        status: Status,
        reason: Option<String>,
        now: Time,
    ) -> Result<Order, StoreError> {
        let order = self
            .run(move |connection| change(connection, &id, buyer.as_deref(), status, reason, now))
            .await?;
        self.wake_outbox();
        Ok(order)
    }
}

fn place(
    connection: &mut Connection,
    order: Order,
    key: Option<String>,
) -> Result<Placed, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Some(key) = key {
        if let Some(earlier) = repeated(&transaction, &order, &key)? {
            return Ok(Placed { order: earlier, repeated: true });
        }
        transaction
            .prepare_cached(
                "INSERT INTO idempotency (subject, key, order_id, created_at)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![order.buyer_id, key, order.order_id, order.created_at.as_millis()])?;
    }
    insert(&transaction, &order)?;
    remember(&transaction, &order)?;
    outbox::push(&transaction, &Record::of(&order, Change::Placed))?;
    transaction.commit()?;
    Ok(Placed { order, repeated: false })
}

/// The order that `key` has made, where it stands for the same contents. Keys that
/// are too old are forgotten here, so that the table stays as small as a day.
fn repeated(
    transaction: &Transaction<'_>,
    order: &Order,
    key: &str,
) -> Result<Option<Order>, StoreError> {
    transaction
        .prepare_cached("DELETE FROM idempotency WHERE created_at < ?1")?
        .execute([order.created_at.plus_secs(-KEY_SECS).as_millis()])?;
    let id: Option<String> = transaction
        .prepare_cached("SELECT order_id FROM idempotency WHERE subject = ?1 AND key = ?2")?
        .query_row(params![order.buyer_id, key], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok(None) };
    let earlier = select(transaction, &id, None)?;
    // What a client gives never changes in an order, so the order itself tells
    // whether the request was the same.
    let given = |order: &Order| {
        (order.items.clone(), order.shipping_address.clone(), order.currency.clone())
    };
    if given(&earlier) == given(order) { Ok(Some(earlier)) } else { Err(StoreError::KeyReused) }
}

fn change(
    connection: &mut Connection,
    id: &str,
    buyer: Option<&str>,
    status: Status,
    reason: Option<String>,
    now: Time,
) -> Result<Order, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut order = select(&transaction, id, buyer)?;
    let past: Vec<_> = history(&transaction, id)?.into_iter().map(|past| past.status).collect();
    Status::check(&past, status)?;
    let change = Change::Status { previous: order.status, was_paid: past.contains(&Status::Paid) };
    order.become_(status, reason, now);
    transaction
        .prepare_cached(
            "UPDATE orders SET status = ?2, version = ?3, updated_at = ?4, cancelled_at = ?5,
             reason = ?6 WHERE order_id = ?1",
        )?
        .execute(params![
            order.order_id,
            order.status.as_str(),
            order.version,
            order.updated_at.as_millis(),
            order.cancelled_at.map(Time::as_millis),
            order.reason,
        ])?;
    remember(&transaction, &order)?;
    outbox::push(&transaction, &Record::of(&order, change))?;
    transaction.commit()?;
    Ok(order)
}

fn insert(transaction: &Transaction<'_>, order: &Order) -> Result<(), StoreError> {
    let items = serde_json::to_string(&order.items).expect("items have a JSON form");
    let address = order.shipping_address.as_ref().map(ToString::to_string);
    transaction
        .prepare_cached(
            "INSERT INTO orders (order_id, buyer_id, status, version, currency, subtotal, tax,
             total, items, shipping_address, created_at, updated_at, cancelled_at, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            order.order_id,
            order.buyer_id,
            order.status.as_str(),
            order.version,
            order.currency,
            order.subtotal.0,
            order.tax.0,
            order.total.0,
            items,
            address,
            order.created_at.as_millis(),
            order.updated_at.as_millis(),
            order.cancelled_at.map(Time::as_millis),
            order.reason,
        ])?;
    Ok(())
}

/// Adds the order's status to its past.
fn remember(transaction: &Transaction<'_>, order: &Order) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "INSERT INTO history (order_id, version, status, at, reason)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            order.order_id,
            order.version,
            order.status.as_str(),
            order.updated_at.as_millis(),
            order.reason,
        ])?;
    Ok(())
}

fn select(connection: &Connection, id: &str, buyer: Option<&str>) -> Result<Order, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM orders WHERE order_id = ?1 AND (?2 IS NULL OR buyer_id = ?2)"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params![id, buyer])?;
    let row = rows.next()?.ok_or(StoreError::NotFound)?;
    Ok(read(row)?.1)
}

fn history(connection: &Connection, id: &str) -> Result<Vec<Past>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT status, version, at, reason FROM history WHERE order_id = ?1 ORDER BY version",
    )?;
    let mut rows = select.query([id])?;
    let mut history = Vec::new();
    while let Some(row) = rows.next()? {
        history.push(Past {
            status: parse(&row.get::<_, String>(0)?)?,
            version: row.get(1)?,
            at: Time::from_millis(row.get(2)?),
            reason: row.get(3)?,
        });
    }
    Ok(history)
}

fn list(connection: &Connection, page: &Page) -> Result<Listed, StoreError> {
    // Only the conditions that are asked for: with `?1 IS NULL OR` SQLite would use
    // no index.
    let mut conditions = vec!["seq < ?1".to_owned()];
    let mut values: Vec<Box<dyn rusqlite::ToSql>> = vec![Box::new(page.before.unwrap_or(i64::MAX))];
    if let Some(buyer) = &page.buyer {
        values.push(Box::new(buyer.clone()));
        conditions.push(format!("buyer_id = ?{}", values.len()));
    }
    if let Some(status) = page.status {
        values.push(Box::new(status.as_str()));
        conditions.push(format!("status = ?{}", values.len()));
    }
    // One more than asked for tells whether there are more.
    values.push(Box::new(page.limit + 1));
    let (conditions, last) = (conditions.join(" AND "), values.len());
    let sql =
        format!("SELECT {COLUMNS} FROM orders WHERE {conditions} ORDER BY seq DESC LIMIT ?{last}");
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(rusqlite::params_from_iter(values))?;
    let mut orders = Vec::new();
    let mut last = None;
    while let Some(row) = rows.next()? {
        if orders.len() == page.limit as usize {
            return Ok(Listed { orders, next: last });
        }
        let (seq, order) = read(row)?;
        orders.push(order);
        last = Some(seq);
    }
    Ok(Listed { orders, next: None })
}

fn read(row: &Row<'_>) -> Result<(i64, Order), StoreError> {
    let json = |error: serde_json::Error| StoreError::Corrupt(error.to_string());
    let address: Option<String> = row.get("shipping_address")?;
    let cents = |name| row.get(name).map(crate::money::Cents);
    let order = Order {
        order_id: row.get("order_id")?,
        buyer_id: row.get("buyer_id")?,
        items: serde_json::from_str(&row.get::<_, String>("items")?).map_err(json)?,
        subtotal: cents("subtotal")?,
        tax: cents("tax")?,
        total: cents("total")?,
        currency: row.get("currency")?,
        status: parse(&row.get::<_, String>("status")?)?,
        version: row.get("version")?,
        shipping_address: address
            .map(|text| serde_json::from_str(&text).map_err(json))
            .transpose()?,
        created_at: Time::from_millis(row.get("created_at")?),
        updated_at: Time::from_millis(row.get("updated_at")?),
        cancelled_at: row.get::<_, Option<i64>>("cancelled_at")?.map(Time::from_millis),
        reason: row.get("reason")?,
    };
    Ok((row.get("seq")?, order))
}

pub(super) fn parse<T: FromStr<Err: ToString>>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|error: T::Err| StoreError::Corrupt(error.to_string()))
}
