//! Topics that the server needs: made where they are missing, and the control topic is looked
//! at where somebody else has made it.
//!
//! A control topic that forgets what it was told is no failure that anybody sees: who was
//! revoked gets in again, on the servers that start later. So it is said, with what to set. No
//! server refuses to work because of it: those that run have read what was said, whoever may
//! change the topic does so without a restart, and a shop that is away for it helps nobody.

use std::time::Duration;

use fanout::{SourceHealth, SourceStatus};
use kafka_source::rdkafka::ClientConfig;
use kafka_source::rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use kafka_source::rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{NewTopics, PATIENCE, Quiet};
use crate::record::topics::ALL;

/// The control topic's records are kept for so long beyond what is remembered of them.
const SPARE: Duration = Duration::from_secs(24 * 3600);

/// What all revocations that are remembered take at most: 100,000 of a kibibyte.
const LEAST_BYTES: i64 = 100_000 << 10;

/// Between two tries.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// The topic that all servers are told something by.
#[derive(Clone, Debug)]
pub struct ControlTopic {
    /// Its name.
    pub name: String,
    /// How long what it says counts: where it is created, it keeps its records for a day
    /// longer.
    pub life: Duration,
}

/// Creates what is missing, and says what is wrong with the control topic, as long as that is
/// read.
pub(super) async fn keep(
    client: &ClientConfig,
    new: NewTopics,
    control: &ControlTopic,
    mut said: SourceStatus,
) {
    let mut told = false;
    while let Err(problem) = create(client, new, control).await {
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(%problem, "topics not created yet; trying on");
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
    let mut told = None;
    while said.wait_for(SourceHealth::whole).await {
        match problems(client, control).await {
            Ok(found) => {
                if told.as_ref() != Some(&found) {
                    control.tell(&found);
                }
                told = Some(found);
                if !said.wait_for(|health| !health.whole()).await {
                    return;
                }
            }
            Err(problem) => {
                tracing::debug!(%problem, "control topic not looked at yet; trying on");
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }
}

/// Tries once. What the broker does not allow is not tried again: it may have the
/// topics, or somebody else creates them.
async fn create(
    client: &ClientConfig,
    new: NewTopics,
    control: &ControlTopic,
) -> Result<(), KafkaError> {
    let replication = || TopicReplication::Fixed(new.replication.into());
    let kept = control.kept();
    // A compacted topic would forget one revocation for the next.
    let control = NewTopic::new(&control.name, 1, replication())
        .set("cleanup.policy", "delete")
        .set("retention.ms", &kept)
        .set("retention.bytes", "-1");
    let events = ALL.map(|name| NewTopic::new(name, new.partitions.into(), replication()));
    let wanted: Vec<_> = events.into_iter().chain([control]).collect();
    let admin: AdminClient<Quiet> = client.create_with_context(Quiet)?;
    let created = admin.create_topics(&wanted, &options()).await;
    // Closing the client can block.
    tokio::task::spawn_blocking(move || drop(admin));
    for result in created? {
        match result {
            Ok(topic) => tracing::info!(topic, "topic created"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) if code == RDKafkaErrorCode::RequestTimedOut => {
                tracing::debug!(topic, "the broker is still creating it");
                return Err(KafkaError::AdminOp(code));
            }
            Err((topic, code)) => tracing::warn!(topic, %code, "topic not created"),
        }
    }
    Ok(())
}

/// What is wrong with the control topic, each with what to do.
async fn problems(client: &ClientConfig, topic: &ControlTopic) -> Result<Vec<String>, KafkaError> {
    use RDKafkaErrorCode::{ClusterAuthorizationFailed, TopicAuthorizationFailed};
    let admin: AdminClient<Quiet> = client.create_with_context(Quiet)?;
    let asked = [ResourceSpecifier::Topic(&topic.name)];
    let described = admin.describe_configs(&asked, &options()).await;
    tokio::task::spawn_blocking(move || drop(admin));
    match described?.pop() {
        Some(Ok(properties)) => Ok(topic.problems(|name| value(&properties, name))),
        Some(Err(code @ (ClusterAuthorizationFailed | TopicAuthorizationFailed))) => {
            let what = "it cannot be looked at, which takes the right to DescribeConfigs of it";
            Ok(vec![format!("{what} ({code}): see to its `cleanup.policy` and `retention.ms`")])
        }
        Some(Err(code)) => Err(KafkaError::AdminOp(code)),
        None => Ok(Vec::new()),
    }
}

fn value<'a>(properties: &'a ConfigResource, name: &str) -> Option<&'a str> {
    properties.get(name).and_then(|entry| entry.value.as_deref())
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))
}

