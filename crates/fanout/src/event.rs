//! What a source hands on: one record.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;

use crate::json::{Json, JsonError};
use crate::position::Lane;

/// One record of a source.
///
/// Everything in it is shared bytes: cloning copies no payload.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// The ordered stream the record is from.
    pub lane: Arc<Lane>,
    /// The record's number in its lane. Rises, not always by one.
    pub offset: u64,
    /// What the producer partitioned by.
    pub key: Option<Bytes>,
    /// Name and value, in the producer's order; a name may come twice.
    pub headers: Vec<(String, Bytes)>,
    /// When the producer wrote it.
    pub time: SystemTime,
    /// The record's value.
    pub payload: Bytes,
    /// A payload, once somebody has checked it.
    checked: OnceLock<Json>,
}

impl Event {
    /// A record without key and headers, written at the epoch.
    pub fn new(lane: Arc<Lane>, offset: u64, payload: Bytes) -> Self {
        let time = SystemTime::UNIX_EPOCH;
        Self {
            lane,
            offset,
            key: None,
            headers: Vec::new(),
            time,
            payload,
            checked: OnceLock::new(),
        }
    }

    /// A record whose payload was checked to be JSON.
    pub fn from_json(lane: Arc<Lane>, offset: u64, payload: &Json) -> Self {
        Self::new(lane, offset, Bytes::new()).with_json(payload)
    }

    /// Sets the payload to one that was checked to be JSON.
    pub fn with_json(mut self, payload: &Json) -> Self {
        self.payload = payload.as_bytes().clone();
        self.checked = payload.clone().into();
        self
    }

    /// Sets the key.
    pub fn with_key(mut self, key: Option<Bytes>) -> Self {
        self.key = key;
        self
    }

    /// Sets the time.
    pub fn with_time(mut self, time: SystemTime) -> Self {
        self.time = time;
        self
    }

    /// Sets the headers.
    pub fn with_headers(mut self, headers: Vec<(String, Bytes)>) -> Self {
        self.headers = headers;
        self
    }

    /// The topic of its lane.
    pub fn topic(&self) -> &str {
        &self.lane.topic
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// The payload as one JSON value, to be passed on as it is.
    ///
    /// Checked once: free from then on, and where a decoder has done it.
    ///
    /// # Errors
    /// [`JsonError`] where it is not JSON.
    pub fn json(&self) -> Result<Json, JsonError> {
        if let Some(json) = self.checked.get().filter(|json| self.is_payload(json)) {
            return Ok(json.clone());
        }
        let json = Json::parse(self.payload.clone())?;
        // Where another payload was checked before, this one is checked each time.
        let _ = self.checked.set(json.clone());
        Ok(json)
    }

    /// Whether `json` is the payload as it is now: a decoder may have set another since it
    /// was checked. The same bytes at the same place are the same text, as `json` keeps them.
    fn is_payload(&self, json: &Json) -> bool {
        std::ptr::eq(&raw const json.as_bytes()[..], &raw const self.payload[..])
    }

    /// The payload, deserialized; borrows from the event.
    ///
    /// # Errors
    /// [`JsonError`] where it is not JSON, or not of this shape.
    pub fn parse<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, JsonError> {
        Ok(serde_json::from_slice(&self.payload)?)
    }
}
