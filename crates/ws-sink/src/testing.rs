//! What clients send, read and answered without a connection. For fuzzing: the messages of
//! the native protocol are nobody's business else.

use fanout::{Identity, JoinError, Json, Room};
use serde_json::value::RawValue;

use crate::events::ClientEvent;
use crate::protocol::{self, Auth, BadFrame, BadRoom, ErrorCode, Own, Request, Said, Welcome};

/// What a text message was taken for, and every answer that may come of it.
#[doc(hidden)]
#[derive(Debug)]
#[allow(clippy::exhaustive_structs)] // Read by tests alone.
pub struct Heard {
    /// The request's `id`, as the client wrote it.
    pub id: Option<String>,
    /// Whether it was a frame at all.
    pub good: bool,
    /// The answers, each of which carries the `id`.
    pub answers: Vec<String>,
    /// The event, where it is the application's own: name, room and data.
    pub event: Option<(String, Option<Room>, Json)>,
}

/// Reads a text message as a connection does.
#[doc(hidden)]
pub fn hear(text: &str) -> Heard {
    let (request, id) = match protocol::request(text) {
        Ok(read) => read,
        Err(BadFrame { id, message }) => {
            let said = protocol::error(id.as_deref(), ErrorCode::BadFrame, message, None);
            return Heard { good: false, answers: vec![json(said)], ..heard(id.as_deref()) };
        }
    };
    let id = id.as_deref();
    let (answers, event) = match request {
        Request::Own(Own::Subscribe(room)) => (in_room("subscribed", id, room), None),
        Request::Own(Own::Unsubscribe(room)) => (in_room("unsubscribed", id, room), None),
        Request::Own(Own::Auth(auth)) => (renewed(id, auth), None),
        Request::Event(Err(BadRoom(message))) => {
            (vec![protocol::error(id, ErrorCode::BadRoom, &message, None)], None)
        }
        Request::Event(Ok(ClientEvent { event, room, data })) => {
            let mut answers =
                vec![protocol::error(id, ErrorCode::RateLimited, "later", room.as_ref())];
            answers.extend(id.map(protocol::accepted));
            (answers, Some((event, room, data)))
        }
    };
    Heard { answers: answers.into_iter().map(json).collect(), event, ..heard(id) }
}

fn heard(id: Option<&RawValue>) -> Heard {
    let id = id.map(|id| id.get().to_owned());
    Heard { id, good: true, answers: Vec::new(), event: None }
}

fn json(said: Said) -> String {
    String::from_utf8(said.json).expect("serde_json writes text")
}

fn in_room(event: &'static str, id: Option<&RawValue>, room: Result<Room, BadRoom>) -> Vec<Said> {
    match room {
        Ok(room) => vec![
            protocol::in_room(event, id, &room),
            protocol::not_joined(id, JoinError::Forbidden, &room),
        ],
        Err(BadRoom(message)) => vec![protocol::error(id, ErrorCode::BadRoom, &message, None)],
    }
}

/// As if the token and the cursor were the subject's name: both are the client's to choose.
fn renewed(id: Option<&RawValue>, auth: Option<Auth>) -> Vec<Said> {
    let Some(auth) = auth else {
        return vec![protocol::error(id, ErrorCode::BadToken, "no token", None)];
    };
    let identity = Identity::new(&*auth.token, ["user"]);
    let rooms: Vec<Room> = auth.rooms.iter().filter_map(|room| Room::new(room).ok()).collect();
    let welcome = Welcome {
        connection: "1".to_owned(),
        subject: &identity.subject,
        roles: protocol::roles(&identity),
        rooms: rooms.iter().map(Room::as_str).collect(),
        cursor: auth.cursor.as_deref(),
        recovered: Some(false),
        heartbeat_ms: 25_000,
    };
    vec![protocol::welcome(id, &welcome), protocol::authenticated(id, &identity, &rooms)]
}
