//! What the server answers, as far as it is needed.

use std::fmt;

use serde::Deserialize;

/// An answer is an error or what was asked for.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Answer<T> {
    Refused { error: Refusal },
    Told(T),
}

impl<T> Answer<T> {
    pub(super) fn into_result(self) -> Result<T, Refusal> {
        match self {
            Self::Refused { error } => Err(error),
            Self::Told(told) => Ok(told),
        }
    }
}

/// Why the server does not do something.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    pub(super) code: u16,
    #[serde(default)]
    pub(super) err_code: u16,
    #[serde(default)]
    description: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = if self.err_code == 0 { self.code } else { self.err_code };
        write!(f, "{} ({code})", self.description)
    }
}

/// A stream.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct StreamInfo {
    /// When it was made.
    pub(crate) created: jiff::Timestamp,
    pub(crate) config: StreamConfig,
    state: StreamState,
    #[serde(default)]
    cluster: Cluster,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct StreamConfig {
    pub(crate) retention: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct StreamState {
    first_seq: u64,
    last_seq: u64,
}

/// Who has the stream, or the consumer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Cluster {
    leader: Option<String>,
    #[serde(default)]
    replicas: Vec<Replica>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Replica {
    name: String,
    #[serde(default)]
    current: bool,
    #[serde(default)]
    lag: u64,
}

impl StreamInfo {
    /// The oldest sequence that is kept; the end where there is none.
    pub(crate) fn first(&self) -> u64 {
        // A new stream tells zero, and begins with one.
        self.state.first_seq.clamp(1, self.end())
    }

    /// The sequence that is written next.
    pub(crate) fn end(&self) -> u64 {
        self.state.last_seq + 1
    }

    /// Whether a consumer with this leader has seen all that this tells of: it reads its own
    /// server's copy, which may be behind that of the stream's leader.
    pub(crate) fn is_seen_by(&self, consumer: &ConsumerInfo) -> bool {
        if self.cluster.replicas.is_empty() {
            return true;
        }
        let Some(reads) = &consumer.cluster.leader else { return false };
        self.cluster.leader.as_ref() == Some(reads)
            || self.cluster.replicas.iter().any(|r| r.name == *reads && r.current && r.lag == 0)
    }
}

/// A consumer.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct ConsumerInfo {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) config: ConsumerConfig,
    delivered: Delivered,
    /// Messages that are there for it and were not sent.
    pub(crate) num_pending: u64,
    /// Pulls that wait for messages.
    #[serde(default)]
    pub(crate) num_waiting: u64,
    #[serde(default)]
    cluster: Cluster,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct ConsumerConfig {
    #[serde(default)]
    pub(crate) filter_subjects: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Delivered {
    consumer_seq: u64,
}

impl ConsumerInfo {
    /// How many messages it has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.delivered.consumer_seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(first: u64, last: u64, cluster: &str) -> StreamInfo {
        let text = format!(
            r#"{{"type":"io.nats.jetstream.api.v1.stream_info_response","total":0,
            "config":{{"name":"S","retention":"limits","metadata":{{"_nats.ver":"2.15.1"}}}},
            "created":"2026-11-23T00:00:22.949560221Z",
            "state":{{"messages":0,"first_seq":{first},"first_ts":"0001-01-01T00:00:00Z","last_seq":{last}}}
            {cluster}}}"#
        );
        let answer: Answer<StreamInfo> = serde_json::from_str(&text).expect("an answer");
        answer.into_result().expect("no refusal")
    }

    fn consumer(leader: &str) -> ConsumerInfo {
        let text = format!(
            r#"{{"name":"c","delivered":{{"consumer_seq":5,"stream_seq":7}},"num_pending":0,
            "num_waiting":1{leader}}}"#
        );
        serde_json::from_str(&text).expect("a consumer")
    }

    #[test]
    fn a_stream_begins_with_one_and_ends_after_its_last() {
        let ends = |first, last| {
            let info = stream(first, last, "");
            (info.first(), info.end())
        };
        assert_eq!([ends(0, 0), ends(1, 5), ends(11, 10)], [(1, 1), (1, 6), (11, 11)]);
        assert_eq!(stream(0, 0, "").created.subsec_nanosecond(), 949_560_221);
    }

    #[test]
    fn a_refusal_is_told_apart() {
        let text =
            r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"},"total":0}"#;
        let answer: Answer<StreamInfo> = serde_json::from_str(text).expect("an answer");
        let refusal = answer.into_result().expect_err("a refusal");
        assert_eq!(refusal.to_string(), "stream not found (10059)");
        assert_eq!((refusal.code, refusal.err_code), (404, 10059));
    }

    #[test]
    fn a_copy_that_is_behind_has_not_seen_all() {
        let alone = stream(1, 9, r#","cluster":{"leader":"A"}"#);
        assert!(alone.is_seen_by(&consumer("")) && stream(1, 9, "").is_seen_by(&consumer("")));
        let several = stream(
            1,
            9,
            r#","cluster":{"leader":"A","replicas":[{"name":"B","current":true,"active":7},
            {"name":"C","current":true,"lag":3},{"name":"D","current":false}]}"#,
        );
        let seen =
            |name| several.is_seen_by(&consumer(&format!(r#","cluster":{{"leader":"{name}"}}"#)));
        assert_eq!(["A", "B", "C", "D", "E"].map(seen), [true, true, false, false, false]);
        assert!(!several.is_seen_by(&consumer("")), "nobody knows which");
    }
}
