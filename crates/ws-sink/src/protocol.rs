//! The native protocol, `fanout.v1`: JSON text frames, one object each.
//!
//! Pure functions of what is sent and received. What they do to a connection is in
//! `sink.rs`. Server-Sent Events carry the same objects: how an object is wrapped for the
//! wire comes last.

use std::time::SystemTime;

use bytes::BytesMut;
use fanout::{Cursor, Delivery, Frame, Identity, JoinError, Json, Protocol, Room};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use smallvec::{SmallVec, smallvec};

use crate::codec::encode;
use crate::events::ClientEvent;

/// Most bytes of a request's `id`: it comes back in the answer.
pub const MAX_ID_BYTES: usize = 256;

/// Emissions as text frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

impl Protocol for Native {
    fn frame(&self, delivery: &Delivery<'_>) -> Frame {
        let mut out = BytesMut::new();
        object(delivery, |parts| encode::text(&mut out, parts));
        out.freeze().into()
    }
}

/// The object of an emission, in the parts that it is put together of.
pub(crate) fn object(delivery: &Delivery<'_>, put: impl FnOnce(&[&[u8]])) {
    let skipped = (delivery.skipped > 0).then(|| delivery.skipped.to_string());
    let escaped = escaped(delivery.event);
    let event = escaped.as_deref().unwrap_or(delivery.event);
    let mut parts: SmallVec<[&[u8]; 16]> =
        smallvec![&b"{\"event\":\""[..], event.as_bytes(), &b"\""[..]];
    // Neither a room's name nor a position has anything to be escaped.
    if let Some(room) = delivery.room {
        parts.extend_from_slice(&[&b",\"room\":\""[..], room.as_str().as_bytes(), b"\""]);
    }
    if let Some(at) = &delivery.at {
        parts.extend_from_slice(&[&b",\"at\":\""[..], at.as_str().as_bytes(), b"\""]);
    }
    if let Some(skipped) = &skipped {
        parts.extend_from_slice(&[&b",\"skipped\":"[..], skipped.as_bytes()]);
    }
    parts.extend_from_slice(&[&b",\"data\":"[..], delivery.body.as_bytes(), b"}"]);
    put(&parts);
}

/// What stands for this text between the quotes of JSON, where it is not the text itself.
fn escaped(text: &str) -> Option<String> {
    let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        return None;
    }
    let quoted = serde_json::to_string(text).expect("a string has a JSON form");
    Some(quoted[1..quoted.len() - 1].to_owned())
}

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Own(Own),
    /// The application's, where it takes any.
    Event(Result<ClientEvent, BadRoom>),
}

/// What a client asks for in the protocol's own words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Own {
    Subscribe(Result<Room, BadRoom>),
    Unsubscribe(Result<Room, BadRoom>),
    Auth(Option<Auth>),
}

/// A room that is missing or has no name that a room can have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadRoom(pub(crate) String);

/// `data` of an `auth` frame.
#[derive(PartialEq, Eq, Deserialize)]
pub(crate) struct Auth {
    pub(crate) token: String,
    pub(crate) cursor: Option<String>,
    #[serde(default)]
    pub(crate) rooms: Vec<String>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("rooms", &self.rooms).finish_non_exhaustive()
    }
}

/// A request's `id`, as the client wrote it.
pub(crate) type Id = Option<Box<RawValue>>;

/// Why a text message is no request; with its `id` where it has one.
#[derive(Debug)]
pub(crate) struct BadFrame {
    pub(crate) id: Id,
    pub(crate) message: &'static str,
}

