//! What a client says in the address: ticket, cursor and rooms.

use std::borrow::Cow;
use std::fmt;

use fanout::{Room, RoomError};
use percent_encoding::percent_decode_str;

use crate::auth::MAX_CREDENTIAL_BYTES;

/// Most rooms that a client asks for at once.
pub const MAX_ROOMS: usize = 64;

/// The parameters of an upgrade; what is not known is passed over.
///
/// ```
/// use ws_sink::handshake::Query;
///
/// let query = Query::parse(Some("room=match%3A7&room=news&cursor=k8TnQ2w"))?;
/// assert_eq!(query.rooms.len(), 2);
/// assert_eq!(query.cursor.as_deref(), Some("k8TnQ2w"));
/// # Ok::<(), ws_sink::handshake::QueryError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Query {
    /// `ticket`: a credential that is good once. Not shown in `Debug`.
    pub ticket: Option<String>,
    /// `cursor`: what the client has seen.
    pub cursor: Option<String>,
    /// `room`, each once, in the order they were asked for.
    pub rooms: Vec<Room>,
}

/// Which parameter is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// A parameter that can be there once.
    #[error("query parameter `{name}` is given twice")]
    Twice {
        /// Which.
        name: &'static str,
    },
    /// A parameter without a value.
    #[error("query parameter `{name}` is empty: leave it out instead")]
    Empty {
        /// Which.
        name: &'static str,
    },
    /// A value beyond its limit, decoded.
    #[error("query parameter `{name}` of {len} bytes exceeds {max}")]
    TooLong {
        /// Which.
        name: &'static str,
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// Percent-encoded bytes that are no text.
    #[error("query parameter `{name}` is not UTF-8")]
    NotUtf8 {
        /// Which.
        name: &'static str,
    },
    /// More rooms than a connection may have.
    #[error("query parameter `room` is given more than {MAX_ROOMS} times")]
    TooManyRooms,
    /// A name that no room has.
    #[error("query parameter `room`: {0}")]
    Room(#[from] RoomError),
}

impl Query {
    /// Reads the query of an address: what follows its `?`.
    ///
    /// # Errors
    /// [`QueryError`] names the parameter and the limit.
    pub fn parse(query: Option<&str>) -> Result<Self, QueryError> {
        let mut parsed = Self::default();
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match &*percent_decode_str(name).decode_utf8_lossy() {
                "ticket" => once(&mut parsed.ticket, "ticket", value, MAX_CREDENTIAL_BYTES)?,
                "cursor" if parsed.cursor.is_some() => {
                    return Err(QueryError::Twice { name: "cursor" });
                }
                "cursor" => {
                    // One that cannot be read, for whatever reason, is a gap and no error.
                    let cursor = percent_decode_str(value).decode_utf8_lossy();
                    parsed.cursor = Some(cursor.into_owned());
                }
                "room" => {
                    let room = Room::new(decode("room", value)?)?;
                    if !parsed.rooms.contains(&room) {
                        if parsed.rooms.len() == MAX_ROOMS {
                            return Err(QueryError::TooManyRooms);
                        }
                        parsed.rooms.push(room);
                    }
                }
                _ => {}
            }
        }
        Ok(parsed)
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query")
            .field("ticket", &self.ticket.as_ref().map(|_| ".."))
            .field("cursor", &self.cursor)
            .field("rooms", &self.rooms)
            .finish()
    }
}

/// Sets what may be given once.
fn once(
    place: &mut Option<String>,
    name: &'static str,
    value: &str,
    max: usize,
) -> Result<(), QueryError> {
    if place.is_some() {
        return Err(QueryError::Twice { name });
    }
    let value = decode(name, value)?;
    match value.len() {
        0 => return Err(QueryError::Empty { name }),
        len if len > max => return Err(QueryError::TooLong { name, len, max }),
        _ => *place = Some(value.into_owned()),
    }
    Ok(())
}

/// Undoes percent-encoding. A `+` stays one, though forms write spaces so: rooms may have
/// a `+` in them, and nothing here has a space.
fn decode<'a>(name: &'static str, value: &'a str) -> Result<Cow<'a, str>, QueryError> {
    percent_decode_str(value).decode_utf8().map_err(|_| QueryError::NotUtf8 { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(query: &str) -> String {
        Query::parse(Some(query)).unwrap_err().to_string()
    }

    #[test]
    fn parameters_are_read_in_any_order_and_others_passed_over() {
        let query = "room=a&x=1&ticket=t%2Ft&&room=user%3A4+2&cursor=c,d&flag&room=a";
        let parsed = Query::parse(Some(query)).unwrap();
        assert_eq!(parsed.ticket.as_deref(), Some("t/t"));
        assert_eq!(parsed.cursor.as_deref(), Some("c,d"));
        let rooms: Vec<_> = parsed.rooms.iter().map(Room::as_str).collect();
        assert_eq!(rooms, ["a", "user:4+2"]);
        for none in [None, Some(""), Some("x"), Some("userId=admin&role=admin")] {
            assert_eq!(Query::parse(none).unwrap(), Query::default());
        }
    }

    #[test]
    fn an_escape_in_a_rooms_name_is_escaped_itself() {
        let parsed = Query::parse(Some("room=user%3Aa%253Ab")).unwrap();
        assert_eq!(parsed.rooms, [Room::of("user", "a:b").unwrap()]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(error("ticket=a&ticket=b"), "query parameter `ticket` is given twice");
        assert_eq!(error("cursor=a&cursor=b"), "query parameter `cursor` is given twice");
        assert!(error("ticket").starts_with("query parameter `ticket` is empty"));
        assert_eq!(error("ticket=%ff"), "query parameter `ticket` is not UTF-8");
        assert!(error("room=a%20b").starts_with("query parameter `room`: "));
        assert!(error("room=").starts_with("query parameter `room`: "));
    }

    #[test]
    fn limits_hold_and_count_what_is_decoded() {
        let ticket = |len| format!("ticket={}", "%41".repeat(len));
        assert!(Query::parse(Some(&ticket(8192))).is_ok());
        assert_eq!(error(&ticket(8193)), "query parameter `ticket` of 8193 bytes exceeds 8192");
        let rooms = |len| {
            let rooms: Vec<_> = (0..len).map(|at| format!("room=r{at}")).collect();
            rooms.join("&")
        };
        assert_eq!(Query::parse(Some(&rooms(64))).unwrap().rooms.len(), 64);
        assert_eq!(error(&rooms(65)), "query parameter `room` is given more than 64 times");
    }

    #[test]
    fn a_cursor_that_is_none_is_no_error() {
        for cursor in ["", "%ff", &"x".repeat(20_000)] {
            assert!(Query::parse(Some(&format!("cursor={cursor}"))).unwrap().cursor.is_some());
        }
    }

    #[test]
    fn a_ticket_is_not_shown() {
        let shown = format!("{:?}", Query::parse(Some("ticket=secret&cursor=c")).unwrap());
        assert!(shown.contains("ticket: Some(\"..\")") && !shown.contains("secret"), "{shown}");
    }
}
