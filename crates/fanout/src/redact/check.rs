//! From what is said of an event to rules by the numbers of views.

use super::path::{Mode, Node, Paths, names};
use super::{Redaction, RedactionError, Rule, Rules, Said};
use crate::role::View;

/// The rules of an event, in the order of `known`.
///
/// # Errors
/// What is wrong, with the event's name, the view and the path.
pub(super) fn rules(
    event: &str,
    said: Vec<(View, Said)>,
    known: &[View],
) -> Result<Rules, RedactionError> {
    let mut rules: Vec<Option<Rule>> = vec![None; known.len()];
    for (view, said) in said {
        let event = event.to_owned();
        let Some(at) = known.iter().position(|known| *known == view) else {
            return Err(RedactionError::UnknownView { event, view });
        };
        if rules[at].is_some() {
            return Err(RedactionError::ViewTwice { event, view });
        }
        rules[at] = Some(match said {
            Said::All => Rule::All,
            Said::Nothing => Rule::Nothing,
            Said::Hide(list) => Rule::Cut(paths(&event, &view, Mode::Hide, &list)?),
            Said::Show(list) => Rule::Cut(paths(&event, &view, Mode::Show, &list)?),
        });
    }
    let all = rules.into_iter().zip(known).map(|(rule, view)| {
        let missing =
            || RedactionError::MissingView { event: event.to_owned(), view: view.clone() };
        rule.ok_or_else(missing)
    });
    Ok(Rules(all.collect::<Result<_, _>>()?))
}

fn paths(event: &str, view: &View, mode: Mode, list: &[String]) -> Result<Paths, RedactionError> {
    let (event, view) = (|| event.to_owned(), || view.clone());
    if list.is_empty() {
        return Err(RedactionError::NoPaths { event: event(), view: view() });
    }
    if list.len() > Redaction::MAX_PATHS {
        let max = Redaction::MAX_PATHS;
        return Err(RedactionError::TooManyPaths { event: event(), view: view(), max });
    }
    let mut all: Vec<(Vec<String>, &String)> = Vec::with_capacity(list.len());
    for path in list {
        let names = names(path).map_err(|source| {
            let path = path.clone();
            RedactionError::Path { event: event(), view: view(), path, source }
        })?;
        all.push((names, path));
    }
    // Shorter ones first, so that what covers another is there before it.
    all.sort_by_key(|(names, _)| names.len());
    let mut root = Node::default();
    for (at, (names, path)) in all.iter().enumerate() {
        if !root.add(names) {
            let by = all[..at].iter().find(|(other, _)| names.starts_with(other));
            let by = by.map_or_else(|| (*path).clone(), |(_, by)| (*by).clone());
            let path = (*path).clone();
            return Err(RedactionError::Covered { event: event(), view: view(), path, by });
        }
    }
    Ok(Paths { mode, root })
}
