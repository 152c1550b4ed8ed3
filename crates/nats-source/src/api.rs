//! `JetStream`'s interface: questions, and what is known of a stream.
//!
//! Written out here, because the few requests that are needed are smaller than what the
//! client has for all of them, and because an answer is read for what is needed only:
//! whatever a server of another version leaves out or adds changes nothing.

mod answers;

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, Request, Subscriber};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::watch;

use answers::{Answer, Refusal};
pub(crate) use answers::{ConsumerInfo, StreamInfo};

use crate::config::Wanted;

const STREAM_NOT_FOUND: u16 = 10059;
const CONSUMER_NOT_FOUND: u16 = 10014;

/// How long the server keeps a consumer that nobody pulls from.
const CONSUMER_KEPT: Duration = Duration::from_secs(60);

/// Why a question has no answer. Asking again may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// The connection has ended.
    #[error("the connection has ended")]
    Ended,
    /// Nobody has answered.
    #[error("{0}")]
    Away(String),
    /// The server does not do it.
    #[error("{0}")]
    Refused(String),
}

/// What a connection is known to be worth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Whether it has ended.
    pub(crate) ended: bool,
    /// What the server said last was wrong.
    pub(crate) error: Option<String>,
}

/// Where a new consumer begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    Sequence(u64),
    Time(jiff::Timestamp),
}

/// One connection's questions.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    client: Client,
    prefix: String,
    timeout: Duration,
    said: watch::Receiver<Said>,
}

impl Api {
    pub(crate) fn new(
        client: Client,
        prefix: String,
        timeout: Duration,
        said: watch::Receiver<Said>,
    ) -> Self {
        Self { client, prefix, timeout, said }
    }

    /// Whether the connection has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.said.borrow().ended || self.said.has_changed().is_err()
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(&self) -> Trouble {
        let mut said = self.said.clone();
        // Its other end lives as long as the client.
        let _ = said.wait_for(|said| said.ended).await;
        Trouble::Ended
    }

    /// The stream, `None` where there is none.
    pub(crate) async fn stream(&self, name: &str) -> Result<Option<StreamInfo>, Trouble> {
        found(self.ask(&format!("STREAM.INFO.{name}"), None).await?, STREAM_NOT_FOUND)
    }

    /// The consumer, `None` where there is none.
    pub(crate) async fn consumer(
        &self,
        stream: &str,
        name: &str,
    ) -> Result<Option<ConsumerInfo>, Trouble> {
        let answer = self.ask(&format!("CONSUMER.INFO.{stream}.{name}"), None).await?;
        found(answer, CONSUMER_NOT_FOUND)
    }

    /// Makes a consumer that nobody else knows, that acknowledges nothing, and that the
    /// server forgets by itself.
    pub(crate) async fn make_consumer(
        &self,
        wanted: &Wanted,
        from: From,
    ) -> Result<ConsumerInfo, Trouble> {
        // Random, since nodes must not meet in one.
        let name = self.client.new_inbox().rsplit('.').next().unwrap_or_default().to_owned();
        let name = format!("fanout-{name}");
        let kept = u64::try_from(CONSUMER_KEPT.as_nanos()).unwrap_or(u64::MAX);
        let mut config = json!({
            "name": name,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": true,
            "num_replicas": 1,
            "inactive_threshold": kept,
        });
        match from {
            From::Sequence(sequence) => {
                config["deliver_policy"] = "by_start_sequence".into();
                config["opt_start_seq"] = sequence.into();
            }
            From::Time(time) => {
                config["deliver_policy"] = "by_start_time".into();
                config["opt_start_time"] = time.to_string().into();
                config["headers_only"] = true.into();
            }
        }
        let stream = &wanted.name;
        let mut subject = format!("CONSUMER.CREATE.{stream}.{name}");
        match &wanted.subjects[..] {
            [] => {}
            [one] => {
                config["filter_subject"] = one.as_str().into();
                subject = format!("{subject}.{one}");
            }
            several => config["filter_subjects"] = several.into(),
        }
        let question = json!({ "stream_name": &**stream, "config": config, "action": "create" });
        let made: ConsumerInfo =
            self.ask(&subject, Some(&question)).await?.map_err(|refusal| refused(&refusal))?;
        if wanted.subjects.len() > 1 && made.config.filter_subjects.len() != wanted.subjects.len() {
            self.drop_consumer(stream, &made.name).await;
            let why = "the server takes no more than one subject; it needs version 2.10";
            return Err(Trouble::Refused(why.into()));
        }
        Ok(made)
    }

