//! The load generator alone, against any server: `fanout-bench drive`.
//!
//! ```text
//! parent process                               worker processes, a share of the clients each
//!   publishers  ---- publish, on schedule ---> server ---- messages ----> crowd
//!   run         <------------- a JSON line each, stdin and stdout ------> worker
//!   report      table, JSON, and whether the generator itself was the bottleneck
//! ```
//!
//! The loop is open: messages are published at their scheduled times, whatever the
//! server does, and latency runs from the scheduled time. A server that stalls is not
//! asked less, so that its worst moments are in the figures (what Gil Tene calls
//! coordinated omission is not).
//!
//! Every message says who has published it, for which room, and its number there
//! ([`stamp`]); every client checks that what is for it comes whole, once and in order
//! ([`stream`]). A server may be lossy: what is missing, doubled or out of order is
//! counted and told, and so is each lost connection with its close code.
//!
//! Several clients share a process, since a process may have only so many descriptors,
//! and one core reads only so fast. A worker ends when its stdin closes.

mod client;
mod crowd;
mod ledger;
mod lines;
pub mod options;
mod publishers;
mod report;
mod run;
mod server_process;
pub mod stamp;
pub mod stream;
mod table;
mod target;
mod worker;
mod workers;

pub use options::Options;
pub use run::{DriveError, drive};
