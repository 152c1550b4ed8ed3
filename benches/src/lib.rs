//! Benchmarks of fanout, and of its peers in the same run.
//!
//! What the library itself costs, in process and without sockets, `cargo bench -p benches`
//! tells; [`in_memory`] is what those benches share. Over real WebSockets there is
//! `fanout-bench`, on Unix (`cargo run --release -p benches --bin fanout-bench -- --help`):
//!
//! - by itself it compares what a delivery costs with what it costs other servers;
//! - [`drive`] is the load generator alone, against any server, open loop;
//! - [`scenario`] shows what a hub does under trouble: clients that stall, that leave all at
//!   once, that send without end, that all come back after a restart;
//! - [`backlog`] reads what has piled up in Kafka, beside a bare loop of rdkafka's.
//!
//! ```text
//! parent process                                   child process, one a run
//!   comparison   cases x repetitions x servers
//!     run        connect, warm up, measure, stop
//!       process  <--------- control lines -------->  control   publish, clients, cpu
//!       load     <-------- WebSocket frames --------  servers   fanout broadcast floor
//!   progress     what is running now
//!   summary      medians, ratios of one repetition, latency by percentile
//!   report       tables, JSON
//!   html         a page with charts
//! ```
//!
//! Each run has a server process of its own, so that its CPU time is the server's
//! alone, told by itself to the nanosecond. The loop is closed: the next burst is
//! published when every client has the last one, and every server delivers exactly the
//! same bytes ([`message`]). A client checks that each message came once and in order.
//!
//! A peer more is a file in `servers` and a [`Kind`](servers::Kind).

pub mod backlog;
pub mod broker;
pub mod clock;
pub mod comparison;
pub mod control;
pub mod drive;
pub mod html;
pub mod in_memory;
pub mod load;
pub mod machine;
pub mod message;
pub mod options;
pub mod process;
pub mod progress;
pub mod report;
pub mod run;
pub mod scenario;
pub mod servers;
pub mod summary;
