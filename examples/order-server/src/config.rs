//! What the server is told on start, by flags or by the environment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use ws_sink::handshake::{Origin, OriginError, Origins};

use crate::cursor_keys::{CursorKeys, KeysError};
use crate::input;
use crate::kafka::properties::{Given, Properties, PropertyError};
use crate::money::Rate;

/// Fewest bytes of a secret: as many as the signature has.
pub const MIN_SECRET_BYTES: usize = 32;

/// A shop's orders, live: REST, SQLite, Kafka and WebSocket in one process.
///
/// Without any flag it listens on this machine only, brings its own Kafka broker, and
/// lets anybody log in: start it and open the printed address.
#[derive(Clone, Debug, Parser)]
#[command(name = "order-server", version, max_term_width = 100)]
#[non_exhaustive]
pub struct Config {
    /// Address to listen on. Beyond loopback a secret is needed.
    #[arg(long, env = "ORDER_SERVER_LISTEN", value_name = "ADDRESS",
        default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub listen: IpAddr,

    /// Port to listen on; 0 takes a free one, which is printed.
    #[arg(long, env = "REALTIME_PORT", default_value_t = 3009)]
    pub port: u16,

    /// Kafka brokers as host:port, with commas between. Without it a broker is embedded,
    /// which forgets its events when the server stops; orders are kept all the same.
    /// With it several servers on one machine may share a data folder.
    #[arg(long, env = "KAFKA_BROKER", value_name = "HOST:PORT")]
    pub kafka: Option<String>,

    /// A property of librdkafka, such as `security.protocol=sasl_ssl`: how the brokers are
    /// reached, by all that reads and writes. May be given again; the variable takes one a
    /// line. Others can read passwords in the list of processes: prefer the variable, or a
    /// file.
    #[arg(
        long,
        env = "ORDER_SERVER_KAFKA_PROPERTY",
        value_name = "NAME=VALUE",
        hide_env_values = true,
        value_delimiter = '\n',
        requires = "kafka"
    )]
    pub kafka_property: Vec<Given>,

    /// File of such properties, one `NAME=VALUE` a line; lines that begin with `#` are none.
    /// Those that are given otherwise win.
    #[arg(long, env = "ORDER_SERVER_KAFKA_PROPERTY_FILE", value_name = "FILE", requires = "kafka")]
    pub kafka_property_file: Option<PathBuf>,

    /// Topic that records go to which cannot be used: it has to exist. Without, they are
    /// passed over. Each server that reads a record writes a letter.
    #[arg(long, env = "ORDER_SERVER_DEAD_LETTERS", value_name = "TOPIC", requires = "kafka")]
    pub dead_letters: Option<String>,

    /// Partitions of topics that the server has to create.
    #[arg(long, env = "ORDER_SERVER_PARTITIONS", value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub partitions: u16,

    /// Replicas of topics that the server has to create; -1 leaves it to the broker.
    #[arg(long, env = "ORDER_SERVER_REPLICATION", value_name = "N", default_value_t = -1,
        allow_negative_numbers = true, value_parser = clap::value_parser!(i16).range(-1..=32))]
    pub replication: i16,

    /// Folder of the database, of the cursor keys where none are given and, in
    /// development, of the signing secret. `:memory:` keeps nothing. Without it: a folder
    /// of the user's for application data.
    #[arg(long, env = "ORDER_SERVER_DATA", value_name = "FOLDER")]
    pub data: Option<PathBuf>,

    /// Who may log in. Without it: `secret` where a secret is given, else `dev`.
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
    pub secret: Option<String>,

    /// File that holds the secret; white space around it is not part of it.
    #[arg(long, env = "ORDER_SERVER_SECRET_FILE", value_name = "FILE")]
    pub secret_file: Option<PathBuf>,

    /// Keys that cursors are sealed with, one `id:secret` a line: a character, and at least
    /// 32 bytes. The first seals, the others are accepted. Others can read them in the
    /// list of processes: prefer the variable, or a file.
    #[arg(
        long,
        env = "ORDER_SERVER_CURSOR_KEYS",
        value_name = "KEYS",
        hide_env_values = true,
        conflicts_with = "cursor_keys_file"
    )]
    pub cursor_keys: Option<String>,

    /// File of such keys: the same for all servers that a client may come back to. Without
    /// any: one that is made and kept in the data folder.
    #[arg(long, env = "ORDER_SERVER_CURSOR_KEYS_FILE", value_name = "FILE")]
    pub cursor_keys_file: Option<PathBuf>,

    /// After a start, events of the last so many seconds are read again, so that those
    /// who come back find them in memory; 0 for only what is new.
    #[arg(long, env = "ORDER_SERVER_WARM_START", value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub warm_start: u32,

    /// Recent events that are kept in memory for those who come back, in MiB.
    #[arg(long, env = "ORDER_SERVER_LOG_MIB", value_name = "MIB", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub log_mib: u32,

    /// How long they are kept at most, in seconds.
    #[arg(long, env = "ORDER_SERVER_LOG_SECS", value_name = "SECONDS", default_value_t = 300,
        value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub log_secs: u32,

    /// Most records of Kafka that are read again for those whose events are no longer in
    /// memory; beyond, they are told of a gap. 0 reads none again.
    #[arg(long, env = "ORDER_SERVER_REPLAY_RECORDS", value_name = "N", default_value_t = 100_000)]
    pub replay_records: u32,

    /// How long a token lives that this server signs, in minutes.
    #[arg(long, env = "ORDER_SERVER_TOKEN_MINUTES", value_name = "MINUTES", default_value_t = 720,
        value_parser = clap::value_parser!(u32).range(1..=525_600))]
    pub token_minutes: u32,

    /// Origins of pages that may call the server beside its own, such as
    /// `https://shop.example`, with commas between.
    #[arg(long, env = "CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',',
        value_parser = parse_origin)]
    pub cors_origin: Vec<Origin>,

    /// Tax on an order's items, in percent with at most two decimals.
    #[arg(long, env = "ORDER_SERVER_TAX_PERCENT", value_name = "PERCENT", default_value = "0",
        value_parser = parse_rate)]
    pub tax_percent: Rate,

    /// Currency of orders that name none, and of the revenue in the statistics.
    #[arg(long, env = "ORDER_SERVER_CURRENCY", value_name = "CODE", default_value = "USD",
        value_parser = parse_currency)]
    pub currency: String,

    /// Changes a second that one user may make on average, five seconds' worth at once;
    /// 0 for no limit.
    #[arg(long, env = "ORDER_SERVER_WRITE_RATE", value_name = "N", default_value_t = 20)]
    pub write_rate: u32,

    /// Longest time to finish what is going on when the server is stopped, in seconds.
    #[arg(long, env = "ORDER_SERVER_DRAIN_SECS", value_name = "SECONDS", default_value_t = 10)]
    pub drain_secs: u16,

    /// What to log: error, warn, info, debug, trace, or filters such as
    /// `info,order_server=debug`.
    #[arg(long, env = "ORDER_SERVER_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// Who may log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum AuthMode {
    /// Anybody by any e-mail, as admin too: for development.
    Dev,
    /// Nobody here: tokens come from whoever else has the secret.
    Secret,
}

