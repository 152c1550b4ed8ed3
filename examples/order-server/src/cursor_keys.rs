//! Keys that cursors are sealed with, as text: one `id:secret` a line.
//!
//! The first seals, all of them are accepted. To change a key, add the new one as the
//! second line at every server, then put it first at every server, and remove the old
//! one when nobody can have a cursor of it any more. Servers that do not share a data
//! folder need the same keys, or a client that comes to another one starts anew.

use std::fmt;

use fanout::{KeyError, Keyring};

use crate::order::random_id;

/// Fewest bytes of a key's secret.
pub const MIN_KEY_BYTES: usize = 32;

/// Keys of cursors: at least one, with ids that differ.
#[derive(Clone, PartialEq, Eq)]
pub struct CursorKeys(Vec<(char, Vec<u8>)>);

/// Why a text holds no keys. It never quotes what it read, which is secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// Nothing but white space and comments.
    #[error("no key; each line is `id:secret`, and the first one seals")]
    None,
    /// A line without a colon behind one character.
    #[error("line {line} is not `id:secret`, where id is one of A-Z, a-z, 0-9, - and _")]
    Shape {
        /// Which, from 1 on.
        line: usize,
    },
    /// A secret that could be guessed.
    #[error("line {line}: the secret has {len} bytes, and needs at least {MIN_KEY_BYTES}")]
    Short {
        /// Which, from 1 on.
        line: usize,
        /// How many it has.
        len: usize,
    },
    /// Nobody could tell which one a cursor is of.
    #[error("line {line}: there is another key with the id {id}")]
    Twice {
        /// Which, from 1 on.
        line: usize,
        /// The id of both.
        id: char,
    },
}

impl CursorKeys {
    /// Reads keys. White space around a line, empty lines and those that begin with `#`
    /// are passed over.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn parse(text: &[u8]) -> Result<Self, KeysError> {
        let mut keys: Vec<(char, Vec<u8>)> = Vec::new();
        for (line, text) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let (id, secret) = match text.trim_ascii() {
                [] | [b'#', ..] => continue,
                [id, b':', secret @ ..] if is_id(*id) => (char::from(*id), secret.trim_ascii()),
                _ => return Err(KeysError::Shape { line }),
            };
            if secret.len() < MIN_KEY_BYTES {
                return Err(KeysError::Short { line, len: secret.len() });
            }
            if keys.iter().any(|(other, _)| *other == id) {
                return Err(KeysError::Twice { line, id });
            }
            keys.push((id, secret.to_vec()));
        }
        if keys.is_empty() { Err(KeysError::None) } else { Ok(Self(keys)) }
    }

    /// The keys as a hub takes them.
    ///
    /// # Errors
    /// [`KeyError`] where they are more than it takes.
    pub fn ring(&self) -> Result<Keyring, KeyError> {
        let [(id, secret), old @ ..] = &self.0[..] else {
            unreachable!("there is at least one key");
        };
        let ring = Keyring::new(*id, secret)?;
        old.iter().try_fold(ring, |ring, (id, secret)| ring.accepting(*id, secret))
    }

    /// One key that nobody knows and that is kept nowhere.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let line = Self::random_line()?;
        Ok(Self::parse(line.as_bytes()).expect("it was made to be read"))
    }

    /// The line of a key that nobody knows.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn random_line() -> Result<String, getrandom::Error> {
        random_id("a:", MIN_KEY_BYTES)
    }

    /// Id and secret of each; the first seals.
    pub fn keys(&self) -> &[(char, Vec<u8>)] {
        &self.0
    }
}

fn is_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

impl fmt::Debug for CursorKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "another:secret:with:colons:and as many";

    #[test]
    fn the_first_seals_and_all_are_accepted() {
        let text = format!("# keys\n\n  b:{ONE} \r\n-: {OTHER}\n");
        let keys = CursorKeys::parse(text.as_bytes()).unwrap();
        let expected = [('b', ONE.as_bytes().to_vec()), ('-', OTHER.as_bytes().to_vec())];
        assert_eq!(keys.keys(), expected);
        let shown = format!("{keys:?}");
        assert!(!shown.contains("0123") && !shown.contains("another"), "{shown}");
    }

    #[test]
    fn what_is_no_key_is_named_by_its_line() {
        let text = |lines: &[&str]| CursorKeys::parse(lines.join("\n").as_bytes());
        assert_eq!(text(&["", "# none"]), Err(KeysError::None));
        let good = format!("a:{ONE}");
        for bad in ["a", ":x", "ab:secret", "ä:secret", "/:secret", "a secret"] {
            assert_eq!(text(&[&good, bad]), Err(KeysError::Shape { line: 2 }), "{bad}");
        }
        let short = format!("b:{}", &ONE[1..]);
        assert_eq!(text(&[&good, &short]), Err(KeysError::Short { line: 2, len: 31 }));
        let twice = format!("a:{OTHER}");
        assert_eq!(text(&[&good, "", &twice]), Err(KeysError::Twice { line: 3, id: 'a' }));
    }

    #[test]
    fn random_keys_differ() {
        assert_ne!(CursorKeys::random().unwrap(), CursorKeys::random().unwrap());
    }
}