/// Reads a text message.
pub(crate) fn request(text: &str) -> Result<(Request, Id), BadFrame> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        event: Option<&'a RawValue>,
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        #[serde(borrow)]
        room: Option<&'a RawValue>,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct InRoom {
        room: String,
    }

    let bad = |message| BadFrame { id: None, message };
    // An array would be taken for the object's fields in their order.
    if !text.trim_start().starts_with('{') {
        return Err(bad("a frame is a JSON object"));
    }
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|_| {
        bad("a frame is a JSON object with `event`, `room`, `data` and `id`, each once")
    })?;
    let id = match envelope.id {
        // `null` is as good as none: there is nothing to tell the answer by.
        None => None,
        Some(id) if id.get() == "null" => None,
        Some(id) if id.get().len() > MAX_ID_BYTES => {
            return Err(bad("`id` is longer than 256 bytes"));
        }
        Some(id) if !matches!(id.get().as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9')) => {
            return Err(bad("`id` is a number or a string"));
        }
        Some(id) => Some(id.to_owned()),
    };
    let event: Option<String> = envelope.event.and_then(|e| serde_json::from_str(e.get()).ok());
    let data = envelope.data.map_or("null", RawValue::get);
    let room = || match serde_json::from_str::<InRoom>(data) {
        Ok(InRoom { room }) => Room::new(room).map_err(|error| BadRoom(error.to_string())),
        Err(_) => Err(BadRoom("`data.room` is missing or not a string".to_owned())),
    };
    let event_room = || match envelope.room.map(|room| serde_json::from_str(room.get())) {
        None | Some(Ok(None)) => Ok(None),
        Some(Ok(Some(room))) => {
            let room: String = room;
            Room::new(room).map(Some).map_err(|error| BadRoom(error.to_string()))
        }
        Some(Err(_)) => Err(BadRoom("`room` is not a string".to_owned())),
    };
    let request = match event.as_deref() {
        Some("subscribe") => Request::Own(Own::Subscribe(room())),
        Some("unsubscribe") => Request::Own(Own::Unsubscribe(room())),
        Some("auth") => Request::Own(Own::Auth(serde_json::from_str(data).ok())),
        Some(name) => Request::Event(event_room().map(|room| ClientEvent {
            event: name.to_owned(),
            room,
            // As it was written: it was checked to be one value when the frame was read.
            data: envelope.data.and_then(|data| Json::of(data).ok()).unwrap_or_else(null),
        })),
        None => return Err(BadFrame { id, message: "`event` is missing or not a string" }),
    };
    Ok((request, id))
}

fn null() -> Json {
    Json::of(&()).expect("null has a JSON form")
}

/// What the server says that is no emission. As a [`Frame`] it is a text frame.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) event: &'static str,
    /// The whole object.
    pub(crate) json: Vec<u8>,
}

impl From<Said> for Frame {
    fn from(said: Said) -> Self {
        let mut out = BytesMut::new();
        encode::text(&mut out, &[&said.json]);
        out.freeze().into()
    }
}

fn answer<T: Serialize>(event: &'static str, id: Option<&RawValue>, data: T) -> Said {
    #[derive(Serialize)]
    struct Answer<'a, T> {
        event: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RawValue>,
        data: T,
    }
    let json = serde_json::to_vec(&Answer { event, id, data }).expect("these have a JSON form");
    Said { event, json }
}

/// That an application's event was taken.
pub(crate) fn accepted(id: &RawValue) -> Said {
    answer("accepted", Some(id), serde_json::Map::new())
}

/// That a room was not joined.
pub(crate) fn not_joined(id: Option<&RawValue>, why: JoinError, room: &Room) -> Said {
    let code = match why {
        JoinError::TooMany { .. } => ErrorCode::TooManyRooms,
        _ => ErrorCode::Forbidden,
    };
    error(id, code, &why.to_string(), Some(room))
}

/// `data` of `welcome`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Welcome<'a> {
    pub(crate) connection: String,
    pub(crate) subject: &'a str,
    pub(crate) roles: Vec<&'a str>,
    pub(crate) rooms: Vec<&'a str>,
    pub(crate) cursor: Option<&'a str>,
    pub(crate) recovered: Option<bool>,
    pub(crate) heartbeat_ms: u64,
}

pub(crate) fn welcome(id: Option<&RawValue>, welcome: &Welcome<'_>) -> Said {
    answer("welcome", id, welcome)
}

pub(crate) fn roles(identity: &Identity) -> Vec<&str> {
    identity.roles.iter().map(fanout::Role::as_str).collect()
}

pub(crate) fn in_room(event: &'static str, id: Option<&RawValue>, room: &Room) -> Said {
    #[derive(Serialize)]
    struct Data<'a> {
        room: &'a str,
    }
    answer(event, id, Data { room: room.as_str() })
}

pub(crate) fn authenticated(id: Option<&RawValue>, identity: &Identity, rooms: &[Room]) -> Said {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Data<'a> {
        subject: &'a str,
        roles: Vec<&'a str>,
        rooms: Vec<&'a str>,
        expires_at: Option<String>,
    }
    answer(
        "authenticated",
        id,
        Data {
            subject: &identity.subject,
            roles: roles(identity),
            rooms: rooms.iter().map(Room::as_str).collect(),
            expires_at: identity.expires_at.and_then(rfc3339),
        },
    )
}

fn rfc3339(time: SystemTime) -> Option<String> {
    jiff::Timestamp::try_from(time).ok().map(|time| time.to_string())
}

