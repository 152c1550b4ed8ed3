//! From the claims of a token to a subject and roles.
//!
//! Providers put roles in different places and forms. Where they are is said once, as
//! configuration; a token in which they are not, or are of another type, is refused: it
//! never becomes somebody with fewer claims than were meant.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::AuthError;

/// Most bytes of a token's subject.
pub const MAX_SUBJECT_BYTES: usize = 256;

/// Most roles of a token.
pub const MAX_ROLES: usize = 16;

/// Most names of a [`ClaimPath`].
pub const MAX_CLAIM_DEPTH: usize = 8;

/// Most renamed roles of a [`ClaimMap`].
pub const MAX_RENAMED_ROLES: usize = 64;

/// Most bytes of a name in a [`ClaimPath`] or of a renamed role.
pub const MAX_NAME_BYTES: usize = 256;

type Claims = Map<String, Value>;

/// Why a [`ClaimMap`] is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// No name, or an empty or huge one.
    #[error("claim path has 1 to {MAX_CLAIM_DEPTH} names of 1 to {MAX_NAME_BYTES} bytes each")]
    Path,
    /// Neither a dotted path nor a JSON array of names.
    #[error("claim path that begins with `[` is a JSON array of names: `[\"a.b\", \"c\"]`")]
    Json,
    /// An empty or huge name of a role.
    #[error("role has 1 to {MAX_NAME_BYTES} bytes")]
    Role,
    /// More than are looked through for each token.
    #[error("at most {MAX_RENAMED_ROLES} roles can be renamed")]
    TooManyRoles,
}

/// Where a claim is: the names from the outermost object inwards.
///
/// As text, the names with dots between them (`realm_access.roles`); where names have dots
/// in them, a JSON array of the names.
///
/// ```
/// use ws_sink::auth::ClaimPath;
///
/// let keycloak: ClaimPath = "realm_access.roles".parse()?;
/// assert_eq!(keycloak, ClaimPath::exact(["realm_access", "roles"])?);
/// let auth0: ClaimPath = r#"["https://shop.example/roles"]"#.parse()?;
/// assert_eq!(auth0, ClaimPath::exact(["https://shop.example/roles"])?);
/// # Ok::<(), ws_sink::auth::ClaimError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(Box<[Box<str>]>);

impl ClaimPath {
    /// By names as they are, with whatever dots are in them.
    ///
    /// # Errors
    /// [`ClaimError::Path`] without a name, for an empty one, and beyond
    /// [`MAX_CLAIM_DEPTH`] and [`MAX_NAME_BYTES`].
    pub fn exact<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, ClaimError> {
        let names: Box<[Box<str>]> =
            names.into_iter().take(MAX_CLAIM_DEPTH + 1).map(Into::into).collect();
        let fits = (1..=MAX_CLAIM_DEPTH).contains(&names.len())
            && names.iter().all(|name| (1..=MAX_NAME_BYTES).contains(&name.len()));
        if fits { Ok(Self(names)) } else { Err(ClaimError::Path) }
    }

    /// By one path, the names with dots between them.
    ///
    /// # Errors
    /// As for [`exact`](Self::exact).
    pub fn dotted(path: &str) -> Result<Self, ClaimError> {
        Self::exact(path.split('.'))
    }

    /// One of a single name.
    fn one(name: &str) -> Self {
        Self([name.into()].into())
    }

    /// The claim of another name in the same object.
    fn sibling(&self, name: &str) -> Self {
        let mut names = self.0.clone();
        if let Some(last) = names.last_mut() {
            *last = name.into();
        }
        Self(names)
    }

    fn find<'a>(&self, claims: &'a Claims) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(claims.get(&**first)?, |value, name| value.as_object()?.get(&**name))
    }
}

impl FromStr for ClaimPath {
    type Err = ClaimError;

    fn from_str(path: &str) -> Result<Self, ClaimError> {
        if path.starts_with('[') {
            let names: Vec<String> = serde_json::from_str(path).map_err(|_| ClaimError::Json)?;
            return Self::exact(names.iter().map(String::as_str));
        }
        Self::dotted(path)
    }
}

/// Who is an admin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdminPolicy {
    /// Whoever has the role among the token's roles.
    #[default]
    RoleAlone,
    /// For compatibility with servers that had it so: also whoever has `admin` in the
    /// e-mail address, unless the token says `email_verified` with anything but `true`. The
    /// signature vouches for the address only as far as the provider does: who can choose
    /// his own there is an admin.
    RoleOrEmail {
        /// Where the address is. A token without it has its roles alone.
        claim: ClaimPath,
        /// The role that is given for it.
        role: String,
    },
}

impl AdminPolicy {
    /// The compatibility policy with the usual names: the claim `email`, the role `admin`.
    pub fn role_or_email() -> Self {
        Self::RoleOrEmail { claim: ClaimPath::one("email"), role: "admin".to_owned() }
    }
}

/// How claims become a subject and roles.
///
/// By default `sub` is the subject and `roles` the roles: an array of strings, or a string
/// with spaces between them (`scope`). A token without either is refused.
///
/// ```
/// use ws_sink::auth::ClaimMap;
///
/// let map = ClaimMap::default()
///     .subject("preferred_username".parse()?)
///     .roles("realm_access.roles".parse()?)
///     .rename("shop-admin", "admin")?;
/// # Ok::<(), ws_sink::auth::ClaimError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimMap {
    subject: ClaimPath,
    roles: ClaimPath,
    optional_roles: bool,
    renamed: BTreeMap<Box<str>, Box<str>>,
    admin: AdminPolicy,
}

