//! The keys that make tokens unreadable and unforgeable, and the same on all nodes.
//!
//! Offsets tell how much business is done, and names of topics what it is about; both
//! stay inside. All nodes know the same secrets, so that a token of one is understood by
//! the others.
//!
//! Everything is derived from a secret by HKDF-SHA256 (RFC 5869), apart by what is
//! derived and for what:
//!
//! ```text
//!  secret, id --> root --+--> of a lane:  36 bits that name it in `at`
//!                        |                a key of AES-128 for the block in `at`
//!                        +--> of a topic: 64 bits that name it in a whole cursor
//!                        '--> a key of AES-256-GCM-SIV for whole cursors
//! ```
//!
//! **`at`** is one AES block over offset, emission and four zero bytes. The same place
//! is the same text, because frames are shared by all who get them; nothing else can be
//! told from it, not even which of two places is the later. A forged block has zeros
//! where it must once in 2^32, and then names a place that nobody chose; no right
//! hangs on a place, so nothing is won by it.
//!
//! **A whole cursor** is sealed with a nonce that is always the same. GCM-SIV is made to
//! bear that: all that shows is which texts are of the same places. RFC 8452, section 9,
//! advises against it for what shows; here that is the purpose, since nodes must agree on
//! the text of a place and share it. What it costs is the birthday bound of the same
//! section: 2^48 blocks under one key until an attacker's advantage is 2^-32, which at ten
//! thousand different cursors of 20 blocks a second are more than forty years.

use std::fmt;

use aes::Aes128;
use aes::cipher::{BlockDecrypt, BlockEncrypt};
use aes_gcm_siv::aead::{AeadInPlace, KeyInit};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use sha2::Sha256;

use crate::position::{At, Lane, Position};

/// Most keys of a [`Keyring`]: the one that seals, and old ones.
const MAX_KEYS: usize = 8;
const NONCE: [u8; 12] = [0; 12];

/// The keys of a hub's tokens: one that seals, and old ones that still open.
///
/// Nodes with the same keys understand each other's tokens. To change the key, first let
/// all nodes accept the new one, then seal with it and accept the old one for as long as
/// the source keeps its events.
///
/// ```
/// use fanout::Keyring;
///
/// let keys = Keyring::new('b', b"at least 32 bytes that nobody knows")?
///     .accepting('a', b"what it was until last month, 32 bytes too")?;
/// # Ok::<(), fanout::KeyError>(())
/// ```
#[derive(Clone)]
pub struct Keyring {
    /// The first seals.
    keys: Vec<Key>,
}

/// Why a key was not taken. Retrying cannot help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It stands at the start of every token.
    #[error("key id `{id}` must be one letter, digit, `-` or `_`", id = .id.escape_debug())]
    BadId {
        /// What was given.
        id: char,
    },
    /// It could be guessed.
    #[error("secret of {len} bytes is too short: at least {min} random bytes", min = Keyring::MIN_SECRET_BYTES)]
    ShortSecret {
        /// How many it has.
        len: usize,
    },
    /// Tokens would not tell which of two keys they are of.
    #[error("two keys have the id `{id}`")]
    SameId {
        /// The id of both.
        id: char,
    },
    /// More than can be of use.
    #[error("more than {MAX_KEYS} keys; drop those that are older than what the source keeps")]
    TooMany,
}

impl Keyring {
    /// Fewest bytes of a secret.
    pub const MIN_SECRET_BYTES: usize = 32;

    /// A key that seals. Its `id` is the first character of all tokens: a letter, a digit,
    /// `-` or `_`; the secret is at least 32 random bytes.
    ///
    /// # Errors
    /// [`KeyError::BadId`], [`KeyError::ShortSecret`].
    pub fn new(id: char, secret: &[u8]) -> Result<Self, KeyError> {
        Ok(Self { keys: vec![Key::new(id, secret)?] })
    }

    /// Takes tokens of another key as well: one that sealed before, or soon will. At most
    /// eight keys in all.
    ///
    /// # Errors
    /// [`KeyError`] where the key is none, its id is taken, or there are enough.
    pub fn accepting(mut self, id: char, secret: &[u8]) -> Result<Self, KeyError> {
        let key = Key::new(id, secret)?;
        if self.keys.iter().any(|other| other.id == key.id) {
            return Err(KeyError::SameId { id });
        }
        if self.keys.len() == MAX_KEYS {
            return Err(KeyError::TooMany);
        }
        self.keys.push(key);
        Ok(self)
    }