/// What an `error` frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    BadFrame,
    BadRoom,
    Forbidden,
    TooManyRooms,
    RateLimited,
    BadToken,
}

impl ErrorCode {
    fn name(self) -> &'static str {
        match self {
            Self::BadFrame => "bad_frame",
            Self::BadRoom => "bad_room",
            Self::Forbidden => "forbidden",
            Self::TooManyRooms => "too_many_rooms",
            Self::RateLimited => "rate_limited",
            Self::BadToken => "bad_token",
        }
    }
}

pub(crate) fn error(
    id: Option<&RawValue>,
    code: ErrorCode,
    message: &str,
    room: Option<&Room>,
) -> Said {
    #[derive(Serialize)]
    struct Data<'a> {
        code: &'a str,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a str>,
    }
    answer("error", id, Data { code: code.name(), message, room: room.map(Room::as_str) })
}

pub(crate) fn heartbeat(cursor: &Cursor) -> Said {
    #[derive(Serialize)]
    struct Data<'a> {
        cursor: &'a str,
    }
    answer("heartbeat", None, Data { cursor: cursor.as_str() })
}

/// What stands where a client would have to come back to and cannot.
pub(crate) fn gap(reason: &'static str, rooms: &[Room]) -> Said {
    #[derive(Serialize)]
    struct Data<'a> {
        reason: &'a str,
        rooms: Vec<&'a str>,
    }
    answer("gap", None, Data { reason, rooms: rooms.iter().map(Room::as_str).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(id: &Id) -> Option<&str> {
        id.as_deref().map(RawValue::get)
    }

    #[test]
    fn requests_are_read() {
        let (subscribe, id) =
            request(r#" {"event":"subscribe","id":7,"data":{"room":"a:b","x":1},"y":[]}"#).unwrap();
        let room = Room::new("a:b").map_err(|_| unreachable!());
        assert_eq!(subscribe, Request::Own(Own::Subscribe(room)));
        assert_eq!(id_of(&id), Some("7"));
        let (auth, id) = request(r#"{"event":"auth","id":"x","data":{"token":"t"}}"#).unwrap();
        let expected = Auth { token: "t".to_owned(), cursor: None, rooms: Vec::new() };
        assert_eq!((auth, id_of(&id)), (Request::Own(Own::Auth(Some(expected))), Some("\"x\"")));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_id_where_there_is_one() {
        for text in ["", "x", "[]", "7", "null", "{", r#"{"event":"a","event":"b"}"#, "{}"] {
            assert!(request(text).unwrap_err().id.is_none(), "{text}");
        }
        for text in [r#"["subscribe",7,{"room":"a"}]"#, r#"{"event":"auth","id":{}}"#] {
            assert!(request(text).is_err(), "{text}");
        }
        let unnamed = request(r#"{"event":7,"id":-1.5e3}"#).unwrap_err();
        assert_eq!(id_of(&unnamed.id), Some("-1.5e3"));
        let long = format!(r#"{{"event":"auth","id":"{}"}}"#, "x".repeat(300));
        assert!(request(&long).is_err());
    }

    #[test]
    fn rooms_that_are_none_are_bad_rooms_not_bad_frames() {
        for data in ["{}", "null", "[]", r#"{"room":7}"#, r#"{"room":""}"#, r#"{"room":"a b"}"#] {
            let text = format!(r#"{{"event":"subscribe","data":{data}}}"#);
            let (request, _) = request(&text).unwrap();
            assert!(matches!(request, Request::Own(Own::Subscribe(Err(_)))), "{text}");
        }
    }

    #[test]
    fn what_is_not_the_protocols_is_the_applications() {
        let event = |text: &str| match request(text).unwrap().0 {
            Request::Event(event) => event,
            own @ Request::Own(_) => panic!("{own:?}"),
        };
        let said = event(r#"{"event":"say","data":{"a": [1]},"room":"a:b"}"#).unwrap();
        assert_eq!((&*said.event, said.data.as_str()), ("say", r#"{"a": [1]}"#));
        assert_eq!(said.room, Room::new("a:b").ok());
        let bare = event(r#"{"event":"say","room":null}"#).unwrap();
        assert_eq!((bare.room, bare.data.as_str()), (None, "null"));
        for room in ["7", "\"\"", "\"a b\"", "[\"a\"]"] {
            assert!(event(&format!(r#"{{"event":"say","room":{room}}}"#)).is_err(), "{room}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let (auth, _) = request(r#"{"event":"auth","data":{"token":"s3cret"}}"#).unwrap();
        assert!(!format!("{auth:?}").contains("s3cret"));
    }
}
