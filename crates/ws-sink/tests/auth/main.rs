//! Tokens from outside: forged ones are refused, those of a provider that rotates its
//! keys are not.

mod file;
mod forged;
mod pairs;
mod random;
#[cfg(feature = "jwks-url")]
mod url;
