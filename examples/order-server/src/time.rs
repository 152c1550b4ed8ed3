//! Times: milliseconds inside, RFC 3339 in UTC outside.

use std::fmt;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// The clock's.
    pub fn now() -> Self {
        Self(Timestamp::now().as_millisecond())
    }

    /// Milliseconds since 1970.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// From milliseconds since 1970; what RFC 3339 cannot write becomes its nearest
    /// end, the year 1 or 9999.
    pub fn from_millis(millis: i64) -> Self {
        const YEAR_ONE: i64 = -62_135_596_800_000;
        // Its last second is not whole.
        let end = 1000 * (Timestamp::MAX.as_second() - 1);
        Self(millis.clamp(YEAR_ONE, end))
    }

    /// This many seconds later, or earlier where negative.
    pub fn plus_secs(self, secs: i64) -> Self {
        Self::from_millis(self.0.saturating_add(secs.saturating_mul(1000)))
    }

    /// Whole seconds since 1970.
    pub fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        let millis = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis)
            }
        };
        Self::from_millis(millis)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Timestamp::from_millisecond(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{time:.3}")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: Timestamp = text.parse().map_err(de::Error::custom)?;
        Ok(Self::from_millis(time.as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn written_in_utc_with_milliseconds() {
        let time = Time::from(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_007));
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.007Z");
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), time);
        let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Time::from(early).to_string(), "1969-12-31T23:59:59.000Z");
    }

    #[test]
    fn no_number_is_beyond_the_calendar() {
        for millis in [i64::MIN, i64::MAX] {
            assert!(!Time::from_millis(millis).to_string().is_empty());
        }
        assert!(!Time::now().plus_secs(i64::MAX).to_string().is_empty());
    }
}
