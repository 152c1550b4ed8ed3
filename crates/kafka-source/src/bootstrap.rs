//! Brokers that the client has forgotten.
//!
//! A broker that is starting may answer before it has joined its own cluster, and then
//! names no broker at all. librdkafka drops every broker that such an answer does not
//! name, the one that gave it included, and is left with nobody to ask, for ever
//! (confluentinc/librdkafka#5301, still so in 2.12). Telling it the addresses that it was
//! started with once more is all it takes.

use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::bindings::{rd_kafka_brokers_add, rd_kafka_conf, rd_kafka_conf_get};
use rdkafka::client::Client;
use rdkafka::types::RDKafkaConfRes;

const FIRST_WAIT: Duration = Duration::from_secs(2);
/// librdkafka keeps each list that it is told: a hundred kilobytes a day, at this.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Tells a client its brokers again while it reaches none, less and less often.
///
/// For clients of one's own, such as a producer beside a
/// [`KafkaSource`](crate::KafkaSource), which has one itself.
///
/// ```no_run
/// use kafka_source::Bootstrap;
/// use kafka_source::rdkafka::ClientConfig;
/// use kafka_source::rdkafka::producer::{FutureProducer, Producer};
///
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = ClientConfig::new();
/// let producer: FutureProducer = config.set("bootstrap.servers", "kafka:9092").create()?;
/// let mut bootstrap = Bootstrap::default();
/// // Each time nothing could be written:
/// bootstrap.failed(producer.client());
/// // Each time something was:
/// bootstrap.worked();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Bootstrap {
    /// When it is told next, and how long the wait was.
    next: Option<(Instant, Duration)>,
}

impl Bootstrap {
    /// Nobody was reached, once more.
    pub fn failed<C: ClientContext>(&mut self, client: &Client<C>) {
        if self.is_due(Instant::now()) {
            tell(client);
        }
    }

    /// Somebody was reached.
    pub fn worked(&mut self) {
        self.next = None;
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let (due, wait) = match self.next {
            // It may well reconnect by itself.
            None => (false, FIRST_WAIT),
            Some((next, _)) if now < next => return false,
            Some((_, wait)) => (true, (wait * 2).min(MAX_WAIT)),
        };
        self.next = Some((now + wait, wait));
        due
    }
}

/// Tells a client the addresses that it was started with; those it knows stay as they
/// are.
#[expect(unsafe_code, reason = "the binding has no safe form")]
fn tell<C: ClientContext>(client: &Client<C>) {
    let Some(brokers) = brokers(client) else { return };
    // SAFETY: the client outlives the call because it is borrowed; the list is terminated
    // and copied.
    let known = unsafe { rd_kafka_brokers_add(client.native_ptr(), brokers.as_ptr()) };
    tracing::debug!(known, "told the client its brokers again");
}

/// `bootstrap.servers` of a running client.
#[expect(unsafe_code, reason = "the binding has no safe form")]
fn brokers<C: ClientContext>(client: &Client<C>) -> Option<CString> {
    const NAME: &CStr = c"bootstrap.servers";
    let get = |into: *mut std::ffi::c_char, len: &mut usize| {
        // SAFETY: the configuration is the client's, which is borrowed, and only read; the
        // name is terminated; at most `len` bytes are written, none where `into` is null.
        let result = unsafe {
            rd_kafka_conf_get(rd_kafka_conf(client.native_ptr()), NAME.as_ptr(), into, len)
        };
        result == RDKafkaConfRes::RD_KAFKA_CONF_OK
    };
    let mut len = 0;
    if !get(std::ptr::null_mut(), &mut len) || len == 0 {
        return None;
    }
    let mut bytes = vec![0_u8; len];
    get(bytes.as_mut_ptr().cast(), &mut len)
        .then(|| CStr::from_bytes_until_nul(&bytes).map(CStr::to_owned).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::producer::{FutureProducer, Producer as _};

    use super::*;

    #[test]
    fn a_client_knows_what_it_was_started_with() {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", "127.0.0.1:1,127.0.0.1:2")
            .create()
            .unwrap();
        let told = brokers(producer.client()).unwrap();
        assert_eq!(told.to_str(), Ok("127.0.0.1:1,127.0.0.1:2"));
        tell(producer.client());
    }

    #[test]
    fn it_is_told_less_and_less_often_while_nobody_is_reached() {
        let start = Instant::now();
        let mut bootstrap = Bootstrap::default();
        let hour = (0..3600).map(|second| start + Duration::from_secs(second));
        let told: Vec<u64> = hour
            .filter(|now| bootstrap.is_due(*now))
            .map(|now| now.duration_since(start).as_secs())
            .collect();
        assert_eq!(told[..5], [2, 6, 14, 30, 60]);
        assert!(told.windows(2).all(|pair| pair[1] - pair[0] <= 30), "{told:?}");

        bootstrap.worked();
        let later = start + Duration::from_secs(4000);
        assert!(!bootstrap.is_due(later), "it may reconnect by itself");
        assert!(bootstrap.is_due(later + FIRST_WAIT));
    }
}
