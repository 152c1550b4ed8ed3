//! Names of rooms, and patterns that stand for many of them.
//!
//! A name is 1 to 128 bytes of letters, digits and `:_-.@+`, in segments between
//! colons. A subject inside a name is one segment: everything outside
//! `A-Za-z0-9_-.@+` is percent-encoded, so `%` is allowed before two hexadecimal
//! digits and nobody can name himself into another's room.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Most bytes in a room's name.
pub const MAX_ROOM_BYTES: usize = 128;

const OUTSIDE_SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.').remove(b'@').remove(b'+');

/// The checked name of a set of connections: `user:42`, `admin:dashboard`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Room(Arc<str>);

/// Why a text is no room name or no pattern. Retrying cannot help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoomError {
    /// Empty, or more than [`MAX_ROOM_BYTES`].
    #[error("a room's name is 1 to {MAX_ROOM_BYTES} bytes, not {len}")]
    Length {
        /// How many it has.
        len: usize,
    },
    /// A character that no room has.
    #[error(
        "a room's name is letters, digits and `:_-.@+`, with the rest percent-encoded; \
         byte {at} is not"
    )]
    Character {
        /// Where, in bytes.
        at: usize,
    },
    /// `*` or braces where the rooms to join must be known.
    #[error("pattern `{pattern}` does not name one room: only `{{subject}}` can be filled in")]
    Open {
        /// The pattern.
        pattern: String,
    },
}

impl Room {
    /// Checks a name.
    ///
    /// # Errors
    /// [`RoomError`] names the byte or the length that is wrong.
    pub fn new(name: impl AsRef<str>) -> Result<Self, RoomError> {
        let name = name.as_ref();
        check(name)?;
        Ok(Self(name.into()))
    }

    /// `prefix:` and one segment that holds `subject`, whatever is in it.
    ///
    /// ```
    /// use fanout::Room;
    /// assert_eq!(Room::of("user", "a:b/c")?.as_str(), "user:a%3Ab%2Fc");
    /// # Ok::<(), fanout::RoomError>(())
    /// ```
    ///
    /// # Errors
    /// [`RoomError`] where the prefix is no name, or the whole is too long.
    pub fn of(prefix: &str, subject: &str) -> Result<Self, RoomError> {
        let segment = segment(subject);
        let len = prefix.len() + 1 + segment.len();
        let mut name = [b':'; MAX_ROOM_BYTES];
        // One is made for most events: no memory but the name's own.
        let name = name.get_mut(..len).ok_or(RoomError::Length { len })?;
        name[..prefix.len()].copy_from_slice(prefix.as_bytes());
        name[prefix.len() + 1..].copy_from_slice(segment.as_bytes());
        Self::new(std::str::from_utf8(name).expect("texts put together are a text"))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(name: &str) -> Result<(), RoomError> {
    if name.is_empty() || name.len() > MAX_ROOM_BYTES {
        return Err(RoomError::Length { len: name.len() });
    }
    let bytes = name.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let good = match byte {
            b':' | b'_' | b'-' | b'.' | b'@' | b'+' => true,
            _ if byte.is_ascii_alphanumeric() => true,
            b'%' => bytes.get(at + 1..at + 3).is_some_and(|hex| {
                hex.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'))
            }),
            _ => false,
        };
        if !good {
            return Err(RoomError::Character { at });
        }
    }
    Ok(())
}

/// `subject` as one segment of a room's name.
fn segment(subject: &str) -> Cow<'_, str> {
    utf8_percent_encode(subject, OUTSIDE_SEGMENT).into()
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Room({})", self.0)
    }
}

impl Borrow<str> for Room {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Rooms by their segments: `user:{subject}`, `match:*`.
///
/// `{subject}` is the identity's own subject, `*` any one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomPattern(Arc<str>);

impl RoomPattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// [`RoomError`] where it could match no room.
    pub fn new(pattern: &str) -> Result<Self, RoomError> {
        // Whatever stands in the two placeholders, the rest must be a name.
        let filled: Vec<&str> = pattern
            .split(':')
            .map(|part| if part == "*" || part == "{subject}" { "x" } else { part })
            .collect();
        check(&filled.join(":"))?;
        Ok(Self(pattern.into()))
    }

    /// Whether it names one room for each subject.
    ///
    /// # Errors
    /// [`RoomError::Open`] where it has a `*`.
    pub fn closed(self) -> Result<Self, RoomError> {
        if self.0.split(':').any(|part| part == "*") {
            return Err(RoomError::Open { pattern: self.0.to_string() });
        }
        Ok(self)
    }

    /// Whether `room` is one of these for `subject`.
    pub fn matches(&self, room: &Room, subject: &str) -> bool {
        let mut parts = self.0.split(':');
        let mut names = room.0.split(':');
        loop {
            match (parts.next(), names.next()) {
                (None, None) => return true,
                (Some("*"), Some(name)) if !name.is_empty() => {}
                (Some("{subject}"), Some(name)) if name == segment(subject) => {}
                (Some(part), Some(name)) if part == name => {}
                _ => return false,
            }
        }
    }

    /// The one room that this is for `subject`.
    ///
    /// # Errors
    /// [`RoomError`] where it names many, or the subject makes the name too long.
    pub fn fill(&self, subject: &str) -> Result<Room, RoomError> {
        let filled: Vec<_> = self
            .0
            .split(':')
            .map(|part| if part == "{subject}" { segment(subject) } else { part.into() })
            .collect();
        Room::new(filled.join(":"))
    }
}

impl fmt::Display for RoomPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "user:42", "a_b-c.d@e+f:G", "user:a%20b", &"x".repeat(128)] {
            assert!(Room::new(good).is_ok(), "{good}");
        }
        assert_eq!(Room::new(""), Err(RoomError::Length { len: 0 }));
        assert_eq!(Room::new("x".repeat(129)), Err(RoomError::Length { len: 129 }));
        for (bad, at) in [("a b", 1), ("é", 0), ("a%2", 1), ("a%2f", 1), ("{subject}", 0)] {
            assert_eq!(Room::new(bad), Err(RoomError::Character { at }), "{bad}");
        }
    }

    #[test]
    fn patterns_match_by_segment() {
        let pattern = RoomPattern::new("chat:*:{subject}").unwrap();
        let matches = |room, subject| pattern.matches(&Room::new(room).unwrap(), subject);
        assert!(matches("chat:7:ann", "ann"));
        assert!(matches("chat:7:a%3Ab", "a:b"));
        assert!(!matches("chat:7:bob", "ann"));
        assert!(!matches("chat:7:ann:x", "ann"));
        assert!(!matches("chat:7", "ann"));
        assert!(!matches("chat::ann", "ann"));
        assert!(pattern.clone().closed().is_err());
        assert!(RoomPattern::new("chat:{user}").is_err());
    }

    proptest! {
        #[test]
        fn a_subject_is_one_segment_and_only_its_own(a in ".{0,20}", b in ".{0,20}") {
            let pattern = RoomPattern::new("user:{subject}").unwrap();
            if let Ok(room) = pattern.fill(&a) {
                prop_assert_eq!(room.as_str().split(':').count(), 2);
                prop_assert!(pattern.matches(&room, &a));
                prop_assert_eq!(pattern.matches(&room, &b), a == b);
            }
        }
    }
}
