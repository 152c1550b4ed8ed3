//! What the admin's page counts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Store, StoreError};
use crate::money::Cents;
use crate::status::Status;
use crate::time::Time;

/// The shop in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// All orders.
    pub total: i64,
    /// Orders in each status, also where there is none.
    pub by_status: BTreeMap<&'static str, i64>,
    /// What orders that are not cancelled come to, in `currency`.
    pub revenue: Cents,
    /// The currency of `revenue`.
    pub currency: String,
    /// The same in every currency there is.
    pub revenue_by_currency: BTreeMap<String, Cents>,
    /// Orders placed within the last minute.
    pub orders_per_minute: i64,
    /// The store's time.
    pub timestamp: Time,
}

impl Store {
    /// Counts everything.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn stats(&self, currency: String, now: Time) -> Result<Stats, StoreError> {
        self.run(move |connection| {
            let connection = connection.transaction()?;
            let mut by_status: BTreeMap<_, i64> =
                Status::ALL.into_iter().map(|status| (status.as_str(), 0)).collect();
            let mut revenue_by_currency = BTreeMap::<String, Cents>::new();
            let mut select = connection.prepare_cached(
                // In two parts: one sum of large orders would overflow.
                "SELECT status, currency, count(*), sum(total / 1000000), sum(total % 1000000)
                 FROM orders GROUP BY status, currency",
            )?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let status: Status = super::orders::parse(&row.get::<_, String>(0)?)?;
                *by_status.entry(status.as_str()).or_default() += row.get::<_, i64>(2)?;
                if status != Status::Cancelled {
                    let sum = i128::from(row.get::<_, i64>(3)?) * 1_000_000
                        + i128::from(row.get::<_, i64>(4)?);
                    let sum = i64::try_from(sum).unwrap_or(i64::MAX);
                    let revenue = &mut revenue_by_currency.entry(row.get(1)?).or_default().0;
                    *revenue = revenue.saturating_add(sum);
                }
            }
            let orders_per_minute = connection
                .prepare_cached("SELECT count(*) FROM orders WHERE created_at > ?1")?
                .query_row([now.plus_secs(-60).as_millis()], |row| row.get(0))?;
            Ok(Stats {
                total: by_status.values().sum(),
                by_status,
                revenue: revenue_by_currency.get(&currency).copied().unwrap_or_default(),
                currency,
                revenue_by_currency,
                orders_per_minute,
                timestamp: now,
            })
        })
        .await
    }
}
