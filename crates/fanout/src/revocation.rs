//! That what was issued to somebody is void, and how that is written.
//!
//! The one form is for control topics (`control.rs`) and for whoever publishes to them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::Error;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::connection::ConnectionId;
use crate::json::Json;
use crate::role::Role;

/// That an identity, a part of it, or a connection is void from now on; see
/// [`Hub::revoke`](crate::Hub::revoke).
///
/// `before` is compared in whole seconds, as tokens have them: what was issued in that very
/// second is void too, and so is what does not say when it was issued
/// ([`Identity::issued_at`](crate::Identity::issued_at)). A `before` in the future counts as no
/// more than five minutes from when it was said, which is as far as clocks may be apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocation {
    /// All that was issued to a subject: its connections are closed with
    /// [`Close::Revoked`](crate::Close::Revoked).
    Subject {
        /// Whose.
        subject: Arc<str>,
        /// Up to when it was issued.
        before: SystemTime,
    },
    /// One role of a subject: its connections leave the rooms that it let them be in, and see
    /// what their other roles let them see. Those that have none are closed with
    /// [`Close::Forbidden`](crate::Close::Forbidden).
    Role {
        /// Whose.
        subject: Arc<str>,
        /// Which role.
        role: Role,
        /// Up to when the identity was issued.
        before: SystemTime,
    },
    /// One connection is closed with [`Close::Revoked`](crate::Close::Revoked). Whose it is
    /// may connect again.
    Connection(ConnectionId),
}

/// Why something is no revocation. Retrying cannot help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// It is not JSON, or not of this form.
    #[error("not of the form {form}: {source}", form = Revocation::FORM)]
    Form {
        /// Where it is not.
        source: serde_json::Error,
    },
    /// It says neither whom nor what.
    #[error("`revoke` needs `subject`, with or without `role`, or `connection` alone")]
    Neither,
    /// The connection's name is none.
    #[error("`connection` is not the name of a connection")]
    Connection,
    /// The time is none.
    #[error("`before` is not a time in seconds since 1970")]
    Before,
}

/// A record's value.
#[derive(Serialize, Deserialize)]
struct Record<R> {
    revoke: R,
}

#[derive(Default, Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Revoke<'a> {
    #[serde(borrow)]
    subject: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    role: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    connection: Option<std::borrow::Cow<'a, str>>,
    before: Option<f64>,
}

impl Revocation {
    const FORM: &'static str = r#"{"revoke":{"subject":"...","role":"...","before":SECONDS}}"#;

    /// Reads what [`to_json`](Self::to_json) writes: an object whose `revoke` has `subject`,
    /// with or without `role`, or `connection` alone; and `before` in seconds since 1970 (a
    /// `NumericDate` of JWT), where it is not `said`, the time of the record. What else stands
    /// beside `revoke` is passed over, within it nothing else is allowed.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use fanout::Revocation;
    ///
    /// let value = br#"{"revoke":{"subject":"ann","before":1732340000}}"#;
    /// let revocation = Revocation::from_json(value, SystemTime::now())?;
    /// let before = SystemTime::UNIX_EPOCH + Duration::from_secs(1_732_340_000);
    /// assert_eq!(revocation, Revocation::Subject { subject: "ann".into(), before });
    /// assert_eq!(revocation.to_json().as_bytes()[..], value[..]);
    /// # Ok::<(), fanout::RevocationError>(())
    /// ```
    ///
    /// # Errors
    /// [`RevocationError`] says what is wrong.
    pub fn from_json(value: &[u8], said: SystemTime) -> Result<Self, RevocationError> {
        let form = |source| RevocationError::Form { source };
        let record: Record<&RawValue> = object(value).map_err(form)?;
        let Revoke { subject, role, connection, before } =
            object(record.revoke.get().as_bytes()).map_err(form)?;
        let before = before.map_or(Ok(said), time)?;
        match (subject, role, connection) {
            (Some(subject), None, None) => {
                Ok(Self::Subject { subject: Arc::from(&*subject), before })
            }
            (Some(subject), Some(role), None) => {
                let (subject, role) = (Arc::from(&*subject), Role::from(&*role));
                Ok(Self::Role { subject, role, before })
            }
            (None, None, Some(connection)) => {
                let id = connection.parse().map_err(|_| RevocationError::Connection)?;
                Ok(Self::Connection(id))
            }
            _ => Err(RevocationError::Neither),
        }
    }

