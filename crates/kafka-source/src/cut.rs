//! Names of what became of a log.
//!
//! Offsets of a log that was cut come twice, with other records behind them; and so do
//! those of a topic that went and came again where the brokers cannot tell the two apart.
//! So what is read from there on is another lane. Its log is named after the old one and
//! the offset from which it is another, `name~cut`: nodes that saw the same name it the
//! same, and refuse the cursors of those that did not.
//!
//! The second time it is `name~cut.2`, and so on: no two lanes of one node are named the
//! same.

use std::sync::Arc;

/// The log that `name` became when it was cut at this offset for the `nth` time, from 1.
pub(crate) fn named(name: &str, cut: u64, nth: u32) -> Arc<str> {
    if nth <= 1 { format!("{name}~{cut}").into() } else { format!("{name}~{cut}.{nth}").into() }
}

/// Where the log called `log` begins, if it is `name` or came of it by a cut.
pub(crate) fn begin(name: &str, log: &str) -> Option<u64> {
    let rest = log.strip_prefix(name)?;
    if rest.is_empty() {
        return Some(0);
    }
    let rest = rest.strip_prefix('~')?;
    rest.split_once('.').map_or(rest, |(cut, _)| cut).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_log_became_is_named_after_it_and_says_where_it_begins() {
        assert_eq!(&*named("c/1", 40, 1), "c/1~40");
        assert_eq!(&*named("c/1", 7, 3), "c/1~7.3");
        for (log, begins) in [("c/1", 0), ("c/1~40", 40), ("c/1~7.3", 7)] {
            assert_eq!(begin("c/1", log), Some(begins));
        }
        for other in ["c/12", "c/2~4", "c/1~", "c/1~x", "c", "c/1~4~5"] {
            assert_eq!(begin("c/1", other), None, "{other}");
        }
        assert_eq!(begin("a~1", "a~1~2"), Some(2), "whatever is given as a name");
    }
}
