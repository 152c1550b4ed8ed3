//! WebSocket and Server-Sent Events sinks for [`fanout`]: upgrade, native protocol,
//! authentication.
//!
//! [`Ws`] answers the request that opens a WebSocket, as a handler of axum or of any
//! server built on hyper. From then on the connection belongs to a shard of the hub,
//! which polls the socket itself ([`Sockets`]) and writes to it directly: there is no
//! task, no queue and, while it is idle, no buffer for it. [`Sse`] gives the same events to
//! clients that only listen, as the body of a response.
//!
//! ```no_run
//! use axum::{Router, extract::Request, routing::get};
//! use fanout::{Access, Hub, RoleAccess};
//! use ws_sink::{Sockets, Ws, auth::Hs256};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let access = Access::new([RoleAccess::new("user").joins("user:{subject}")])?;
//! let hub = Hub::builder(access).readiness(Sockets::new).build()?;
//! let ws = Ws::new(&hub, Hs256::new(b"a secret of at least thirty-two bytes")?);
//! let app = Router::new().route("/ws", get(async move |r: Request| ws.upgrade(r)));
//! axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `upgrade` | from an HTTP request to a connection of the hub |
//! | [`handshake`] | the request that opens a connection, and its answer |
//! | [`door`] | a server loop for strangers: times, sizes, addresses, TLS (feature `tls`) |
//! | [`admission`] | how many may come in, and how often |
//! | [`auth`] | from what a client presents to an identity |
//! | [`codec`] | frames to messages and back, with nothing held while idle |
//! | `protocol` | what the messages say: `fanout.v1` |
//! | `events` | what they say that is the application's own: [`ClientEvents`] |
//! | `sink` | one WebSocket as a sink of the hub |
//! | `socket`, `readiness` | what it is written to, and what a shard waits on |
//! | `sse` | Server-Sent Events: a response's body as a sink of the hub |
//! | `gate` | who may come in, whichever the way |
//! | [`close`] | why a connection ends, and whether to come back |
//! | [`client`] | the other side, for browsers: `fanout.js` |
//! | `testing` | messages read without a connection, for fuzzing (feature `test-util`) |

pub mod admission;
pub mod auth;
pub mod client;
pub mod close;
pub mod codec;
pub mod door;
mod events;
mod gate;
pub mod handshake;
mod protocol;
#[cfg(unix)]
mod readiness;
mod sink;
mod socket;
mod sse;
#[cfg(any(test, feature = "test-util"))]
pub mod testing;
mod upgrade;

pub use admission::{Admission, AdmissionLimits, Rate};
pub use events::{ClientEvent, ClientEvents, Refused, Sender};
pub use protocol::{MAX_ID_BYTES, Native};
#[cfg(unix)]
pub use readiness::Sockets;
pub use sse::{EventBody, EventStream, Sse, SseConfig};
pub use upgrade::{Ws, WsConfig};
