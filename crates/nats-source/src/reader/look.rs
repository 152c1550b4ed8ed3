//! What is found by looking at a stream while it is read.
//!
//! A consumer says nothing of what it passes: of subjects that are not read, of what was
//! deleted at the end. So how far a stream was passed is concluded: all of it up to an end
//! that was told some time ago, once the consumer answers that there is nothing, behind all
//! that it has sent.
//!
//! ```text
//! look: the end is 40 --> some time --> look: nothing pending --> probe --> nothing: 40 is passed
//! ```
//!
//! A consumer reads the copy of the stream on its own server. Where that may be behind the
//! one that told the end, nothing is concluded.

use std::time::Duration;

use crate::api::{Api, ConsumerInfo, StreamInfo, Trouble};
use crate::consumer::Consumer;

/// Between two looks until the stream's end at start is reached.
pub(crate) const SOON: Duration = Duration::from_millis(100);

/// What the server says.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) consumer: Option<ConsumerInfo>,
    /// Asked for after the consumer: what it passed, it passed before this.
    pub(crate) stream: Option<StreamInfo>,
}

/// Looks once.
pub(crate) async fn look(api: &Api, stream: &str, consumer: &str) -> Result<Look, Trouble> {
    let consumer = api.consumer(stream, consumer).await?;
    Ok(Look { consumer, stream: api.stream(stream).await? })
}

/// What is known from the look before.
#[derive(Debug)]
pub(crate) struct Looks {
    stream: StreamInfo,
    /// What had come, where something was missing then.
    missing: Option<(u64, u64)>,
}

impl Looks {
    /// Nothing but what the stream was before the consumer was made.
    pub(crate) fn new(stream: StreamInfo) -> Self {
        Self { stream, missing: None }
    }

    /// Whether what the consumer has sent, or was asked for, was lost: two looks in a row
    /// miss it, and nothing came in between.
    pub(crate) fn is_stuck(&mut self, consumer: &Consumer, told: &ConsumerInfo) -> bool {
        let missing = consumer.is_behind(told).then(|| consumer.heard());
        missing.is_some() && std::mem::replace(&mut self.missing, missing) == missing
    }

    /// Up to where the stream is passed if there is nothing now; `None` where it is no use
    /// to ask.
    pub(crate) fn worth_a_probe(
        &mut self,
        told: &ConsumerInfo,
        stream: &StreamInfo,
    ) -> Option<u64> {
        let before = std::mem::replace(&mut self.stream, stream.clone());
        let seen = before.is_seen_by(told) && stream.is_seen_by(told);
        (seen && told.num_pending == 0).then(|| before.end())
    }
}

/// The sequence of the first message that a consumer has, `None` where there is none.
pub(crate) async fn first(
    api: &Api,
    consumer: &mut Consumer,
    stream: &str,
) -> Result<Option<u64>, Trouble> {
    let lost = |broken: crate::consumer::Broken| Trouble::Away(broken.to_string());
    loop {
        consumer.pull().await?;
        consumer.probe().await?;
        let came = tokio::time::timeout(SOON, consumer.next()).await;
        if let Ok(came) = came {
            if let Some((place, _)) = came.map_err(lost)? {
                return Ok(Some(place.sequence));
            }
            if consumer.take_empty() {
                let told = look(api, stream, &consumer.name).await?;
                if told.consumer.zip(told.stream).is_some_and(|(c, s)| s.is_seen_by(&c)) {
                    return Ok(None);
                }
            }
        }
        if consumer.has_ended() {
            return Err(Trouble::Ended);
        }
    }
}
