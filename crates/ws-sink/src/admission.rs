//! How many may come in, and how often: in all, from one address, of one subject.
//!
//! One [`Admission`] is shared by all ways in: the [`Door`](crate::door::Door), which knows
//! addresses, and [`Ws`](crate::Ws) and [`Sse`](crate::Sse), which know subjects. A connection
//! is counted once, by whoever sees it first, and is given back when the last of what holds
//! its place is dropped, whichever way it ends.
//!
//! | limit | counted by | refused by |
//! |---|---|---|
//! | `connections` | the door | 503 |
//! | `connections_per_address` | the door | 429 |
//! | `upgrades`, `upgrades_per_address` | `Ws`, `Sse` | 429 |
//! | `connections_per_subject` | `Ws`, `Sse` | close 4003 `rate_limited` |
//!
//! Without a door no address is known, and what is counted by address is not counted at all.
//! A client over IPv6 has as many addresses as it likes, so its network of 64 bits counts as
//! one. Counts are this node's. Each refusal counts in `fanout_door_refused_total` by
//! `limit`.

pub(crate) mod counts;
pub(crate) mod rate;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use fanout::Close;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use counts::Counts;
pub use rate::Rate;
use rate::{TooMany, Used, UsedBy};

/// The limits of an [`Admission`]. Each has a default.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AdmissionLimits {
    /// Connections through the door in all, WebSockets and streams of events included.
    /// 50,000; a process needs as many descriptors.
    pub connections: usize,
    /// Connections from one address, or from one network of 64 bits over IPv6. 200: many
    /// people may share an address.
    pub connections_per_address: usize,
    /// WebSockets and streams of events of one subject; who shows no credential has none to
    /// be counted by. 64.
    pub connections_per_subject: usize,
    /// Upgrades, and requests for events, in all. 10,000 a second, 50,000 at once: all may come
    /// back together.
    pub upgrades: Rate,
    /// The same from one address. 20 a second, 200 at once.
    pub upgrades_per_address: Rate,
    /// Addresses whose upgrades are remembered, for as long as a burst takes to be earned
    /// anew; when there are more, new ones are refused. 100,000.
    pub addresses: usize,
    /// When a client that was refused for a count may come back. 5 s.
    pub retry_after: Duration,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self {
            connections: 50_000,
            connections_per_address: 200,
            connections_per_subject: 64,
            upgrades: Rate::new(10_000, 50_000),
            upgrades_per_address: Rate::new(20, 200),
            addresses: 100_000,
            retry_after: Duration::from_secs(5),
        }
    }
}

/// Who is in, and how many more may be. Clones are the same.
///
/// ```
/// use ws_sink::{Admission, AdmissionLimits, SseConfig, WsConfig};
///
/// let mut limits = AdmissionLimits::default();
/// limits.connections_per_subject = 8;
/// let admission = Admission::new(limits);
/// let (mut ws, mut sse) = (WsConfig::default(), SseConfig::default());
/// ws.admission = admission.clone();
/// sse.admission = admission;
/// ```
#[derive(Clone, Debug)]
pub struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: AdmissionLimits,
    /// What times are counted from.
    start: Instant,
    connections: AtomicUsize,
    addresses: Mutex<Counts<Block>>,
    subjects: Mutex<Counts<Arc<str>>>,
    upgrades: Mutex<Upgrades>,
}

#[derive(Debug)]
struct Upgrades {
    all: Used,
    by_address: UsedBy<Block>,
}

/// What counts as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Block {
    V4(u32),
    V6(u64),
}

/// A place among the connections, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Admission,
    address: Option<Block>,
    in_all: bool,
}

/// A place among the connections of a subject, until it is dropped.
#[derive(Debug)]
pub(crate) struct SubjectPlace {
    admission: Admission,
    subject: Arc<str>,
}

/// Why somebody is not let in now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("this server has as many connections as it may have: try again later")]
    Full(Duration),
    #[error("too many connections from this address: close some, or try again later")]
    Address(Duration),
    #[error("too many connections of this subject: close some, or try again later")]
    Subject(Duration),
    #[error("too many connections are being opened here: try again later")]
    Upgrades(Duration),
    #[error("too many connections are being opened from this address: try again later")]
    UpgradesOfAddress(Duration),
    #[error("too many addresses are opening connections here: try again later")]
    Addresses(Duration),
}

