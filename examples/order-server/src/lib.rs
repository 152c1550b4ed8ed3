//! A shop's orders, live: an order placed in one browser is seen in another at once,
//! through SQLite, Kafka, the hub and a WebSocket, in one process.
//!
//! ```text
//! REST -> store -> outbox -> relay -> Kafka -> source -> router -> hub -> sockets
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`config`] | flags and variables |
//! | [`server`] | the wiring, from start to drain |
//! | [`http`] | the API, health, metrics, pages |
//! | [`folder`], [`cursor_keys`] | the data folder, and what is kept secret in it |
//! | [`auth`], [`verify`], [`tickets`], [`rate`] | who is there, and how often |
//! | [`control`] | who is no longer, on all servers |
//! | [`order`], [`status`], [`money`], [`time`], [`input`] | what an order is |
//! | [`store`] | orders in SQLite, with the outbox in the same transaction |
//! | [`record`] | what is written to Kafka |
//! | [`kafka`], [`relay`] | the broker, and from the outbox to it, by one server at a time |
//! | [`routing`], [`access`], [`views`] | who gets what, and how much of it |
//!
//! The binary is thin; tests start the same [`server::Server`] on a free port.

pub mod access;
pub mod auth;
pub mod config;
pub mod control;
pub mod cursor_keys;
pub mod folder;
pub mod http;
pub mod input;
pub mod kafka;
pub mod money;
pub mod order;
pub mod rate;
pub mod record;
pub mod relay;
pub mod routing;
pub mod server;
pub mod status;
pub mod store;
pub mod tickets;
pub mod time;
pub mod verify;
pub mod views;
