//! Draft.

mod catch_up;
mod connection;
mod event;
mod frame;
mod hub;
mod json;
mod lanes;
mod log;
mod members;
mod memory;
pub mod metrics;
mod overflow;
mod pipeline;
mod position;
mod role;
mod room;
mod room_table;
mod router;
mod session;
mod shard;
mod shard_task;
mod sink;
mod source;
mod sync;
#[cfg(any(test, feature = "test-util"))]
pub mod testing;
mod walk;

#[cfg(test)]
mod model_tests;

pub use connection::ConnectionId;
pub use event::Event;
pub use frame::{Delivery, Frame, Protocol, ProtocolRef};
pub use hub::{ConnectError, Hub, HubBuilder, Limits, PublishError, Stats};
pub use json::{Json, JsonError};
pub use log::LogStats;
pub use memory::{MemoryError, MemorySource, MemoryTopic};
pub use overflow::Overflow;
pub use pipeline::{Pipeline, PipelineStop};
pub use position::{At, Cursor, Frontier, Lane, LaneId, LaneToken, Position};
pub use role::{Access, AccessError, Identity, Rights, Role, RoleAccess, View};
pub use room::{MAX_ROOM_BYTES, Room, RoomError, RoomPattern};
pub use router::{Body, Emission, RouteError, Router};
pub use session::{JoinError, OwnRoom, RenewError, Renewed, Session};
pub use sink::{Close, Input, Readiness, Ready, Sink, Token, WakersOnly};
pub use source::{EventBatch, Source, SourceError, SourceHealth, SourceReporter, SourceStatus};