    /// A key that nobody else has: no other node reads its tokens, and they end with the
    /// process.
    ///
    /// # Panics
    /// Where the operating system has no random bytes.
    pub fn random() -> Self {
        let mut secret = [0; Self::MIN_SECRET_BYTES];
        getrandom::fill(&mut secret).expect("the operating system gives random bytes");
        Self::new('0', &secret).expect("good id, and long enough")
    }

    pub(crate) fn into_keys(self) -> Box<[Key]> {
        self.keys.into()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.keys).finish()
    }
}

/// Six characters that name a lane in `at`: 36 bits.
pub(crate) type LaneName = [u8; 6];

/// What names a log's topic in a whole cursor: 64 bits.
pub(crate) type TopicTag = [u8; 8];

/// One key, and what is derived from it for no lane in particular.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) id: u8,
    root: Hkdf<Sha256>,
    whole: Box<Aes256GcmSiv>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", char::from(self.id))
    }
}

impl Key {
    fn new(id: char, secret: &[u8]) -> Result<Self, KeyError> {
        if !id.is_ascii_alphanumeric() && !matches!(id, '-' | '_') {
            return Err(KeyError::BadId { id });
        }
        if secret.len() < Keyring::MIN_SECRET_BYTES {
            return Err(KeyError::ShortSecret { len: secret.len() });
        }
        let id = id as u8;
        // With the id, so that keys stay apart even where their secrets are the same.
        let salt = [&b"fanout tokens 1 "[..], &[id]].concat();
        let root = Hkdf::new(Some(&salt), secret);
        let whole = derive::<32>(&root, "whole cursors", &[]);
        Ok(Self { id, root, whole: Box::new(Aes256GcmSiv::new(&whole.into())) })
    }

    /// A lane's name and the key of its blocks.
    pub(crate) fn lane(&self, lane: &Lane) -> LaneKey {
        let partition = lane.partition.to_be_bytes();
        let parts = [lane.log.as_bytes(), lane.topic.as_bytes(), &partition];
        // 40 bits are seven characters, of which six have 36.
        let name = URL_SAFE_NO_PAD.encode(derive::<5>(&self.root, "lane name", &parts));
        let mut prefix = [b'.'; 8];
        prefix[0] = self.id;
        prefix[1..7].copy_from_slice(&name.as_bytes()[..6]);
        let key = derive::<16>(&self.root, "lane block", &parts);
        LaneKey { prefix, block: Aes128::new(&key.into()) }
    }

    /// What stands for a log's topic in whole cursors.
    pub(crate) fn topic(&self, lane: &Lane) -> TopicTag {
        derive(&self.root, "topic", &[lane.log.as_bytes(), lane.topic.as_bytes()])
    }

    /// Seals what a whole cursor says: the same bytes give the same text.
    pub(crate) fn seal(&self, mut whole: Vec<u8>) -> String {
        let nonce = Nonce::from(NONCE);
        self.whole.encrypt_in_place(&nonce, &[], &mut whole).expect("less than 64 GiB");
        let mut text = String::with_capacity(1 + whole.len().div_ceil(3) * 4);
        text.push(char::from(self.id));
        URL_SAFE_NO_PAD.encode_string(&whole, &mut text);
        text
    }

    /// What [`seal`](Self::seal) was given, by the text behind the id; `None` where it was
    /// not made by this key.
    pub(crate) fn open(&self, text: &str) -> Option<Vec<u8>> {
        let mut whole = URL_SAFE_NO_PAD.decode(text).ok()?;
        self.whole.decrypt_in_place(&Nonce::from(NONCE), &[], &mut whole).ok()?;
        Some(whole)
    }
}

/// Bytes that only whoever has the root can tell, others for each label and parts.
fn derive<const N: usize>(root: &Hkdf<Sha256>, label: &str, parts: &[&[u8]]) -> [u8; N] {
    // Each with its length: nothing can be moved from one part into the next.
    let mut info = Vec::new();
    for part in [label.as_bytes()].iter().chain(parts) {
        info.extend((part.len() as u64).to_be_bytes());
        info.extend(*part);
    }
    let mut out = [0; N];
    root.expand(&info, &mut out).expect("far less than HKDF's 8,160 bytes");
    out
}

/// What makes and reads the `at` of one lane under one key.
#[derive(Clone)]
pub(crate) struct LaneKey {
    /// Id, name, dot.
    prefix: [u8; 8],
    block: Aes128,
}

impl fmt::Debug for LaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaneKey({})", self.prefix.escape_ascii())
    }
}

impl LaneKey {
    pub(crate) fn name(&self) -> LaneName {
        self.prefix[1..7].try_into().expect("six bytes")
    }

