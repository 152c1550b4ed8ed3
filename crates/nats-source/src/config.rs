//! What a [`NatsSource`](crate::NatsSource) reads, and how much of it at once.

use std::fmt;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};

use crate::start::Start;

/// Longest name of a stream that the server takes.
const MAX_STREAM_BYTES: usize = 255;
/// Messages in a subscription beside those of a pull: what the server says of it.
const SLACK: usize = 64;
/// How often a silent server is asked whether it lives; after three times it is given up.
const PING: Duration = Duration::from_secs(5);

/// What to read, from where, and how much of it at once.
///
/// ```
/// use std::time::Duration;
/// use nats_source::{NatsConfig, Start};
///
/// let config = NatsConfig::new("nats-1:4222,nats-2:4222")
///     .stream("ORDERS")
///     .stream_of("AUDIT", ["audit.login.*", "audit.logout.*"])
///     .start(Start::Recent { age: Duration::from_secs(120), messages: 100_000 })
///     .user_and_password("gateway", "s3cret");
/// ```
#[derive(Clone)]
pub struct NatsConfig {
    pub(crate) servers: Vec<String>,
    pub(crate) streams: Vec<Wanted>,
    pub(crate) start: Start,
    pub(crate) max_batch: usize,
    pub(crate) max_batch_bytes: usize,
    pub(crate) max_queued_batches: usize,
    pub(crate) info_interval: Duration,
    pub(crate) missing_grace: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) log_identity: Option<String>,
    pub(crate) api_prefix: String,
    auth: Auth,
    customize: Option<Customize>,
}

/// A stream that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: Arc<str>,
    /// Which of its subjects; none for all.
    pub(crate) subjects: Vec<String>,
}

#[derive(Clone)]
enum Auth {
    /// Whatever the addresses hold.
    None,
    User(String, String),
    Token(String),
    #[cfg(feature = "nkeys")]
    Credentials(String),
}

type Customize = Arc<dyn Fn(ConnectOptions) -> ConnectOptions + Send + Sync>;

/// Why a [`NatsConfig`] cannot be used. Retrying cannot help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No server is named.
    #[error("servers: empty; name at least one as host:port")]
    NoServers,
    /// An address cannot be read.
    #[error("servers: `{server}` is no address; write host:port or nats://host:port")]
    BadServer {
        /// The address, without what it held before an `@`.
        server: String,
    },
    /// There is nothing to read.
    #[error("streams: empty; name at least one")]
    NoStreams,
    /// There is no stream of such a name.
    #[error(
        "streams: `{stream}` is no name of a stream: 1 to {MAX_STREAM_BYTES} bytes without \
         spaces and any of . * > / \\"
    )]
    BadStream {
        /// The name.
        stream: String,
    },
    /// One stream is named twice, with different subjects.
    #[error("streams: `{stream}` is named twice; give all its subjects at once")]
    Twice {
        /// The name.
        stream: String,
    },
    /// What is to be read of a stream is no subject.
    #[error(
        "subjects of `{stream}`: `{subject}` is no subject: words with dots between, `*` for \
         any word, `>` at the end for all that follow"
    )]
    BadSubject {
        /// The stream.
        stream: String,
        /// The subject.
        subject: String,
    },
    /// [`Start::Sequences`] names a stream that is not read.
    #[error("start: `{stream}` is named, but is none of the streams that are read")]
    StrangeStream {
        /// The stream.
        stream: String,
    },
    /// A limit of nothing would stop the source.
    #[error("{name}: must be more than 0")]
    Zero {
        /// The setting's name.
        name: &'static str,
    },
    /// The prefix of `JetStream`'s subjects is no subject.
    #[error("api_prefix: `{prefix}` is no subject, such as $JS.API or $JS.hub.API")]
    BadPrefix {
        /// The prefix.
        prefix: String,
    },
    /// The credentials cannot be read.
    #[error("credentials: {reason}; give what a .creds file holds")]
    BadCredentials {
        /// Why not.
        reason: String,
    },
}

impl NatsConfig {
    /// Default of [`max_batch`](Self::max_batch).
    pub const DEFAULT_MAX_BATCH: usize = 256;
    /// Default of [`max_batch_bytes`](Self::max_batch_bytes): 1 MiB.
    pub const DEFAULT_MAX_BATCH_BYTES: usize = 1 << 20;
    /// Default of [`max_queued_batches`](Self::max_queued_batches).
    pub const DEFAULT_MAX_QUEUED_BATCHES: usize = 8;
    /// Default of [`info_interval`](Self::info_interval).
    pub const DEFAULT_INFO_INTERVAL: Duration = Duration::from_secs(5);
    /// Default of [`missing_grace`](Self::missing_grace).
    pub const DEFAULT_MISSING_GRACE: Duration = Duration::from_secs(5);
    /// Default of [`request_timeout`](Self::request_timeout).
    pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

