//! Who somebody is, and what that lets them see.
//!
//! An [`Identity`] is what the authenticator vouches for, never what a client
//! claims. [`Access`] turns it into the rooms it is in by itself, the rooms it may
//! ask for, and exactly one view.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::rate::RequestRate;
use crate::room::{Room, RoomError, RoomPattern};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// By its name.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// What somebody is in the application: `admin`, `user`.
    Role
}
name! {
    /// Which variant of an emission somebody gets.
    View
}

/// Whom a connection belongs to, as the authenticator vouches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// Who: the name that stands for `{subject}` in rooms.
    pub subject: Arc<str>,
    /// What they are.
    pub roles: Arc<[Role]>,
    /// When the identity ends, and with it the connection.
    pub expires_at: Option<SystemTime>,
    /// When the credential was made that it is from, such as `iat` of a JWT. One that does
    /// not say is void as soon as anything of its subject is revoked, and for as long as that
    /// is remembered: who has none, such as a visitor without login, is issued now.
    pub issued_at: Option<SystemTime>,
}

impl Identity {
    /// A subject with roles, without end.
    pub fn new<R: Into<Role>>(
        subject: impl Into<Arc<str>>,
        roles: impl IntoIterator<Item = R>,
    ) -> Self {
        let roles = roles.into_iter().map(Into::into).collect();
        Self { subject: subject.into(), roles, expires_at: None, issued_at: None }
    }

    /// Sets the end.
    pub fn with_expiry(mut self, at: Option<SystemTime>) -> Self {
        self.expires_at = at;
        self
    }

    /// Sets when the credential was made.
    pub fn with_issued_at(mut self, at: Option<SystemTime>) -> Self {
        self.issued_at = at;
        self
    }

    /// Whether it has ended at `now`.
    pub fn expired(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// What one role may: rooms and a view.
#[derive(Clone, Debug)]
pub struct RoleAccess {
    role: Role,
    joined: Vec<String>,
    asked: Vec<String>,
    view: Option<View>,
    max_rooms: Option<usize>,
    requests: Option<RequestRate>,
}

impl RoleAccess {
    /// A role that may nothing yet and sees the default view.
    pub fn new(role: impl Into<Role>) -> Self {
        let (joined, asked) = (Vec::new(), Vec::new());
        Self { role: role.into(), joined, asked, view: None, max_rooms: None, requests: None }
    }

    /// Is in this room from connecting on; `{subject}` is filled in.
    pub fn joins(mut self, pattern: &str) -> Self {
        self.joined.push(pattern.to_owned());
        self
    }

    /// May ask for rooms of this pattern.
    pub fn may_join(mut self, pattern: &str) -> Self {
        self.asked.push(pattern.to_owned());
        self
    }

    /// Sees this view of emissions that have one body a view.
    pub fn sees(mut self, view: impl Into<View>) -> Self {
        self.view = Some(view.into());
        self
    }

    /// Rooms in which a connection may be; those that it is in by itself count, and are joined
    /// whatever this says. Of an identity's roles the largest counts. Default:
    /// [`Limits::rooms_per_connection`](crate::Limits::rooms_per_connection).
    pub fn max_rooms(mut self, max: usize) -> Self {
        self.max_rooms = Some(max);
        self
    }

    /// How often a connection may ask for something. Of an identity's roles the largest
    /// counts, of each number. Default: [`Limits::requests`](crate::Limits::requests).
    pub fn requests(mut self, rate: RequestRate) -> Self {
        self.requests = Some(rate);
        self
    }
}

/// The access policy: what each role may.
///
/// An identity is in the rooms of all its roles, and sees the one view of the first
/// of its roles in the order they are declared here. Who has none of these roles is
/// refused.
///
/// ```
/// use fanout::{Access, Identity, RoleAccess, Room};
///
/// let access = Access::new([
///     RoleAccess::new("admin").joins("admin:dashboard").sees("full"),
///     RoleAccess::new("user").joins("user:{subject}").may_join("match:*"),
/// ])?;
/// let ann = Identity::new("ann", ["user"]);
/// assert_eq!(access.rights(&ann)?.rooms, [Room::new("user:ann")?]);
/// assert!(access.may_join(&ann, &Room::new("match:7")?));
/// assert!(!access.may_join(&ann, &Room::new("admin:dashboard")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Access {
    roles: Vec<Compiled>,
    views: Vec<View>,
}

#[derive(Clone, Debug)]
struct Compiled {
    role: Role,
    joined: Vec<RoomPattern>,
    asked: Vec<RoomPattern>,
    view: ViewId,
    max_rooms: Option<usize>,
    requests: Option<RequestRate>,
}

/// A view's number in one access policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ViewId(pub(crate) u8);

/// What an identity has from connecting on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The rooms it is in by itself, without doubles.
    pub rooms: Vec<Room>,
    /// The view it sees.
    pub view: View,
    pub(crate) view_id: ViewId,
}

