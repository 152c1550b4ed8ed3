//! Draft.
pub mod event;
pub mod json;
pub mod memory;
pub mod position;
pub mod role;
pub mod room;
pub mod router;
pub mod source;
/// t
pub mod testing {}
pub use event::Event;
pub use json::{Json, JsonError};
pub use memory::{MemoryError, MemorySource, MemoryTopic};
pub use position::{At, Cursor, Frontier, Lane, LaneId, LaneToken, Position};
pub use role::{Access, AccessError, Identity, Rights, Role, RoleAccess, View};
pub use room::{MAX_ROOM_BYTES, Room, RoomError, RoomPattern};
pub use router::{Body, Emission, RouteError, Router};
pub use source::{EventBatch, Source, SourceError, SourceHealth, SourceReporter, SourceStatus};
