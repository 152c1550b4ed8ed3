//! Server-Sent Events, to the letter, over real HTTP.

#[path = "../common/mod.rs"]
mod common;

mod client;
mod contract;
mod refusals;
mod resume;
mod slow;
mod stream;
mod wire;
