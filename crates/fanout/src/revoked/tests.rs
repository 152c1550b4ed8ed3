//! The table against lists that are never merged nor bounded.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LIFE: u64 = 50;

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + second)
}

fn subject(who: &str, before: u64) -> Revocation {
    Revocation::Subject { subject: who.into(), before: at(before) }
}

fn role(who: &str, role: &str, before: u64) -> Revocation {
    Revocation::Role { subject: who.into(), role: role.into(), before: at(before) }
}

fn identity(who: &str, roles: &[&str], issued_at: Option<u64>) -> Identity {
    Identity::new(who, roles.iter().copied()).with_issued_at(issued_at.map(at))
}

fn table(max: usize) -> Revoked {
    Revoked::new(max, Duration::from_secs(LIFE))
}

fn said(table: &mut Revoked, revocation: &Revocation, now: u64) {
    table.add(revocation, at(now), at(now));
}

fn left(roles: &[&str]) -> Arc<[Role]> {
    roles.iter().map(|role| Role::from(*role)).collect()
}

#[test]
fn the_very_second_is_void_and_the_next_is_not_nor_is_somebody_else() {
    let mut table = table(10);
    table.add(&subject("ann", 10), at(10) + Duration::from_millis(900), at(11));
    let check = |who, issued_at| table.check(&identity(who, &["user"], issued_at), at(11));
    assert_eq!(check("ann", Some(9)), Err(Void::Revoked));
    assert_eq!(check("ann", Some(10)), Err(Void::Revoked), "it may have been the moment before");
    assert_eq!(check("ann", Some(11)), Ok(None));
    assert_eq!(check("ann", None), Err(Void::Revoked), "what does not say when");
    assert_eq!(check("ann", Some(11 + 301)), Err(Void::Revoked), "what is not issued yet");
    assert_eq!(check("bob", None), Ok(None));
    assert_eq!(check("an", None), Ok(None));
}

#[test]
fn a_role_is_taken_and_the_others_are_left() {
    let mut table = table(10);
    said(&mut table, &role("ann", "admin", 10), 10);
    let check =
        |roles: &[&str], at_second| table.check(&identity("ann", roles, Some(at_second)), at(20));
    assert_eq!(check(&["admin", "user"], 10), Ok(Some(left(&["user"]))));
    assert_eq!(check(&["admin"], 10), Ok(Some(left(&[]))));
    assert_eq!(check(&["user"], 10), Ok(None));
    assert_eq!(check(&["admin", "user"], 11), Ok(None), "it was given again");
}

#[test]
fn names_do_not_run_into_each_other() {
    let mut table = table(10);
    said(&mut table, &role("ann", "admin", 10), 10);
    for (who, has) in [("anna", "dmin"), ("annadmin", ""), ("an", "nadmin")] {
        assert_eq!(table.check(&identity(who, &[has], None), at(10)), Ok(None), "{who} {has}");
    }
}

#[test]
fn the_later_of_two_stays_whatever_the_order() {
    for order in [[10, 20], [20, 10]] {
        let mut table = table(10);
        for before in order {
            said(&mut table, &subject("ann", before), 20);
        }
        assert_eq!(table.len(), 1);
        let check = |issued| table.check(&identity("ann", &["user"], Some(issued)), at(20));
        assert_eq!((check(20), check(21)), (Err(Void::Revoked), Ok(None)), "{order:?}");
    }
}

#[test]
fn it_is_forgotten_after_its_life_and_not_a_second_before() {
    let mut table = table(10);
    said(&mut table, &subject("ann", 10), 10);
    let ann = identity("ann", &["user"], Some(5));
    table.sweep(at(10 + LIFE));
    assert_eq!(table.check(&ann, at(10 + LIFE)), Err(Void::Revoked));
    assert_eq!(table.check(&ann, at(10 + LIFE + 1)), Ok(None), "also before it is swept");
    table.sweep(at(10 + LIFE + 1));
    assert_eq!(table.len(), 0);
    said(&mut table, &subject("ann", 5), 5 + LIFE + 50);
    assert_eq!(table.len(), 1, "one about the past lives from when it is said");
    table.add(&subject("bob", 5), at(5), at(5 + LIFE + 1));
    assert_eq!(table.len(), 1, "one that was said too long ago is not remembered");
}

#[test]
fn the_oldest_becomes_a_floor_for_everybody() {
    let mut table = table(2);
    for (n, who) in ["ann", "bob", "cid"].into_iter().enumerate() {
        said(&mut table, &subject(who, 10 + n as u64), 10 + n as u64);
    }
    assert_eq!(table.len(), 2);
    let check = |who, issued_at, now| table.check(&identity(who, &["user"], issued_at), at(now));
    assert_eq!(check("ann", Some(10), 12), Err(Void::Outdated), "nobody knows it was hers");
    assert_eq!(check("dan", Some(10), 12), Err(Void::Outdated));
    assert_eq!(check("dan", None, 12), Err(Void::Outdated));
    assert_eq!(check("dan", Some(11), 12), Ok(None));
    assert_eq!(check("bob", Some(10), 12), Err(Void::Revoked), "the entry is more exact");
    assert_eq!(check("dan", Some(10), 10 + LIFE), Err(Void::Outdated));
    assert_eq!(check("dan", Some(10), 11 + LIFE), Ok(None), "it ends with what it came from");
    let mut none = self::table(0);
    said(&mut none, &subject("ann", 10), 10);
    assert_eq!(none.len(), 0);
    let dan = identity("dan", &["user"], Some(10));
    assert_eq!(none.check(&dan, at(10)), Err(Void::Outdated), "no memory is all floor");
}

