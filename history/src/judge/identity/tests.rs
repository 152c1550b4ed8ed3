//! Tokens, revocations, and what may come in spite of them.

use std::collections::BTreeMap;

use super::super::plant::plant;
use super::super::{Emitted, LaneLog, Log, Room, Told, judge};
use super::*;
use crate::rng::Rng;

/// No step.
const NONE: [usize; 0] = [];

/// Every 100 ms from 1 s on something is written, for admins, support and users.
fn log() -> Log {
    let views = |n: u32| ["admin", "support", "user"].map(|view| (view.to_owned(), n)).to_vec();
    let emissions = (0..200).map(|n| Emitted {
        offset: n.into(),
        nth: 0,
        time: 1000 + u64::from(n) * 100,
        rooms: vec![Room::from("a")],
        told: Told::PerView(views(n)),
    });
    Log { lanes: vec![LaneLog { name: "t/0".into(), emissions: emissions.collect(), due: 200 }] }
}

fn claims(issued: u64, expires: u64, roles: &[&str]) -> Claims {
    Claims { issued, expires, roles: names(roles) }
}

fn names(roles: &[&str]) -> Vec<String> {
    roles.iter().map(|role| (*role).to_owned()).collect()
}

fn told(time: u64, cause: Cause, roles: &[&str]) -> Step {
    let view = roles.first().copied().unwrap_or_default().to_owned();
    Step::Told { time, cause, roles: names(roles), view }
}

/// Somebody is let in by server 1 at a time, with a token.
fn enters(time: u64, claims: Claims, roles: &[&str], again: bool) -> Vec<Step> {
    let recovered = again.then_some(true);
    let welcome = Step::Welcome { time, resumed: again, recovered, rooms: vec!["a".into()] };
    let cause = Cause::Welcome { connection: "1-2-3-4".to_owned() };
    vec![Step::Presents { time, node: 1, claims }, told(time, cause, roles), welcome]
}

fn frames(range: std::ops::Range<u32>) -> impl Iterator<Item = Step> {
    range.map(|content| Step::Frame { content, at: None })
}

/// Of what was issued up to second 5, written at 5.5 s, and applied by server 1 at 6 s.
fn revoked(what: What) -> Revoked {
    Revoked { what, before: 5, written: 5500, applied: BTreeMap::from([(1, 6000)]) }
}

fn life(revoked: Vec<Revoked>, steps: impl IntoIterator<Item = Step>) -> Life {
    let steps = steps.into_iter().collect();
    Life { name: "x".to_owned(), view: String::new(), steps, revoked }
}

/// At which steps rights are wrong.
fn wrong(life: &Life) -> Vec<usize> {
    let log = log();
    let faults = judge(&Lookup::new(&log), life).faults;
    let revoked = faults.iter().filter(|fault| fault.kind == Kind::Revoked);
    revoked.map(|fault| fault.step).collect()
}

#[test]
fn what_is_written_after_a_revocation_counts_must_not_come() {
    let user = || enters(1000, claims(1, 99, &["user"]), &["user"], false);
    // 6 s is the 50th; what was written until then may come, however late.
    let steps = |to| user().into_iter().chain(frames(0..to)).collect::<Vec<_>>();
    for what in [What::Subject, What::Connection("1-2-3-4".to_owned())] {
        assert_eq!(wrong(&life(vec![revoked(what.clone())], steps(51))), NONE);
        assert_eq!(wrong(&life(vec![revoked(what)], steps(53))), [54, 55]);
    }
    // Another server's word counts for nothing, and another connection's end.
    let mut elsewhere = revoked(What::Subject);
    elsewhere.applied = BTreeMap::from([(0, 6000)]);
    let other = revoked(What::Connection("other".to_owned()));
    assert_eq!(wrong(&life(vec![elsewhere, other], steps(53))), NONE);
    // What was issued afterwards is good.
    let later = enters(6500, claims(6, 99, &["user"]), &["user"], false);
    let later = later.into_iter().chain(frames(55..60));
    assert_eq!(wrong(&life(vec![revoked(What::Subject)], later)), NONE);
}

#[test]
fn a_role_that_was_revoked_is_gone_or_nothing_more_comes() {
    let admin = ["admin", "support"];
    let enter = || enters(1000, claims(1, 99, &admin), &admin, false).into_iter();
    let role = || vec![revoked(What::Role("admin".to_owned()))];
    let taken = told(6200, Cause::Taken, &["support"]);
    let right = enter().chain(frames(0..50)).chain([taken.clone()]).chain(frames(50..60));
    assert_eq!(wrong(&life(role(), right)), NONE);
    let stays = enter().chain(frames(0..53));
    assert_eq!(wrong(&life(role(), stays)), [54, 55]);
    // It is taken from nobody without a reason.
    let without = enter().chain(frames(0..10)).chain([taken]);
    assert_eq!(wrong(&life(vec![], without)), [13]);
    let comes = enter().chain([told(1200, Cause::Taken, &["admin", "support", "root"])]);
    assert_eq!(wrong(&life(role(), comes)), [3]);
}