/// Why a policy or an identity cannot be used. Retrying cannot help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A pattern of a role is none.
    #[error("role `{role}`: pattern `{pattern}`")]
    Pattern {
        /// Whose.
        role: Role,
        /// Which.
        pattern: String,
        /// What is wrong with it.
        source: RoomError,
    },
    /// A role is declared twice: one of the two would never apply.
    #[error("role `{role}` is declared twice")]
    Twice {
        /// Which.
        role: Role,
    },
    /// More views than a hub can tell apart.
    #[error("more than {max} views")]
    TooManyViews {
        /// How many there may be.
        max: usize,
    },
    /// The identity has no role that the policy knows.
    #[error("none of the identity's roles may connect")]
    NoRole,
    /// The subject is too long for the rooms of its role.
    #[error("the subject does not fit into a room's name")]
    Subject(#[source] RoomError),
}

impl Access {
    /// Most views of one policy.
    pub const MAX_VIEWS: usize = 64;

    /// The view of roles that name none.
    pub const DEFAULT_VIEW: &str = "default";

    /// Checks a policy. The order of roles decides which view somebody of several
    /// roles sees.
    ///
    /// # Errors
    /// [`AccessError`] names the role and the pattern that is wrong.
    pub fn new(roles: impl IntoIterator<Item = RoleAccess>) -> Result<Self, AccessError> {
        let mut access = Self { roles: Vec::new(), views: Vec::new() };
        for declared in roles {
            if access.roles.iter().any(|known| known.role == declared.role) {
                return Err(AccessError::Twice { role: declared.role });
            }
            let compile = |patterns: &[String], closed: bool| {
                let each = |pattern: &String| {
                    let checked = RoomPattern::new(pattern)
                        .and_then(|p| if closed { p.closed() } else { Ok(p) });
                    checked.map_err(|source| AccessError::Pattern {
                        role: declared.role.clone(),
                        pattern: pattern.clone(),
                        source,
                    })
                };
                patterns.iter().map(each).collect::<Result<Vec<_>, _>>()
            };
            let joined = compile(&declared.joined, true)?;
            let asked = compile(&declared.asked, false)?;
            let view = declared.view.unwrap_or_else(|| View::new(Self::DEFAULT_VIEW));
            let view = access.intern(view)?;
            let RoleAccess { role, max_rooms, requests, .. } = declared;
            access.roles.push(Compiled { role, joined, asked, view, max_rooms, requests });
        }
        Ok(access)
    }

    fn intern(&mut self, view: View) -> Result<ViewId, AccessError> {
        let id = self.views.iter().position(|known| *known == view);
        let id = id.unwrap_or_else(|| {
            self.views.push(view);
            self.views.len() - 1
        });
        if id >= Self::MAX_VIEWS {
            return Err(AccessError::TooManyViews { max: Self::MAX_VIEWS });
        }
        Ok(ViewId(id as u8))
    }