    /// The value of a record in a control topic.
    pub fn to_json(&self) -> Json {
        let mut written = Written::default();
        match self {
            Self::Subject { subject, before } => {
                (written.subject, written.before) = (Some(&**subject), Some(seconds(*before)));
            }
            Self::Role { subject, role, before } => {
                (written.subject, written.role) = (Some(&**subject), Some(role.as_str()));
                written.before = Some(seconds(*before));
            }
            Self::Connection(id) => written.connection = Some(id.to_string()),
        }
        Json::of(&Record { revoke: written }).expect("it has a JSON form")
    }

    /// Its kind, for metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Subject { .. } => "subject",
            Self::Role { .. } => "role",
            Self::Connection(_) => "connection",
        }
    }
}

/// Reads an object; an array would be taken for its members in their order.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, serde_json::Error> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(Error::custom("not an object"));
    }
    serde_json::from_slice(json)
}

/// Whole seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Up to the year 9999: what is more is not meant as seconds, and milliseconds would void
/// what is issued from now on.
const LATEST: f64 = 253_402_300_799.0;

fn time(seconds: f64) -> Result<SystemTime, RevocationError> {
    if !(0.0..=LATEST).contains(&seconds) {
        return Err(RevocationError::Before);
    }
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_revocation() -> impl Strategy<Value = Revocation> {
        let before = || (0..4_000_000_000_u64).prop_map(|s| time(s as f64).unwrap());
        let id = any::<(u64, u8, u32, u32)>().prop_map(|(hub, shard, key, generation)| {
            Revocation::Connection(ConnectionId { hub, shard, key, generation })
        });
        prop_oneof![
            (".*", before()).prop_map(|(subject, before)| Revocation::Subject {
                subject: subject.into(),
                before
            }),
            (".*", ".*", before()).prop_map(|(subject, role, before)| Revocation::Role {
                subject: subject.into(),
                role: Role::new(role),
                before
            }),
            id,
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(revocation in any_revocation()) {
            let json = revocation.to_json();
            let read = Revocation::from_json(json.as_bytes(), SystemTime::now()).unwrap();
            prop_assert_eq!(read, revocation);
        }

        #[test]
        fn whatever_stands_there_is_an_answer(value: Vec<u8>) {
            let _ = Revocation::from_json(&value, SystemTime::now());
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |value: &str| {
            Revocation::from_json(value.as_bytes(), SystemTime::now()).unwrap_err().to_string()
        };
        assert!(error(r#"{"revoke":{"subject":7}}"#).starts_with("not of the form {"));
        assert!(error(r#"{"revoke":{"user":"ann"}}"#).contains("unknown field `user`"));
        assert!(error(r#"{"revoke":{"role":"admin"}}"#).starts_with("`revoke` needs `subject`"));
        assert!(error(r#"{"revoke":{"connection":"7"}}"#).starts_with("`connection` is not"));
        let millis = r#"{"revoke":{"subject":"ann","before":1732340000000}}"#;
        assert!(error(millis).starts_with("`before` is not a time"));
    }

    /// Found by fuzzing: a list was read as if its elements were the members in their order,
    /// so that what somebody meant otherwise took a role away.
    #[test]
    fn a_list_revokes_nothing() {
        for value in [r#"[{"subject":"ann"}]"#, r#"{"revoke":["ann","admin"]}"#, "[[]]", "{}"] {
            let read = Revocation::from_json(value.as_bytes(), SystemTime::now());
            assert!(matches!(read, Err(RevocationError::Form { .. })), "{value}: {read:?}");
        }
    }
}