#[test]
fn who_was_revoked_or_has_expired_is_not_let_in() {
    let enter = |time, claims| {
        wrong(&life(vec![revoked(What::Subject)], enters(time, claims, &["user"], false)))
    };
    assert_eq!(enter(5900, claims(5, 99, &["user"])), NONE);
    assert_eq!(enter(6100, claims(5, 99, &["user"])), [1]);
    assert_eq!(enter(6100, claims(6, 99, &["user"])), NONE);
    assert_eq!(enter(7900, claims(6, 7, &["user"])), NONE);
    assert_eq!(enter(8100, claims(6, 7, &["user"])), [1]);
    // More than the token says.
    assert_eq!(enter(7000, claims(6, 99, &["support"])), [1]);
    let role = vec![revoked(What::Role("admin".to_owned()))];
    let admin = enters(6100, claims(5, 99, &["admin"]), &["admin"], false);
    assert_eq!(wrong(&life(role, admin)), [1]);
}

#[test]
fn a_new_token_goes_on_and_is_refused_with_a_reason_only() {
    let enter = || enters(1000, claims(1, 99, &["user"]), &["user"], false).into_iter();
    let renews = |time, issued| Step::Renews { time, claims: claims(issued, 99, &["user"]) };
    let renewed = |time| told(time, Cause::Renewal, &["user"]);
    let subject = || vec![revoked(What::Subject)];
    let good = enter().chain([renews(5600, 6), renewed(5700)]).chain(frames(0..60));
    assert_eq!(wrong(&life(subject(), good)), NONE);
    // It may have been taken before the answer to it was read.
    let early = enter().chain([renews(5600, 6)]).chain(frames(0..60)).chain([renewed(7000)]);
    assert_eq!(wrong(&life(subject(), early)), NONE);
    let void = enter().chain([renews(6100, 5), renewed(6200)]);
    assert_eq!(wrong(&life(subject(), void)), [4]);
    let refused = |revoked| {
        wrong(&life(revoked, enter().chain([renews(5600, 5), Step::NotRenewed { time: 5700 }])))
    };
    assert_eq!((refused(subject()), refused(vec![])), (vec![], vec![4]));
}

#[test]
fn an_end_has_a_reason() {
    let closed = |code, time, revoked: Vec<Revoked>| {
        let enter = enters(1000, claims(1, 9, &["admin"]), &["admin"], false);
        wrong(&life(revoked, enter.into_iter().chain([Step::Closed { time, code }])))
    };
    let role = || revoked(What::Role("admin".to_owned()));
    let connection = || revoked(What::Connection("1-2-3-4".to_owned()));
    for (code, reason) in [(4503, revoked(What::Subject)), (4503, connection()), (4501, role())] {
        assert_eq!(closed(code, 5600, vec![reason.clone()]), NONE, "{code}");
        assert_eq!(closed(code, 5400, vec![reason]), [3], "{code}, before it was said");
    }
    assert_eq!(closed(4503, 5600, vec![role()]), [3]);
    assert_eq!((closed(4002, 9100, vec![]), closed(4002, 8900, vec![])), (vec![], vec![3]));
    assert_eq!(closed(4001, 1100, vec![]), NONE);
}

#[test]
fn a_planted_revocation_that_was_overheard_is_noticed() {
    let log = log();
    let lookup = Lookup::new(&log);
    let enter = enters(1000, claims(1, 99, &["user"]), &["user"], false).into_iter();
    let ended = [Step::Closed { time: 5600, code: 4503 }, Step::Ended];
    let back = enters(6500, claims(6, 99, &["user"]), &["user"], true);
    let steps = enter.chain(frames(0..40)).chain(ended).chain(back).chain(frames(40..200));
    let life = life(vec![revoked(What::Subject)], steps);
    let verdict = judge(&lookup, &life);
    assert_eq!(verdict.faults, []);
    let planted = plant(&lookup, &life, &verdict, Kind::Revoked, &mut Rng::new(1)).unwrap();
    let found = judge(&lookup, &planted).faults;
    assert!(found.iter().any(|fault| fault.kind == Kind::Revoked), "{found:?}");
}
