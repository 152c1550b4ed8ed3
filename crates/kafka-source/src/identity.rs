//! Which log a topic is.
//!
//! Offsets mean nothing in another log, so a lane says which one it is in: the cluster, and
//! the id that Kafka gave the topic when it was made (KIP-516). A topic that is deleted
//! and made again under its name is another log by that.
//!
//! Every node has to come to the same: what decides is what the broker can tell, never
//! how long it took. A broker that is too old for ids says so in its answer, and the
//! cluster alone stands for the log then; one that does not answer is asked again.
//!
//! The client has these ids only in its administration's answer to "describe this topic",
//! which is the same request as for metadata and needs no other right.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings::{
    rd_kafka_AdminOptions_destroy, rd_kafka_AdminOptions_new, rd_kafka_AdminOptions_set_broker,
    rd_kafka_AdminOptions_set_request_timeout, rd_kafka_DescribeTopics,
    rd_kafka_DescribeTopics_result_topics, rd_kafka_TopicCollection_destroy,
    rd_kafka_TopicCollection_of_topic_names, rd_kafka_TopicDescription_error,
    rd_kafka_TopicDescription_topic_id, rd_kafka_Uuid_least_significant_bits,
    rd_kafka_Uuid_most_significant_bits, rd_kafka_admin_op_t, rd_kafka_error_code,
    rd_kafka_event_DescribeTopics_result, rd_kafka_event_destroy, rd_kafka_event_error,
    rd_kafka_queue_destroy, rd_kafka_queue_new, rd_kafka_queue_poll,
};
use rdkafka::client::Client;
use rdkafka::error::{IsError as _, KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataBroker};

use crate::config::KafkaConfig;

/// How much longer than the request itself its answer is waited for.
const SLACK: Duration = Duration::from_secs(1);

/// Which log a topic is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// What [`Lane::log`](fanout::Lane::log) is.
    pub(crate) name: Arc<str>,
    /// The topic's own id, where it was asked for and the broker has such.
    pub(crate) id: Option<u128>,
}

impl Log {
    /// Whether it is certain that `self` has taken the place of `known`.
    pub(crate) fn replaces(&self, known: &Self) -> bool {
        // A broker that tells no id, in a cluster where another did, is no witness.
        self.id.is_some() && known.id.is_some() && self.id != known.id
    }
}

/// Why it is not known which log a topic is. Asking again may help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unidentified {
    #[error("the broker tells no cluster id; set `log_identity`")]
    NoCluster,
    #[error("topic `{topic}` has no known id: {source}")]
    NoAnswer { topic: String, source: KafkaError },
}

/// Finds out which log a topic is.
#[derive(Debug)]
pub(crate) struct Identity {
    /// What stands for it by configuration: nobody is asked then.
    given: Option<Arc<str>>,
    cluster: Option<String>,
}

impl Identity {
    pub(crate) fn new(config: &KafkaConfig) -> Self {
        Self { given: config.log_identity.as_deref().map(Into::into), cluster: None }
    }

    /// Which log the topic of this name is now, after `metadata` has told of it.
    pub(crate) fn of<C: ClientContext>(
        &mut self,
        client: &Client<C>,
        topic: &str,
        metadata: &Metadata,
        timeout: Duration,
    ) -> Result<Log, Unidentified> {
        if let Some(given) = &self.given {
            return Ok(Log { name: given.clone(), id: None });
        }
        if self.cluster.is_none() {
            // It came with the metadata: this does not wait.
            self.cluster = client.fetch_cluster_id(timeout);
        }
        let cluster = self.cluster.as_ref().ok_or(Unidentified::NoCluster)?;
        // The one that has just answered. By its bootstrap address alone it has no number
        // yet: then the first that is named.
        let first = metadata.brokers().first().map(MetadataBroker::id);
        let broker = Some(metadata.orig_broker_id()).filter(|id| *id >= 0).or(first);
        let id = topic_id(client, topic, broker, timeout)
            .map_err(|source| Unidentified::NoAnswer { topic: topic.to_owned(), source })?;
        let name = match id {
            Some(id) => format!("{cluster}/{id:032x}").into(),
            None => cluster.as_str().into(),
        };
        Ok(Log { name, id })
    }
}

