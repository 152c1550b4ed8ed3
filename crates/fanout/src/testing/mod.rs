//! What implementations are tested with: contract suites, and a sink in memory that
//! takes as much as a test lets it.

mod delivery;
mod memory_log;
mod memory_sink;
mod sink;
mod source;
mod tokens;

pub use delivery::*;
pub use memory_log::*;
pub use memory_sink::*;
pub use sink::*;
pub use source::*;
pub use tokens::*;
