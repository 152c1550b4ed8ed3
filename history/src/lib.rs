//! Checks what clients were told against what is in Kafka, with real servers on a real
//! broker and all the trouble that can be made for them.
//!
//! ```text
//! fanout-history run --kafka 127.0.0.1:9092 --control ".ci/kafka DIR" \
//!     --server-binary target/release/order-server --seconds 180 --seed 7
//! ```
//!
//! A run starts order servers on one data folder, clients that come and go over WebSocket
//! and SSE, customers and other services that write, and trouble: servers are killed,
//! paused and cut off from Kafka, the broker is killed, topics grow, lanes are deleted; tokens
//! end and are renewed, people are revoked, lose roles and come back as somebody else.
//! Then there is peace: everybody comes back and stays until the last record of each lane
//! has come. What every client was told is then compared with what the shop's router makes
//! of what is in Kafka: nothing may be lost, doubled, out of order or forbidden. What a
//! `gap` names may be missing where the gap stands, and nowhere else.
//!
//! | module | what |
//! |---|---|
//! | `judge` | whether a client's record is right: pure, and the heart of it |
//! | `oracle`, `reader` | what is in Kafka, and what has to be told of it |
//! | `client` | a client: cursor, rooms, comings and goings |
//! | `people`, `churn` | who there is, and rights that come and go |
//! | `control` | what was revoked, and from when on that is certain at each server |
//! | `prices` | what must not be in the bytes that somebody gets |
//! | `producers`, `markers` | what is written |
//! | `trouble`, `node`, `proxy` | what happens to servers, broker and connections |
//! | `run`, `world`, `report` | the run, what all of it shares, what is said of it |
//!
//! A checker that cannot fail proves nothing: after each run faults are put into what
//! clients were told, and every one of them has to be noticed.

mod churn;
mod client;
mod clock;
mod control;
mod error;
mod http;
mod judge;
mod markers;
mod node;
mod options;
mod oracle;
mod people;
mod prices;
mod producers;
mod proxy;
mod reader;
mod report;
mod rng;
mod run;
mod tally;
mod texts;
mod trouble;
mod world;

pub use error::Error;
pub use options::{Command, Options, Run, Trouble, Wire};
pub use run::run;
