//! Flags of the door: who gets as far as to be asked who they are, and how much of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use fanout::RequestRate;
use ws_sink::door::{DoorConfig, ProxyError, TlsConfig, TrustedProxies};
use ws_sink::{Admission, AdmissionLimits, Rate};

use super::ConfigError;

/// As many seconds' worth may come at once, where a limit is so many a second.
const BURST_SECS: u32 = 5;

/// Who gets as far as to be asked who they are, and how much of it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The door")]
#[non_exhaustive]
pub struct Door {
    /// Connections in all, WebSockets included; more are answered with 503. The process needs
    /// as many descriptors (`ulimit -n`).
    #[arg(long, env = "ORDER_SERVER_MAX_CONNECTIONS", value_name = "N", default_value_t = 50_000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// Connections from one address, or from one network of 64 bits over IPv6; more are
    /// answered with 429.
    #[arg(long, env = "ORDER_SERVER_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N",
        default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_address: u32,

    /// WebSockets and streams of events of one subject; more are closed with 4003.
    #[arg(long, env = "ORDER_SERVER_MAX_CONNECTIONS_PER_SUBJECT", value_name = "N",
        default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_subject: u32,

    /// WebSockets and streams of events that may be opened a second on average, five seconds'
    /// worth at once; more are answered with 429.
    #[arg(long, env = "ORDER_SERVER_UPGRADES_PER_SECOND", value_name = "N",
        default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub upgrades_per_second: u32,

    /// The same for one address, ten seconds' worth at once.
    #[arg(long, env = "ORDER_SERVER_UPGRADES_PER_SECOND_PER_ADDRESS", value_name = "N",
        default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub upgrades_per_second_per_address: u32,

    /// Network of proxies, such as `10.0.0.0/8`, whose `X-Forwarded-For` and
    /// `X-Forwarded-Proto` are believed. May be given again. Without it: nobody's.
    #[arg(long, env = "ORDER_SERVER_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxy: Vec<String>,

    /// How long a client may take for a request's headers, and be idle between two requests,
    /// in seconds.
    #[arg(long, env = "ORDER_SERVER_HEADER_SECS", value_name = "SECONDS", default_value_t = 10,
        value_parser = clap::value_parser!(u16).range(1..=600))]
    pub header_secs: u16,

    /// Frames that one WebSocket may send a second on average; more end it with 4003.
    #[arg(long, env = "ORDER_SERVER_FRAMES_PER_SECOND", value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub frames_per_second: u32,

    /// Subscriptions and renewals that one connection may ask for a second on average; more
    /// are answered with `rate_limited`.
    #[arg(long, env = "ORDER_SERVER_REQUESTS_PER_SECOND", value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub requests_per_second: u32,

    /// Logins a second that one address may make on average, five seconds' worth at once; 0
    /// for no limit.
    #[arg(long, env = "ORDER_SERVER_LOGIN_RATE", value_name = "N", default_value_t = 20)]
    pub login_rate: u32,

    /// File of the certificate, and of those between it and the root (PEM): the server speaks
    /// TLS. Both files are read again when they change.
    #[arg(long, env = "ORDER_SERVER_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// File of the certificate's private key (PEM).
    #[arg(long, env = "ORDER_SERVER_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Networks that may read /metrics, with commas between. Without it: this machine, unless a
    /// proxy that is not trusted asks. `0.0.0.0/0,::/0` is everybody.
    #[arg(long, env = "ORDER_SERVER_METRICS_FROM", value_name = "CIDR", value_delimiter = ',')]
    pub metrics_from: Vec<String>,
}

impl Door {
    /// What the door is made of; `drain` is how long requests under way may take.
    ///
    /// # Errors
    /// [`ConfigError`] where a network is none, or the certificate cannot be used.
    pub fn config(&self, drain: Duration) -> Result<DoorConfig, ConfigError> {
        let mut limits = AdmissionLimits::default();
        limits.connections = self.max_connections as usize;
        limits.connections_per_address = self.max_connections_per_address as usize;
        limits.connections_per_subject = self.max_connections_per_subject as usize;
        limits.upgrades = rate(self.upgrades_per_second, BURST_SECS);
        limits.upgrades_per_address = rate(self.upgrades_per_second_per_address, 2 * BURST_SECS);
        let mut config = DoorConfig::default();
        config.admission = Admission::new(limits);
        config.trusted_proxies = networks("--trusted-proxy", &self.trusted_proxy)?;
        config.header_timeout = Duration::from_secs(self.header_secs.into());
        config.shutdown_timeout = drain;
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            config.tls = Some(TlsConfig::from_files(certificate, key)?);
        }
        Ok(config)
    }

    /// Who may read the metrics.
    ///
    /// # Errors
    /// [`ConfigError::Network`] where one is none.
    pub fn metrics_from(&self) -> Result<TrustedProxies, ConfigError> {
        if self.metrics_from.is_empty() {
            let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return networks("--metrics-from", &own.map(|address| address.to_string()));
        }
        networks("--metrics-from", &self.metrics_from)
    }

    /// Frames that a WebSocket may send.
    pub fn frames(&self) -> Rate {
        rate(self.frames_per_second, BURST_SECS)
    }

    /// How often a connection may ask for something.
    pub fn requests(&self) -> RequestRate {
        let per_second = self.requests_per_second;
        RequestRate { per_second, burst: per_second.saturating_mul(BURST_SECS).max(128) }
    }
}

fn rate(per_second: u32, burst_secs: u32) -> Rate {
    Rate::new(per_second, per_second.saturating_mul(burst_secs))
}

fn networks(flag: &'static str, given: &[String]) -> Result<TrustedProxies, ConfigError> {
    TrustedProxies::new(given).map_err(|source: ProxyError| ConfigError::Network { flag, source })
}