/// How tokens are signed, and who signs them.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Auth {
    /// Who may log in.
    pub mode: AuthMode,
    /// The given secret; without one it is made and kept in the data folder.
    pub secret: Option<Vec<u8>>,
}

/// Why a configuration cannot be used. Retrying cannot help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Anybody could log in from anywhere.
    #[error(
        "listening on {listen} without a secret: the development login lets anybody in, as \
         admin too, and works on loopback only. Give --secret-file or ORDER_SERVER_SECRET (and \
         --auth dev, if anybody shall log in)"
    )]
    OpenToAll {
        /// Where it would listen.
        listen: IpAddr,
    },
    /// `--auth secret` without one.
    #[error("--auth secret needs --secret-file or ORDER_SERVER_SECRET")]
    NoSecret,
    /// A secret that could be guessed.
    #[error("the secret has {len} bytes, and needs at least {MIN_SECRET_BYTES}")]
    ShortSecret {
        /// How many it has.
        len: usize,
    },
    /// The secret's file cannot be read.
    #[error("--secret-file {path}")]
    SecretFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of the cursor keys cannot be read.
    #[error("--cursor-keys-file {path}")]
    CursorKeysFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was given as cursor keys is none.
    #[error("cursor keys of {given}")]
    CursorKeys {
        /// The flag, or its file.
        given: String,
        /// What is wrong.
        source: KeysError,
    },
    /// The system says nowhere where a user's data goes.
    #[error("the user has no folder for data; give one with --data")]
    NoDataFolder,
}

