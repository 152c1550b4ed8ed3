//! Faults that are put into a faultless life, to see that the judge notices: a checker
//! that cannot fail proves nothing.

use std::collections::BTreeSet;

use super::{Content, Kind, Life, Lookup, Place, Step, Verdict, What};
use crate::rng::Rng;

/// What may be planted.
pub(crate) const KINDS: [Kind; 5] =
    [Kind::Lost, Kind::Doubled, Kind::Misordered, Kind::Forbidden, Kind::Revoked];

/// The life with one fault of this kind at a random place; `None` where it has no place
/// at which the fault would certainly be one.
pub(crate) fn plant(
    lookup: &Lookup<'_>,
    life: &Life,
    verdict: &Verdict,
    kind: Kind,
    rng: &mut Rng,
) -> Option<Life> {
    let mut planted = life.clone();
    match kind {
        Kind::Lost => {
            let runs = runs(lookup, life, verdict);
            let [_, middle, _] = *rng.pick(&runs)?;
            planted.steps.remove(middle);
        }
        Kind::Misordered => {
            let runs = runs(lookup, life, verdict);
            let [first, middle, _] = *rng.pick(&runs)?;
            planted.steps.swap(first, middle);
        }
        Kind::Doubled => {
            let (step, _) = *rng.pick(&verdict.placed)?;
            planted.steps.insert(step + 1, life.steps[step].clone());
        }
        Kind::Forbidden => {
            let (step, _) = *rng.pick(&verdict.placed)?;
            let content = foreign(lookup, life, rng)?;
            planted.steps.insert(step, Step::Frame { content, at: None });
        }
        Kind::Revoked => {
            let (step, content) = *rng.pick(&outlived(lookup, life, verdict))?;
            planted.steps.insert(step, Step::Frame { content, at: None });
        }
        Kind::Protocol => return None,
    }
    Some(planted)
}

/// Steps of three frames that follow each other in a lane and have a room in common, with
/// nothing but frames between: the middle one is certainly due.
fn runs(lookup: &Lookup<'_>, life: &Life, verdict: &Verdict) -> Vec<[usize; 3]> {
    let mut runs = Vec::new();
    for lane in 0..lookup.log.lanes.len() {
        let of_lane = verdict.placed.iter().filter(|(_, place)| place.0 == lane);
        let frames: Vec<(usize, Place)> = of_lane.copied().collect();
        for three in frames.windows(3) {
            let [(first, a), (middle, b), (last, c)] = three else { continue };
            let (a, b, c) = (lookup.emitted(*a), lookup.emitted(*b), lookup.emitted(*c));
            let common = b.rooms.iter().any(|r| a.rooms.contains(r) && c.rooms.contains(r));
            let frames = |step: &Step| matches!(step, Step::Frame { .. });
            // What two records say alike may stand for each other.
            let alike = |(_, place): &(usize, Place)| {
                lookup.emitted(*place).told.all().any(|said| lookup.places(said).len() > 1)
            };
            if common && life.steps[*first..*last].iter().all(frames) && !three.iter().any(alike) {
                runs.push([*first, *middle, *last]);
            }
        }
    }
    runs
}

/// For each connection that ended as revoked, something that was told later to the same
/// client and was written when the revocation counted: as if the server had gone on.
fn outlived(lookup: &Lookup<'_>, life: &Life, verdict: &Verdict) -> Vec<(usize, Content)> {
    let subject = |revoked: &&super::Revoked| revoked.what == What::Subject;
    let mut outlived = Vec::new();
    let mut held = None;
    let (mut view, mut rooms) = (life.view.as_str(), BTreeSet::new());
    for (step, what) in life.steps.iter().enumerate() {
        match what {
            Step::Welcome { rooms: all, .. } => rooms = all.iter().collect(),
            Step::Joined { room, .. } => _ = rooms.insert(room),
            Step::Left { room } => _ = rooms.remove(room),
            Step::Presents { node, claims, .. } => held = Some((*node, claims, false)),
            Step::Told { view: now, .. } => {
                view = now;
                held = held.map(|(node, claims, _)| (node, claims, true));
            }
            // What it has then is another story.
            Step::Renews { .. } => held = None,
            Step::Closed { code: 4503, .. } => {
                let Some((node, claims, true)) = held else { continue };
                let mut voids = life.revoked.iter().filter(subject).filter(|r| r.voids(claims));
                let Some(counts) = voids.find_map(|r| r.applied.get(&node)) else { continue };
                let later = verdict.placed.iter().find_map(|(later, place)| {
                    let Step::Frame { content, .. } = &life.steps[*later] else { return None };
                    let emitted = lookup.emitted(*place);
                    // It would have been right but for the revocation, and has one place.
                    let right = lookup.places(*content).len() == 1
                        && emitted.told.to(view) == Some(*content)
                        && emitted.rooms.iter().any(|room| rooms.contains(room));
                    (*later > step && right && emitted.time > *counts).then_some(*content)
                });
                outlived.extend(later.map(|content| (step, content)));
            }
            _ => {}
        }
    }
    outlived
}

/// Something that is said in rooms which this client was never in.
fn foreign(lookup: &Lookup<'_>, life: &Life, rng: &mut Rng) -> Option<Content> {
    let was_in = |room: &super::Room| {
        life.steps.iter().any(|step| match step {
            Step::Welcome { rooms, .. } => rooms.contains(room),
            Step::Joined { room: joined, .. } => joined == room,
            _ => false,
        })
    };
    let contents: Vec<Content> = lookup
        .log
        .lanes
        .iter()
        .flat_map(|lane| &lane.emissions)
        .filter(|emitted| !emitted.rooms.iter().any(was_in))
        .flat_map(|emitted| emitted.told.all())
        .collect();
    rng.pick(&contents).copied()
}
