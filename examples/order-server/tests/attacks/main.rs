//! What a stranger on the internet may try, against the server as it is run.
//!
//! ```text
//! tokens.rs      who somebody says they are
//! tickets.rs     the same, by a ticket
//! in_band.rs     the same, in a frame
//! revocation.rs  who may no longer, and who may say so
//! rooms.rs       what is another's
//! cross_site.rs  pages of other sites
//! http.rs        requests that are none
//! frames.rs      frames that are none, too many, or never read
//! floods.rs      too many of everything
//! handshakes.rs  TLS handshakes that are none
//! tls.rs         the above behind a good one, and records that are none
//! soak.rs        all of it together, for as long as is asked for
//! ```
//!
//! Each family has a server of its own, a process, on the embedded broker. Attacks are made
//! of bytes: no library stands in between that would correct them ([`raw`]). Each has one
//! answer that is right. All along, [`bystander`] is somebody whose orders arrive as if
//! nothing was; and afterwards the server has what it had before ([`target`]): descriptors,
//! sockets, threads, tasks, connections, and memory but for what an allocator keeps.

#![allow(missing_docs, reason = "a test")]

mod bystander;
mod cross_site;
mod family;
mod floods;
mod forged;
mod frames;
mod handshakes;
mod http;
mod in_band;
mod jwt;
mod raw;
mod revocation;
mod rooms;
mod soak;
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod target;
mod tickets;
mod tls;
mod tokens;
mod wire;
