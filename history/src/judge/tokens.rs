//! What the opaque `at` must keep to, over all clients and nodes: the part before the dot
//! names one lane, the whole one place, and each place has one `at` only, whichever node
//! said it.

use std::collections::HashMap;

use super::{AtId, Life, Place, Step, Verdict};

/// Checks the frames that were placed; what is wrong, in words.
pub(crate) fn check(judged: &[(Life, Verdict)], at: impl Fn(AtId) -> String) -> Vec<String> {
    let mut faults = Vec::new();
    let (mut ats, mut places) = (HashMap::<Place, AtId>::new(), HashMap::<AtId, Place>::new());
    let (mut lanes, mut names) = (HashMap::<usize, String>::new(), HashMap::new());
    for (life, verdict) in judged {
        for (step, place) in &verdict.placed {
            let Step::Frame { at: id, .. } = &life.steps[*step] else { continue };
            let Some(id) = id else {
                faults.push(format!("{}: a frame at {place:?} without `at`", life.name));
                continue;
            };
            // Looked at once a place: a client more changes nothing.
            let known = *ats.entry(*place).or_insert(*id);
            if known != *id {
                let (known, id) = (at(known), at(*id));
                faults.push(format!("{}: {place:?} is both {known} and {id}", life.name));
                continue;
            }
            if let Some(known) = places.insert(*id, *place) {
                if known != *place {
                    let at = at(*id);
                    faults.push(format!("{}: {at} is both {known:?} and {place:?}", life.name));
                }
                continue;
            }
            let at = at(*id);
            let Some((lane, _)) = at.split_once('.') else {
                faults.push(format!("{}: `at` {at} has no dot", life.name));
                continue;
            };
            let name = lanes.entry(place.0).or_insert_with(|| lane.to_owned());
            let number = names.entry(lane.to_owned()).or_insert(place.0);
            if name != lane || *number != place.0 {
                faults.push(format!("{}: lane {} has {name} and {lane}", life.name, place.0));
            }
        }
    }
    faults
}