impl Config {
    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.listen, self.port)
    }

    /// The data folder, given or the user's.
    ///
    /// # Errors
    /// [`ConfigError::NoDataFolder`].
    pub fn data_folder(&self) -> Result<PathBuf, ConfigError> {
        match &self.data {
            Some(folder) => Ok(folder.clone()),
            None => directories::ProjectDirs::from("", "", "fanout-order-server")
                .map(|folders| folders.data_dir().to_path_buf())
                .ok_or(ConfigError::NoDataFolder),
        }
    }

    /// The properties of librdkafka that were given.
    ///
    /// # Errors
    /// [`PropertyError`] where one cannot be used, or the file not be read.
    pub fn kafka_properties(&self) -> Result<Properties, PropertyError> {
        Properties::read(self.kafka_property_file.as_deref(), &self.kafka_property)
    }

    /// The cursor keys that were given, `None` where none were.
    ///
    /// # Errors
    /// [`ConfigError`] where they cannot be read, or are none.
    pub fn cursor_keys(&self) -> Result<Option<CursorKeys>, ConfigError> {
        let (text, given) = match (&self.cursor_keys, &self.cursor_keys_file) {
            (Some(text), _) => (text.clone().into_bytes(), "--cursor-keys".to_owned()),
            (None, Some(path)) => {
                let failed = |source| ConfigError::CursorKeysFile { path: path.clone(), source };
                (std::fs::read(path).map_err(failed)?, path.display().to_string())
            }
            (None, None) => return Ok(None),
        };
        let keys = CursorKeys::parse(&text);
        keys.map(Some).map_err(|source| ConfigError::CursorKeys { given, source })
    }

    /// How far before its start events are read again; zero for only what is new.
    pub fn warm_start(&self) -> Duration {
        Duration::from_secs(self.warm_start.into())
    }

    /// Bytes of recent events in memory.
    pub fn log_bytes(&self) -> u64 {
        u64::from(self.log_mib) << 20
    }

    /// How long recent events are in memory.
    pub fn log_age(&self) -> Duration {
        Duration::from_secs(self.log_secs.into())
    }

    /// Whose pages may call the server: its own, and those that were given.
    pub fn origins(&self) -> Origins {
        self.cors_origin.iter().cloned().fold(Origins::default(), Origins::and)
    }

    /// Who may log in and what signs their tokens.
    ///
    /// # Errors
    /// [`ConfigError`] where that would be open to all, or has no usable secret.
    pub fn auth(&self) -> Result<Auth, ConfigError> {
        let secret = match (&self.secret, &self.secret_file) {
            (Some(secret), _) => Some(secret.clone().into_bytes()),
            (None, Some(path)) => Some(read_secret(path)?),
            (None, None) => None,
        };
        if let Some(len) = secret.as_ref().map(Vec::len).filter(|len| *len < MIN_SECRET_BYTES) {
            return Err(ConfigError::ShortSecret { len });
        }
        let default = if secret.is_some() { AuthMode::Secret } else { AuthMode::Dev };
        let mode = self.auth.unwrap_or(default);
        match (mode, &secret) {
            (AuthMode::Secret, None) => Err(ConfigError::NoSecret),
            (AuthMode::Dev, None) if !self.listen.is_loopback() => {
                Err(ConfigError::OpenToAll { listen: self.listen })
            }
            _ => Ok(Auth { mode, secret }),
        }
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("mode", &self.mode).finish_non_exhaustive()
    }
}

fn read_secret(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let secret = std::fs::read(path)
        .map_err(|source| ConfigError::SecretFile { path: path.to_owned(), source })?;
    Ok(secret.trim_ascii().to_owned())
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    Rate::from_percent(text).map_err(Into::into)
}

fn parse_currency(text: &str) -> Result<String, &'static str> {
    input::check_currency(text).map(str::to_owned)
}

