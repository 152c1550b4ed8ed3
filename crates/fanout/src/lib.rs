//! Realtime fan-out: one log, many readers, and roles decide what each sees.
//!
//! Events come from a [`Source`] (Kafka, or memory), a [`Router`] turns each into
//! emissions to rooms, and a [`Hub`] brings every emission to the connections that may
//! see it: once, in the order of its partition, encoded once for all. A slow
//! connection is only a place in the log: it delays nobody and costs no memory.
//!
//! ```text
//!  Source --> Router --> Hub: one log of batches
//!  batch of   emissions   |
//!  events                 +--> Shard 0, at seq 812 --> sinks
//!                         +--> Shard 1, at seq 809 --> sinks
//!                                '--> a connection that is behind, at 640
//! ```
//!
//! # A page of code
//!
//! ```
//! use fanout::testing::{Lines, MemorySink};
//! use fanout::{
//!     Access, Emission, Event, Hub, Identity, Json, MemorySource, Pipeline, RoleAccess, Room,
//!     RouteError,
//! };
//! use serde::{Deserialize, Serialize};
//!
//! // An event of your own. In Kafka it is JSON; so it is here.
//! #[derive(Serialize, Deserialize)]
//! struct OrderPlaced {
//!     order: u64,
//!     buyer: String,
//!     total: f64,
//!     margin: f64,
//! }
//!
//! // Who may see what: a buyer his own orders, the desk all of them. A clerk is at the
//! // desk too, and sees another view of it.
//! fn access() -> Result<Access, fanout::AccessError> {
//!     Access::new([
//!         RoleAccess::new("auditor").joins("desk").sees("full"),
//!         RoleAccess::new("clerk").joins("desk").sees("sales"),
//!         RoleAccess::new("buyer").joins("user:{subject}").may_join("offers:*"),
//!     ])
//! }
//!
//! // From an event to emissions: pure, so that it can be done again.
//! fn route(event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
//!     let placed: OrderPlaced = event.parse()?;
//!     let sale = Json::of(&serde_json::json!({ "order": placed.order, "total": placed.total }))?;
//!     out.push(Emission::new(Room::of("user", &placed.buyer)?, "order:placed", sale.clone()));
//!     // The auditor gets the record as it is, the clerk without the margin, each encoded
//!     // once however many they are.
//!     let views = [("full", event.json()?), ("sales", sale)];
//!     out.push(Emission::new(Room::new("desk")?, "order:placed", views));
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::builder(access()?).build()?;
//! let (orders, source) = MemorySource::new("orders"); // or kafka_source::KafkaSource
//! tokio::spawn(Pipeline::new(source, route, hub.clone()).run());
//!
//! // Connections come through a sink: ws_sink::Ws for browsers, here one in memory.
//! let lines = hub.protocol(Lines);
//! let (ann, sink) = MemorySink::new();
//! hub.connect(&lines, Identity::new("ann", ["buyer"]), sink).await?;
//! let (clerk, sink) = MemorySink::new();
//! hub.connect(&lines, Identity::new("carl", ["clerk"]), sink).await?;
//!
//! let placed = OrderPlaced { order: 7, buyer: "ann".into(), total: 9.5, margin: 1.5 };
//! orders.send(&placed).await?;
//!
//! ann.until("her order came", |ann| ann.count() == 1).await;
//! clerk.until("the order came", |clerk| clerk.count() == 1).await;
//! assert_eq!(clerk.bodies(), [r#"{"order":7,"total":9.5}"#]);
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! An event passes through these modules in this order:
//!
//! | module | what |
//! |---|---|
//! | `source`, `memory` | where events come from |
//! | `event`, `position` | what one is, and where it stands: [`Event`], [`Lane`], [`Cursor`] |
//! | `keys`, `lanes` | the same as clients get it: sealed by a [`Keyring`], and read again |
//! | `pipeline` | source to hub, from start to drain |
//! | `routing`, `decode`, `router` | from a record to an event to emissions to entries |
//! | `poison` | records that cannot be used: [`Poison`] |
//! | `role`, `room`, `room_table` | who may be where and see what; rooms as small numbers |
//! | `hub`, `limits`, `shared` | the handle: publish, connect, statistics; its bounds; what shards share |
//! | `redact` | what each view sees of an event, declared once: [`Redaction`] |
//! | `frame` | an emission encoded once for a protocol and a view |
//! | `log` | recent emissions in one sequence |
//! | `shard`, `shard_task`, `members` | owns connections, alone, and follows the log |
//! | `rights`, `closing` | which rooms a connection is in; how it ends |
//! | `walk` | what is new is written to those it is for |
//! | `connection`, `catch_up`, `pending`, `conflate` | live or behind; reading on; which emissions stand for which |
//! | `overflow`, `too_far` | how far behind is too far, and what happens then |
//! | `resume`, `seen`, `replay` | a connection that came back; what only the source still has |
//! | `revocation`, `revoked`, `revoking` | what is void from now on: [`Revocation`]; remembered; applied to connections |
//! | `control` | what is said to all nodes: [`Controls`] |
//! | `rate` | how often a client may ask: [`RequestRate`] |
//! | `sink`, `session` | how a connection takes frames, and what it may ask for |
//! | [`metrics`] | what is counted |
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `test-util` | `testing`: contract suites for sources and sinks, a sink in memory |