    /// No stream yet, from [`Start::Latest`]. `servers` are `host:port` or
    /// `nats://host:port`, `tls://` for TLS, with commas between.
    pub fn new(servers: impl AsRef<str>) -> Self {
        let servers = servers.as_ref().split(',').map(str::trim).filter(|s| !s.is_empty());
        Self {
            servers: servers.map(str::to_owned).collect(),
            streams: Vec::new(),
            start: Start::default(),
            max_batch: Self::DEFAULT_MAX_BATCH,
            max_batch_bytes: Self::DEFAULT_MAX_BATCH_BYTES,
            max_queued_batches: Self::DEFAULT_MAX_QUEUED_BATCHES,
            info_interval: Self::DEFAULT_INFO_INTERVAL,
            missing_grace: Self::DEFAULT_MISSING_GRACE,
            request_timeout: Self::DEFAULT_REQUEST_TIMEOUT,
            log_identity: None,
            api_prefix: "$JS.API".into(),
            auth: Auth::None,
            customize: None,
        }
    }

    /// Adds a stream, which need not exist yet. Naming it twice changes nothing.
    pub fn stream(self, stream: impl AsRef<str>) -> Self {
        self.stream_of(stream, [] as [&str; 0])
    }

    /// Adds several streams.
    pub fn streams<T: AsRef<str>>(self, streams: impl IntoIterator<Item = T>) -> Self {
        streams.into_iter().fold(self, Self::stream)
    }

    /// Adds a stream of which only these subjects are read; several take a server of
    /// version 2.10. Sequences between are passed, so that a question whether something was
    /// deleted unread goes with each batch; see the crate's docs.
    pub fn stream_of<T: Into<String>>(
        mut self,
        stream: impl AsRef<str>,
        subjects: impl IntoIterator<Item = T>,
    ) -> Self {
        let subjects = subjects.into_iter().map(Into::into).collect();
        let wanted = Wanted { name: stream.as_ref().into(), subjects };
        if !self.streams.contains(&wanted) {
            self.streams.push(wanted);
        }
        self
    }

    /// Where reading begins. Default: [`Start::Latest`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Most messages of one batch, and of one pull. Default: [`Self::DEFAULT_MAX_BATCH`].
    pub fn max_batch(mut self, messages: usize) -> Self {
        self.max_batch = messages;
        self
    }

