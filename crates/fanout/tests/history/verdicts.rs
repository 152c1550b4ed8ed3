//! The judge notices what it is for.

use std::collections::BTreeSet;

use crate::judge::Judge;
use crate::scene::Truth;

/// Lane 0: events 0 to 4 for `all`, of which 2 is for the room `desk`, 3 has two emissions,
/// of which the second is not for `carl`; then three of one key in a room that conflates.
fn truth() -> Truth {
    let mut truth = Truth::default();
    let events = [
        r#"{"n":0,"e":[{"r":["all"],"k":"shared"}]}"#,
        r#"{"n":1,"e":[{"r":["all"],"k":"views"}]}"#,
        r#"{"n":2,"e":[{"r":["desk"],"k":"shared"}]}"#,
        r#"{"n":3,"e":[{"r":["all"],"k":"shared"},{"r":["all"],"k":"some"}]}"#,
        r#"{"n":4,"e":[{"r":["all"],"k":"shared"}]}"#,
        r#"{"n":5,"e":[{"r":["conf:1"],"k":"shared","c":"k"}]}"#,
        r#"{"n":6,"e":[{"r":["conf:1"],"k":"shared","c":"k"}]}"#,
        r#"{"n":7,"e":[{"r":["conf:1"],"k":"shared","c":"k"}]}"#,
    ];
    events.iter().zip(0..).for_each(|(event, offset)| truth.add(0, offset, event));
    truth
}

