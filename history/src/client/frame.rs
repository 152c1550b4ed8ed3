//! What a frame of the native protocol says.

use serde::Deserialize;
use serde_json::value::RawValue;

/// A frame, with its data as it was written.
#[derive(Debug, Deserialize)]
pub(super) struct Frame<'a> {
    pub(super) event: String,
    pub(super) id: Option<String>,
    pub(super) room: Option<String>,
    pub(super) at: Option<String>,
    pub(super) skipped: Option<u64>,
    #[serde(borrow)]
    pub(super) data: &'a RawValue,
}

#[derive(Debug, Deserialize)]
pub(super) struct Welcome {
    pub(super) connection: String,
    pub(super) subject: String,
    pub(super) roles: Vec<String>,
    pub(super) rooms: Vec<String>,
    pub(super) cursor: String,
    pub(super) recovered: Option<bool>,
}

/// Who somebody is now.
#[derive(Debug, Deserialize)]
pub(super) struct Authenticated {
    pub(super) subject: String,
    pub(super) roles: Vec<String>,
    pub(super) rooms: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct InRoom {
    pub(super) room: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Gap {
    pub(super) reason: String,
    pub(super) rooms: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Heartbeat {
    pub(super) cursor: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) room: Option<String>,
}

/// What a record was named by whoever wrote it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named {
    order_id: Option<String>,
    product_id: Option<String>,
}

impl Named {
    pub(super) fn name(self) -> Option<String> {
        self.order_id.or(self.product_id)
    }
}

/// What the reason of a close says.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reason {
    pub(super) within_ms: Option<u64>,
    pub(super) after_ms: Option<u64>,
}