    /// Drops a consumer; where that fails the server does it by itself, later.
    pub(crate) async fn drop_consumer(&self, stream: &str, name: &str) {
        let subject = format!("{}.CONSUMER.DELETE.{stream}.{name}", self.prefix);
        // Nobody waits for the answer, but a client that goes takes along what it has not
        // written.
        if self.client.publish(subject, Bytes::new()).await.is_ok() {
            let _ = self.client.flush().await;
        }
    }

    /// What a consumer is to send comes in here, and what is said of each pull.
    pub(crate) async fn inbox(&self) -> Result<(String, Subscriber), Trouble> {
        let inbox = self.client.new_inbox();
        let subscribed = self.client.subscribe(format!("{inbox}.*")).await;
        subscribed.map(|subscriber| (inbox, subscriber)).map_err(away)
    }

    /// Asks a consumer for messages, which come to `reply`.
    pub(crate) async fn pull(
        &self,
        stream: &str,
        consumer: &str,
        reply: String,
        pull: &impl Serialize,
    ) -> Result<(), Trouble> {
        let subject = format!("{}.CONSUMER.MSG.NEXT.{stream}.{consumer}", self.prefix);
        let question = serde_json::to_vec(pull).map_err(away)?;
        self.client.publish_with_reply(subject, reply, question.into()).await.map_err(away)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        subject: &str,
        question: Option<&serde_json::Value>,
    ) -> Result<Result<T, Refusal>, Trouble> {
        let subject = format!("{}.{subject}", self.prefix);
        let mut said = self.said.clone();
        if said.borrow_and_update().ended {
            return Err(Trouble::Ended);
        }
        let question = question.map(ToString::to_string).unwrap_or_default();
        let request = Request::new().payload(question.into()).timeout(Some(self.timeout));
        let answered = tokio::select! {
            answered = self.client.send_request(subject.clone(), request) => answered,
            trouble = denied(&mut said, &subject) => return Err(trouble),
        };
        match answered {
            Ok(answer) => match serde_json::from_slice::<Answer<T>>(&answer.payload) {
                Ok(answer) => Ok(answer.into_result()),
                Err(error) => {
                    Err(Trouble::Refused(format!("{subject}: the answer cannot be read: {error}")))
                }
            },
            Err(error) => Err(match error.kind() {
                RequestErrorKind::NoResponders => {
                    let why = "JetStream does not answer; is it enabled for this account?";
                    Trouble::Away(why.into())
                }
                RequestErrorKind::TimedOut => match &said.borrow().error {
                    // What was denied is never answered.
                    Some(error) => Trouble::Refused(format!("{subject}: no answer; {error}")),
                    None => Trouble::Away(format!("{subject}: no answer in {:?}", self.timeout)),
                },
                _ => away(error),
            }),
        }
    }
}

/// Waits until the server denies this question, or all answers, or the connection ends.
async fn denied(said: &mut watch::Receiver<Said>, subject: &str) -> Trouble {
    let subject = subject.to_lowercase();
    loop {
        if said.changed().await.is_err() {
            return std::future::pending().await;
        }
        let now = said.borrow_and_update().clone();
        if now.ended {
            return Trouble::Ended;
        }
        if let Some(error) = now.error {
            let words = error.to_lowercase();
            let ours = words.contains(&subject) || words.contains("for subscription");
            if words.contains("permissions violation") && ours {
                return Trouble::Refused(error);
            }
        }
    }
}

fn away(error: impl std::fmt::Display) -> Trouble {
    Trouble::Away(error.to_string())
}

fn refused(refusal: &Refusal) -> Trouble {
    Trouble::Refused(refusal.to_string())
}

fn found<T>(answer: Result<T, Refusal>, not_found: u16) -> Result<Option<T>, Trouble> {
    match answer {
        Ok(info) => Ok(Some(info)),
        Err(refusal) if refusal.err_code == not_found => Ok(None),
        // A cluster that elects a leader, an account without JetStream.
        Err(refusal) if refusal.code == 503 => Err(Trouble::Away(refusal.to_string())),
        Err(refusal) => Err(refused(&refusal)),
    }
}
