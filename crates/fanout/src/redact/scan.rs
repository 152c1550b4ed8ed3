//! Where the parts of a JSON text are.
//!
//! A reader over text that is known to be one JSON value: it looks for the ends of things and
//! checks nothing twice. What is not JSON it calls [`Malformed`] at some point, or reads as
//! something else, but it never panics and always ends.

use super::Redaction;

/// What cannot be where a JSON text was checked before.
#[derive(Debug)]
pub(super) struct Malformed;

/// A place in a JSON text.
pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

/// A string as it is written, with its quotes.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) raw: &'a [u8],
    /// Whether anything in it is escaped.
    pub(super) escaped: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is no white space; it is not passed.
    pub(super) fn peek(&mut self) -> Result<u8, Malformed> {
        let rest = self.text.get(self.at..).ok_or(Malformed)?;
        let space = rest.iter().position(|b| !is_space(*b)).ok_or(Malformed)?;
        self.at += space;
        Ok(rest[space])
    }

    /// Passes the next byte where it is this one.
    pub(super) fn take(&mut self, byte: u8) -> Result<bool, Malformed> {
        let there = self.peek()? == byte;
        self.at += usize::from(there);
        Ok(there)
    }

    /// Passes the next byte, which has to be this one.
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.take(byte)? { Ok(()) } else { Err(Malformed) }
    }

    /// Passes a string.
    pub(super) fn string(&mut self) -> Result<Text<'a>, Malformed> {
        if self.peek()? != b'"' {
            return Err(Malformed);
        }
        let (end, escaped) = string_end(self.text, self.at).ok_or(Malformed)?;
        let raw = &self.text[self.at..end];
        self.at = end;
        Ok(Text { raw, escaped })
    }

    /// Passes a value, whatever it is.
    pub(super) fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'"' => return Ok(self.string()?.raw),
            b'{' | b'[' => self.at = container_end(self.text, start).ok_or(Malformed)?,
            _ => {
                let ends = |b: &u8| is_space(*b) || matches!(b, b',' | b']' | b'}');
                let rest = &self.text[start..];
                self.at = start + rest.iter().position(ends).unwrap_or(rest.len());
            }
        }
        if self.at == start {
            return Err(Malformed);
        }
        Ok(&self.text[start..self.at])
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// Where a string that begins at `start` has ended, and whether anything in it is escaped.
fn string_end(text: &[u8], start: usize) -> Option<(usize, bool)> {
    let (mut at, mut escaped) = (start + 1, false);
    loop {
        at += text.get(at..)?.iter().position(|b| matches!(b, b'"' | b'\\'))?;
        if text[at] == b'"' {
            return Some((at + 1, escaped));
        }
        (at, escaped) = (at + 2, true);
    }
}

/// Where an object or an array that begins at `start` has ended.
fn container_end(text: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut depth) = (start, 0_usize);
    loop {
        match text.get(at)? {
            b'"' => {
                at = string_end(text, at)?.0;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Why a body is not for views that hide or show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    TooDeep,
    NoObject,
}

impl Unfit {
    /// As it is in a metric's label.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TooDeep => "too_deep",
            Self::NoObject => "no_object",
        }
    }
}

/// Whether a body can be cut: nests no deeper than is allowed, and is not made of strings,
/// numbers and booleans alone.
pub(super) fn examine(text: &[u8]) -> Result<(), Unfit> {
    let (mut at, mut depth, mut last) = (0, 0_usize, 0);
    // Of lists of lists, empty ones and `null` are nothing that could leak.
    let mut some = false;
    while let Some(byte) = text.get(at).copied() {
        match byte {
            b'"' => {
                let Some((end, _)) = string_end(text, at) else { break };
                (at, last) = (end, byte);
                continue;
            }
            b'{' | b'[' => {
                depth += 1;
                some |= byte == b'{';
                if depth > Redaction::MAX_DEPTH {
                    return Err(Unfit::TooDeep);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                some |= last == b'[';
            }
            // Of what is outside of strings only `null` begins with it.
            b'n' => some = true,
            _ => {}
        }
        if !is_space(byte) {
            last = byte;
        }
        at += 1;
    }
    if some { Ok(()) } else { Err(Unfit::NoObject) }
}
