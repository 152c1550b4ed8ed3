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
//! which is the same request as for metadata and needs no other right. The same answer says
//! what the client may do with the topic: one that it may describe and not read looks well in
//! everything else that is asked, and nothing of it ever comes.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings::{
    rd_kafka_AclOperation_t, rd_kafka_AdminOptions_set_broker,
    rd_kafka_AdminOptions_set_include_authorized_operations, rd_kafka_DescribeTopics,
    rd_kafka_DescribeTopics_result_topics, rd_kafka_TopicCollection_destroy,
    rd_kafka_TopicCollection_of_topic_names, rd_kafka_TopicDescription_authorized_operations,
    rd_kafka_TopicDescription_error, rd_kafka_TopicDescription_name, rd_kafka_TopicDescription_t,
    rd_kafka_TopicDescription_topic_id, rd_kafka_Uuid_least_significant_bits,
    rd_kafka_Uuid_most_significant_bits, rd_kafka_admin_op_t, rd_kafka_error_code,
    rd_kafka_error_destroy, rd_kafka_event_DescribeTopics_result, rd_kafka_event_error,
};
use rdkafka::client::Client;
use rdkafka::error::{IsError as _, KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataBroker};

use crate::config::KafkaConfig;
use crate::native::{self, Owned};

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
    /// Those that may not be read, by the last answer.
    unreadable: Vec<String>,
}

impl Identity {
    pub(crate) fn new(config: &KafkaConfig) -> Self {
        Self {
            given: config.log_identity.as_deref().map(Into::into),
            cluster: None,
            unreadable: Vec::new(),
        }
    }

    /// Topics that were asked about last and may be described, not read. Nobody is asked where
    /// the log's name is given.
    pub(crate) fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// Which log each topic of these names is now, after `broker` has told of them.
    pub(crate) fn of<C: ClientContext>(
        &mut self,
        client: &Client<C>,
        topics: &[Arc<str>],
        broker: Option<i32>,
        timeout: Duration,
    ) -> Result<Identities, Unidentified> {
        if let Some(given) = &self.given {
            let log = || Log { name: given.clone(), id: None };
            return Ok(topics.iter().map(|topic| (topic.clone(), Ok(log()))).collect());
        }
        if topics.is_empty() {
            return Ok(Identities::new());
        }
        if self.cluster.is_none() {
            // It came with the metadata: this does not wait.
            self.cluster = client.fetch_cluster_id(timeout);
        }
        let cluster = self.cluster.as_ref().ok_or(Unidentified::NoCluster)?;
        self.unreadable.clear();
        let told = topic_ids(client, topics, broker, timeout)
            .map_err(|source| no_answer(&topics.join("`, `"), source))?;
        let denied = told.iter().filter(|(_, told)| told.as_ref().is_ok_and(|told| !told.readable));
        self.unreadable.extend(denied.map(|(name, _)| name.clone()));
        self.unreadable.sort_unstable();
        let mut ids: HashMap<_, _> =
            told.into_iter().map(|(name, told)| (name, told.map(|told| told.id))).collect();
        let log = |id: Option<u128>| {
            let name = match id {
                Some(id) => format!("{cluster}/{id:032x}").into(),
                None => cluster.as_str().into(),
            };
            Log { name, id }
        };
        let known = |topic: &Arc<str>| {
            let none = Err(KafkaError::AdminOp(RDKafkaErrorCode::UnknownTopicOrPartition));
            let id = ids.remove(&**topic).unwrap_or(none);
            (topic.clone(), id.map(log).map_err(|source| no_answer(topic, source)))
        };
        Ok(topics.iter().map(known).collect())
    }
}

/// Which log each topic is.
pub(crate) type Identities = HashMap<Arc<str>, Result<Log, Unidentified>>;

fn no_answer(topic: &str, source: KafkaError) -> Unidentified {
    Unidentified::NoAnswer { topic: topic.to_owned(), source }
}

/// The broker that has just answered. By its bootstrap address alone it has no number yet:
/// then the first that is named.
pub(crate) fn answerer(metadata: &Metadata) -> Option<i32> {
    let first = metadata.brokers().first().map(MetadataBroker::id);
    Some(metadata.orig_broker_id()).filter(|id| *id >= 0).or(first)
}

type TopicIds = HashMap<String, Result<Told, KafkaError>>;

/// What is told of a topic.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    /// `None` where the broker is too old to have any.
    id: Option<u128>,
    /// Whether it may be read; true where the broker does not say.
    readable: bool,
}

/// The ids of topics, and whether they may be read.
///
/// Asks this broker: by itself the client would wait for the controller, which is no better
/// a judge.
#[expect(unsafe_code, reason = "the binding has no safe form")]
fn topic_ids<C: ClientContext>(
    client: &Client<C>,
    topics: &[Arc<str>],
    broker: Option<i32>,
    timeout: Duration,
) -> Result<TopicIds, KafkaError> {
    let failed = KafkaError::AdminOp;
    let names: Result<Vec<_>, _> = topics.iter().map(|topic| CString::new(&**topic)).collect();
    let names = names?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    native::ask(
        client,
        rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        timeout,
        |question| {
            let none = std::ptr::null_mut();
            // SAFETY: the names outlive the list, which copies them; the list outlives the
            // call, which copies it; all of the question lives until it is answered.
            unsafe {
                let list =
                    rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
                let list = Owned::new(list, rd_kafka_TopicCollection_destroy)?;
                if let Some(broker) = broker {
                    let set = rd_kafka_AdminOptions_set_broker(question.options, broker, none, 0);
                    if set.is_error() {
                        return Err(failed(set.into()));
                    }
                }
                let (options, queue) = (question.options, question.queue);
                let refused = rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
                if !refused.is_null() {
                    let code = rd_kafka_error_code(refused);
                    rd_kafka_error_destroy(refused);
                    return Err(failed(code.into()));
                }
                rd_kafka_DescribeTopics(question.client, list.ptr(), options, queue);
            }
            Ok(())
        },
        |event| {
            // SAFETY: the event is alive, and all that is read belongs to it.
            unsafe {
                match RDKafkaErrorCode::from(rd_kafka_event_error(event)) {
                    RDKafkaErrorCode::NoError => {}
                    RDKafkaErrorCode::UnsupportedFeature => {
                        let told = || Told { id: None, readable: true };
                        let old = |topic: &Arc<str>| (topic.to_string(), Ok(told()));
                        return Ok(topics.iter().map(old).collect());
                    }
                    code => return Err(failed(code)),
                }
                let result = rd_kafka_event_DescribeTopics_result(event);
                if result.is_null() {
                    return Err(failed(RDKafkaErrorCode::BadMessage));
                }
                let mut count = 0;
                let described = rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
                if described.is_null() && count > 0 {
                    return Err(failed(RDKafkaErrorCode::BadMessage));
                }
                Ok((0..count).map(|nth| topic_id(*described.add(nth))).collect())
            }
        },
    )
}