    /// Bytes after which a batch is closed, and most bytes of one pull, as the server counts
    /// them: with subject and headers. A message that is larger comes alone. Default:
    /// [`Self::DEFAULT_MAX_BATCH_BYTES`].
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.max_batch_bytes = bytes;
        self
    }

    /// Batches that may wait to be taken before reading stops, and as many of those that
    /// are read again. Beside them each stream holds one pull at most. Default:
    /// [`Self::DEFAULT_MAX_QUEUED_BATCHES`].
    pub fn max_queued_batches(mut self, batches: usize) -> Self {
        self.max_queued_batches = batches;
        self
    }

    /// How often each stream is looked at: whether it is still the same, how far it has
    /// been passed, the lag. Default: [`Self::DEFAULT_INFO_INTERVAL`].
    pub fn info_interval(mut self, interval: Duration) -> Self {
        self.info_interval = interval;
        self
    }

    /// How long a stream has to be denied, by every answer, before it counts as not made
    /// yet, or as deleted. Until then the source is not ready: a cluster that elects a
    /// leader may deny what exists. Afterwards the source is ready without it, and reads all
    /// of it once it appears. Default: [`Self::DEFAULT_MISSING_GRACE`]; zero believes the
    /// first answer.
    pub fn missing_grace(mut self, grace: Duration) -> Self {
        self.missing_grace = grace;
        self
    }

    /// How long a question to the server may take, and connecting to it, and how long
    /// reading again may come to nothing before it is given up. Default:
    /// [`Self::DEFAULT_REQUEST_TIMEOUT`].
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// What [`Lane::log`](fanout::Lane::log) is, in place of the time at which the stream was
    /// made. It has to be the same on all nodes, and another when the stream is another: one
    /// that is made anew under it is halted.
    pub fn log_identity(mut self, identity: impl Into<String>) -> Self {
        self.log_identity = Some(identity.into());
        self
    }

    /// The `JetStream` domain in which the streams are. Default: that of the server.
    pub fn domain(self, domain: impl AsRef<str>) -> Self {
        self.api_prefix(format!("$JS.{}.API", domain.as_ref()))
    }

    /// What the subjects of `JetStream`'s interface begin with, where it is imported from
    /// another account. Default: `$JS.API`.
    pub fn api_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.api_prefix = prefix.into();
        self
    }

    /// Who asks.
    pub fn user_and_password(
        mut self,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        self.auth = Auth::User(user.into(), password.into());
        self
    }

    /// A token of the server's.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.auth = Auth::Token(token.into());
        self
    }

    /// What a `.creds` file holds: a JWT and the seed of a key.
    #[cfg(feature = "nkeys")]
    pub fn credentials(mut self, credentials: impl Into<String>) -> Self {
        self.auth = Auth::Credentials(credentials.into());
        self
    }

    /// Changes how connections are made: certificates, a private CA, an authentication of
    /// one's own; asked for each of them. What the source's promises rest on it sets itself:
    /// how it connects again, and what it is told of.
    pub fn connect_with(
        mut self,
        customize: impl Fn(ConnectOptions) -> ConnectOptions + Send + Sync + 'static,
    ) -> Self {
        self.customize = Some(Arc::new(customize));
        self
    }

    /// The addresses for people: without what stands before an `@`.
    pub(crate) fn told_servers(&self) -> String {
        let told: Vec<String> = self.servers.iter().map(|server| told(server)).collect();
        told.join(",")
    }

    pub(crate) fn addresses(&self) -> Result<Vec<ServerAddr>, ConfigError> {
        let parsed = self.servers.iter().map(|server| {
            let bad = |_| ConfigError::BadServer { server: told(server) };
            ServerAddr::from_str(server).map_err(bad)
        });
        parsed.collect()
    }

    /// What a connection is made with.
    #[cfg_attr(
        not(feature = "nkeys"),
        expect(clippy::unnecessary_wraps, reason = "credentials can be wrong")
    )]
    pub(crate) fn options(&self) -> Result<ConnectOptions, ConfigError> {
        let options = ConnectOptions::new().name("fanout").ping_interval(PING);
        let options = match &self.auth {
            Auth::None => options,
            Auth::User(user, password) => options.user_and_password(user.clone(), password.clone()),
            Auth::Token(token) => options.token(token.clone()),
            #[cfg(feature = "nkeys")]
            Auth::Credentials(credentials) => {
                let bad = |error: std::io::Error| error.to_string();
                let bad = |error| ConfigError::BadCredentials { reason: bad(error) };
                options.credentials(credentials).map_err(bad)?
            }
        };
        let options = match &self.customize {
            Some(customize) => customize(options),
            None => options,
        };
        Ok(options
            .connection_timeout(self.request_timeout)
            .request_timeout(Some(self.request_timeout))
            // A pull fits: nothing is dropped for want of room.
            .subscription_capacity(self.max_batch.saturating_add(SLACK).min(MAX_CAPACITY))
            // Once round at most: whoever notices the break connects anew, and says why not.
            .max_reconnects(self.servers.len().max(1))
            .reconnect_delay_callback(|_| Duration::ZERO))
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.servers.is_empty() {
            return Err(ConfigError::NoServers);
        }
        self.addresses()?;
        if self.streams.is_empty() {
            return Err(ConfigError::NoStreams);
        }
        for (i, Wanted { name, subjects }) in self.streams.iter().enumerate() {
            let stream = || name.to_string();
            if !is_stream(name) {
                return Err(ConfigError::BadStream { stream: stream() });
            }
            if self.streams[..i].iter().any(|other| other.name == *name) {
                return Err(ConfigError::Twice { stream: stream() });
            }
            if let Some(subject) = subjects.iter().find(|subject| !is_subject(subject)) {
                let subject = subject.clone();
                return Err(ConfigError::BadSubject { stream: stream(), subject });
            }
        }
        let read = |name: &&str| self.streams.iter().any(|stream| &*stream.name == *name);
        if let Some(stream) = self.start.streams().into_iter().find(|name| !read(name)) {
            return Err(ConfigError::StrangeStream { stream: stream.to_owned() });
        }
        let limits = [
            ("max_batch", self.max_batch == 0),
            ("max_batch_bytes", self.max_batch_bytes == 0),
            ("max_queued_batches", self.max_queued_batches == 0),
            ("info_interval", self.info_interval.is_zero()),
            ("request_timeout", self.request_timeout.is_zero()),
        ];
        if let Some((name, _)) = limits.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError::Zero { name });
        }
        if !is_subject(&self.api_prefix) || self.api_prefix.contains(['*', '>']) {
            return Err(ConfigError::BadPrefix { prefix: self.api_prefix.clone() });
        }
        self.options().map(drop)
    }
}

