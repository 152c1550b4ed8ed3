//! Topics that are named by a pattern.
//!
//! A pattern matches whole names, as Kafka's own do, and never those that begin with
//! `__`: they are Kafka's. Names of topics are ASCII, and so is what a pattern knows of
//! letters and digits.

use regex::bytes::{Regex, RegexBuilder};

use crate::config::ConfigError;

/// Most bytes of a pattern once it is compiled.
const MAX_BYTES: usize = 1 << 20;

/// Patterns that are ready to match.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patterns(Vec<Regex>);

impl Patterns {
    pub(crate) fn compile(patterns: &[String]) -> Result<Self, ConfigError> {
        patterns.iter().map(|pattern| compile(pattern)).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, topic: &str) -> bool {
        !topic.starts_with("__") && self.0.iter().any(|regex| regex.is_match(topic.as_bytes()))
    }
}

fn compile(pattern: &str) -> Result<Regex, ConfigError> {
    let compiled =
        |pattern: &str| RegexBuilder::new(pattern).unicode(false).size_limit(MAX_BYTES).build();
    // By itself first: what is no pattern must not become one by what is put around it.
    compiled(pattern).and_then(|_| compiled(&format!("^(?:{pattern})$"))).map_err(|error| {
        let problem = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        ConfigError::BadPattern { pattern: pattern.to_owned(), problem }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(patterns: &[&str]) -> Patterns {
        let patterns: Vec<String> = patterns.iter().copied().map(Into::into).collect();
        Patterns::compile(&patterns).unwrap()
    }

    #[test]
    fn whole_names_are_matched_and_never_kafkas_own() {
        for anchored in ["^orders\\..*", "orders\\..*", "^orders\\..*$"] {
            let patterns = patterns(&[anchored]);
            assert!(patterns.matches("orders.created") && patterns.matches("orders."));
            assert!(!patterns.matches("old.orders.created") && !patterns.matches("orders"));
        }
        let either = patterns(&["a|ab", "x\\d"]);
        assert!(["a", "ab", "x7"].into_iter().all(|topic| either.matches(topic)));
        assert!(!["abc", "xa", "x77"].into_iter().any(|topic| either.matches(topic)));
        let all = patterns(&[".*"]);
        assert!(all.matches("_mine") && !all.matches("__consumer_offsets"));
        assert!(!patterns(&[]).matches("") && patterns(&[]).is_empty());
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        for bad in ["orders.(", "a)|(?:b", "x{1000}{1000}", "*"] {
            let refused = Patterns::compile(&["fine".into(), bad.into()]).unwrap_err();
            assert!(refused.to_string().contains(bad), "{refused}");
        }
    }
}
