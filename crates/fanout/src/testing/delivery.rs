//! What a protocol encodes, without a hub.

use crate::frame::Delivery;
use crate::json::Json;
use crate::room::Room;

/// An emission without a position, as a hub gives it to a [`Protocol`](crate::Protocol).
pub fn delivery<'a>(
    event: &'a str,
    room: Option<&'a Room>,
    body: &'a Json,
    skipped: u64,
) -> Delivery<'a> {
    Delivery { event, room, body, at: None, cursor: None, skipped }
}
