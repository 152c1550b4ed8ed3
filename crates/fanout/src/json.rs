//! One JSON value, checked once and then only passed on.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

/// The bytes of exactly one JSON value in UTF-8.
///
/// What is pasted between other bytes of a frame must be one value, or a record
/// in Kafka could write frames of its own. The check happens once, where the bytes
/// enter; cloning is a reference count.
///
/// ```
/// use bytes::Bytes;
/// use fanout::Json;
///
/// let json = Json::parse(Bytes::from_static(br#"{"orderId":"7"}"#))?;
/// assert_eq!(json.as_str(), r#"{"orderId":"7"}"#);
/// assert!(Json::parse(Bytes::from_static(b"{},{}")).is_err());
/// # Ok::<(), fanout::JsonError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Bytes);

/// Why bytes or a value are not one JSON value. Retrying cannot help.
#[derive(Debug, thiserror::Error)]
#[error("not one JSON value in UTF-8")]
pub struct JsonError(#[from] serde_json::Error);

impl Json {
    /// Checks that `bytes` are one JSON value and keeps them as they are.
    ///
    /// # Errors
    /// [`JsonError`] where they are none, more than one, or not UTF-8.
    pub fn parse(bytes: Bytes) -> Result<Self, JsonError> {
        // RawValue and not IgnoredAny: only the former checks strings for UTF-8.
        serde_json::from_slice::<&RawValue>(&bytes)?;
        Ok(Self(bytes))
    }

    /// A value that was met when all of `bytes` was parsed: a part of them.
    ///
    /// # Panics
    /// Where it is not.
    pub(crate) fn within(bytes: &Bytes, value: &RawValue) -> Self {
        Self(bytes.slice_ref(value.get().as_bytes()))
    }

    /// Bytes that are known to be one JSON value.
    pub(crate) fn known(bytes: Bytes) -> Self {
        debug_assert!(serde_json::from_slice::<&RawValue>(&bytes).is_ok());
        Self(bytes)
    }

    /// Serializes `value`.
    ///
    /// # Errors
    /// [`JsonError`] where `value` has no JSON form, such as a map with keys that
    /// are not strings.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        Ok(Self(serde_json::to_vec(value)?.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when it was made")
    }
}

impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_value_in_utf8_is_taken() {
        for good in ["{}", "[1,2]", "\"a\"", "null", " 1 ", "{\"a\":\n1}"] {
            assert!(Json::parse(Bytes::from(good)).is_ok(), "{good}");
        }
        for bad in [&b""[..], b"{", b"{} {}", b"1,2", b"{},\"event\":\"x\"", b"\"\xff\"", b"\xef"] {
            assert!(Json::parse(Bytes::from(bad)).is_err(), "{bad:?}");
        }
    }
}