fn body(n: u32, i: u32, view: &str) -> String {
    format!(r#"{{"n":{n},"i":{i},"v":"{view}","p":""}}"#)
}

/// Anna is in these rooms from the beginning, and receives.
fn anna(rooms: &[&str], received: &[(u32, u32, &str, u64)]) -> (Truth, Judge, Result<(), String>) {
    let (truth, mut judge) = (truth(), Judge::new(false));
    let rooms = rooms.iter().map(|&room| room.to_owned()).collect();
    judge
        .returns(&truth, rooms, "anna", &Vec::new(), &BTreeSet::new())
        .expect("from the beginning");
    let mut each = received.iter();
    let verdict = each.try_for_each(|(n, i, view, skipped)| {
        judge.received(&truth, &body(*n, *i, view), *skipped)
    });
    (truth, judge, verdict)
}

fn refused(rooms: &[&str], received: &[(u32, u32, &str, u64)], why: &str) {
    let verdict = anna(rooms, received).2;
    assert!(verdict.as_ref().is_err_and(|said| said.contains(why)), "{verdict:?}, not {why}");
}

const ALL: [(u32, u32, &str, u64); 5] =
    [(0, 0, "*", 0), (1, 0, "anna", 0), (3, 0, "*", 0), (3, 1, "anna", 0), (4, 0, "*", 0)];

#[test]
fn what_is_right_passes() {
    let (truth, mut judge, verdict) = anna(&["all"], &ALL);
    assert_eq!((verdict, judge.end(&truth)), (Ok(()), Ok(())));
    assert_eq!(judge.is_live(&truth, &vec![(8, 0)]), Ok(()));
    let (truth, judge, verdict) = anna(&["conf:1"], &[(5, 0, "*", 0), (7, 0, "*", 1)]);
    assert_eq!((verdict, judge.end(&truth)), (Ok(()), Ok(())));
}

#[test]
fn loss_is_noticed() {
    refused(&["all"], &[ALL[0], ALL[2]], "did not");
    refused(&["all"], &[ALL[0], ALL[1], ALL[3]], "did not");
    let (truth, judge, _) = anna(&["all"], &ALL[..4]);
    assert!(judge.end(&truth).is_err_and(|said| said.contains("never came")));
    let (truth, mut judge, _) = anna(&["all"], &ALL[..3]);
    // Between the two emissions of event 3.
    assert_eq!(judge.told(&truth, &vec![(3, 1)]), Ok(()));
    assert!(judge.told(&truth, &vec![(4, 0)]).is_err_and(|said| said.contains("did not come")));
}

#[test]
fn doubles_and_misorder_are_noticed() {
    refused(&["all"], &[ALL[0], ALL[0]], "came after");
    refused(&["all"], &[ALL[0], ALL[1], ALL[2], ALL[1]], "came after");
    let (truth, mut judge, _) = anna(&["all"], &ALL[..3]);
    assert!(judge.told(&truth, &vec![(2, 0)]).is_err_and(|said| said.contains("it had")));
}

#[test]
fn what_is_not_for_somebody_is_noticed() {
    refused(&["all"], &[ALL[0], (1, 0, "bert", 0)], "not for the view");
    refused(&["all"], &[ALL[0], ALL[1], (2, 0, "*", 0)], "where it is not");
    refused(&["all"], &[(9, 0, "*", 0)], "never written");
    let (truth, mut judge, _) = anna(&["all"], &ALL[..2]);
    judge.joined("desk", &vec![(3, 0)], &vec![(3, 0)]);
    let early = judge.received(&truth, &body(2, 0, "*"), 0);
    assert!(early.is_err_and(|said| said.contains("before it was in")));
    judge.left("desk");
    judge.sees("carl", &vec![(2, 0)]);
    assert_eq!(judge.received(&truth, &body(3, 0, "*"), 0), Ok(()));
    let other = judge.received(&truth, &body(3, 1, "anna"), 0);
    assert!(other.is_err_and(|said| said.contains("not for the view carl")));
}

#[test]
fn a_wrong_count_is_noticed() {
    refused(&["conf:1"], &[(7, 0, "*", 1)], "stands for 1, not for 2");
    refused(&["conf:1"], &[(6, 0, "*", 1), (7, 0, "*", 1)], "stands for 1, not for 0");
    let (truth, judge, _) = anna(&["conf:1"], &[(6, 0, "*", 1)]);
    assert!(judge.end(&truth).is_err(), "the newest has to come");
}

#[test]
fn a_gap_excuses_what_is_before_it_and_nothing_else() {
    let all = ["all".to_owned()];
    let (truth, mut judge, _) = anna(&["all"], &ALL[..2]);
    assert!(judge.gap("expired", &[], &vec![(4, 0)]).is_err(), "it names all rooms");
    // By then its node had read event 3.
    assert_eq!(judge.gap("expired", &all, &vec![(4, 0)]), Ok(()));
    assert!(judge.end(&truth).is_err_and(|said| said.contains(r#""n":4"#)));
    assert_eq!(judge.received(&truth, &body(4, 0, "*"), 0), Ok(()));
    assert_eq!(judge.end(&truth), Ok(()));
    let (truth, mut judge, _) = anna(&["all"], &ALL[..2]);
    judge.gap("reset", &all, &vec![(4, 0)]).expect("a gap");
    // What comes again is excused as well, but has no holes.
    assert_eq!(judge.received(&truth, &body(0, 0, "*"), 0), Ok(()));
    let hole = judge.received(&truth, &body(4, 0, "*"), 0);
    assert!(hole.is_err_and(|said| said.contains("did not")));
    let (_, mut judge, _) = anna(&["all"], &ALL[..2]);
    assert!(judge.gap("overflow", &all, &vec![]).is_err(), "that room does not drop");
}

#[test]
fn a_gap_that_does_not_come_is_noticed() {
    let (truth, mut judge) = (truth(), Judge::new(false));
    judge.returns_in_vain(vec!["all".into()], "anna", &vec![(1, 0)]);
    assert!(judge.received(&truth, &body(4, 0, "*"), 0).is_err());
    assert!(judge.end(&truth).is_err());
}

/// Lane 0 is closed after all of it was written.
#[test]
fn what_is_missing_of_a_closed_lane_is_noticed() {
    let (mut truth, mut judge, _) = anna(&["all"], &ALL[..2]);
    truth.closed.insert(0);
    let (all, gone) = (|| vec!["all".to_owned()], BTreeSet::from([0]));
    // Its cursor names nothing of it, as if it had all.
    assert!(judge.is_live(&truth, &vec![]).is_err_and(|said| said.contains("did not come")));
    assert!(judge.end(&truth).is_err_and(|said| said.contains("never came")));
    assert!(judge.returns(&truth, all(), "anna", &vec![], &gone).is_err());
    assert!(judge.received(&truth, &body(1, 0, "anna"), 0).is_err(), "it is doubled");
    judge.gap("reset", &all(), &vec![(u64::MAX, 0)]).expect("a gap");
    assert_eq!(judge.end(&truth), Ok(()));
    // With all of it nothing is missing; and of what it never had it need not be told.
    let (mut truth, judge, _) = anna(&["all"], &ALL);
    truth.closed.insert(0);
    assert_eq!(judge.end(&truth), Ok(()));
    let (mut truth, judge, _) = anna(&["all"], &[]);
    truth.closed.insert(0);
    assert_eq!(judge.end(&truth), Ok(()));
    // A node that has not closed it yet sends it again.
    let (mut truth, mut judge, _) = anna(&["all"], &ALL);
    truth.closed.insert(0);
    assert_eq!(judge.returns(&truth, all(), "anna", &vec![], &BTreeSet::new()), Ok(()));
    assert_eq!(judge.received(&truth, &body(0, 0, "*"), 0), Ok(()));
    assert_eq!(judge.end(&truth), Ok(()));
}