/// # Safety
/// The description is alive.
#[expect(unsafe_code, reason = "the binding has no safe form")]
unsafe fn topic_id(
    described: *const rd_kafka_TopicDescription_t,
) -> (String, Result<Told, KafkaError>) {
    // SAFETY: what is read belongs to the description; its name is terminated.
    unsafe {
        let name = CStr::from_ptr(rd_kafka_TopicDescription_name(described));
        let name = name.to_string_lossy().into_owned();
        let error = rd_kafka_TopicDescription_error(described);
        let code = rd_kafka_error_code(error);
        if code.is_error() {
            return (name, Err(KafkaError::AdminOp(code.into())));
        }
        let mut count = 0;
        let may = rd_kafka_TopicDescription_authorized_operations(described, &raw mut count);
        let read = rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ;
        // None at all is what an answer holds that does not say: this one may be described.
        let readable = may.is_null() || count == 0 || (0..count).any(|nth| *may.add(nth) == read);
        let id = rd_kafka_TopicDescription_topic_id(described);
        if id.is_null() {
            return (name, Ok(Told { id: None, readable }));
        }
        let half = |bits: i64| u128::from(u64::from_ne_bytes(bits.to_ne_bytes()));
        let id = half(rd_kafka_Uuid_most_significant_bits(id)) << 64
            | half(rd_kafka_Uuid_least_significant_bits(id));
        // Zero is what the answer holds where the broker's version has no ids.
        (name, Ok(Told { id: (id != 0).then_some(id), readable }))
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::config::FromClientConfigAndContext as _;
    use rdkafka::consumer::Consumer as _;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

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

    /// Asks as the source does, with a client of its own.
    fn ask(
        config: &KafkaConfig,
        topics: &[&str],
        consumer: &Consumer,
    ) -> HashMap<Arc<str>, Result<Log, Unidentified>> {
        let metadata = consumer.fetch_metadata(None, TIMEOUT).unwrap();
        let topics: Vec<Arc<str>> = topics.iter().copied().map(Into::into).collect();
        let broker = answerer(&metadata);
        Identity::new(config).of(consumer.client(), &topics, broker, TIMEOUT).unwrap()
    }

    #[test]
    fn all_who_ask_are_told_the_same_and_each_topic_is_another_log() {
        let (_cluster, config) = broker();
        let ask = |topics: &[&str]| {
            let told = ask(&config, topics, &consumer(&config));
            topics.iter().map(|topic| told[*topic].as_ref().unwrap().clone()).collect::<Vec<_>>()
        };
        let both = ask(&["t", "u"]);
        let [t, u] = &both[..] else { panic!("{both:?}") };
        assert_eq!(&ask(&["t"])[0], t);
        assert!(t.name != u.name && u.replaces(t), "{t:?} {u:?}");
        assert_eq!(t.name.split_once('/').unwrap().0, u.name.split_once('/').unwrap().0);
    }

    #[test]
    fn a_broker_without_ids_has_its_cluster_stand_for_all_logs() {
        let (cluster, config) = broker();
        cluster.apiversion(RDKafkaApiKey::Metadata, Some(0), Some(9)).unwrap();
        let told = ask(&config, &["t", "u"], &consumer(&config));
        let (t, u) = (told["t"].as_ref().unwrap(), told["u"].as_ref().unwrap());
        assert!(t == u && t.id.is_none() && !t.name.is_empty(), "{told:?}");
    }

    #[test]
    fn what_is_refused_is_no_identity_and_no_harm_to_others() {
        let (cluster, config) = broker();
        let consumer = consumer(&config);
        assert!(ask(&config, &["t", "u"], &consumer).values().all(Result::is_ok));
        cluster
            .topic_error("t", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
            .unwrap();
        let mut told = ask(&config, &["t", "u", "none"], &consumer);
        assert!(told["u"].is_ok() && told["none"].is_err(), "{told:?}");
        let refused = told.remove("t").unwrap().unwrap_err().to_string();
        assert!(refused.contains("topic `t` has no known id"), "{refused}");
        assert!(refused.to_lowercase().contains("authorization"), "{refused}");
    }

    #[test]
    fn what_is_given_is_asked_of_nobody() {
        let nowhere = KafkaConfig::new("127.0.0.1:1").topic("t").log_identity("mine");
        let consumer = consumer(&nowhere);
        let mut identity = Identity::new(&nowhere);
        let asked = identity.of(consumer.client(), &["t".into()], None, Duration::ZERO);
        assert_eq!(asked.unwrap()["t"].as_ref().unwrap(), &log("mine", None));
    }
}
