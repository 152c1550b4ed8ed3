//! How often the log may be told of the same trouble.

pub(crate) use fanout::Throttle;