/// The id of a topic, `None` where the broker is too old to have any.
///
/// Asks this broker: by itself the client would wait for the controller, which is no better
/// a judge.
#[expect(unsafe_code, reason = "the binding has no safe form")]
fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    broker: Option<i32>,
    timeout: Duration,
) -> Result<Option<u128>, KafkaError> {
    let failed = KafkaError::AdminOp;
    let name = CString::new(topic)?;
    let mut names = [name.as_ptr()];
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let patience = timeout.saturating_add(SLACK).as_millis();
    let patience = i32::try_from(patience).unwrap_or(i32::MAX);
    let rk = client.native_ptr();
    // SAFETY: the client is borrowed and outlives everything made of it here; what is made
    // is checked for null and freed once, by its own function, in the reverse order; the
    // name outlives the list, which copies it; what belongs to the event is read only
    // while it lives.
    unsafe {
        let topics = rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = Owned::new(topics, rd_kafka_TopicCollection_destroy)?;
        let op = rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = Owned::new(rd_kafka_AdminOptions_new(rk, op), rd_kafka_AdminOptions_destroy)?;
        let none = std::ptr::null_mut();
        let set = rd_kafka_AdminOptions_set_request_timeout(options.ptr(), millis, none, 0);
        if set.is_error() {
            return Err(failed(set.into()));
        }
        if let Some(broker) = broker {
            let set = rd_kafka_AdminOptions_set_broker(options.ptr(), broker, none, 0);
            if set.is_error() {
                return Err(failed(set.into()));
            }
        }
        let queue = Owned::new(rd_kafka_queue_new(rk), rd_kafka_queue_destroy)?;
        rd_kafka_DescribeTopics(rk, topics.ptr(), options.ptr(), queue.ptr());
        let event = rd_kafka_queue_poll(queue.ptr(), patience);
        let event = NonNull::new(event).ok_or(failed(RDKafkaErrorCode::OperationTimedOut))?;
        let event = Owned { ptr: event, destroy: rd_kafka_event_destroy };
        match RDKafkaErrorCode::from(rd_kafka_event_error(event.ptr())) {
            RDKafkaErrorCode::NoError => {}
            RDKafkaErrorCode::UnsupportedFeature => return Ok(None),
            code => return Err(failed(code)),
        }
        let result = rd_kafka_event_DescribeTopics_result(event.ptr());
        if result.is_null() {
            return Err(failed(RDKafkaErrorCode::BadMessage));
        }
        let mut count = 0;
        let described = rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count != 1 || described.is_null() {
            return Err(failed(RDKafkaErrorCode::BadMessage));
        }
        let error = rd_kafka_TopicDescription_error(*described);
        let code = rd_kafka_error_code(error);
        if code.is_error() {
            return Err(failed(code.into()));
        }
        let id = rd_kafka_TopicDescription_topic_id(*described);
        if id.is_null() {
            return Ok(None);
        }
        let half = |bits: i64| u128::from(u64::from_ne_bytes(bits.to_ne_bytes()));
        let id = half(rd_kafka_Uuid_most_significant_bits(id)) << 64
            | half(rd_kafka_Uuid_least_significant_bits(id));
        // Zero is what the answer holds where the broker's version has no ids.
        Ok((id != 0).then_some(id))
    }
}

/// What librdkafka made, freed at the end.
struct Owned<T> {
    ptr: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(ptr: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Result<Self, KafkaError> {
        let none = KafkaError::AdminOpCreation("out of memory".into());
        Ok(Self { ptr: NonNull::new(ptr).ok_or(none)?, destroy })
    }

    fn ptr(&self) -> *mut T {
        self.ptr.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    #[expect(unsafe_code, reason = "the binding has no safe form")]
    fn drop(&mut self) {
        // SAFETY: it was made by librdkafka, is freed by the function that belongs to it,
        // and by nobody else.
        unsafe { (self.destroy)(self.ptr.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::config::FromClientConfigAndContext as _;
    use rdkafka::consumer::Consumer as _;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::RDKafkaRespErr;

    use super::*;
    use crate::context::{Consumer, Context};

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn consumer(config: &KafkaConfig) -> Consumer {
        let client = config.client().unwrap();
        Consumer::from_config_and_context(&client, Context::new()).unwrap()
    }

    fn log(name: &str, id: Option<u128>) -> Log {
        Log { name: name.into(), id }
    }

    #[test]
    fn only_another_id_is_another_log() {
        assert!(log("c/2", Some(2)).replaces(&log("c/1", Some(1))));
        assert!(!log("c/1", Some(1)).replaces(&log("c/1", Some(1))));
        assert!(!log("c", None).replaces(&log("c/1", Some(1))), "it cannot tell");
        assert!(!log("c/1", Some(1)).replaces(&log("c", None)), "it could not tell");
    }

    /// A broker with the topics `t` and `u`, and what reads from it.
    fn broker() -> (MockCluster<'static, DefaultProducerContext>, KafkaConfig) {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", 1, 1).unwrap();
        cluster.create_topic("u", 1, 1).unwrap();
        let config = KafkaConfig::new(cluster.bootstrap_servers()).topic("t");
        (cluster, config)
    }

    #[test]
    fn all_who_ask_are_told_the_same_and_each_topic_is_another_log() {
        let (_cluster, config) = broker();
        let ask = |topic| {
            let consumer = consumer(&config);
            let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).unwrap();
            Identity::new(&config).of(consumer.client(), topic, &metadata, TIMEOUT).unwrap()
        };
        let (t, u) = (ask("t"), ask("u"));
        assert_eq!(t, ask("t"));
        assert!(t.name != u.name && u.replaces(&t), "{t:?} {u:?}");
        assert_eq!(t.name.split_once('/').unwrap().0, u.name.split_once('/').unwrap().0);
    }

    #[test]
    fn what_is_refused_is_no_identity() {
        let (cluster, config) = broker();
        let consumer = consumer(&config);
        let metadata = consumer.fetch_metadata(Some("t"), TIMEOUT).unwrap();
        let mut identity = Identity::new(&config);
        identity.of(consumer.client(), "t", &metadata, TIMEOUT).unwrap();
        cluster
            .topic_error("t", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
            .unwrap();
        let refused = identity.of(consumer.client(), "t", &metadata, TIMEOUT).unwrap_err();
        let refused = refused.to_string();
        assert!(refused.contains("topic `t` has no known id"), "{refused}");
        assert!(refused.to_lowercase().contains("authorization"), "{refused}");
    }

    #[test]
    fn what_is_given_is_asked_of_nobody() {
        let (_cluster, config) = broker();
        let metadata = consumer(&config).fetch_metadata(Some("t"), TIMEOUT).unwrap();
        let nowhere = KafkaConfig::new("127.0.0.1:1").topic("t").log_identity("mine");
        let consumer = consumer(&nowhere);
        let mut identity = Identity::new(&nowhere);
        let asked = identity.of(consumer.client(), "t", &metadata, Duration::ZERO);
        assert_eq!(asked.unwrap(), log("mine", None));
    }
}
