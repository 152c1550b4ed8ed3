//! A body without what a view must not see.
//!
//! One pass over the text: what is kept is copied, what is hidden is passed over, and only
//! what is on the way to a path is looked into.

use bytes::Bytes;

use super::path::{Mode, Node, Paths, Step};
use super::scan::{Malformed, Reader, Text};
use crate::json::Json;

/// What is left of a body that was examined before.
pub(super) fn cut(paths: &Paths, body: &Json) -> Json {
    // It was examined and is JSON: there is something, and it has an end.
    let left = cut_text(paths, body.as_bytes()).map(Vec::into_boxed_slice);
    Json::known(left.map_or(Bytes::from_static(b"null"), Bytes::from))
}

pub(super) fn cut_text(paths: &Paths, text: &[u8]) -> Option<Vec<u8>> {
    let capacity = match paths.mode {
        Mode::Hide => text.len(),
        Mode::Show => text.len() / 4,
    };
    let (mode, out) = (paths.mode, Vec::with_capacity(capacity));
    let mut cut = Cut { reader: Reader::new(text), mode, out };
    let something = cut.value(&paths.root).unwrap_or(false);
    something.then_some(cut.out)
}

struct Cut<'a> {
    reader: Reader<'a>,
    mode: Mode,
    out: Vec<u8>,
}

impl Cut<'_> {
    /// Passes a value that paths go on into; false where it is left out.
    ///
    /// It is called from within itself at most as deep as the body nests.
    fn value(&mut self, node: &Node) -> Result<bool, Malformed> {
        match self.reader.peek()? {
            b'{' => self.object(node)?,
            b'[' => self.array(node)?,
            first => {
                let value = self.reader.value()?;
                // It says nothing.
                if first != b'n' {
                    return Ok(false);
                }
                self.out.extend_from_slice(value);
            }
        }
        Ok(true)
    }

    fn array(&mut self, node: &Node) -> Result<(), Malformed> {
        self.list(b'[', b']', |cut| cut.value(node))
    }

    fn object(&mut self, node: &Node) -> Result<(), Malformed> {
        self.list(b'{', b'}', |cut| cut.member(node))
    }

    /// Passes what stands between brackets; `each` passes one and says whether it is kept.
    fn list(
        &mut self,
        open: u8,
        close: u8,
        mut each: impl FnMut(&mut Self) -> Result<bool, Malformed>,
    ) -> Result<(), Malformed> {
        self.reader.expect(open)?;
        self.out.push(open);
        let first = self.out.len();
        if !self.reader.take(close)? {
            loop {
                let before = self.out.len();
                if before > first {
                    self.out.push(b',');
                }
                if !each(self)? {
                    self.out.truncate(before);
                }
                if !self.reader.take(b',')? {
                    break;
                }
            }
            self.reader.expect(close)?;
        }
        self.out.push(close);
        Ok(())
    }

    /// Passes a name and its value; false where both are left out.
    fn member(&mut self, node: &Node) -> Result<bool, Malformed> {
        let name = self.reader.string()?;
        self.reader.expect(b':')?;
        match find(node, name) {
            Found::Step(Step::On(node)) => {
                self.name(name);
                self.value(node)
            }
            Found::Step(Step::End) => self.whole(name, self.mode == Mode::Show),
            Found::Nothing => self.whole(name, self.mode == Mode::Hide),
            Found::Unreadable => self.whole(name, false),
        }
    }

    /// Passes the value of a member, which is copied as it is where it is kept.
    fn whole(&mut self, name: Text<'_>, kept: bool) -> Result<bool, Malformed> {
        let value = self.reader.value()?;
        if kept {
            self.name(name);
            self.out.extend_from_slice(value);
        }
        Ok(kept)
    }

    fn name(&mut self, name: Text<'_>) {
        self.out.extend_from_slice(name.raw);
        self.out.push(b':');
    }
}

/// What follows a name.
enum Found<'a> {
    Step(&'a Step),
    Nothing,
    /// It is no text: nobody can say what it is for who reads it.
    Unreadable,
}

fn find<'a>(node: &'a Node, name: Text<'_>) -> Found<'a> {
    let step = if name.escaped {
        let Ok(name) = serde_json::from_slice::<String>(name.raw) else {
            return Found::Unreadable;
        };
        node.get(name.as_bytes())
    } else {
        name.raw.get(1..name.raw.len() - 1).and_then(|name| node.get(name))
    };
    step.map_or(Found::Nothing, Found::Step)
}