impl Default for Admission {
    fn default() -> Self {
        Self::new(AdmissionLimits::default())
    }
}

impl Admission {
    /// Nobody is in yet.
    pub fn new(limits: AdmissionLimits) -> Self {
        let by_address = UsedBy::new(limits.upgrades_per_address, limits.addresses);
        Self(Arc::new(Inner {
            start: Instant::now(),
            connections: AtomicUsize::new(0),
            addresses: Mutex::new(Counts::new()),
            subjects: Mutex::new(Counts::new()),
            upgrades: Mutex::new(Upgrades { all: Used::default(), by_address }),
            limits,
        }))
    }

    /// Its limits.
    pub fn limits(&self) -> &AdmissionLimits {
        &self.0.limits
    }

    /// Connections that the door has let in and that are not gone.
    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// A connection, from this address where it is known whose it is.
    pub(crate) fn connection(&self, address: Option<IpAddr>) -> Result<Place, Refused> {
        let Inner { limits, connections, .. } = &*self.0;
        let more = |now| (now < limits.connections).then_some(now + 1);
        if connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return Err(Refused::Full(limits.retry_after).counted());
        }
        metrics::gauge!("fanout_door_connections").increment(1);
        let mut place = Place { admission: self.clone(), address: None, in_all: true };
        if let Some(address) = address {
            place.address = Some(self.take_address(address)?);
        }
        Ok(place)
    }

    /// A client behind a proxy, whose connection is counted already.
    pub(crate) fn client(&self, address: IpAddr) -> Result<Place, Refused> {
        let address = Some(self.take_address(address)?);
        Ok(Place { admission: self.clone(), address, in_all: false })
    }

    fn take_address(&self, address: IpAddr) -> Result<Block, Refused> {
        let (limits, block) = (&self.0.limits, Block::of(address));
        if lock(&self.0.addresses).take(block, limits.connections_per_address) {
            return Ok(block);
        }
        Err(Refused::Address(limits.retry_after).counted())
    }

    /// Whether one more may be opened now.
    pub(crate) fn upgrade(&self, address: Option<IpAddr>) -> Result<(), Refused> {
        let Inner { limits, start, upgrades, .. } = &*self.0;
        let now = nanos(start.elapsed());
        let mut upgrades = lock(upgrades);
        // Whoever floods from one address must not use up what is for all.
        let own =
            address.map_or(Ok(()), |address| upgrades.by_address.take(Block::of(address), now));
        let taken = match own {
            Err(TooMany::Own(after)) => Err(Refused::UpgradesOfAddress(after)),
            Err(TooMany::Keys(after)) => Err(Refused::Addresses(after)),
            Ok(()) => upgrades.all.take(1, limits.upgrades, now).map_err(Refused::Upgrades),
        };
        drop(upgrades);
        taken.map_err(Refused::counted)
    }

    /// One more connection of a subject.
    pub(crate) fn subject(&self, subject: &Arc<str>) -> Result<SubjectPlace, Refused> {
        let limits = &self.0.limits;
        if !lock(&self.0.subjects).take(subject.clone(), limits.connections_per_subject) {
            return Err(Refused::Subject(limits.retry_after).counted());
        }
        Ok(SubjectPlace { admission: self.clone(), subject: subject.clone() })
    }

    /// Addresses and subjects that have anything.
    #[cfg(test)]
    fn counted(&self) -> (usize, usize) {
        (lock(&self.0.addresses).len(), lock(&self.0.subjects).len())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic under this lock")
}

/// For [`Used`]: enough for centuries.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Drop for Place {
    fn drop(&mut self) {
        let Inner { connections, addresses, .. } = &*self.admission.0;
        if let Some(address) = &self.address {
            lock(addresses).give(address);
        }
        if self.in_all {
            connections.fetch_sub(1, Ordering::Relaxed);
            metrics::gauge!("fanout_door_connections").decrement(1);
        }
    }
}

impl Drop for SubjectPlace {
    fn drop(&mut self) {
        lock(&self.admission.0.subjects).give(&*self.subject);
    }
}

impl Block {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

impl Refused {
    /// For metrics.
    pub(crate) fn limit(self) -> &'static str {
        match self {
            Self::Full(_) => "connections",
            Self::Address(_) => "connections_per_address",
            Self::Subject(_) => "connections_per_subject",
            Self::Upgrades(_) => "upgrades",
            Self::UpgradesOfAddress(_) => "upgrades_per_address",
            Self::Addresses(_) => "addresses",
        }
    }

