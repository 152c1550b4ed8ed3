//! A small log, a life that is right, and what is planted into it.

use super::plant::{KINDS, plant};
use super::*;
use crate::rng::Rng;

/// Room `a` and room `b` in two lanes; content is 100 a lane plus the position. Times are
/// 10 an emission.
fn log() -> Log {
    let lane = |lane: u32| LaneLog {
        name: format!("t/{lane}"),
        emissions: (0..20)
            .map(|n: u32| Emitted {
                offset: i64::from(n / 2),
                nth: n % 2,
                time: u64::from(n) * 10,
                // Every third is for b, every fifth for both.
                rooms: rooms(match n {
                    _ if n % 5 == 4 => &["a", "b"],
                    _ if n % 3 == 2 => &["b"],
                    _ => &["a"],
                }),
                told: Told::Shared(100 * lane + n),
            })
            .collect(),
        due: 20,
    };
    Log { lanes: vec![lane(0), lane(1)] }
}

fn rooms(names: &[&str]) -> Vec<Room> {
    names.iter().map(|name| Room::from(*name)).collect()
}

fn welcome(time: u64, recovered: Option<bool>, names: &[&str]) -> Step {
    Step::Welcome { time, resumed: recovered.is_some(), recovered, rooms: rooms(names) }
}

fn gap(time: u64, names: &[&str]) -> Step {
    Step::Gap { time, reason: "expired".to_owned(), rooms: rooms(names) }
}

fn frames(contents: impl IntoIterator<Item = u32>) -> impl Iterator<Item = Step> {
    contents.into_iter().map(|content| Step::Frame { content, at: None })
}

/// What of lane 0 is for these rooms, from and up to a position.
fn of(names: &[&str], range: std::ops::Range<usize>) -> Vec<u32> {
    let log = log();
    let emissions = &log.lanes[0].emissions[range];
    let mine = emissions.iter().filter(|e| e.rooms.iter().any(|r| names.contains(&&**r)));
    mine.flat_map(|emitted| emitted.told.all()).collect()
}

fn life(steps: impl IntoIterator<Item = Step>) -> Life {
    let (name, view) = ("x".to_owned(), "default".to_owned());
    Life { name, view, steps: steps.into_iter().collect(), revoked: Vec::new() }
}

/// With the second lane away, so that a test writes down one.
fn judged(life: &Life) -> Vec<(Kind, usize)> {
    let mut log = log();
    log.lanes.truncate(1);
    let faults = judge(&Lookup::new(&log), life).faults;
    faults.iter().map(|f| (f.kind, f.place.map_or(99, |(_, position)| position))).collect()
}

#[test]
fn who_got_all_has_no_faults_and_who_got_nothing_lost_what_was_due() {
    let all = life([welcome(0, None, &["a"])].into_iter().chain(frames(of(&["a"], 0..20))));
    assert_eq!(judged(&all), []);
    // What was written before the welcome may be missing, what was written after not.
    let late = life([welcome(100, None, &["a"])].into_iter().chain(frames(of(&["a"], 11..20))));
    assert_eq!(judged(&late), []);
    let nothing = life([welcome(150, None, &["a"])]);
    let due = [(Kind::Lost, 16), (Kind::Lost, 18), (Kind::Lost, 19)];
    assert_eq!(judged(&nothing), due);
}

#[test]
fn what_follows_the_first_that_came_is_due_whenever_it_was_written() {
    let hole = [0, 1, 3, 6].into_iter().chain(of(&["a"], 7..20));
    let life = life([welcome(500, None, &["a"])].into_iter().chain(frames(hole)));
    assert_eq!(judged(&life), [(Kind::Lost, 4)]);
}