/// The most that a tokio channel may hold is more than this on every machine.
const MAX_CAPACITY: usize = 1 << 24;

fn told(server: &str) -> String {
    match server.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
        }
        None => server.to_owned(),
    }
}

/// Whether the server takes this as the name of a stream.
fn is_stream(name: &str) -> bool {
    let legal = |c: char| !c.is_whitespace() && !c.is_control() && !".*>/\\".contains(c);
    (1..=MAX_STREAM_BYTES).contains(&name.len()) && name.chars().all(legal)
}

/// Whether this is a subject, wildcards included.
fn is_subject(subject: &str) -> bool {
    let words: Vec<&str> = subject.split('.').collect();
    let last = words.len() - 1;
    words.iter().enumerate().all(|(i, word)| match *word {
        "" => false,
        "*" => true,
        ">" => i == last,
        word => !word.contains(|c: char| c.is_whitespace() || c.is_control()),
    })
}

impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No password, and no token.
        f.debug_struct("NatsConfig")
            .field("servers", &self.told_servers())
            .field("streams", &self.streams)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::Sequences;

    fn config() -> NatsConfig {
        NatsConfig::new("localhost:4222").stream("S")
    }

    fn refused(config: &NatsConfig) -> ConfigError {
        config.check().expect_err("must be refused")
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        config().check().expect("usable");
        assert_eq!(refused(&NatsConfig::new(" ,").stream("S")), ConfigError::NoServers);
        assert_eq!(refused(&NatsConfig::new("b:1")), ConfigError::NoStreams);
        let bad = NatsConfig::new("nats://me:pw@host:x").stream("S");
        assert_eq!(refused(&bad), ConfigError::BadServer { server: "nats://host:x".into() });
        for stream in ["", "a.b", "a b", "a>", "a/b", "\n", &"x".repeat(256)] {
            let error = refused(&config().stream(stream));
            assert_eq!(error, ConfigError::BadStream { stream: stream.into() });
        }
        for subject in ["", "a..b", ">.a", "a b", ".a"] {
            let error = refused(&config().stream_of("T", [subject]));
            let expected = ConfigError::BadSubject { stream: "T".into(), subject: subject.into() };
            assert_eq!(error, expected);
        }
        assert_eq!(refused(&config().max_batch(0)), ConfigError::Zero { name: "max_batch" });
        let error = refused(&config().api_prefix("$JS.*.API"));
        assert!(error.to_string().contains("$JS.*.API"), "{error}");
        let error = refused(&config().stream_of("S", ["a.>"]));
        assert_eq!(error, ConfigError::Twice { stream: "S".into() });
        let strange = Sequences::otherwise(Start::Latest).at("S", 1).at("T", 1);
        let error = refused(&config().start(Start::Sequences(strange)));
        assert_eq!(error, ConfigError::StrangeStream { stream: "T".into() });
    }

    #[test]
    fn what_is_usual_is_taken() {
        let all = config().streams(["S", "T"]).stream_of("U", ["a.*.b", "c.>", "d"]);
        assert_eq!(all.streams.len(), 3, "named twice, read once");
        all.check().expect("usable");
        for servers in ["nats://a:1, b:2", "tls://a", "me:pw@a:4222", "[::1]:4222"] {
            NatsConfig::new(servers).stream("S").check().expect(servers);
        }
        assert_eq!(config().domain("hub").api_prefix, "$JS.hub.API");
    }

    #[test]
    fn debug_output_holds_no_password() {
        let config = NatsConfig::new("nats://me:hunter2@host:4222").stream("S");
        let config = config.token("hunter3").user_and_password("me", "hunter4");
        let text = format!("{config:?} {}", config.told_servers());
        assert!(text.contains("nats://host:4222") && !text.contains("hunter"), "{text}");
    }
}
