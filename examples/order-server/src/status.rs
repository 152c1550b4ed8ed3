//! The statuses of an order, and which may follow which.
//!
//! ```text
//! pending --> paid, processing (either first) --> shipped --> delivered
//!    '-----------------'-------------------------'--> cancelled
//! ```
//!
//! Steps may be left out, none is taken back, delivered and cancelled are final.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What has become of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Taken.
    Pending,
    /// The money is there.
    Paid,
    /// Being packed.
    Processing,
    /// On its way.
    Shipped,
    /// Arrived; final.
    Delivered,
    /// Called off; final.
    Cancelled,
}

/// Why an order does not get a status. Retrying cannot help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an order that is {from} cannot become {to}: {why}")]
pub struct TransitionError {
    /// What it is.
    pub from: Status,
    /// What it was to become.
    pub to: Status,
    why: &'static str,
}

impl Status {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Paid,
        Self::Processing,
        Self::Shipped,
        Self::Delivered,
        Self::Cancelled,
    ];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Paid => "paid",
            Self::Processing => "processing",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing follows it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Cancelled)
    }

    /// Whether an order with these past statuses, the last of which it has now, may
    /// become `to`.
    ///
    /// The whole past counts: paid and processing come in either order, but an order
    /// that was both does not go back and forth between them.
    ///
    /// # Errors
    /// [`TransitionError`] says why not.
    pub fn check(past: &[Self], to: Self) -> Result<(), TransitionError> {
        let from = past.last().copied().unwrap_or(Self::Pending);
        let refuse = |why| Err(TransitionError { from, to, why });
        if from == to {
            return refuse("it already is");
        }
        if from.is_final() {
            return refuse("that is final");
        }
        if to == Self::Cancelled {
            return Ok(());
        }
        if to.step() < from.step() || past.contains(&to) {
            return refuse("statuses only go forward");
        }
        Ok(())
    }

    fn step(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Paid | Self::Processing => 1,
            Self::Shipped => 2,
            Self::Delivered => 3,
            Self::Cancelled => 4,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a status is pending, paid, processing, shipped, delivered or cancelled")]
pub struct UnknownStatus;

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

#[cfg(test)]
mod tests {
    use Status::{Cancelled, Delivered, Paid, Pending, Processing, Shipped};

    use super::*;

    /// Every pair, from an order that went there directly.
    #[test]
    fn which_may_follow_which() {
        let may = |from: Status| match from {
            Pending => vec![Paid, Processing, Shipped, Delivered, Cancelled],
            Paid => vec![Processing, Shipped, Delivered, Cancelled],
            Processing => vec![Paid, Shipped, Delivered, Cancelled],
            Shipped => vec![Delivered, Cancelled],
            Delivered | Cancelled => vec![],
        };
        for from in Status::ALL {
            let past = if from == Pending { vec![Pending] } else { vec![Pending, from] };
            for to in Status::ALL {
                let checked = Status::check(&past, to);
                assert_eq!(checked.is_ok(), may(from).contains(&to), "{from} -> {to}");
            }
        }
    }

    #[test]
    fn paid_and_processing_in_either_order_but_once() {
        assert!(Status::check(&[Pending, Paid, Processing], Paid).is_err());
        assert!(Status::check(&[Pending, Processing, Paid], Processing).is_err());
        assert!(Status::check(&[Pending, Processing, Paid], Shipped).is_ok());
    }

    #[test]
    fn names_are_read_back() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        assert_eq!("Paid".parse::<Status>(), Err(UnknownStatus));
    }
}