#[test]
fn coming_back_owes_no_less_than_staying() {
    let there = |from: u32, to: u32| frames(of(&["a", "b"], from as usize..to as usize));
    let mut steps = vec![welcome(0, None, &["a", "b"])];
    steps.extend(there(0, 7));
    steps.extend([Step::Ended, welcome(100, Some(true), &["a", "b"])]);
    let right = steps.clone().into_iter().chain(there(7, 20));
    assert_eq!(judged(&life(right)), []);
    let lost = steps.clone().into_iter().chain(there(8, 20));
    assert_eq!(judged(&life(lost)), [(Kind::Lost, 7)]);
    let doubled = steps.clone().into_iter().chain(there(6, 20));
    assert_eq!(judged(&life(doubled)), [(Kind::Doubled, 6)]);
    // Nothing at all came after it.
    let silent = judged(&life(steps));
    assert_eq!(silent.len(), 13);
    assert!(silent.iter().all(|(kind, position)| *kind == Kind::Lost && *position >= 7));
}

#[test]
fn a_gap_allows_what_it_names_and_no_more() {
    let mut steps = vec![welcome(0, None, &["a", "b"])];
    steps.extend(frames(of(&["a", "b"], 0..5)));
    steps.extend([Step::Ended, welcome(100, Some(true), &["a", "b"]), gap(100, &["a"])]);
    // Position 5 and 8 are b's.
    let b_too = steps.clone().into_iter().chain(frames(of(&["a", "b"], 10..20)));
    assert_eq!(judged(&life(b_too)), [(Kind::Lost, 5), (Kind::Lost, 8), (Kind::Lost, 9)]);
    let right = frames([5, 8, 9]).chain(frames(of(&["a", "b"], 10..20)));
    assert_eq!(judged(&life(steps.clone().into_iter().chain(right))), []);
    // Behind the first that came for the room after the gap, all of it is due.
    let hole = frames([5, 8, 9, 11, 14]).chain(frames(of(&["a", "b"], 16..20)));
    let faults = judged(&life(steps.clone().into_iter().chain(hole)));
    assert_eq!(faults, [10, 12, 13, 15].map(|position| (Kind::Lost, position)));
    // And what was written after the gap was told, wherever the first one is.
    steps.pop();
    steps.push(gap(100, &["a", "b"]));
    let late = frames([11]).chain(frames(of(&["a", "b"], 14..20)));
    let faults = judged(&life(steps.into_iter().chain(late)));
    assert_eq!(faults, [12, 13].map(|position| (Kind::Lost, position)));
}

#[test]
fn after_a_gap_what_came_before_may_come_again_once() {
    let mut steps = vec![welcome(0, None, &["a"])];
    steps.extend(frames(of(&["a"], 0..11)));
    let again = |steps: &[Step], from| {
        let back = [welcome(100, Some(false), &["a"]), gap(100, &["a"])];
        let steps = steps.iter().cloned().chain(back).chain(frames(of(&["a"], from..20)));
        steps.collect::<Vec<_>>()
    };
    assert_eq!(judged(&life(again(&steps, 4))), []);
    // Who begins anew at 4 is due all that follows it, whatever came earlier.
    let mut hole = again(&steps, 4);
    hole.retain({
        let mut seen = 0;
        move |step| {
            seen += usize::from(*step == Step::Frame { content: 6, at: None });
            seen < 2 || *step != Step::Frame { content: 6, at: None }
        }
    });
    assert_eq!(judged(&life(hole)), [(Kind::Lost, 6)]);
}

#[test]
fn not_recovered_must_say_so() {
    let faults = |more: Vec<Step>| {
        let steps = [welcome(0, None, &["a"]), welcome(500, Some(false), &["a"])];
        judged(&life(steps.into_iter().chain(more)))
    };
    assert_eq!(faults(vec![gap(500, &["a"])]), []);
    assert_eq!(faults(vec![Step::Ended]), []);
    assert_eq!(faults(frames([19]).collect()), [(Kind::Protocol, 99)]);
    assert_eq!(faults(vec![gap(500, &["b"])]), [(Kind::Protocol, 99)]);
    let wrong = [
        Step::Welcome { time: 500, resumed: true, recovered: None, rooms: rooms(&["a"]) },
        Step::Welcome { time: 500, resumed: false, recovered: Some(true), rooms: rooms(&["a"]) },
    ];
    for welcome in wrong {
        assert_eq!(judged(&life([welcome])), [(Kind::Protocol, 99)]);
    }
}

