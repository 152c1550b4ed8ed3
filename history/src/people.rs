//! Who is there, what each may see by the shop's own policy, and who signs their tokens.
//!
//! Tokens are made here, as an identity provider would: with the roles that somebody has at
//! that moment, for as long or as short as asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use fanout::{Access, Identity, Room as RoomName};
use order_server::access::{self, ADMIN, DASHBOARD, EVERYONE, INVENTORY, SUPPORT, USER};
use serde_json::Map;
use ws_sink::auth::Hs256;

use crate::clock;
use crate::error::Error;
use crate::judge::{Claims, Room};

const USERS: usize = 8;
const STAFF: usize = 4;
/// Longer than any run.
pub(crate) const LONG: Duration = Duration::from_secs(4 * 3600);

/// What staff may be. The first of these is what they begin with.
pub(crate) const POSTS: [&[&str]; 6] =
    [&[ADMIN, SUPPORT], &[ADMIN], &[ADMIN, USER], &[SUPPORT], &[USER], &[SUPPORT, USER]];

/// Somebody.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) subject: String,
}

/// A signed token, and what it says.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) claims: Claims,
}

/// What somebody with certain roles may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) view: String,
    /// The rooms that they are in by themselves.
    pub(crate) own: BTreeSet<Room>,
    /// Rooms that they may ask for.
    pub(crate) may: BTreeSet<Room>,
    /// Rooms that they may not.
    pub(crate) may_not: BTreeSet<Room>,
}

/// Everybody.
pub(crate) struct People {
    pub(crate) users: Vec<Person>,
    pub(crate) staff: Vec<Person>,
    /// Runs the shop, is connected nowhere, and is never revoked.
    pub(crate) boss: Person,
    /// Every room that anybody may be in, and one that nobody may.
    rooms: Vec<RoomName>,
    policy: Access,
    signer: Hs256,
    roles: Mutex<BTreeMap<String, Vec<String>>>,
    revoked: Mutex<BTreeSet<String>>,
}

impl People {
    /// With names of this run alone: a broker keeps what others did.
    pub(crate) fn new(run: &str, secret: &str) -> Result<Self, Error> {
        let person =
            |kind: &str, n: usize| Person { subject: format!("{kind}{n}.{run}@shop.example") };
        let users: Vec<_> = (0..USERS).map(|n| person("user", n)).collect();
        let staff: Vec<_> = (0..STAFF).map(|n| person("staff", n)).collect();
        let names = users.iter().chain(&staff).flat_map(|Person { subject }| {
            [format!("orders:{subject}"), format!("user:{subject}")]
        });
        let names =
            names.chain([DASHBOARD, INVENTORY, EVERYONE, "inventory:other"].map(str::to_owned));
        let rooms = names.map(|name| RoomName::new(&name).map_err(Error::other));
        let rooms = rooms.collect::<Result<_, _>>()?;
        let own = |roles: &[&str]| roles.iter().map(|role| (*role).to_owned()).collect::<Vec<_>>();
        let posts = POSTS.iter().take(3).cycle();
        let roles = users
            .iter()
            .map(|user| (user.subject.clone(), own(&[USER])))
            .chain(staff.iter().zip(posts).map(|(of, post)| (of.subject.clone(), own(post))));
        let boss = person("boss", 0);
        let roles = roles.chain([(boss.subject.clone(), own(&[ADMIN]))]).collect();
        Ok(Self {
            users,
            staff,
            boss,
            rooms,
            policy: access::policy(),
            signer: Hs256::new(secret.as_bytes()).map_err(Error::other)?,
            roles: Mutex::new(roles),
            revoked: Mutex::default(),
        })
    }