/// An origin as browsers send it; a slash behind it is what people add.
fn parse_origin(text: &str) -> Result<Origin, OriginError> {
    text.trim().trim_end_matches('/').parse()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn config(flags: &[&str]) -> Config {
        Config::parse_from(["order-server"].iter().chain(flags))
    }

    #[test]
    fn flags_are_sound_and_each_has_a_variable() {
        Config::command().debug_assert();
        for flag in Config::command().get_arguments() {
            assert!(flag.get_env().is_some(), "{}", flag.get_id());
            assert!(flag.get_help().is_some(), "{}", flag.get_id());
        }
    }

    #[test]
    fn anybody_may_log_in_on_loopback_only() {
        assert_eq!(config(&[]).auth().unwrap().mode, AuthMode::Dev);
        assert_eq!(config(&["--listen", "::1"]).auth().unwrap().mode, AuthMode::Dev);
        for flags in [&["--listen", "0.0.0.0"][..], &["--listen", "10.0.0.1", "--auth", "dev"]] {
            assert!(matches!(config(flags).auth(), Err(ConfigError::OpenToAll { .. })));
        }
        let given = config(&["--listen", "0.0.0.0", "--secret", SECRET]);
        assert_eq!(given.auth().unwrap().mode, AuthMode::Secret);
        let open = config(&["--listen", "0.0.0.0", "--secret", SECRET, "--auth", "dev"]);
        assert_eq!(open.auth().unwrap().mode, AuthMode::Dev);
    }

    #[test]
    fn secrets_must_be_there_and_long() {
        let none = config(&["--auth", "secret"]).auth();
        assert!(matches!(none, Err(ConfigError::NoSecret)));
        let short = config(&["--secret", "short"]).auth();
        assert!(matches!(short, Err(ConfigError::ShortSecret { len: 5 })));
        let missing = config(&["--secret-file", "/nowhere/at/all"]).auth();
        assert!(matches!(missing, Err(ConfigError::SecretFile { .. })));
        assert!(!format!("{:?}", config(&["--secret", SECRET]).auth()).contains(SECRET));
    }

    #[test]
    fn cursor_keys_are_given_or_none_and_never_shown() {
        assert_eq!(config(&[]).cursor_keys().unwrap(), None);
        let two = format!("b:{SECRET}\na:{SECRET}");
        let keys = config(&["--cursor-keys", &two]).cursor_keys().unwrap().unwrap();
        let ids: Vec<_> = keys.keys().iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, ['b', 'a']);
        let missing = config(&["--cursor-keys-file", "/nowhere/at/all"]).cursor_keys();
        assert!(matches!(missing, Err(ConfigError::CursorKeysFile { .. })));
        let bad = config(&["--cursor-keys", "hunter2"]).cursor_keys().unwrap_err();
        assert!(!format!("{bad} {bad:?}").contains("hunter2"), "{bad:?}");
        let both = ["x", "--cursor-keys", &two, "--cursor-keys-file", "f"];
        assert!(Config::try_parse_from(both).is_err());
    }

    #[test]
    fn properties_of_kafka_are_given_again_or_a_line_each() {
        let flags = ["--kafka", "b:1", "--kafka-property", "a.b=1", "--kafka-property", "c=2\nd=3"];
        let given = config(&flags).kafka_properties().unwrap();
        assert_eq!(given.iter().collect::<Vec<_>>(), [("a.b", "1"), ("c", "2"), ("d", "3")]);

        let secret = config(&["--kafka", "b:1", "--kafka-property", "sasl.password=hunter2"]);
        assert!(!format!("{secret:?}").contains("hunter2"));
        // The embedded broker has no password.
        let alone = Config::try_parse_from(["x", "--kafka-property", "sasl.password=hunter2"]);
        let error = alone.unwrap_err().to_string();
        assert!(error.contains("--kafka <HOST:PORT>") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn limits_have_units() {
        let given = config(&["--warm-start", "0", "--log-mib", "2", "--log-secs", "3"]);
        assert_eq!((given.warm_start(), given.log_bytes()), (Duration::ZERO, 2 << 20));
        assert_eq!(given.log_age(), Duration::from_secs(3));
        // What is not said is the hub's own.
        let (none, limits) = (config(&[]), fanout::Limits::default());
        assert_eq!((none.log_bytes(), none.log_age()), (limits.log_bytes, limits.log_age));
        assert_eq!(none.warm_start(), Duration::from_secs(60));
    }

    #[test]
    fn what_no_flag_can_mean_is_refused() {
        for flags in [
            ["--cors-origin", "*"],
            ["--cors-origin", "https://a/b"],
            ["--cors-origin", "a.example"],
            ["--tax-percent", "101"],
            ["--tax-percent", "1.234"],
            ["--currency", "euro"],
            ["--partitions", "0"],
            ["--warm-start", "-1"],
            ["--log-mib", "0"],
            ["--log-secs", "0"],
            ["--listen", "localhost:3009"],
        ] {
            assert!(Config::try_parse_from(["x"].iter().chain(&flags)).is_err(), "{flags:?}");
        }
        let origins = config(&["--cors-origin", "https://A.example/,http://localhost:3000"]);
        let origins: Vec<_> = origins.cors_origin.iter().map(ToString::to_string).collect();
        assert_eq!(origins, ["https://a.example", "http://localhost:3000"]);
    }
}