#[test]
fn what_others_may_see_is_forbidden() {
    let told = |content| {
        judged(&life([welcome(500, None, &["a"])].into_iter().chain(frames([content]))))
            .into_iter()
            .filter(|(kind, _)| *kind != Kind::Lost)
            .collect::<Vec<_>>()
    };
    assert_eq!(told(19), []);
    assert_eq!(told(17), [(Kind::Forbidden, 17)]);
    assert_eq!(told(4711), [(Kind::Forbidden, 99)]);
}

#[test]
fn a_body_of_another_view_is_forbidden_and_none_is_not_due() {
    let mut log = log();
    log.lanes.truncate(1);
    let views = vec![("default".to_owned(), 1000), ("full".to_owned(), 1001)];
    log.lanes[0].emissions[19].told = Told::PerView(views);
    log.lanes[0].emissions[18].told = Told::PerView(vec![("full".to_owned(), 1002)]);
    let faults = |contents: &[u32]| {
        let steps = [welcome(165, None, &["a"])].into_iter();
        let life = life(steps.chain(frames(contents.iter().copied())));
        judge(&Lookup::new(&log), &life).faults.iter().map(|f| f.kind).collect::<Vec<_>>()
    };
    assert_eq!(faults(&[1000]), []);
    assert_eq!(faults(&[]), [Kind::Lost]);
    assert_eq!(faults(&[1001]), [Kind::Forbidden, Kind::Lost]);
    assert_eq!(faults(&[1002, 1000]), [Kind::Forbidden]);
}

#[test]
fn rooms_are_due_from_joining_to_leaving() {
    let b = Room::from("b");
    let steps = |b_frames: &[u32], after: &[u32]| {
        let mut steps = vec![welcome(0, None, &["a"])];
        steps.extend(frames(of(&["a"], 0..8)));
        steps.push(Step::Joined { time: 75, room: b.clone() });
        steps.extend(frames(b_frames.iter().copied()));
        steps.push(Step::Leaving { room: b.clone() });
        steps.push(Step::Left { room: b.clone() });
        steps.extend(frames(after.iter().copied()));
        steps.extend(frames(of(&["a"], 15..20)));
        life(steps)
    };
    let all = of(&["a", "b"], 8..15);
    assert_eq!(judged(&steps(&all, &[])), []);
    let without: Vec<u32> = all.iter().copied().filter(|n| *n != 11).collect();
    assert_eq!(judged(&steps(&without, &[])), [(Kind::Lost, 11)]);
    assert_eq!(judged(&steps(&all, &[17])), [(Kind::Forbidden, 17)]);
    // What was said before the join does not come, nor does it follow.
    let old: Vec<u32> = [2].into_iter().chain(all.iter().copied()).collect();
    assert_eq!(judged(&steps(&old, &[]))[0], (Kind::Misordered, 2));
}

/// A room was left, then the client began anew at a server that is behind, and joined the
/// room again there.
#[test]
fn what_a_left_room_had_been_told_does_not_outlive_a_gap() {
    let mut steps = vec![welcome(0, None, &["a", "b"])];
    steps.extend(frames(of(&["a", "b"], 0..15)));
    steps.extend([welcome(100, Some(false), &["a"]), gap(100, &["a"])]);
    let room = Room::from("b");
    steps.push(Step::Joined { time: 500, room: room.clone() });
    let behind = steps.iter().cloned().chain(frames(of(&["a", "b"], 8..20)));
    assert_eq!(judged(&life(behind)), []);
    // Without the gap it must go on where it was.
    steps.retain(|step| !matches!(step, Step::Gap { .. } | Step::Welcome { time: 100, .. }));
    steps.insert(steps.len() - 1, welcome(100, Some(true), &["a"]));
    let behind = steps.into_iter().chain(frames(of(&["a", "b"], 14..20)));
    assert_eq!(judged(&life(behind)), [(Kind::Doubled, 14)]);
}

