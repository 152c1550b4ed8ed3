//! Who is in which room, and who may ask for which.

use fanout::{Access, RoleAccess, Room, RoomError};

/// The role of who runs the shop.
pub const ADMIN: &str = "admin";
/// The role of who answers questions: sees all orders without prices, and changes nothing.
pub const SUPPORT: &str = "support";
/// The role of who buys.
pub const USER: &str = "user";

/// Where admins see everything that happens.
pub const DASHBOARD: &str = "admin:dashboard";
/// Where stock is told of.
pub const INVENTORY: &str = "inventory:updates";
/// Where everybody is.
pub const EVERYONE: &str = "everyone";

/// The shop's policy. Nobody gets into another's rooms: `{subject}` is filled in from
/// the token, and an admin is who has the role there. Who has several roles is in the
/// rooms of all, and sees what the first of them here sees ([`views`](crate::views)).
///
/// # Panics
/// Never: the patterns are constants, and a test makes it.
pub fn policy() -> Access {
    let everybody = |role| {
        RoleAccess::new(role)
            .joins("user:{subject}")
            .joins(EVERYONE)
            .may_join("orders:{subject}")
            .may_join(INVENTORY)
            .sees(role)
    };
    Access::new([
        everybody(ADMIN).joins(DASHBOARD),
        RoleAccess::new(SUPPORT).joins(DASHBOARD).joins(EVERYONE).may_join(INVENTORY).sees(SUPPORT),
        everybody(USER),
    ])
    .expect("constant patterns are rooms")
}

/// The rooms in which a buyer's orders are told of.
///
/// # Errors
/// [`RoomError`] where the buyer's name does not fit into a room's.
pub fn rooms_of(buyer: &str) -> Result<[Room; 2], RoomError> {
    Ok([Room::of("user", buyer)?, Room::of("orders", buyer)?])
}

#[cfg(test)]
mod tests {
    use fanout::Identity;

    use super::*;

    fn rooms(identity: &Identity) -> Vec<String> {
        let rights = policy().rights(identity).unwrap();
        let mut rooms: Vec<_> = rights.rooms.iter().map(ToString::to_string).collect();
        rooms.sort();
        rooms
    }

    fn may(identity: &Identity, room: &str) -> bool {
        policy().may_join(identity, &Room::new(room).unwrap())
    }

    #[test]
    fn a_user_has_what_is_the_users() {
        let ann = Identity::new("ann", [USER]);
        assert_eq!(rooms(&ann), ["everyone", "user:ann"]);
        assert!(may(&ann, "orders:ann") && may(&ann, INVENTORY));
        for room in [DASHBOARD, "user:bob", "orders:bob", "admin:x", "inventory:other"] {
            assert!(!may(&ann, room), "{room}");
        }
    }

    #[test]
    fn an_admin_has_the_dashboard_but_nobody_elses_rooms() {
        let root = Identity::new("root", [ADMIN]);
        assert_eq!(rooms(&root), ["admin:dashboard", "everyone", "user:root"]);
        assert!(may(&root, INVENTORY) && may(&root, "orders:root"));
        assert!(!may(&root, "user:ann") && !may(&root, "orders:ann"));
    }

    #[test]
    fn support_has_the_dashboard_and_no_orders_of_its_own() {
        let sam = Identity::new("sam", [SUPPORT]);
        assert_eq!(rooms(&sam), ["admin:dashboard", "everyone"]);
        assert!(may(&sam, INVENTORY) && !may(&sam, "user:sam") && !may(&sam, "orders:sam"));
        let view = |roles: &[&str]| {
            policy().rights(&Identity::new("x", roles.to_vec())).unwrap().view.to_string()
        };
        assert_eq!(view(&[USER, SUPPORT]), SUPPORT);
        assert_eq!(view(&[USER, SUPPORT, ADMIN]), ADMIN);
    }

    #[test]
    fn without_a_role_there_is_nothing() {
        assert!(policy().rights(&Identity::new("x", ["guest"])).is_err());
    }

    #[test]
    fn a_buyers_rooms_are_those_that_the_buyer_gets() {
        for buyer in ["ann", "a:b/c", "ann@shop.example"] {
            let ann = Identity::new(buyer, [USER]);
            assert!(rooms_of(buyer).unwrap().iter().all(|room| policy().may_join(&ann, room)));
        }
    }
}
