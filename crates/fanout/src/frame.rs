//! An emission encoded once for a protocol and a view.
//!
//! Encoding happens where the first connection needs it and is shared by all: a
//! thousand members cost one encoding, and a view or protocol that nobody has costs
//! none.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::conflate::Keyed;
use crate::json::Json;
use crate::lanes::{KnownLane, Lanes};
use crate::log::{Batch, Evicted, Log};
use crate::position::{At, Cursor, LaneId, Position};
use crate::redact::Redacted;
use crate::role::ViewId;
use crate::room::Room;
use crate::room_table::RoomRef;

/// Bytes ready for a connection, whole: never joined with another inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// The bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

/// What a [`Protocol`] encodes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Delivery<'a> {
    /// The event's name.
    pub event: &'a str,
    /// The room, where the emission names one alone.
    pub room: Option<&'a Room>,
    /// The body that the view gets.
    pub body: &'a Json,
    /// The position after this frame; `None` on what cannot be resumed.
    pub at: Option<At>,
    /// The whole cursor after this frame, for protocols that ask for it by
    /// [`Protocol::whole_cursors`].
    pub cursor: Option<&'a Cursor>,
    /// How many earlier emissions of the same key this one stands for: those that a
    /// connection which was behind was spared. Zero in frames that are shared.
    pub skipped: u64,
}

/// How emissions look on the wire. A pure function: its frames are shared by every
/// connection that speaks it.
pub trait Protocol: Send + Sync + 'static {
    /// The frame of an emission.
    fn frame(&self, delivery: &Delivery<'_>) -> Frame;

    /// Whether frames carry the whole cursor, because clients cannot keep one themselves.
    /// It is sealed once for all who get the frame while they are live, but for each
    /// connection that resumes its own.
    fn whole_cursors(&self) -> bool {
        false
    }
}

/// A protocol's number in one hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProtocolId(pub(crate) u8);

/// A protocol as the hub knows it.
#[derive(Clone)]
pub struct ProtocolRef {
    pub(crate) id: ProtocolId,
    pub(crate) whole_cursors: bool,
    pub(crate) protocol: Arc<dyn Protocol>,
}

impl std::fmt::Debug for ProtocolRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProtocolRef({})", self.id.0)
    }
}

/// An emission in the log.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) rooms: SmallVec<[RoomRef; 2]>,
    event: Cow<'static, str>,
    body: EntryBody,
    /// The lane it is from, and the position after it.
    at: Option<(Arc<KnownLane>, Position)>,
    /// What it is about, where all of its rooms conflate.
    pub(crate) keyed: Option<Box<Keyed>>,
    /// By protocol, then by view where the body has several.
    frames: Box<[OnceLock<Frame>]>,
}

/// A body by the numbers of views.
#[derive(Debug)]
pub(crate) enum EntryBody {
    Shared(Json),
    PerView(Box<[Option<Json>]>),
    /// One of them, of which a view sees what is declared.
    Redacted(Box<Redacted>),
}

impl EntryBody {
    pub(crate) fn of(&self, view: ViewId) -> Option<&Json> {
        match self {
            Self::Shared(json) => Some(json),
            Self::PerView(bodies) => bodies.get(view.0 as usize)?.as_ref(),
            Self::Redacted(redacted) => redacted.of(view),
        }
    }

    fn is_for(&self, view: ViewId) -> bool {
        match self {
            // Asked before anything is cut for it.
            Self::Redacted(redacted) => redacted.is_for(view),
            _ => self.of(view).is_some(),
        }
    }

    /// How many frames a protocol may have of it: one, or one a view.
    fn slots(&self) -> usize {
        match self {
            Self::Shared(_) => 1,
            Self::PerView(bodies) => bodies.len(),
            Self::Redacted(redacted) => redacted.slots(),
        }
    }

