//! From events to emissions.

use std::borrow::Cow;

use bytes::Bytes;

use crate::event::Event;
use crate::json::Json;
use crate::role::View;
use crate::room::Room;

/// A room or rooms, an event name, and a body or one body a view.
///
/// ```
/// use fanout::{Emission, Json, Room};
///
/// let body = Json::of(&serde_json::json!({"orderId": "7"}))?;
/// let full = Json::of(&serde_json::json!({"orderId": "7", "margin": 12}))?;
///
/// // The same for all in the room:
/// Emission::new(Room::new("user:42")?, "order:created", body.clone());
/// // What each view sees; a view without a body gets nothing:
/// Emission::new(Room::new("desk")?, "order:created", [("clerk", body), ("auditor", full)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Emission {
    /// To whom: whoever is in several of them gets it once. Never empty.
    pub rooms: Vec<Room>,
    /// The event's name at the client.
    pub event: Cow<'static, str>,
    /// What it says.
    pub body: Body,
    /// What it is about: of two with the same key, room and event the newer stands
    /// for both wherever a connection is conflated.
    pub key: Option<Bytes>,
}

/// What an emission says.
#[derive(Clone, Debug)]
pub enum Body {
    /// The same to everybody.
    Shared(Json),
    /// To each view its own, to views not named nothing.
    PerView(Vec<(View, Json)>),
}

impl From<Json> for Body {
    fn from(json: Json) -> Self {
        Self::Shared(json)
    }
}

impl<V: Into<View>, const N: usize> From<[(V, Json); N]> for Body {
    fn from(bodies: [(V, Json); N]) -> Self {
        Self::PerView(bodies.into_iter().map(|(view, json)| (view.into(), json)).collect())
    }
}

impl Emission {
    /// To one room.
    pub fn new(room: Room, event: impl Into<Cow<'static, str>>, body: impl Into<Body>) -> Self {
        // Most have one or two: none grows for a few.
        let mut rooms = Vec::with_capacity(4);
        rooms.push(room);
        Self { rooms, event: event.into(), body: body.into(), key: None }
    }

    /// Also to this room.
    pub fn and_to(mut self, room: Room) -> Self {
        self.rooms.push(room);
        self
    }

    /// Sets what it is about.
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }
}

/// Why an event has no emissions. The record is counted, logged with its position
/// and skipped; retrying cannot help.
pub type RouteError = Box<dyn std::error::Error + Send + Sync>;

/// A pure function from an event to emissions, in an order that never changes.
///
/// Positions count emissions: the same event must give the same emissions on every
/// node and whenever it is read again, so nothing but the event may decide.
///
/// ```
/// use fanout::{Emission, Event, Room, RouteError, Router};
///
/// fn to_buyer(event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
///     let buyer = event.header("buyer").ok_or("no header `buyer`")?;
///     let room = Room::of("user", std::str::from_utf8(buyer)?)?;
///     out.push(Emission::new(room, "order:created", event.json()?));
///     Ok(())
/// }
/// # fn is_router(_: impl Router) {}
/// # is_router(to_buyer);
/// ```
pub trait Router: Send + Sync + 'static {
    /// Puts the event's emissions into `out`, which is empty.
    ///
    /// # Errors
    /// What is wrong with the record; what was put into `out` is then dropped.
    fn route(&self, event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError>;
}

impl<F> Router for F
where
    F: Fn(&Event, &mut Vec<Emission>) -> Result<(), RouteError> + Send + Sync + 'static,
{
    fn route(&self, event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
        self(event, out)
    }
}