    /// The same key under another name, to make two lanes of one name.
    #[cfg(test)]
    pub(crate) fn renamed(mut self, name: LaneName) -> Self {
        self.prefix[1..7].copy_from_slice(&name);
        self
    }

    /// The `at` of a position: one AES block, no allocation.
    pub(crate) fn seal(&self, position: Position) -> At {
        let mut block = [0; 16];
        block[..8].copy_from_slice(&position.offset.to_be_bytes());
        block[8..12].copy_from_slice(&position.emission.to_be_bytes());
        let mut block = block.into();
        self.block.encrypt_block(&mut block);
        let mut at = [0; At::LEN];
        at[..8].copy_from_slice(&self.prefix);
        let len = URL_SAFE_NO_PAD.encode_slice(block, &mut at[8..]);
        debug_assert_eq!(len, Ok(At::LEN - 8));
        At(at)
    }

    /// The position in a block; `None` where it was not made by this key.
    pub(crate) fn open(&self, block: [u8; 16]) -> Option<Position> {
        let mut block = block.into();
        self.block.decrypt_block(&mut block);
        let block: [u8; 16] = block.into();
        let (offset, rest) = block.split_first_chunk()?;
        let (emission, zeros) = rest.split_first_chunk()?;
        (zeros == [0; 4]).then(|| Position {
            offset: u64::from_be_bytes(*offset),
            emission: u32::from_be_bytes(*emission),
        })
    }
}

/// The block behind an `at`'s dot; `None` where it is not the one text of sixteen bytes.
pub(crate) fn block(text: &str) -> Option<[u8; 16]> {
    // base64 wants room for 18 where the text has 22 characters.
    let mut bytes = [0; 18];
    let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    bytes.get(..len)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"at least 32 bytes that nobody knows";

    #[test]
    fn ids_and_secrets_are_checked() {
        for id in ['a', 'Z', '0', '-', '_'] {
            assert!(Keyring::new(id, SECRET).is_ok(), "{id}");
        }
        for id in ['.', ',', '+', '=', ' ', '\0', 'é', '٣'] {
            assert_eq!(Keyring::new(id, SECRET).unwrap_err(), KeyError::BadId { id });
        }
        assert!(Keyring::new('a', &[7; 32]).is_ok());
        for len in [0, 31] {
            let error = Keyring::new('a', &vec![7; len]).unwrap_err();
            assert_eq!(error, KeyError::ShortSecret { len });
        }
    }

    #[test]
    fn a_ring_has_at_most_eight_keys_of_different_ids() {
        let one = Keyring::new('a', SECRET).unwrap();
        let same = one.clone().accepting('a', &[7; 32]).unwrap_err();
        assert_eq!(same, KeyError::SameId { id: 'a' });
        let eight = ('b'..='h').try_fold(one, |ring, id| ring.accepting(id, SECRET)).unwrap();
        assert_eq!(eight.accepting('i', SECRET).unwrap_err(), KeyError::TooMany);
    }

    #[test]
    fn debug_tells_ids_alone() {
        let ring = Keyring::new('a', SECRET).unwrap().accepting('b', SECRET).unwrap();
        assert_eq!(format!("{ring:?}"), "Keyring([Key(a), Key(b)])");
        let lane = ring.keys[0].lane(&Lane::new("log", "topic", 3));
        assert!(format!("{lane:?}").starts_with("LaneKey(a"), "{lane:?}");
    }

    #[test]
    fn what_is_derived_is_apart() {
        let key = |id, secret| Keyring::new(id, secret).unwrap().into_keys();
        let (a, b, c) = (key('a', SECRET), key('b', SECRET), key('a', &[7; 32]));
        let parts: [&[u8]; 2] = [b"ab", b"c"];
        let first: [u8; 16] = derive(&a[0].root, "x", &parts);
        let others = [
            derive(&a[0].root, "y", &parts),
            derive(&a[0].root, "x", &[b"a", b"bc"]),
            derive(&a[0].root, "x", &[b"abc"]),
            derive(&a[0].root, "x", &[b"ab", b"c", b""]),
            derive(&b[0].root, "x", &parts),
            derive(&c[0].root, "x", &parts),
        ];
        assert!(!others.contains(&first));
    }

    #[test]
    fn random_keys_are_no_two_alike() {
        let [a, b] = [Keyring::random(), Keyring::random()].map(Keyring::into_keys);
        assert_ne!(a[0].seal(vec![1]), b[0].seal(vec![1]));
    }
}
