//! Flags that say whose tokens are good, and what of them counts.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{ConfigError, Hidden, MIN_SECRET_BYTES};
use crate::record::topics;

/// Whose tokens are good, and what of them counts.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Who somebody is")]
#[non_exhaustive]
pub struct Identity {
    /// Who may log in. Without it: `jwt` where keys are given, `secret` where a secret is,
    /// else `dev`.
    #[arg(long, env = "ORDER_SERVER_AUTH", value_enum, value_name = "MODE")]
    pub auth: Option<AuthMode>,

    /// Secret that tokens are signed with (HS256), at least 32 bytes. Others can read it
    /// in the list of processes: prefer the variable, or a file.
    #[arg(
        long,
        env = "ORDER_SERVER_SECRET",
        hide_env_values = true,
        conflicts_with = "secret_file"
    )]
    pub secret: Option<Hidden>,

    /// File that holds the secret; white space around it is not part of it.
    #[arg(long, env = "ORDER_SERVER_SECRET_FILE", value_name = "FILE")]
    pub secret_file: Option<PathBuf>,

    /// How long a token lives that this server signs, in minutes.
    #[arg(long, env = "ORDER_SERVER_TOKEN_MINUTES", value_name = "MINUTES", default_value_t = 720,
        value_parser = clap::value_parser!(u32).range(1..=525_600))]
    pub token_minutes: u32,

    /// The one algorithm that tokens may be signed with, whatever they say themselves.
    /// Needed with keys; with a secret it is hs256.
    #[arg(long, env = "ORDER_SERVER_JWT_ALGORITHM", value_enum, value_name = "NAME")]
    pub jwt_algorithm: Option<JwtAlgorithm>,

    /// File of the public key that tokens are verified with (PEM).
    #[arg(long, env = "ORDER_SERVER_JWT_KEY_FILE", value_name = "FILE", conflicts_with = "jwks")]
    pub jwt_key_file: Option<PathBuf>,

    /// File or https address of a set of such keys (JWKS), which is read again when a token
    /// names a key that is not in it: at most once a minute.
    #[arg(long, env = "ORDER_SERVER_JWKS", value_name = "FILE|URL")]
    pub jwks: Option<String>,

    /// Who has to have made a token (`iss`). Without it: anybody who has the key.
    #[arg(long, env = "ORDER_SERVER_JWT_ISSUER", value_name = "NAME")]
    pub jwt_issuer: Option<String>,

    /// Whom a token has to be made for (`aud`). Without it a token that names somebody is
    /// refused.
    #[arg(long, env = "ORDER_SERVER_JWT_AUDIENCE", value_name = "NAME")]
    pub jwt_audience: Option<String>,

    /// Longest life of a token, from `iat` to `exp`, in hours: others are refused, and those
    /// that do not say when they were made. Without it: --revocation-hours, or with --auth dev
    /// any. 0: any, and what is revoked of a token that lives longer is forgotten before it
    /// ends.
    #[arg(long, env = "ORDER_SERVER_JWT_MAX_LIFE_HOURS", value_name = "HOURS",
        value_parser = clap::value_parser!(u32).range(0..=8_784))]
    pub jwt_max_life_hours: Option<u32>,

    /// How far the clocks of who signs and of this server may be apart, in seconds.
    #[arg(long, env = "ORDER_SERVER_JWT_LEEWAY_SECS", value_name = "SECONDS", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(0..=300))]
    pub jwt_leeway_secs: u32,

    /// The claim that says who somebody is.
    #[arg(
        long,
        env = "ORDER_SERVER_JWT_SUBJECT_CLAIM",
        value_name = "CLAIM",
        default_value = "sub"
    )]
    pub jwt_subject_claim: String,

    /// The claim that says what somebody may: an array of texts, or one text with spaces
    /// between. Dots lead into objects, such as `realm_access.roles`.
    #[arg(
        long,
        env = "ORDER_SERVER_JWT_ROLES_CLAIM",
        value_name = "CLAIM",
        default_value = "roles"
    )]
    pub jwt_roles_claim: String,

    /// Whoever has `admin` in a verified e-mail is an admin too, as in the system that this
    /// one replaces. Whoever can choose an e-mail can then become one: it is warned of at
    /// every start.
    #[arg(long, env = "ORDER_SERVER_ADMIN_BY_EMAIL")]
    pub admin_by_email: bool,

    /// How long a connection stays when its token has expired, for a new one to be sent, in
    /// seconds.
    #[arg(long, env = "ORDER_SERVER_EXPIRY_GRACE_SECS", value_name = "SECONDS", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub expiry_grace_secs: u32,

    /// Topic that revocations are written to and read from, by every server: all that it
    /// keeps. It is created where it is missing, with one partition and without compaction.
    /// The embedded broker forgets them when the server stops.
    #[arg(
        long,
        env = "ORDER_SERVER_CONTROL_TOPIC",
        value_name = "NAME",
        default_value = "fanout.control"
    )]
    pub control_topic: String,

    /// How long a revocation is remembered, in hours: no token may live longer
    /// (--jwt-max-life-hours), or it would be good again afterwards.
    #[arg(long, env = "ORDER_SERVER_REVOCATION_HOURS", value_name = "HOURS", default_value_t = 24,
        value_parser = clap::value_parser!(u32).range(1..=8_784))]
    pub revocation_hours: u32,
}

