//! Who is there, and what each may see: the shop's own policy.

use std::time::Duration;

use fanout::{Access, Identity, Room as RoomName};
use order_server::access::{self, ADMIN, DASHBOARD, EVERYONE, INVENTORY, USER};
use order_server::auth::{Person as Named, ShopAuth};

use crate::error::Error;
use crate::judge::Room;

const USERS: usize = 8;
const ADMINS: usize = 2;

/// Somebody with a token that is good at every server.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) subject: String,
    pub(crate) admin: bool,
    pub(crate) token: String,
    pub(crate) view: String,
    /// The rooms that it is in by itself.
    pub(crate) own: Vec<Room>,
    /// Rooms that it may ask for.
    pub(crate) may: Vec<Room>,
    /// Rooms that it may not.
    pub(crate) may_not: Vec<Room>,
}

/// Everybody.
#[derive(Clone, Debug)]
pub(crate) struct People {
    pub(crate) users: Vec<Person>,
    pub(crate) admins: Vec<Person>,
}

impl People {
    /// With names of this run alone: a broker keeps what others did.
    pub(crate) fn new(run: &str, secret: &str) -> Result<Self, Error> {
        let life = Duration::from_secs(4 * 3600);
        let auth = ShopAuth::new(secret.as_bytes(), life).map_err(Error::other)?;
        let policy = access::policy();
        let names: Vec<(String, bool)> = (0..USERS)
            .map(|n| (format!("user{n}.{run}@shop.example"), false))
            .chain((0..ADMINS).map(|n| (format!("admin{n}.{run}@shop.example"), true)))
            .collect();
        let person = |(name, admin): &(String, bool)| {
            let rooms = names
                .iter()
                .flat_map(|(other, _)| [format!("orders:{other}"), format!("user:{other}")]);
            let rooms: Vec<String> = rooms
                .chain([DASHBOARD, INVENTORY, EVERYONE, "inventory:other"].map(str::to_owned))
                .collect();
            person(&auth, &policy, name, *admin, &rooms)
        };
        let all: Vec<Person> = names.iter().map(person).collect::<Result<_, _>>()?;
        let (admins, users) = all.into_iter().partition(|person| person.admin);
        Ok(Self { users, admins })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Person> {
        self.users.iter().chain(&self.admins)
    }
}

fn person(
    auth: &ShopAuth,
    policy: &Access,
    name: &str,
    admin: bool,
    rooms: &[String],
) -> Result<Person, Error> {
    let role = if admin { ADMIN } else { USER };
    let identity = Identity::new(name, [role]);
    let rights = policy.rights(&identity).map_err(Error::other)?;
    let named = Named { email: name.to_owned(), name: None };
    let signed = auth.sign(&named, role).map_err(Error::other)?;
    let own: Vec<Room> = rights.rooms.iter().map(|room| room.as_str().into()).collect();
    let (mut may, mut may_not) = (Vec::new(), Vec::new());
    for room in rooms {
        let known = RoomName::new(room).map_err(Error::other)?;
        let room: Room = room.as_str().into();
        if own.contains(&room) {
            continue;
        }
        if policy.may_join(&identity, &known) { &mut may } else { &mut may_not }.push(room);
    }
    Ok(Person {
        subject: name.to_owned(),
        admin,
        token: signed.token,
        view: rights.view.as_str().to_owned(),
        own,
        may,
        may_not,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_rooms_of_all_three_kinds() {
        let people = People::new("r", &"s".repeat(32)).unwrap();
        assert_eq!((people.users.len(), people.admins.len()), (USERS, ADMINS));
        for person in people.all() {
            let orders: Room = format!("orders:{}", person.subject).into();
            assert!(person.may.contains(&orders) && person.may.contains(&INVENTORY.into()));
            assert_eq!(person.own.contains(&DASHBOARD.into()), person.admin);
            assert_eq!(person.may_not.contains(&DASHBOARD.into()), !person.admin);
            assert!(person.may_not.iter().any(|room| room.starts_with("user:")));
        }
    }
}
