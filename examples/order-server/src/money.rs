//! Money: whole cents inside, a JSON number with at most two decimals outside.
//!
//! Neither direction goes through a float: the number's text is read and written.

use std::borrow::Cow;
use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::value::RawValue;

/// An amount in hundredths of its currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cents(pub i64);

/// Why a text is no amount. Retrying cannot help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MoneyError {
    /// Not a decimal number.
    #[error("not a number")]
    NotANumber,
    /// Finer than a cent.
    #[error("more than two decimals")]
    TooFine,
    /// Beyond what is counted in.
    #[error("too large")]
    TooLarge,
}

impl Cents {
    /// This many of them; `None` where that cannot be counted.
    pub fn times(self, quantity: u32) -> Option<Self> {
        self.0.checked_mul(i64::from(quantity)).map(Self)
    }

    /// A share of it, rounded half away from zero.
    pub fn share(self, rate: Rate) -> Self {
        let exact = i128::from(self.0) * i128::from(rate.0);
        let half = if exact < 0 { -5_000 } else { 5_000 };
        // A rate is at most one: the share is no larger than the whole.
        Self(((exact + half) / 10_000) as i64)
    }
}

impl FromStr for Cents {
    type Err = MoneyError;

    /// Reads a decimal number, as JSON writes it but without an exponent.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) {
            return Err(MoneyError::NotANumber);
        }
        // 19.990 is no finer than 19.99.
        let fraction = fraction.trim_end_matches('0');
        let cents = match fraction.len() {
            0 => 0,
            1 => 10 * i64::from(fraction.as_bytes()[0] - b'0'),
            2 => fraction.parse().map_err(|_| MoneyError::NotANumber)?,
            _ => return Err(MoneyError::TooFine),
        };
        let whole: i64 = whole.parse().map_err(|_| MoneyError::TooLarge)?;
        let amount = whole.checked_mul(100).and_then(|all| all.checked_add(cents));
        let amount = amount.ok_or(MoneyError::TooLarge)?;
        Ok(Self(if negative { -amount } else { amount }))
    }
}

impl fmt::Display for Cents {
    /// The shortest text: `20`, `20.5`, `19.99`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, cents) = (self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100);
        match (cents, cents % 10) {
            (0, _) => write!(f, "{sign}{whole}"),
            (_, 0) => write!(f, "{sign}{whole}.{}", cents / 10),
            _ => write!(f, "{sign}{whole}.{cents:02}"),
        }
    }
}

impl Sum for Cents {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        Self(amounts.map(|cents| cents.0).sum())
    }
}

impl Serialize for Cents {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string()).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Cents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        raw.get().parse().map_err(de::Error::custom)
    }
}

/// A share in hundredths of a percent: 1900 is 19 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate(u16);

impl Rate {
    /// From a percentage with at most two decimals, 0 to 100.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_percent(text: &str) -> Result<Self, Cow<'static, str>> {
        match text.parse::<Cents>() {
            // Hundredths of a percent, as cents are hundredths.
            Ok(Cents(rate)) => match u16::try_from(rate) {
                Ok(rate @ ..=10_000) => Ok(Self(rate)),
                _ => Err("a percentage is 0 to 100".into()),
            },
            Err(error) => Err(format!("a percentage such as 19 or 7.75: {error}").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_to_the_cent() {
        let good = [("0", 0), ("19.99", 1999), ("0.1", 10), ("7.50", 750), ("3.000", 300)];
        for (text, cents) in good {
            assert_eq!(text.parse(), Ok(Cents(cents)), "{text}");
        }
        assert_eq!("-0.01".parse(), Ok(Cents(-1)));
        for (text, error) in [
            ("0.001", MoneyError::TooFine),
            ("", MoneyError::NotANumber),
            ("1.", MoneyError::NotANumber),
            (".5", MoneyError::NotANumber),
            ("1e3", MoneyError::NotANumber),
            ("\"5\"", MoneyError::NotANumber),
            ("NaN", MoneyError::NotANumber),
            ("92233720368547758.08", MoneyError::TooLarge),
            ("99999999999999999999", MoneyError::TooLarge),
        ] {
            assert_eq!(text.parse::<Cents>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_share_is_rounded_half_up() {
        let rate = |percent| Rate::from_percent(percent).unwrap();
        assert_eq!(Cents(1999).share(rate("19")), Cents(380));
        assert_eq!(Cents(50).share(rate("1")), Cents(1));
        assert_eq!(Cents(49).share(rate("1")), Cents(0));
        assert_eq!(Cents(1000).share(rate("7.75")), Cents(78));
        assert_eq!(Cents(100_000_000_000_000).share(rate("100")), Cents(100_000_000_000_000));
        for bad in ["101", "-1", "7.755", "x", ""] {
            assert!(Rate::from_percent(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn json_keeps_every_cent(cents in -10_000_000_000_000_000_i64..10_000_000_000_000_000) {
            let text = serde_json::to_string(&Cents(cents)).unwrap();
            prop_assert!(text.split_once('.').is_none_or(|(_, decimals)| decimals.len() <= 2));
            prop_assert_eq!(serde_json::from_str::<Cents>(&text).unwrap(), Cents(cents));
        }
    }
}