    fn counted(self) -> Self {
        metrics::counter!("fanout_door_refused_total", "limit" => self.limit()).increment(1);
        self
    }

    fn after(self) -> Duration {
        match self {
            Self::Full(after)
            | Self::Address(after)
            | Self::Subject(after)
            | Self::Upgrades(after)
            | Self::UpgradesOfAddress(after)
            | Self::Addresses(after) => after,
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// `Retry-After`, in whole seconds.
    pub(crate) fn retry_after(self) -> u64 {
        let after = self.after();
        (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
    }

    pub(crate) fn response<B: From<String>>(self) -> Response<B> {
        let mut response = Response::new(B::from(format!("{self}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(RETRY_AFTER, self.retry_after().into());
        response
    }

    /// Where it is known only after the upgrade.
    pub(crate) fn close(self) -> Close {
        Close::RateLimited { after: self.after() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(change: impl FnOnce(&mut AdmissionLimits)) -> Admission {
        let mut limits = AdmissionLimits::default();
        change(&mut limits);
        Admission::new(limits)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_taken_and_given_back() {
        let admission = admission(|limits| {
            (limits.connections, limits.connections_per_address) = (3, 2);
        });
        let from = |address| admission.connection(Some(ip(address)));
        let (a, b) = (from("192.0.2.1").unwrap(), from("192.0.2.1").unwrap());
        assert_eq!(from("192.0.2.1").unwrap_err().limit(), "connections_per_address");
        assert_eq!(admission.connections(), 2, "what was refused is given back");
        let c = from("::ffff:192.0.2.2").unwrap();
        assert_eq!(from("192.0.2.3").unwrap_err().limit(), "connections");
        drop(a);
        let d = from("192.0.2.1").unwrap();
        drop((b, c, d));
        assert_eq!((admission.connections(), admission.counted()), (0, (0, 0)));
    }

    #[test]
    fn an_address_of_version_six_is_its_network() {
        let admission = admission(|limits| limits.connections_per_address = 1);
        let from = |address| admission.client(ip(address));
        let _held = from("2001:db8:1:2::1").unwrap();
        assert!(from("2001:db8:1:2:ffff::2").is_err());
        assert!(from("2001:db8:1:3::1").is_ok());
        let _mapped = from("::ffff:192.0.2.1").unwrap();
        assert!(from("192.0.2.1").is_err());
        assert_eq!(admission.connections(), 0, "those of clients behind a proxy are the proxy's");
    }

    #[test]
    fn subjects_have_so_many() {
        let admission = admission(|limits| limits.connections_per_subject = 1);
        let held = admission.subject(&"ann".into()).unwrap();
        let refused = admission.subject(&"ann".into()).unwrap_err();
        assert_eq!(refused.close(), Close::RateLimited { after: Duration::from_secs(5) });
        assert!(admission.subject(&"bob".into()).is_ok());
        drop(held);
        assert!(admission.subject(&"ann".into()).is_ok());
        assert_eq!(admission.counted(), (0, 0));
    }

    #[test]
    fn one_address_does_not_use_up_what_is_for_all() {
        let admission = admission(|limits| {
            limits.upgrades = Rate::new(1, 10);
            limits.upgrades_per_address = Rate::new(1, 5);
        });
        let from = |address| admission.upgrade(Some(ip(address))).map_err(Refused::limit);
        for _ in 0..5 {
            assert_eq!(from("192.0.2.1"), Ok(()));
        }
        for _ in 0..100 {
            assert_eq!(from("192.0.2.1"), Err("upgrades_per_address"));
        }
        for _ in 0..5 {
            assert_eq!(from("192.0.2.2"), Ok(()));
        }
        assert_eq!(from("192.0.2.3"), Err("upgrades"));
        assert!(admission.upgrade(None).is_err(), "without an address, what is for all counts");
    }

    #[test]
    fn a_refusal_says_when_in_whole_seconds() {
        for (ms, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (60_000, "60")] {
            let refused = Refused::Upgrades(Duration::from_millis(ms));
            let response: Response<String> = refused.response();
            assert_eq!(response.status(), 429);
            assert_eq!(response.headers()["retry-after"], seconds);
        }
        let full: Response<String> = Refused::Full(Duration::ZERO).response();
        assert_eq!(full.status(), 503);
    }
}