    /// What it counts for in the log's limit, with its frames.
    fn bytes(&self) -> usize {
        match self {
            Self::Redacted(redacted) => redacted.bytes(),
            _ => 2 * self.len(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lens().sum()
    }

    pub(crate) fn longest(&self) -> usize {
        self.lens().max().unwrap_or(0)
    }

    /// Of what came.
    fn lens(&self) -> impl Iterator<Item = usize> {
        let came = if let Self::Redacted(redacted) = self { redacted.source() } else { self };
        let (shared, per_view) = match came {
            Self::Shared(json) => (Some(json), None),
            Self::PerView(bodies) => (None, Some(bodies)),
            // Nothing is redacted twice.
            Self::Redacted(_) => (None, None),
        };
        let per_view = per_view.into_iter().flatten().flatten();
        shared.into_iter().chain(per_view).map(|json| json.as_bytes().len())
    }
}

impl Entry {
    pub(crate) fn new(
        rooms: SmallVec<[RoomRef; 2]>,
        event: Cow<'static, str>,
        body: EntryBody,
        at: Option<(Arc<KnownLane>, Position)>,
        key: Option<Bytes>,
        protocols: usize,
    ) -> Self {
        let frames = (0..protocols * body.slots()).map(|_| OnceLock::new()).collect();
        let keyed = key.map(|key| Box::new(Keyed::new(key)));
        Self { rooms, event, body, at, keyed, frames }
    }

    /// Takes a place, and no more.
    pub(crate) fn for_nobody() -> Self {
        let body = EntryBody::Shared(Json::of(&()).expect("null has a JSON form"));
        Self::new(SmallVec::new(), "".into(), body, None, None, 0)
    }

    pub(crate) fn event(&self) -> &Cow<'static, str> {
        &self.event
    }

    /// The views that get it, a bit each.
    pub(crate) fn views(&self) -> SmallVec<[u64; 1]> {
        let bodies = match &self.body {
            EntryBody::Shared(_) => return SmallVec::new(),
            EntryBody::PerView(bodies) => bodies,
            EntryBody::Redacted(redacted) => return SmallVec::from_elem(redacted.views(), 1),
        };
        let word = |bodies: &[Option<Json>]| {
            bodies.iter().enumerate().fold(0, |bits, (n, b)| bits | u64::from(b.is_some()) << n)
        };
        bodies.chunks(64).map(word).collect()
    }

    /// What it counts for where it may be passed over: never nothing, and the same for
    /// everybody.
    pub(crate) fn size(&self) -> usize {
        1 + self.body.longest()
    }

    /// What it counts for in the log's limit: with every frame encoded once.
    pub(crate) fn bytes(&self) -> u64 {
        let frames = self.frames.len() * size_of::<OnceLock<Frame>>();
        let encoded = (1 + self.frames.len()) * (self.event.len() + 64);
        let keyed = self.keyed.as_ref().map_or(0, |keyed| keyed.bytes());
        (size_of::<Self>() + frames + encoded + keyed + self.body.bytes()) as u64
    }

    /// The lane it is from, and the position after it.
    pub(crate) fn position(&self) -> Option<(LaneId, Position)> {
        self.at.as_ref().map(|(lane, position)| (lane.id, *position))
    }

    /// Whether a view gets it.
    pub(crate) fn is_for(&self, view: ViewId) -> bool {
        self.body.is_for(view)
    }

    /// What it counts for in what is pending for a connection that gets it.
    ///
    /// # Errors
    /// The log has moved on without its batch.
    pub(crate) fn pending_size(
        &self,
        protocol: &ProtocolRef,
        view: ViewId,
        stand: &Stand<'_>,
    ) -> Result<u64, Evicted> {
        if self.keyed.is_some() || protocol.whole_cursors {
            // Its frame is not the same for everybody.
            return Ok(self.size() as u64);
        }
        let frame = self.frame(protocol, view, stand)?;
        Ok(frame.map_or(0, |frame| frame.as_bytes().len() as u64))
    }

    /// The frame for a protocol and a view; `None` where the view has no body.
    ///
    /// # Errors
    /// The log has moved on without its batch, and nobody had encoded it before.
    pub(crate) fn frame(
        &self,
        protocol: &ProtocolRef,
        view: ViewId,
        stand: &Stand<'_>,
    ) -> Result<Option<Cow<'_, Frame>>, Evicted> {
        let Some(body) = self.body.of(view) else { return Ok(None) };
        let at = match &self.body {
            EntryBody::Shared(_) => protocol.id.0 as usize,
            body => protocol.id.0 as usize * body.slots() + view.0 as usize,
        };
        // A protocol registered after this was appended has no place for its frame.
        let cell = self.frames.get(at);
        if let Some(frame) = cell.and_then(OnceLock::get) {
            return Ok(Some(Cow::Borrowed(frame)));
        }
        let cursor = if protocol.whole_cursors { Some(stand.cursor()?) } else { None };
        let encode = || self.encode(protocol, body, 0, cursor.as_ref());
        Ok(Some(match cell {
            Some(cell) => Cow::Borrowed(cell.get_or_init(encode)),
            None => Cow::Owned(encode()),
        }))
    }

    /// The frame for one connection alone, which was spared `skipped` earlier ones and has
    /// everything up to `cursor` with it; `None` where the view has no body.
    pub(crate) fn frame_alone(
        &self,
        protocol: &ProtocolRef,
        view: ViewId,
        skipped: u64,
        cursor: Option<&Cursor>,
    ) -> Option<Frame> {
        Some(self.encode(protocol, self.body.of(view)?, skipped, cursor))
    }

    fn encode(
        &self,
        protocol: &ProtocolRef,
        body: &Json,
        skipped: u64,
        cursor: Option<&Cursor>,
    ) -> Frame {
        protocol.protocol.frame(&Delivery {
            event: &self.event,
            room: if let [room] = &self.rooms[..] { Some(room.name()) } else { None },
            body,
            at: self.at.as_ref().map(|(lane, position)| lane.at(*position)),
            cursor,
            skipped,
        })
    }
}

/// Where an entry stands: what its whole cursor is made of.
pub(crate) struct Stand<'a> {
    pub(crate) lanes: &'a Lanes,
    pub(crate) log: &'a Log,
    pub(crate) batch: &'a Batch,
    /// Its index in the batch.
    pub(crate) at: usize,
}

impl Stand<'_> {
    /// The whole cursor after the entry.
    ///
    /// # Errors
    /// The log has moved on without its batch.
    pub(crate) fn cursor(&self) -> Result<Cursor, Evicted> {
        // A lane is forgotten once the log has dropped the batch that closed it, and all that
        // stands before.
        self.lanes.seal(self.log.positions_after(self.batch, self.at)?).ok_or(Evicted)
    }
}