    fn of<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = &'a Compiled> {
        self.roles.iter().filter(|known| identity.roles.contains(&known.role))
    }

    /// What `identity` has by itself.
    ///
    /// # Errors
    /// [`AccessError`] where it may not connect at all.
    pub fn rights(&self, identity: &Identity) -> Result<Rights, AccessError> {
        let view_id = self.of(identity).next().ok_or(AccessError::NoRole)?.view;
        let mut rooms = Vec::new();
        for pattern in self.of(identity).flat_map(|role| &role.joined) {
            let room = pattern.fill(&identity.subject).map_err(AccessError::Subject)?;
            if !rooms.contains(&room) {
                rooms.push(room);
            }
        }
        Ok(Rights { rooms, view: self.views[view_id.0 as usize].clone(), view_id })
    }

    /// Whether `identity` may ask for `room`; true for the rooms it is in by itself.
    pub fn may_join(&self, identity: &Identity, room: &Room) -> bool {
        self.of(identity)
            .flat_map(|role| role.joined.iter().chain(&role.asked))
            .any(|pattern| pattern.matches(room, &identity.subject))
    }

    /// Rooms in which a connection of `identity` may be.
    pub(crate) fn max_rooms(&self, identity: &Identity, otherwise: usize) -> usize {
        let max = self.of(identity).map(|role| role.max_rooms.unwrap_or(otherwise)).max();
        max.unwrap_or(otherwise)
    }

    /// How often a connection of `identity` may ask for something.
    pub(crate) fn requests(&self, identity: &Identity, otherwise: RequestRate) -> RequestRate {
        let rates = self.of(identity).map(|role| role.requests.unwrap_or(otherwise));
        rates.reduce(RequestRate::max).unwrap_or(otherwise)
    }

    pub(crate) fn views(&self) -> usize {
        self.views.len()
    }

    pub(crate) fn view_names(&self) -> &[View] {
        &self.views
    }

    pub(crate) fn view_id(&self, view: &View) -> Option<ViewId> {
        let id = self.views.iter().position(|known| known == view)?;
        Some(ViewId(id as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Access {
        Access::new([
            RoleAccess::new("admin").joins("admin:dashboard").joins("everyone").sees("full"),
            RoleAccess::new("user").joins("user:{subject}").joins("everyone").may_join("shop:*"),
        ])
        .unwrap()
    }

    #[test]
    fn rooms_are_of_all_roles_and_the_view_of_the_first_declared() {
        let both = shop().rights(&Identity::new("ann", ["user", "admin"])).unwrap();
        let rooms: Vec<_> = both.rooms.iter().map(Room::as_str).collect();
        assert_eq!(rooms, ["admin:dashboard", "everyone", "user:ann"]);
        assert_eq!(both.view, View::new("full"));
    }

    #[test]
    fn nobody_is_somebody_else() {
        let (shop, ann) = (shop(), Identity::new("ann", ["user"]));
        for room in ["user:bob", "user:ann:x", "admin:dashboard", "shop:a:b", "orders:ann"] {
            assert!(!shop.may_join(&ann, &Room::new(room).unwrap()), "{room}");
        }
        for room in ["user:ann", "everyone", "shop:a"] {
            assert!(shop.may_join(&ann, &Room::new(room).unwrap()), "{room}");
        }
        assert_eq!(shop.rights(&Identity::new("x", ["guest"])), Err(AccessError::NoRole));
    }

    #[test]
    fn a_wrong_policy_says_where() {
        let open = Access::new([RoleAccess::new("user").joins("user:*")]).unwrap_err();
        assert!(open.to_string().contains("role `user`: pattern `user:*`"), "{open}");
        let twice = Access::new([RoleAccess::new("a"), RoleAccess::new("a")]).unwrap_err();
        assert!(matches!(twice, AccessError::Twice { .. }));
    }

    #[test]
    fn a_subject_too_long_is_refused_not_cut() {
        let long = Identity::new("x".repeat(200), ["user"]);
        assert!(matches!(shop().rights(&long), Err(AccessError::Subject(_))));
    }
}