#![forbid(unsafe_code)]

mod catch_up;
mod closing;
mod conflate;
mod connection;
mod control;
mod decode;
mod error;
mod event;
mod frame;
mod hub;
mod json;
mod keys;
mod lanes;
mod limits;
mod log;
mod members;
mod memory;
pub mod metrics;
mod overflow;
mod pending;
mod pipeline;
mod poison;
mod position;
mod rate;
mod redact;
mod replay;
mod resume;
mod revocation;
mod revoked;
mod revoking;
mod rights;
mod role;
mod room;
mod room_table;
mod router;
mod routing;
mod seen;
mod session;
mod shard;
mod shard_task;
mod shared;
mod sink;
mod source;
mod sync;
#[cfg(any(test, feature = "test-util"))]
pub mod testing;
mod throttle;
mod too_far;
mod walk;

#[cfg(test)]
mod model_tests;

pub use connection::{ConnectionId, NotConnectionId};
pub use control::Controls;
pub use decode::{CloudEvents, DecodeError, Decoder, JsonPayload, NotCloudEvent, Raw};
pub use error::{ConnectError, PublishError};
pub use event::Event;
pub use frame::{Delivery, Frame, Protocol, ProtocolRef};
pub use hub::{Hub, HubBuilder};
pub use json::{Json, JsonError};
pub use keys::{KeyError, Keyring};
pub use limits::Limits;
pub use log::LogStats;
pub use memory::{MemoryError, MemorySource, MemoryTopic};
pub use overflow::{Overflow, Policy};
pub use pipeline::{Pipeline, PipelineStop};
pub use poison::{DeadLetter, DeadLetterError, DeadLetters, Poison};
pub use position::{At, Cursor, Lane};
pub use rate::RequestRate;
pub use redact::{EventViews, PathError, Redaction, RedactionError};
pub use revocation::{Revocation, RevocationError};
pub use role::{Access, AccessError, Identity, Rights, Role, RoleAccess, View};
pub use room::{MAX_ROOM_BYTES, Room, RoomError, RoomPattern};
pub use router::{Body, Emission, RouteError, Router};
pub use session::{JoinError, OwnRoom, RenewError, Renewed, Session};
pub use shared::Stats;
pub use sink::{Close, Gap, GapReason, Input, Readiness, Ready, Sink, Token, WakersOnly};
pub use source::{
    Bounds, EventBatch, Replay, ReplayError, ReplayRange, Source, SourceError, SourceHealth,
    SourceReporter, SourceStatus,
};
pub use throttle::Throttle;
