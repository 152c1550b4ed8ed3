//! The body of an emission whose event is declared.
//!
//! Nothing is done at the door but to look the event up: what a view sees is cut where the
//! first connection of the view needs it, and kept for all others, whatever protocol they
//! speak.

use std::sync::{Arc, OnceLock};

use super::{Rule, Rules, cut, fits};
use crate::frame::EntryBody;
use crate::json::Json;
use crate::role::ViewId;

/// A body and what each view sees of it.
#[derive(Debug)]
pub(crate) struct Redacted {
    source: EntryBody,
    rules: Arc<Rules>,
    /// The views that get something, a bit each.
    views: OnceLock<u64>,
    /// By view, where it hides or shows.
    cut: Box<[OnceLock<Json>]>,
}

impl Redacted {
    pub(super) fn new(source: EntryBody, rules: Arc<Rules>) -> Self {
        let cut = rules.0.iter().map(|_| OnceLock::new()).collect();
        Self { source, rules, views: OnceLock::new(), cut }
    }

    /// What a view sees of it.
    pub(crate) fn of(&self, view: ViewId) -> Option<&Json> {
        if !self.is_for(view) {
            return None;
        }
        let source = self.source.of(view)?;
        match self.rules.of(view) {
            Rule::All => Some(source),
            Rule::Nothing => None,
            Rule::Cut(paths) => {
                let done = self.cut.get(view.0 as usize)?;
                Some(done.get_or_init(|| cut(paths, source)))
            }
        }
    }

    /// Whether a view sees anything of it.
    pub(crate) fn is_for(&self, view: ViewId) -> bool {
        self.views() & (1 << view.0) != 0
    }

    /// The views that see something of it, a bit each.
    pub(crate) fn views(&self) -> u64 {
        *self.views.get_or_init(|| {
            // One that all share is looked at once.
            let mut shared = None;
            let mut gets = |view: ViewId| match (self.rules.of(view), self.source.of(view)) {
                (Rule::Nothing, _) | (_, None) => false,
                (Rule::All, Some(_)) => true,
                (Rule::Cut(_), Some(body)) => match &self.source {
                    EntryBody::Shared(_) => *shared.get_or_insert_with(|| fits(body)),
                    _ => fits(body),
                },
            };
            let views = (0..self.slots()).map(|n| ViewId(n as u8));
            views.fold(0, |bits, view| bits | u64::from(gets(view)) << view.0)
        })
    }

    /// How many views there are.
    pub(crate) fn slots(&self) -> usize {
        self.rules.0.len()
    }

    /// What came.
    pub(crate) fn source(&self) -> &EntryBody {
        &self.source
    }

    /// What it counts for in the log's limit, at most: what came, and for each view its frame
    /// and what was cut for it.
    pub(crate) fn bytes(&self) -> usize {
        let each = |(n, rule): (usize, &Rule)| {
            let len = self.source.of(ViewId(n as u8)).map_or(0, |json| json.as_bytes().len());
            match rule {
                Rule::All => len,
                Rule::Cut(_) => 2 * len,
                Rule::Nothing => 0,
            }
        };
        let views: usize = self.rules.0.iter().enumerate().map(each).sum();
        size_of::<Self>() + size_of_val(&*self.cut) + self.source.len() + views
    }
}
