// The rules of redaction, without a thought for speed.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

const MAX_DEPTH: usize = 128;

/// A body. Members are in their order, also those of the same name; a leaf is as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    Object(Vec<(String, Tree)>),
    Array(Vec<Tree>),
    Leaf(String),
}

/// The names of a path that is known to be good.
pub fn names(path: &str) -> Vec<String> {
    let (mut names, mut escaped) = (vec![String::new()], false);
    for c in path.chars() {
        match c {
            '\\' if !escaped => escaped = true,
            '.' if !escaped => names.push(String::new()),
            c => {
                names.last_mut().expect("there is one").push(c);
                escaped = false;
            }
        }
    }
    names
}

impl Tree {
    pub fn read(text: &str) -> Option<Self> {
        Self::within(text, 0)
    }

    fn within(text: &str, depth: usize) -> Option<Self> {
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        if depth > MAX_DEPTH {
            return None;
        }
        Some(match text.as_bytes().first()? {
            b'{' => {
                let Members(members) = serde_json::from_str(text).ok()?;
                let member = |(name, value): (String, &RawValue)| {
                    Some((name, Self::within(value.get(), depth + 1)?))
                };
                Self::Object(members.into_iter().map(member).collect::<Option<_>>()?)
            }
            b'[' => {
                let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                let element = |value: &RawValue| Self::within(value.get(), depth + 1);
                Self::Array(elements.into_iter().map(element).collect::<Option<_>>()?)
            }
            _ => Self::Leaf(text.to_owned()),
        })
    }

    /// What is left of it, where anything is.
    pub fn seen(&self, paths: &[Vec<String>], show: bool) -> Option<Self> {
        match self {
            Self::Leaf(text) if text == "null" => Some(self.clone()),
            Self::Leaf(_) => None,
            Self::Array(elements) => {
                Some(Self::Array(elements.iter().filter_map(|e| e.seen(paths, show)).collect()))
            }
            Self::Object(members) => {
                let member = |(name, value): &(String, Self)| {
                    let rest: Vec<Vec<String>> = paths
                        .iter()
                        .filter(|path| path[0] == *name)
                        .map(|path| path[1..].to_vec())
                        .collect();
                    let value = match (rest.is_empty(), rest.iter().any(Vec::is_empty)) {
                        (true, _) => (!show).then(|| value.clone()),
                        (_, true) => show.then(|| value.clone()),
                        _ => value.seen(&rest, show),
                    };
                    Some((name.clone(), value?))
                };
                Some(Self::Object(members.iter().filter_map(member).collect()))
            }
        }
    }
}

/// The members of an object, in their order, none lost.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}
