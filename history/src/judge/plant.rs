//! Faults that are put into a faultless life, to see that the judge notices: a checker
//! that cannot fail proves nothing.

use super::{Content, Kind, Life, Lookup, Place, Step, Verdict};
use crate::rng::Rng;

/// What may be planted.
pub(crate) const KINDS: [Kind; 4] = [Kind::Lost, Kind::Doubled, Kind::Misordered, Kind::Forbidden];

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