#[test]
fn the_same_words_written_twice_come_twice() {
    let mut log = log();
    log.lanes.truncate(1);
    log.lanes[0].emissions[16].told = Told::Shared(15);
    let faults = |contents: &[u32]| {
        let steps = [welcome(145, None, &["a"])].into_iter();
        let life = life(steps.chain(frames(contents.iter().copied())));
        let faults = judge(&Lookup::new(&log), &life).faults;
        faults.iter().map(|f| (f.kind, f.place.unwrap().1)).collect::<Vec<_>>()
    };
    assert_eq!(faults(&[15, 15, 18, 19]), []);
    assert_eq!(faults(&[15, 18, 19]), [(Kind::Lost, 16)]);
    assert_eq!(faults(&[15, 15, 15, 18, 19]), [(Kind::Doubled, 15)]);
}

#[test]
fn what_was_written_too_late_is_not_due_but_right() {
    let mut log = log();
    log.lanes.truncate(1);
    log.lanes[0].due = 19;
    let faults = |contents: &[u32]| {
        let steps = [welcome(165, None, &["a"])].into_iter();
        judge(&Lookup::new(&log), &life(steps.chain(frames(contents.iter().copied())))).faults
    };
    assert_eq!(faults(&[18]), []);
    assert_eq!(faults(&[18, 19]), []);
    assert_eq!(faults(&[19])[0].kind, Kind::Lost);
}

#[test]
fn what_must_never_be_is_a_fault() {
    let broken = Step::Broken { what: "closed with 4502".to_owned() };
    assert_eq!(judged(&life([welcome(500, None, &["a"]), broken])), [(Kind::Protocol, 99)]);
}

/// Every planted fault is found, in lives of random comings and goings.
#[test]
fn planted_faults_are_noticed() {
    let log = log();
    let lookup = Lookup::new(&log);
    // Nobody is revoked here: `identity::tests` does that.
    let mut planted_at_all = [0; 4];
    for seed in 0..300 {
        let mut rng = Rng::new(seed).of("planted");
        let life = random_life(&lookup, &mut rng);
        let verdict = judge(&lookup, &life);
        assert_eq!(verdict.faults, [], "seed {seed}: {life:#?}");
        for (n, kind) in KINDS.into_iter().take(4).enumerate() {
            let Some(planted) = plant(&lookup, &life, &verdict, kind, &mut rng) else { continue };
            let found: Vec<Kind> =
                judge(&lookup, &planted).faults.iter().map(|fault| fault.kind).collect();
            assert!(found.contains(&kind), "seed {seed}, {kind:?}: {found:?} in {planted:#?}");
            planted_at_all[n] += 1;
        }
    }
    assert!(planted_at_all.iter().all(|count| *count > 100), "{planted_at_all:?}");
}

/// Somebody who is in `a`, comes back now and then, and gets what there is, with gaps.
fn random_life(lookup: &Lookup<'_>, rng: &mut Rng) -> Life {
    let mut steps = vec![welcome(0, None, &["a"])];
    let mut next = [0, 0];
    let lanes = &lookup.log.lanes;
    while next.iter().zip(lanes).any(|(next, lane)| *next < lane.emissions.len()) {
        let lane = rng.below(2);
        let Some(emitted) = lanes[lane].emissions.get(next[lane]) else { continue };
        next[lane] += 1;
        if emitted.rooms.contains(&Room::from("a")) {
            steps.extend(frames(emitted.told.all()));
        }
        let newest = next.iter().max().map_or(0, |n| *n as u64 * 10);
        match rng.below(30) {
            0 => steps.extend([Step::Ended, welcome(newest, Some(true), &["a"])]),
            1 => {
                steps.extend([welcome(newest, Some(false), &["a"]), gap(newest, &["a"])]);
                let lane = rng.below(2);
                next[lane] = rng.below(next[lane] + 1);
            }
            2 => {
                steps.push(gap(newest, &["a"]));
                let lane = rng.below(2);
                let lost = (next[lane] + rng.below(4)).min(newest as usize / 10);
                next[lane] = next[lane].max(lost);
            }
            _ => {}
        }
    }
    life(steps)
}