/// Who may log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum AuthMode {
    /// Anybody by any e-mail, as admin too: for development.
    Dev,
    /// Nobody here: tokens come from whoever else has the secret.
    Secret,
    /// Nobody here: tokens come from who has the private keys.
    Jwt,
}

/// The algorithm of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum JwtAlgorithm {
    /// One secret signs and verifies.
    Hs256,
    /// RSA with PKCS 1.
    Rs256,
    /// ECDSA on the curve P-256.
    Es256,
    /// Ed25519.
    #[value(name = "eddsa")]
    EdDsa,
}

/// How tokens are signed, and who signs them.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Auth {
    /// Who may log in.
    pub mode: AuthMode,
    /// The given secret; without one it is made and kept in the data folder, except for
    /// [`AuthMode::Jwt`], which has none.
    pub secret: Option<Vec<u8>>,
}

impl Identity {
    /// Who may log in and what signs their tokens, on a server that listens there.
    ///
    /// # Errors
    /// [`ConfigError`] where that would be open to all, or has no usable secret or key.
    pub fn auth(&self, listen: IpAddr) -> Result<Auth, ConfigError> {
        let secret = match (&self.secret, &self.secret_file) {
            (Some(secret), _) => Some(secret.expose().as_bytes().to_vec()),
            (None, Some(path)) => Some(read_secret(path)?),
            (None, None) => None,
        };
        if let Some(len) = secret.as_ref().map(Vec::len).filter(|len| *len < MIN_SECRET_BYTES) {
            return Err(ConfigError::ShortSecret { len });
        }
        let default = match (&secret, self.has_keys()) {
            (_, true) => AuthMode::Jwt,
            (Some(_), false) => AuthMode::Secret,
            (None, false) => AuthMode::Dev,
        };
        let mode = self.auth.unwrap_or(default);
        match (mode, &secret) {
            (AuthMode::Secret, None) => return Err(ConfigError::NoSecret),
            (AuthMode::Dev, None) if !listen.is_loopback() => {
                return Err(ConfigError::OpenToAll { listen });
            }
            _ => self.check(mode, secret.is_some())?,
        }
        Ok(Auth { mode, secret })
    }

    fn has_keys(&self) -> bool {
        self.jwt_key_file.is_some() || self.jwks.is_some()
    }

