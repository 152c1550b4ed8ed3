//! Programs on fanout, one idea each; they are the examples of this package.
