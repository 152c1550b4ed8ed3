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

/// Logins a second from one address, where nothing else is said.
const LOGIN_RATE: u32 = 20;

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
    /// answered with 429. Without it 200; no limit where the server listens on loopback, for
    /// then only this machine comes, or a proxy on it.
    #[arg(long, env = "ORDER_SERVER_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_address: Option<u32>,

    /// WebSockets and streams of events of one subject; more are closed with 4003. Without it
    /// 64; no limit where the server listens on loopback.
    #[arg(long, env = "ORDER_SERVER_MAX_CONNECTIONS_PER_SUBJECT", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_subject: Option<u32>,

    /// WebSockets and streams of events that may be opened a second on average, five seconds'
    /// worth at once; more are answered with 429.
    #[arg(long, env = "ORDER_SERVER_UPGRADES_PER_SECOND", value_name = "N",
        default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub upgrades_per_second: u32,

    /// The same for one address, ten seconds' worth at once. Without it 20; no limit where the
    /// server listens on loopback.
    #[arg(long, env = "ORDER_SERVER_UPGRADES_PER_SECOND_PER_ADDRESS", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub upgrades_per_second_per_address: Option<u32>,

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
    /// for no limit. Without it 20; no limit where the server listens on loopback.
    #[arg(long, env = "ORDER_SERVER_LOGIN_RATE", value_name = "N")]
    pub login_rate: Option<u32>,

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
    /// What the door is made of, for a server that listens on `listen`; `drain` is how long
    /// requests under way may take.
    ///
    /// # Errors
    /// [`ConfigError`] where a network is none, or the certificate cannot be used.
    pub fn config(&self, listen: IpAddr, drain: Duration) -> Result<DoorConfig, ConfigError> {
        let mut config = DoorConfig::default();
        config.admission = Admission::new(self.admission(listen));
        config.trusted_proxies = networks("--trusted-proxy", &self.trusted_proxy)?;
        config.header_timeout = Duration::from_secs(self.header_secs.into());
        config.shutdown_timeout = drain;
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            config.tls = Some(TlsConfig::from_files(certificate, key)?);
        }
        Ok(config)
    }

    fn admission(&self, listen: IpAddr) -> AdmissionLimits {
        let mut limits = AdmissionLimits::default();
        limits.connections = self.max_connections as usize;
        limits.upgrades = rate(self.upgrades_per_second, BURST_SECS);
        if listen.is_loopback() {
            limits.connections_per_address = limits.connections;
            limits.connections_per_subject = limits.connections;
            limits.upgrades_per_address = limits.upgrades;
        }
        if let Some(given) = self.max_connections_per_address {
            limits.connections_per_address = given as usize;
        }
        if let Some(given) = self.max_connections_per_subject {
            limits.connections_per_subject = given as usize;
        }
        if let Some(given) = self.upgrades_per_second_per_address {
            limits.upgrades_per_address = rate(given, 2 * BURST_SECS);
        }
        limits
    }

    /// Logins a second from one address; 0 for no limit.
    pub fn login_rate(&self, listen: IpAddr) -> u32 {
        self.login_rate.unwrap_or(if listen.is_loopback() { 0 } else { LOGIN_RATE })
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::Config;

    fn of(flags: &[&str], listen: IpAddr) -> [usize; 4] {
        let given = ["order-server"].iter().chain(flags);
        let door = Config::parse_from(given).door;
        let limits = door.admission(listen);
        let logins = door.login_rate(listen) as usize;
        let per_address = limits.upgrades_per_address.per_second as usize;
        [limits.connections_per_address, limits.connections_per_subject, per_address, logins]
    }

    #[test]
    fn strangers_are_limited_and_this_machine_only_where_it_is_said() {
        let (here, out) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        assert_eq!(of(&[], out), [200, 64, 20, 20]);
        assert_eq!(of(&[], here), [50_000, 50_000, 10_000, 0]);
        let given = [
            "--max-connections-per-address=3",
            "--max-connections-per-subject=4",
            "--upgrades-per-second-per-address=5",
            "--login-rate=6",
        ];
        assert_eq!(of(&given, here), [3, 4, 5, 6]);
        assert_eq!(of(&given, out), [3, 4, 5, 6]);
    }
}
