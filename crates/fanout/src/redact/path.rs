//! Paths to members of JSON objects, as a tree of names.

use crate::redact::{PathError, Redaction};

/// The paths of one view of an event.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) mode: Mode,
    pub(super) root: Node,
}

/// What becomes of what is at the paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Hide,
    Show,
}

/// Names of members, sorted, and what follows them.
#[derive(Clone, Debug, Default)]
pub(super) struct Node(Vec<(Box<str>, Step)>);

/// What follows a name.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The path ends.
    End,
    /// It goes on.
    On(Node),
}

impl Node {
    /// What follows `name`.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Step> {
        let at = self.0.binary_search_by(|(known, _)| known.as_bytes().cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// Adds a path; false where one that is there has all of it, or is within it.
    pub(super) fn add(&mut self, names: &[String]) -> bool {
        let Some((name, rest)) = names.split_first() else { return false };
        let at = match self.0.binary_search_by(|(known, _)| known.as_bytes().cmp(name.as_bytes())) {
            Ok(at) => {
                return match &mut self.0[at].1 {
                    Step::On(node) => node.add(rest),
                    Step::End => false,
                };
            }
            Err(at) => at,
        };
        let mut step = Step::End;
        if !rest.is_empty() {
            let mut node = Self::default();
            node.add(rest);
            step = Step::On(node);
        }
        self.0.insert(at, (name.as_str().into(), step));
        true
    }
}

/// The names of a path.
pub(super) fn names(path: &str) -> Result<Vec<String>, PathError> {
    if path.starts_with('/') {
        return Err(PathError::Reserved('/'));
    }
    let mut names = Vec::new();
    let mut name = Name::default();
    let mut chars = path.chars();
    loop {
        match chars.next() {
            Some('\\') => match chars.next() {
                Some(c) if name.may_escape(c) => name.push(c, true),
                _ => return Err(PathError::Escape),
            },
            Some(c @ ('[' | ']' | '*')) => return Err(PathError::Reserved(c)),
            end @ (Some('.') | None) => {
                names.push(std::mem::take(&mut name).end()?);
                if names.len() > Redaction::MAX_STEPS {
                    return Err(PathError::TooManySteps { max: Redaction::MAX_STEPS });
                }
                if end.is_none() {
                    return Ok(names);
                }
            }
            Some(c) => name.push(c, false),
        }
    }
}

/// A name that is being read.
#[derive(Default)]
struct Name {
    text: String,
    escaped: bool,
}

impl Name {
    fn may_escape(&self, c: char) -> bool {
        matches!(c, '.' | '\\' | '[' | ']' | '*')
            || self.text.is_empty() && (matches!(c, '/' | '$') || c.is_ascii_digit())
    }

    fn push(&mut self, c: char, escaped: bool) {
        self.text.push(c);
        self.escaped |= escaped;
    }

    fn end(self) -> Result<String, PathError> {
        let Self { text, escaped } = self;
        if text.is_empty() {
            return Err(PathError::EmptyName);
        }
        if !escaped && text == "$" {
            return Err(PathError::Reserved('$'));
        }
        if !escaped && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PathError::Index);
        }
        Ok(text)
    }
}
