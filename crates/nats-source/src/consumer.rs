//! A consumer of one's own, and the pulls that it is asked with.
//!
//! Nothing is acknowledged and nothing shared: the consumer is the server's note of how far
//! it has sent, known to one reader alone. What it sends can be lost on its way, so the
//! server numbers it: a number that is missing ends this consumer, and whoever reads makes
//! another at the sequence that is due. That is what NATS calls an ordered consumer.
//!
//! One pull at a time, bounded in messages and bytes. Not asking for the next one is the
//! backpressure: nothing is sent that was not asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Message, Subscriber};
use futures::{FutureExt as _, StreamExt as _};
use serde::Serialize;

use crate::api::{Api, ConsumerInfo, From, Trouble};
use crate::config::Wanted;
use crate::record::Place;

/// What the last word of a probe's subject begins with.
const PROBE: char = 'p';
/// How long the server keeps a pull that finds nothing.
const PULL: Duration = Duration::from_secs(30);

/// What is asked for at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// A pull, as the server reads it.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Pull {
    batch: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<usize>,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_wait: bool,
}

/// Why a consumer cannot be read on. Another one can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the consumer has to be made anew: {0}")]
pub(crate) struct Broken(String);

impl Broken {
    /// The server denies it.
    pub(crate) fn gone() -> Self {
        Self("the server knows it no more".into())
    }

    /// What it has sent does not come.
    pub(crate) fn stuck() -> Self {
        Self("what it has sent does not come".into())
    }
}

/// What was pulled, and what came of it.
#[derive(Debug)]
struct Pulls {
    bounds: Bounds,
    /// The number of the newest pull, from 1.
    number: u64,
    /// What is left to come of it; `None` where it has ended.
    left: Option<usize>,
    /// Messages that came of it.
    came: usize,
    /// Messages that came of all.
    received: u64,
    /// Whether the next message is too large to be asked for within the bounds.
    large: bool,
    /// The number of the newest probe, from 1.
    probes: u64,
    /// Whether it was answered: there was nothing, and all that was sent before has come.
    empty: bool,
}

impl Pulls {
    fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            number: 0,
            left: None,
            came: 0,
            received: 0,
            large: false,
            probes: 0,
            empty: false,
        }
    }

    /// The next pull, where none is waiting.
    fn next(&mut self) -> Option<Pull> {
        if self.left.is_some() {
            return None;
        }
        let Bounds { messages, bytes } = self.bounds;
        let (batch, max_bytes) = if self.large { (1, None) } else { (messages, Some(bytes)) };
        self.number += 1;
        (self.left, self.came) = (Some(batch), 0);
        let expires = u64::try_from(PULL.as_nanos()).ok();
        Some(Pull { batch, max_bytes, expires, no_wait: false })
    }

    /// A pull that is answered at once, where there is nothing.
    fn probe(&mut self) -> Pull {
        self.probes += 1;
        self.empty = false;
        Pull { batch: 1, max_bytes: None, expires: None, no_wait: true }
    }

    /// Notes that the consumer's message of this number has come.
    fn message(&mut self, number: u64) -> Result<(), Broken> {
        let due = self.received + 1;
        if number != due {
            return Err(Broken(format!("message {number} came where {due} was due")));
        }
        self.received = number;
        self.large = false;
        self.came += 1;
        self.left = self.left.map(|left| left - 1).filter(|left| *left > 0);
        Ok(())
    }

    /// Notes what the server says of a pull.
    fn said(&mut self, pull: &str, code: u16, words: &str) -> Result<(), Broken> {
        if let Some(probe) = pull.strip_prefix(PROBE) {
            self.empty |= code == 404 && probe.parse() == Ok(self.probes);
            return Ok(());
        }
        let current = pull.parse() == Ok(self.number);
        match code {
            100 => return Ok(()),
            404 | 408 => {}
            409 if words.to_lowercase().contains("message size exceeds") => {
                self.large |= current && self.came == 0;
            }
            503 => return Err(Broken::gone()),
            _ => return Err(Broken(format!("{words} ({code})"))),
        }
        if current {
            self.left = None;
        }
        Ok(())
    }
}

/// A consumer of one stream.
pub(crate) struct Consumer {
    api: Api,
    stream: Arc<str>,
    pub(crate) name: String,
    inbox: String,
    messages: Subscriber,
    pulls: Pulls,
    pulled: Instant,
}

impl Consumer {
    /// Makes one that begins at `from`.
    pub(crate) async fn make(
        api: &Api,
        wanted: &Wanted,
        from: From,
        bounds: Bounds,
    ) -> Result<Self, Trouble> {
        let (inbox, messages) = api.inbox().await?;
        let made = api.make_consumer(wanted, from).await?;
        Ok(Self {
            api: api.clone(),
            stream: wanted.name.clone(),
            name: made.name,
            inbox,
            messages,
            pulls: Pulls::new(bounds),
            pulled: Instant::now(),
        })
    }

    /// Asks for more, where nothing is waited for.
    pub(crate) async fn pull(&mut self) -> Result<(), Trouble> {
        let Some(pull) = self.pulls.next() else { return Ok(()) };
        self.pulled = Instant::now();
        let reply = format!("{}.{}", self.inbox, self.pulls.number);
        self.api.pull(&self.stream, &self.name, reply, &pull).await
    }

    /// Asks whether there is anything. Where there is not, the answer comes behind all that
    /// was sent before; see [`take_empty`](Self::take_empty).
    ///
    /// What the server tells of a consumer is no such answer: it comes by another way, and
    /// counts what was sent somewhat later.
    pub(crate) async fn probe(&mut self) -> Result<(), Trouble> {
        let probe = self.pulls.probe();
        let reply = format!("{}.{PROBE}{}", self.inbox, self.pulls.probes);
        self.api.pull(&self.stream, &self.name, reply, &probe).await
    }

