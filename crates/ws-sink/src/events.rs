//! What clients say that is the application's own: events that the protocol does not
//! know.
//!
//! A shard reads them, so nobody may wait in it: [`ClientEvents::check`] decides at
//! once, and [`ClientEvents::take`] hands back a future. The shard polls it, and reads
//! nothing more of that client until it is done: whoever sends faster than his events
//! are taken is slowed down by TCP, alone, and no queue grows.
//!
//! Events that were read together are handed over together, so that they can be
//! published, or written to Kafka, as one batch.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use fanout::{Close, ConnectionId, Identity, Json, Room};
use futures::future::BoxFuture;
use serde_json::value::RawValue;

/// Most events handed over at once: their answers fit the control queue.
pub(crate) const MAX_EVENTS: usize = 128;

/// An event from a client: `{"event":"publish","room":"lobby","data":{},"id":7}`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientEvent {
    /// Its name. Never one of the protocol's own.
    pub event: String,
    /// The room it names, where it names one. That the client is in it, or may be, is
    /// not said.
    pub room: Option<Room>,
    /// What it says; `null` where it says nothing.
    pub data: Json,
}

/// Who has sent events.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Sender<'a> {
    /// The connection.
    pub connection: ConnectionId,
    /// Whom it belongs to.
    pub identity: &'a Arc<Identity>,
}

/// Why an event is not taken. The client is told, with the event's `id`, and lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// No event of this application: `bad_frame`, as without [`ClientEvents`]. The third
    /// in a row closes the connection.
    #[error("unknown event")]
    Unknown,
    /// Its `data` is not as it should be: `bad_frame`, with what is wrong.
    #[error("{0}")]
    Malformed(&'static str),
    /// A room that is missing, or none that may be named here: `bad_room`.
    #[error("{0}")]
    BadRoom(&'static str),
    /// This identity may not: `forbidden`.
    #[error("not allowed")]
    Forbidden,
    /// Too many; the client may try again later: `rate_limited`.
    #[error("too many events: try again later")]
    RateLimited,
}

/// What an application does with its clients' events; see [`Ws::with_events`].
///
/// ```
/// use futures::future::{BoxFuture, FutureExt};
/// use fanout::{Close, Emission, Hub, Room};
/// use ws_sink::{ClientEvent, ClientEvents, Refused, Sender};
///
/// /// Whoever is in a room may say something there, to those on this node.
/// struct Chat(Hub);
///
/// impl ClientEvents for Chat {
///     fn check(&self, from: Sender<'_>, event: &ClientEvent) -> Result<(), Refused> {
///         match (&*event.event, &event.room) {
///             ("say", Some(room)) if self.0.access().may_join(from.identity, room) => Ok(()),
///             ("say", Some(_)) => Err(Refused::Forbidden),
///             ("say", None) => Err(Refused::BadRoom("`room` is missing")),
///             _ => Err(Refused::Unknown),
///         }
///     }
///
///     fn take(
///         &self,
///         _: Sender<'_>,
///         events: Vec<ClientEvent>,
///     ) -> BoxFuture<'static, Result<(), Close>> {
///         let said = |e: ClientEvent| Some(Emission::new(e.room?, "said", e.data));
///         let (hub, said) = (self.0.clone(), events.into_iter().filter_map(said).collect());
///         async move { hub.publish(said).await.map_err(|_| Close::GoingAway) }.boxed()
///     }
/// }
/// ```
///
/// A [`Hub`](fanout::Hub) kept in here lives as long as its connections do: it ends by
/// [`Hub::drain`](fanout::Hub::drain), not by being dropped.
///
/// [`Ws::with_events`]: crate::Ws::with_events
pub trait ClientEvents: Send + Sync + 'static {
    /// Whether the event is taken. Called in the shard, in the order of sending: it must
    /// not block.
    ///
    /// # Errors
    /// [`Refused`] is answered to the client.
    fn check(&self, from: Sender<'_>, event: &ClientEvent) -> Result<(), Refused>;

    /// Takes the events of one client that were read together and passed
    /// [`check`](Self::check), in the order of sending; 1 to 128. Called in the shard:
    /// what waits or blocks belongs into the future, or into a task that it awaits.
    ///
    /// Each event with an `id` is answered with `accepted` once the future is done.
    ///
    /// # Errors
    /// The connection is closed for it, and its events get no other answer.
    ///
    /// # Cancel safety
    /// The future is dropped where the connection is lost meanwhile: its events were
    /// taken or not, as with any that were still on their way.
    fn take(
        &self,
        from: Sender<'_>,
        events: Vec<ClientEvent>,
    ) -> BoxFuture<'static, Result<(), Close>>;
}

/// Events read together, before they are handed over.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) events: Vec<ClientEvent>,
    /// Of those that want an answer.
    pub(crate) ids: Vec<Box<RawValue>>,
}

/// Events that were handed over and are being taken; nothing is read meanwhile.
pub(crate) struct Handed {
    ids: Vec<Box<RawValue>>,
    taken: BoxFuture<'static, Result<(), Close>>,
}

impl Heard {
    pub(crate) fn is_full(&self) -> bool {
        self.events.len() >= MAX_EVENTS
    }

    /// Hands over what was heard, where there is anything.
    pub(crate) fn hand(self, to: &dyn ClientEvents, from: Sender<'_>) -> Option<Box<Handed>> {
        let Self { events, ids } = self;
        (!events.is_empty()).then(|| Box::new(Handed { ids, taken: to.take(from, events) }))
    }
}

impl Handed {
    /// The `id`s to be answered, once the events are taken.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<Vec<Box<RawValue>>, Close>> {
        let taken = self.taken.as_mut().poll(&mut Context::from_waker(waker));
        taken.map_ok(|()| std::mem::take(&mut self.ids))
    }
}
