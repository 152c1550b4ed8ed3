//! Programs on fanout, one idea each; they are the examples of this package.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
