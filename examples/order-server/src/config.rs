//! What the server is told on start, by flags or by the environment.

mod bounds;
mod door;
mod error;
mod hidden;
mod identity;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use ws_sink::door::DoorConfig;
use ws_sink::handshake::{Origin, OriginError, Origins};

use crate::cursor_keys::CursorKeys;
use crate::input;
use crate::kafka::properties::{Given, Properties, PropertyError};
use crate::money::Rate;

pub use bounds::Bounds;
pub use door::Door;
pub use error::ConfigError;
pub use hidden::Hidden;
pub use identity::{Auth, AuthMode, Identity, JwtAlgorithm};

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
    pub cursor_keys: Option<Hidden>,

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

    /// Who somebody is.
    #[command(flatten)]
    pub identity: Identity,

    /// Who gets as far as to be asked.
    #[command(flatten)]
    pub door: Door,

    /// What is in may take so much.
    #[command(flatten)]
    pub bounds: Bounds,
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

    /// What the door is made of; `drain` is how long requests under way may take.
    ///
    /// # Errors
    /// [`ConfigError`] where a network is none, or the certificate cannot be used.
    pub fn door(&self, drain: Duration) -> Result<DoorConfig, ConfigError> {
        let mut config = self.door.config(self.listen, drain)?;
        self.bounds.of_door(&mut config);
        Ok(config)
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
            (Some(text), _) => (text.expose().as_bytes().to_vec(), "--cursor-keys".to_owned()),
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
mod tests;