impl ControlTopic {
    /// Its `retention.ms` where it is created.
    fn kept(&self) -> String {
        (self.life + SPARE).as_millis().to_string()
    }

    /// Why it would forget what still counts, by its properties. One that the broker does not
    /// tell is none of those that are wrong.
    fn problems<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(policy) = value("cleanup.policy").filter(|policy| policy.contains("compact")) {
            problems.push(format!(
                "its `cleanup.policy` is `{policy}`, by which it keeps one revocation for each \
                 key, and takes none without: set it to `delete`"
            ));
        }
        // -1 is without end.
        let number = |name| value(name).and_then(|n| n.parse().ok()).filter(|n: &i64| *n >= 0);
        let life = self.life.as_millis();
        if let Some(millis) = number("retention.ms").filter(|n| u128::from(n.unsigned_abs()) < life)
        {
            problems.push(format!(
                "its `retention.ms` is {millis}, and revocations count for {life} \
                 (--revocation-hours): set it to {} or more, or to -1",
                self.kept()
            ));
        }
        if let Some(bytes) = number("retention.bytes").filter(|n| *n < LEAST_BYTES) {
            problems.push(format!(
                "its `retention.bytes` is {bytes}, and revocations that count may take \
                 {LEAST_BYTES}: set it to that or more, or to -1"
            ));
        }
        problems
    }

    fn tell(&self, problems: &[String]) {
        let topic = &self.name;
        for problem in problems {
            tracing::warn!(topic, "revocations may be forgotten by the control topic: {problem}");
        }
        if problems.is_empty() {
            tracing::info!(topic, "the control topic keeps what it is told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(properties: &[(&str, &'static str)]) -> String {
        let topic = ControlTopic { name: "c".into(), life: Duration::from_secs(24 * 3600) };
        let value = |name: &str| properties.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        topic.problems(value).join("\n")
    }

    #[test]
    fn what_forgets_is_named_with_what_to_set() {
        let told = problems(&[("cleanup.policy", "compact,delete")]);
        assert!(told.contains("`cleanup.policy` is `compact,delete`"), "{told}");
        assert!(told.contains("set it to `delete`"), "{told}");
        let told = problems(&[("cleanup.policy", "delete"), ("retention.ms", "86399999")]);
        assert!(told.contains("`retention.ms` is 86399999, and revocations count for 86400000"));
        assert!(told.contains("set it to 172800000 or more"), "{told}");
        let told = problems(&[("retention.ms", "-1"), ("retention.bytes", "1048576")]);
        assert!(told.contains("`retention.bytes` is 1048576"), "{told}");
        assert_eq!(
            problems(&[("cleanup.policy", "compact"), ("retention.ms", "0")]).lines().count(),
            2
        );
    }

    #[test]
    fn what_keeps_for_long_enough_is_none() {
        for kept in ["86400000", "172800000", "-1", "9223372036854775807"] {
            let told = problems(&[
                ("cleanup.policy", "delete"),
                ("retention.ms", kept),
                ("retention.bytes", "-1"),
            ]);
            assert_eq!(told, "");
        }
        assert_eq!(problems(&[("retention.bytes", "102400000")]), "");
        assert_eq!(problems(&[]), "", "the broker does not tell");
    }
}