    /// Who may be connected.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Person> {
        self.users.iter().chain(&self.staff)
    }

    /// A new token for somebody, with the roles that they have now.
    pub(crate) fn token(&self, subject: &str, life: Duration) -> Token {
        self.sign(subject, &self.roles(subject), clock::now() / 1000, life)
    }

    /// A token, issued in that second.
    pub(crate) fn sign(
        &self,
        subject: &str,
        roles: &[String],
        issued: u64,
        life: Duration,
    ) -> Token {
        let time = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        let expires = issued + life.as_secs();
        let identity = Identity::new(subject, roles.iter().map(String::as_str))
            .with_issued_at(Some(time(issued)))
            .with_expiry(Some(time(expires)));
        let text = self.signer.sign(&identity, &Map::new()).expect("names and roles are short");
        Token { text, claims: Claims { issued, expires, roles: roles.to_vec() } }
    }

    /// The roles that somebody has now: what the next token says.
    pub(crate) fn roles(&self, subject: &str) -> Vec<String> {
        let roles = self.roles.lock().expect("nobody panics with it");
        roles.get(subject).cloned().unwrap_or_default()
    }

    pub(crate) fn set_roles(&self, subject: &str, new: Vec<String>) {
        self.roles.lock().expect("nobody panics with it").insert(subject.to_owned(), new);
    }

    /// Notes that it was asked to revoke what somebody has.
    pub(crate) fn revokes(&self, subject: &str) {
        self.revoked.lock().expect("nobody panics with it").insert(subject.to_owned());
    }

    /// Whether that was ever asked.
    pub(crate) fn ever_revoked(&self, subject: &str) -> bool {
        self.revoked.lock().expect("nobody panics with it").contains(subject)
    }

    /// What the shop's policy gives to these roles; nothing where it knows none of them.
    pub(crate) fn rights(&self, subject: &str, roles: &[String]) -> Rights {
        let identity = Identity::new(subject, roles.iter().map(String::as_str));
        let Ok(rights) = self.policy.rights(&identity) else { return Rights::default() };
        let own: BTreeSet<Room> = rights.rooms.iter().map(|room| room.as_str().into()).collect();
        let (mut may, mut may_not) = (BTreeSet::new(), BTreeSet::new());
        for room in &self.rooms {
            let name: Room = room.as_str().into();
            if own.contains(&name) {
                continue;
            }
            let to = if self.policy.may_join(&identity, room) { &mut may } else { &mut may_not };
            to.insert(name);
        }
        Rights { view: rights.view.as_str().to_owned(), own, may, may_not }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_rooms_of_all_three_kinds() {
        let people = People::new("r", &"s".repeat(32)).unwrap();
        assert_eq!((people.users.len(), people.staff.len()), (USERS, STAFF));
        let all = people.users.iter().zip([false].iter().cycle());
        for (person, staff) in all.chain(people.staff.iter().zip([true].iter().cycle())) {
            let roles = people.roles(&person.subject);
            let rights = people.rights(&person.subject, &roles);
            assert!(rights.may.contains(INVENTORY));
            assert_eq!(rights.own.contains(DASHBOARD), *staff, "{roles:?}");
            assert_eq!(rights.may_not.contains(DASHBOARD), !staff);
            assert!(rights.may_not.iter().any(|room| room.starts_with("user:")));
        }
        assert_eq!(people.rights("x", &[]), Rights::default());
    }

    #[test]
    fn a_token_says_what_its_claims_say() {
        let secret = "s".repeat(32);
        let people = People::new("r", &secret).unwrap();
        let roles = [ADMIN, SUPPORT].map(str::to_owned);
        let issued = clock::now() / 1000 - 2;
        let token = people.sign("ann", &roles, issued, Duration::from_secs(60));
        let checking = Hs256::new(secret.as_bytes()).unwrap().with_leeway(Duration::ZERO);
        let identity = checking.verify(&token.text).unwrap();
        let second = |time: Option<SystemTime>| {
            time.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
        };
        assert_eq!(second(identity.issued_at), token.claims.issued);
        assert_eq!(second(identity.expires_at), token.claims.expires);
        assert_eq!(identity.roles.len(), 2);
    }
}
