//! A message that ends the connection.
//!
//! The client gives up a connection on which it reads what it does not take, such as a
//! header that is no UTF-8. It would come again on the next one: that is to be told.

use std::time::Duration;

/// Connections in a row that have ended soon, where reading had not moved on.
#[derive(Debug, Default)]
pub(super) struct Ends {
    at: u64,
    count: u32,
}

impl Ends {
    /// How many of them are no accident.
    const MANY: u32 = 5;

    /// One has ended after so long, with `next` due.
    pub(super) fn count(&mut self, after: Duration, next: u64) {
        let again = after < Duration::from_secs(10) && self.at == next;
        (self.at, self.count) = (next, if again { self.count + 1 } else { 1 });
    }

    pub(super) fn told(&self, next: u64) -> Option<String> {
        (self.count >= Self::MANY && self.at == next).then(|| {
            format!(
                "the connection ends whenever sequence {next} is due; the client takes no \
                 header that is not UTF-8"
            )
        })
    }

    /// Reading has moved on; whether something was told until now.
    pub(super) fn moved(&mut self) -> bool {
        std::mem::take(&mut self.count) >= Self::MANY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_connections_again_and_again_is_told() {
        let (soon, late) = (Duration::from_millis(5), Duration::from_secs(60));
        let mut ends = Ends::default();
        for _ in 0..4 {
            ends.count(soon, 7);
        }
        assert!(ends.told(7).is_none());
        ends.count(soon, 7);
        assert!(ends.told(7).is_some_and(|told| told.contains("sequence 7")));
        assert!(ends.told(8).is_none());
        assert!(ends.moved() && !ends.moved() && ends.told(7).is_none());
        for n in 0..20 {
            ends.count(if n % 3 == 0 { late } else { soon }, 7);
            assert!(ends.told(7).is_none(), "it works for a while");
        }
        for n in 0..20 {
            ends.count(soon, n);
            assert!(ends.told(n).is_none(), "it moves on");
        }
    }
}
