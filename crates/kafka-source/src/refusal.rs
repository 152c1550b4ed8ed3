//! Why librdkafka refuses a configuration, without any property's value: that may be a
//! password, under a name that was misspelt.

use rdkafka::error::KafkaError;

use crate::config::ConfigError;

/// What librdkafka says where it was built without OpenSSL.
const NO_TLS: [&str; 3] =
    ["OpenSSL not available", "not available at build time", "recompile librdkafka with"];

/// What a client could not be made of, for clients of one's own as well.
impl From<KafkaError> for ConfigError {
    fn from(error: KafkaError) -> Self {
        let no_tls = |reason: &str| NO_TLS.iter().any(|words| reason.contains(words));
        match error {
            KafkaError::ClientConfig(_, reason, name, _) if no_tls(&reason) => {
                Self::NoTls { problem: format!("property `{name}`: {reason}") }
            }
            KafkaError::ClientConfig(_, reason, name, value) => {
                // Of some properties librdkafka repeats what it was given.
                let problem = reason.replace(&format!("\"{value}\""), "\"...\"");
                Self::Property { name, problem }
            }
            KafkaError::ClientCreation(problem) if no_tls(&problem) => Self::NoTls { problem },
            other => Self::Client(other),
        }
    }
}