    /// Whether the newest probe has found nothing: all that there was when it was asked for
    /// has come. True once.
    pub(crate) fn take_empty(&mut self) -> bool {
        std::mem::take(&mut self.pulls.empty)
    }

    /// The next message; `None` where more has to be asked for first, or a probe was
    /// answered.
    ///
    /// # Cancel safety
    /// No message is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<(Place, Message)>, Broken> {
        while self.pulls.left.is_some() && !self.pulls.empty {
            let message = self.messages.next().await;
            let message = message.ok_or_else(|| Broken("the connection has ended".into()))?;
            if let Some(taken) = self.sort(message)? {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    /// The next message, if it is there already.
    pub(crate) fn next_now(&mut self) -> Result<Option<(Place, Message)>, Broken> {
        while let Some(Some(message)) = self.messages.next().now_or_never() {
            if let Some(taken) = self.sort(message)? {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    fn sort(&mut self, message: Message) -> Result<Option<(Place, Message)>, Broken> {
        if let Some(place) = message.reply.as_deref().and_then(Place::parse) {
            self.pulls.message(place.number)?;
            return Ok(Some((place, message)));
        }
        let pull = message.subject.rsplit('.').next().unwrap_or_default();
        let code = message.status.map_or(0, |status| status.as_u16());
        let words = message.description.as_deref().unwrap_or_default();
        self.pulls.said(pull, code, words).map(|()| None)
    }

    /// What has come: the number of the newest pull and of the newest message.
    pub(crate) fn heard(&self) -> (u64, u64) {
        (self.pulls.number, self.pulls.received)
    }

    /// Whether it has sent what has not come, or forgotten what it was asked for.
    pub(crate) fn is_behind(&self, info: &ConsumerInfo) -> bool {
        let forgotten = self.pulls.left.is_some() && info.num_waiting == 0;
        info.sent() > self.pulls.received || forgotten
    }

    /// Whether the connection has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.api.has_ended()
    }

    /// Drops it at the server, now rather than later.
    pub(crate) async fn drop(self) {
        self.api.drop_consumer(&self.stream, &self.name).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulls(messages: usize) -> Pulls {
        Pulls::new(Bounds { messages, bytes: 100 })
    }

    #[test]
    fn one_pull_at_a_time() {
        let mut pulls = pulls(2);
        let pull = pulls.next().expect("the first");
        let text = serde_json::to_string(&pull).unwrap();
        assert_eq!(text, r#"{"batch":2,"max_bytes":100,"expires":30000000000}"#);
        assert_eq!(pulls.next(), None);
        pulls.message(1).unwrap();
        assert_eq!(pulls.next(), None, "one is left of it");
        pulls.message(2).unwrap();
        assert!(pulls.next().is_some() && pulls.next().is_none());
    }

    #[test]
    fn a_number_that_is_missing_or_comes_twice_ends_it() {
        for (before, number) in [(0, 2), (2, 2), (2, 4), (2, 1)] {
            let mut pulls = pulls(9);
            pulls.next();
            (1..=before).for_each(|number| pulls.message(number).unwrap());
            let error = pulls.message(number).unwrap_err().to_string();
            assert!(error.contains(&format!("message {number} came")), "{error}");
        }
    }

    #[test]
    fn a_pull_ends_with_what_is_said_of_it_and_not_of_another() {
        let mut pulls = pulls(2);
        pulls.next();
        pulls.said("1", 408, "Request Timeout").unwrap();
        assert!(pulls.next().is_some());
        pulls.said("1", 408, "Request Timeout").unwrap();
        pulls.said("2", 100, "Idle Heartbeat").unwrap();
        assert_eq!(pulls.next(), None, "the second still waits");
        pulls.said("2", 404, "No Messages").unwrap();
        assert!(pulls.next().is_some());
    }

    #[test]
    fn a_probe_is_answered_where_there_is_nothing() {
        let mut pulls = pulls(2);
        pulls.next();
        let text = serde_json::to_string(&pulls.probe()).unwrap();
        assert_eq!(text, r#"{"batch":1,"no_wait":true}"#);
        pulls.said("p1", 408, "Request Timeout").unwrap();
        assert!(!pulls.empty);
        pulls.probe();
        pulls.said("p1", 404, "No Messages").unwrap();
        assert!(!pulls.empty, "of another probe");
        pulls.said("p2", 404, "No Messages").unwrap();
        assert!(pulls.empty && pulls.next().is_none(), "the pull still waits");
    }

    #[test]
    fn a_message_that_is_too_large_comes_alone() {
        let mut pulls = pulls(5);
        pulls.next();
        pulls.message(1).unwrap();
        pulls.said("1", 409, "Message Size Exceeds MaxBytes").unwrap();
        assert_eq!(pulls.next().and_then(|pull| pull.max_bytes), Some(100), "there was another");
        pulls.said("2", 409, "Message Size Exceeds MaxBytes").unwrap();
        let alone = pulls.next().unwrap();
        assert_eq!((alone.batch, alone.max_bytes), (1, None));
        pulls.message(2).unwrap();
        assert_eq!(pulls.next().and_then(|pull| pull.max_bytes), Some(100));
    }

    #[test]
    fn a_consumer_that_is_gone_is_noticed() {
        for (code, words) in
            [(503, ""), (409, "Consumer Deleted"), (409, "Server Shutdown"), (400, "Bad")]
        {
            let mut pulls = pulls(5);
            pulls.next();
            let error = pulls.said("1", code, words).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