impl Default for ClaimMap {
    fn default() -> Self {
        Self {
            subject: ClaimPath::one("sub"),
            roles: ClaimPath::one("roles"),
            optional_roles: false,
            renamed: BTreeMap::new(),
            admin: AdminPolicy::RoleAlone,
        }
    }
}

impl ClaimMap {
    /// Where the subject is: a string of 1 to [`MAX_SUBJECT_BYTES`] bytes.
    pub fn subject(mut self, path: ClaimPath) -> Self {
        self.subject = path;
        self
    }

    /// Where the roles are, at most [`MAX_ROLES`] of them.
    pub fn roles(mut self, path: ClaimPath) -> Self {
        self.roles = path;
        self
    }

    /// Takes a token without the claim for roles as one of somebody without roles, instead
    /// of refusing it. One of another type stays refused.
    pub fn optional_roles(mut self) -> Self {
        self.optional_roles = true;
        self
    }

    /// Makes the provider's role `from` the application's role `to`. Others stay as they
    /// are, but who is called `to` by the provider itself is not `to`: that name now means
    /// what is renamed to it, and nothing else (rename `to` to itself to have both).
    ///
    /// # Errors
    /// [`ClaimError`] for an empty or huge name and beyond [`MAX_RENAMED_ROLES`].
    pub fn rename(mut self, from: &str, to: &str) -> Result<Self, ClaimError> {
        if [from, to].iter().any(|role| !(1..=MAX_NAME_BYTES).contains(&role.len())) {
            return Err(ClaimError::Role);
        }
        self.renamed.insert(from.into(), to.into());
        if self.renamed.len() > MAX_RENAMED_ROLES {
            return Err(ClaimError::TooManyRoles);
        }
        Ok(self)
    }

    /// Who is an admin: by the role alone, where nothing else is said.
    pub fn admin(mut self, policy: AdminPolicy) -> Self {
        self.admin = policy;
        self
    }

    /// Says in the log what is risky in this.
    pub(super) fn warn(&self) {
        if let AdminPolicy::RoleOrEmail { role, .. } = &self.admin {
            tracing::warn!(
                role,
                "compatibility policy: who has `admin` in the e-mail address is given the role"
            );
        }
    }

    /// Subject and roles of verified claims.
    pub(super) fn read<'a>(
        &'a self,
        claims: &'a Claims,
    ) -> Result<(&'a str, Vec<&'a str>), AuthError> {
        let subject = match self.subject.find(claims) {
            Some(Value::String(subject)) => subject,
            Some(_) => return Err(AuthError::Invalid("the subject is no string")),
            None => return Err(AuthError::Invalid("the subject is missing")),
        };
        check_subject(subject).map_err(AuthError::Invalid)?;
        let mut roles = self.renamed(self.claimed_roles(claims)?);
        if let Some(role) = self.admin_by_email(claims)? {
            roles.push(role);
        }
        check_roles(&roles).map_err(AuthError::Invalid)?;
        // Rooms and views of a role are given once; to take it away is to take away one.
        let mut seen = Vec::with_capacity(roles.len());
        roles.retain(|role| {
            let new = !seen.contains(role);
            seen.push(*role);
            new
        });
        Ok((subject, roles))
    }

    fn claimed_roles<'a>(&self, claims: &'a Claims) -> Result<Vec<&'a str>, AuthError> {
        let no_strings = AuthError::Invalid("the roles are no strings");
        let roles: Vec<&str> = match self.roles.find(claims) {
            // One too many is enough to refuse it.
            Some(Value::String(list)) => {
                list.split(' ').filter(|role| !role.is_empty()).take(MAX_ROLES + 1).collect()
            }
            Some(Value::Array(list)) => {
                let strings = list.iter().map(Value::as_str).take(MAX_ROLES + 1);
                strings.collect::<Option<_>>().ok_or(no_strings)?
            }
            Some(_) => return Err(no_strings),
            None if self.optional_roles => Vec::new(),
            None => return Err(AuthError::Invalid("the roles are missing")),
        };
        check_roles(&roles).map_err(AuthError::Invalid)?;
        Ok(roles)
    }

    fn renamed<'a>(&'a self, mut roles: Vec<&'a str>) -> Vec<&'a str> {
        roles.retain_mut(|role| match self.renamed.get(*role) {
            Some(to) => {
                *role = to;
                true
            }
            None => !self.renamed.values().any(|to| **to == **role),
        });
        roles
    }

    fn admin_by_email<'a>(&'a self, claims: &Claims) -> Result<Option<&'a str>, AuthError> {
        let AdminPolicy::RoleOrEmail { claim, role } = &self.admin else { return Ok(None) };
        let email = match claim.find(claims) {
            Some(Value::String(email)) => email,
            Some(_) => return Err(AuthError::Invalid("the e-mail address is no string")),
            None => return Ok(None),
        };
        let beside = claim.sibling("email_verified");
        let doubtful = [beside.find(claims), claims.get("email_verified")]
            .into_iter()
            .flatten()
            // Some providers write it as a string.
            .any(|said| said.as_bool() != Some(true) && said.as_str() != Some("true"));
        Ok((!doubtful && email.contains("admin")).then_some(role))
    }
}

pub(super) fn check_subject(subject: &str) -> Result<(), &'static str> {
    match subject.len() {
        1..=MAX_SUBJECT_BYTES => Ok(()),
        _ => Err("the subject is 1 to 256 bytes"),
    }
}

pub(super) fn check_roles(roles: &[&str]) -> Result<(), &'static str> {
    if roles.len() > MAX_ROLES {
        return Err("at most 16 roles");
    }
    if roles.iter().any(|role| role.is_empty()) {
        return Err("a role is empty");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