    /// Refuses what would be passed over in silence.
    fn check(&self, mode: AuthMode, secret: bool) -> Result<(), ConfigError> {
        let wrong = |flag, problem: &str| Err(ConfigError::Flag { flag, problem: problem.into() });
        let symmetric = self.jwt_algorithm.is_none_or(|name| name == JwtAlgorithm::Hs256);
        match mode {
            AuthMode::Jwt if !self.has_keys() => {
                wrong("--auth jwt", "needs --jwt-key-file or --jwks")
            }
            AuthMode::Jwt if secret => {
                wrong("--auth jwt", "has no use for a secret: give keys or a secret, not both")
            }
            AuthMode::Jwt if symmetric => wrong(
                "--jwt-algorithm",
                "say which one the keys are for: rs256, es256 or eddsa. hs256 takes a secret \
                 (--secret-file)",
            ),
            AuthMode::Dev | AuthMode::Secret if self.has_keys() => {
                wrong("--auth", "only `jwt` goes with --jwt-key-file and --jwks")
            }
            AuthMode::Dev | AuthMode::Secret if !symmetric => {
                wrong("--jwt-algorithm", "all but hs256 need --jwt-key-file or --jwks")
            }
            AuthMode::Dev if self.jwt_issuer.is_some() || self.jwt_audience.is_some() => wrong(
                "--auth dev",
                "signs tokens that name neither issuer nor audience: leave --jwt-issuer and \
                 --jwt-audience out",
            ),
            AuthMode::Dev if self.jwt_subject_claim != "sub" || self.jwt_roles_claim != "roles" => {
                wrong("--auth dev", "signs tokens with the claims `sub` and `roles`")
            }
            AuthMode::Dev if self.token_minutes > self.revocation_hours * 60 => wrong(
                "--token-minutes",
                "a token must not outlive what is revoked of it: give more --revocation-hours",
            ),
            _ if self.jwt_max_life_hours.is_some_and(|hours| hours > self.revocation_hours) => {
                wrong("--jwt-max-life-hours", "must not be more than --revocation-hours")
            }
            _ => Ok(()),
        }
    }

    /// The topic that revocations go through.
    ///
    /// # Errors
    /// [`ConfigError::Flag`] where Kafka would not take the name, or it is another's.
    pub fn control_topic(&self) -> Result<&str, ConfigError> {
        let name = &self.control_topic;
        let flag = "--control-topic";
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let problem = if topics::ALL.contains(&name.as_str()) {
            "the shop's events have this name"
        } else if !(1..=249).contains(&name.len()) || matches!(name.as_str(), "." | "..") {
            "a name has 1 to 249 characters"
        } else if !name.bytes().all(legal) {
            "a name has letters, digits, dots, underscores and hyphens"
        } else {
            return Ok(name);
        };
        Err(ConfigError::Flag { flag, problem: problem.to_owned() })
    }

    /// How long a connection stays when its token has expired.
    pub fn expiry_grace(&self) -> Duration {
        Duration::from_secs(self.expiry_grace_secs.into())
    }

    /// How far clocks may be apart.
    pub fn leeway(&self) -> Duration {
        Duration::from_secs(self.jwt_leeway_secs.into())
    }

    /// The longest life of a token; `None` for any.
    pub fn max_life(&self, mode: AuthMode) -> Option<Duration> {
        let unsaid = if mode == AuthMode::Dev { 0 } else { self.revocation_hours };
        let hours = self.jwt_max_life_hours.unwrap_or(unsaid);
        (hours > 0).then(|| Duration::from_secs(3600 * u64::from(hours)))
    }

    /// How long a revocation is remembered.
    pub fn revocation_life(&self) -> Duration {
        Duration::from_secs(3600 * u64::from(self.revocation_hours))
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("mode", &self.mode).finish_non_exhaustive()
    }
}

fn read_secret(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let secret = std::fs::read(path)
        .map_err(|source| ConfigError::SecretFile { path: path.to_owned(), source })?;
    Ok(secret.trim_ascii().to_owned())
}