#[test]
fn what_is_said_of_the_future_counts_as_five_minutes_from_now() {
    let mut table = table(1);
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(200_000_000_000);
    let ann = Revocation::Subject { subject: "ann".into(), before: far };
    let before = table.add(&ann, at(10), at(10));
    assert_eq!(before, Some(seconds(at(310))));
    table.add(&ann, far, at(10));
    let check = |issued| table.check(&identity("ann", &["user"], Some(issued)), at(2000));
    assert_eq!(check(2000), Ok(None), "she may come back, some day");
    said(&mut table, &subject("bob", 640), 640);
    assert_eq!(table.floor.unwrap().before, seconds(at(610)), "nobody is locked out with her");
}

#[derive(Clone, Debug)]
enum Op {
    Revoke { who: u8, role: Option<u8>, ago: u64, said_ago: u64 },
    Pass { seconds: u64 },
    Check { who: u8, roles: Vec<u8>, issued_ago: Option<u64> },
}

fn any_op() -> impl Strategy<Value = Op> {
    let (who, role) = (0..4_u8, 0..3_u8);
    let ago = || 0..40_u64;
    prop_oneof![
        4 => (who.clone(), proptest::option::of(role.clone()), ago(), ago())
            .prop_map(|(who, role, ago, said_ago)| Op::Revoke { who, role, ago, said_ago }),
        2 => (0..20_u64).prop_map(|seconds| Op::Pass { seconds }),
        8 => (who, vec(role, 0..4), proptest::option::of(ago()))
            .prop_map(|(who, roles, issued_ago)| Op::Check { who, roles, issued_ago }),
    ]
}

/// All that was said: whose, which role, up to when, and for how long.
#[derive(Default)]
struct Naive(Vec<(u8, Option<u8>, u64, u64)>);

impl Naive {
    fn voids(&self, who: u8, role: Option<u8>, issued: Option<u64>, now: u64) -> bool {
        self.0.iter().any(|&(whose, which, before, until)| {
            (whose, which) == (who, role) && now <= until && issued.is_none_or(|at| at <= before)
        })
    }
}

fn name(n: u8) -> String {
    n.to_string()
}

proptest! {
    /// Nothing that any of them voids gets through, whatever was forgotten on the way; and
    /// what is refused was revoked, as long as none of a key outlives another of it, or lies
    /// below a floor that something made.
    #[test]
    fn it_refuses_what_was_revoked(
        max in 0..12_usize,
        ops in vec(any_op(), 1..120),
    ) {
        let (mut real, mut naive, mut now) = (table(max), Naive::default(), 1_000);
        let mut evicted = false;
        for op in ops {
            match op {
                Op::Pass { seconds } => now += seconds,
                Op::Revoke { who, role: which, ago, said_ago } => {
                    let revocation = match which {
                        None => subject(&name(who), now - ago),
                        Some(which) => role(&name(who), &name(which), now - ago),
                    };
                    let before_len = real.len();
                    real.add(&revocation, at(now - said_ago), at(now));
                    evicted |= real.floor.is_some() || before_len > max;
                    naive.0.push((who, which, now - ago, now - ago.min(said_ago) + LIFE));
                    prop_assert!(real.len() <= max);
                    prop_assert_eq!(real.oldest.len(), real.entries.len());
                }
                Op::Check { who, roles, issued_ago } => {
                    let issued = issued_ago.map(|ago| now - ago);
                    let names: Vec<String> = roles.iter().map(|role| name(*role)).collect();
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    let got = real.check(&identity(&name(who), &names, issued), at(now));
                    let kept = |role: &u8| !naive.voids(who, Some(*role), issued, now);
                    match got {
                        Ok(left) => {
                            prop_assert!(!naive.voids(who, None, issued, now));
                            let all = || identity("", &names, None).roles;
                            for role in left.unwrap_or_else(all).iter() {
                                let role: u8 = role.as_str().parse().unwrap();
                                prop_assert!(kept(&role), "role {} was revoked", role);
                            }
                        }
                        // Merged, an entry voids what one says for as long as another lives.
                        Err(Void::Revoked) => prop_assert!(naive.0.iter().any(
                            |&(whose, which, before, _)| (whose, which) == (who, None)
                                && issued.is_none_or(|at| at <= before)
                        )),
                        Err(Void::Outdated) => {
                            prop_assert!(evicted);
                            prop_assert!(naive.0.iter().any(
                                |&(_, _, before, _)| issued.is_none_or(|at| at <= before)
                            ));
                        }
                    }
                }
            }
        }
    }
}
