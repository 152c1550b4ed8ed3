//! What librdkafka's errors mean: how much they say, and in words that tell what to do.
//!
//! Its own words begin with a broker's name and end with how long it took. Those of TLS and
//! authentication name neither the property that is wrong nor that trying on will not help;
//! they are followed by "broker transport failure" and "all brokers are down", which say less
//! and must not take their place. No value of a property is in any of them.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// How much an error says. One that says more is not replaced by one that says less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// That there is some trouble, such as that no broker is left.
    Some,
    /// What happened to a connection; it passes by itself.
    Connection,
    /// Somebody has to change something, here or at the broker.
    Refused,
}

/// An error of librdkafka's, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) weight: Weight,
    pub(crate) words: String,
}

impl Trouble {
    pub(crate) fn new(error: &KafkaError, reason: &str) -> Self {
        use RDKafkaErrorCode::{
            AllBrokersDown, Authentication, Resolve, SSL, SaslAuthenticationFailed,
            UnsupportedSASLMechanism,
        };
        let (broker, what) = split(reason);
        let (weight, advice) = match error.rdkafka_error_code() {
            Some(AllBrokersDown) => (Weight::Some, DOWN),
            Some(Authentication | SaslAuthenticationFailed | UnsupportedSASLMechanism) => {
                (Weight::Refused, login_advice(what))
            }
            Some(SSL) => (Weight::Refused, tls_advice(what)),
            Some(Resolve) => (Weight::Connection, RESOLVE),
            _ => (Weight::Connection, connection_advice(what)),
        };
        let broker = broker.map(|broker| format!("broker {broker}: ")).unwrap_or_default();
        let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
        Self { weight, words: format!("{broker}{what}{advice}") }
    }
}

/// It is all that librdkafka says of a broker that hangs up.
const DOWN: &str = "if the address is right, check the property `security.protocol`: a broker \
    that wants TLS or a password hangs up on who comes without";
const RESOLVE: &str = "check the address, and the names that the broker gives itself \
    (its `advertised.listeners`)";

fn login_advice(what: &str) -> &'static str {
    if what.contains("nsupported SASL mechanism") || what.contains("nsupported mechanism") {
        "set the property `sasl.mechanism` to one that the broker takes"
    } else {
        "check the properties `sasl.username`, `sasl.password` and `sasl.mechanism`, and the user \
         at the broker; it is tried on"
    }
}

fn tls_advice(what: &str) -> &'static str {
    let says = |any: &[&str]| any.iter().any(|one| what.contains(one));
    if says(&["mismatch"]) {
        "the broker's certificate is not for this name: connect by the name that is in it, or \
         give the broker one for this name"
    } else if says(&["expired", "not yet valid"]) {
        "renew the certificate, or set the clock"
    } else if says(&["wrong version number", "not a TLS", "packet length too long"]) {
        "that port does not speak TLS: check the address and the property `security.protocol`"
    } else if says(&["certificate required", "bad certificate", "handshake failure"]) {
        "the broker may ask for a certificate of ours: set the properties \
         `ssl.certificate.location` and `ssl.key.location`"
    } else if says(&["verify", "unknown ca", "self-signed", "self signed"]) {
        "set the property `ssl.ca.location` to the certificate (PEM) of the authority that signed \
         the broker's"
    } else {
        "check the property `security.protocol` and those that begin with `ssl.`"
    }
}

fn connection_advice(what: &str) -> &'static str {
    if what.contains("onnection refused") {
        "check the address, and that the broker runs"
    } else if what.contains("SSL") {
        "the broker may be restarting, or not speak TLS there: check the address and the property \
         `security.protocol`"
    } else if what.contains("Invalid response size") {
        "what answers there may be no Kafka, or speak TLS: check the address and the property \
         `security.protocol`"
    } else {
        ""
    }
}

/// The broker that an error is about, and what is left of its words without that and
/// without how long it took.
fn split(reason: &str) -> (Option<&str>, &str) {
    let named = reason.split_once(": ").and_then(|(name, rest)| {
        // Without TLS and password there is no protocol before it.
        let address = name.split_once("://").map_or(name, |(_, address)| address);
        // What follows is the broker's number, or where the name came from.
        let (address, _) = address.split_once('/')?;
        (address.contains(':') && !address.contains(' ')).then_some((address, rest))
    });
    let (broker, what) = match named {
        Some((broker, rest)) => (Some(broker), rest),
        None => (None, reason),
    };
    let took = what.rfind(" (after ").filter(|_| what.ends_with(')'));
    (broker, what[..took.unwrap_or(what.len())].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(code: RDKafkaErrorCode, reason: &str) -> Trouble {
        Trouble::new(&KafkaError::Global(code), reason)
    }

    #[test]
    fn a_refused_password_names_the_broker_and_the_properties() {
        let told = trouble(
            RDKafkaErrorCode::Authentication,
            "sasl_ssl://kafka-1:9093/bootstrap: SASL authentication error: Authentication failed \
             due to invalid credentials with SASL mechanism SCRAM-SHA-256 (after 312ms in state \
             AUTH_REQ, 3 identical error(s) suppressed)",
        );
        assert_eq!(told.weight, Weight::Refused);
        assert_eq!(
            told.words,
            "broker kafka-1:9093: SASL authentication error: Authentication failed due to invalid \
             credentials with SASL mechanism SCRAM-SHA-256; check the properties `sasl.username`, \
             `sasl.password` and `sasl.mechanism`, and the user at the broker; it is tried on"
        );
    }

    #[test]
    fn each_failure_of_tls_has_its_advice() {
        let cases = [
            ("certificate verify failed: broker certificate could not be verified", "ssl.ca.loc"),
            ("hostname mismatch: certificate verify failed", "not for this name"),
            ("error:0A00010B:SSL routines::wrong version number", "security.protocol"),
            ("tlsv13 alert certificate required", "ssl.certificate.location"),
            ("certificate has expired", "renew"),
            ("something else", "begin with `ssl.`"),
        ];
        for (what, advice) in cases {
            let told = trouble(RDKafkaErrorCode::SSL, &format!("ssl://b:1/1: {what} (after 5ms)"));
            assert_eq!(told.weight, Weight::Refused);
            assert!(told.words.contains(advice) && !told.words.contains("5ms"), "{}", told.words);
        }
    }

    #[test]
    fn what_has_another_form_is_left_as_it_is() {
        let all = trouble(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(all.weight, Weight::Some);
        assert!(all.words.starts_with("1/1 brokers are down; if the address is right"));
        let refused = trouble(
            RDKafkaErrorCode::BrokerTransportFailure,
            "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after \
             0ms in state CONNECT)",
        );
        assert!(refused.words.starts_with("broker 127.0.0.1:1: Connect to"), "{}", refused.words);
        for reason in ["", ": ", "://", "x://: ", "a b://c d: e", "(after "] {
            let told = trouble(RDKafkaErrorCode::BrokerTransportFailure, reason);
            assert_eq!(told.weight, Weight::Connection, "{reason}");
        }
    }
}
