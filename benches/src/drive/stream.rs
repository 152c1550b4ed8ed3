//! What one client has got from one publisher: whole, once and in order, or not.
//!
//! A number that is passed over is missing. If it comes later it was out of order; if
//! one comes that is not missing it has come twice.

use std::ops::Range;

/// Holes that are remembered. What was in older ones is lost for good, and counts as
/// doubled should it come after all.
const HOLES: usize = 64;

/// The account of one publisher's messages at one client.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    next: u64,
    holes: Vec<Range<u64>>,
    forgotten: u64,
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)] // Each is counted.
pub enum Came {
    /// As the next one, or with a hole before it.
    Ahead,
    /// After one that it should have come before.
    Late,
    /// Once more.
    Again,
}

impl Stream {
    /// Starts at this number: what was before is not expected.
    pub fn from(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// Takes the message with this number.
    pub fn take(&mut self, seq: u64) -> Came {
        if seq < self.next {
            return self.late(seq);
        }
        if seq > self.next {
            if self.holes.len() == HOLES {
                let oldest = self.holes.remove(0);
                self.forgotten += oldest.end - oldest.start;
            }
            self.holes.push(self.next..seq);
        }
        self.next = seq + 1;
        Came::Ahead
    }

    fn late(&mut self, seq: u64) -> Came {
        let Some(at) = self.holes.iter().position(|hole| hole.contains(&seq)) else {
            return Came::Again;
        };
        let hole = self.holes.remove(at);
        // What is left of it, on both sides; one of sixty-four may make it sixty-five.
        for part in [seq + 1..hole.end, hole.start..seq] {
            if !part.is_empty() {
                self.holes.insert(at, part);
            }
        }
        Came::Late
    }

    /// How many are missing before the newest that came.
    pub fn missing(&self) -> u64 {
        self.forgotten + self.holes.iter().map(|hole| hole.end - hole.start).sum::<u64>()
    }

    /// How many of the first `published` have not come.
    pub fn outstanding(&self, published: u64) -> u64 {
        self.missing() + published.saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_order_leaves_nothing_behind() {
        let mut stream = Stream::default();
        assert!((0..1000).all(|seq| stream.take(seq) == Came::Ahead));
        assert_eq!((stream.missing(), stream.outstanding(1003)), (0, 3));
        assert_eq!(stream.holes.capacity(), 0);
    }

    #[test]
    fn lost_doubled_and_late_are_told_apart() {
        use Came::{Again, Ahead, Late};
        let mut stream = Stream::default();
        let came: Vec<Came> = [0, 5, 3, 3, 0, 6].into_iter().map(|n| stream.take(n)).collect();
        assert_eq!(came, [Ahead, Ahead, Late, Again, Again, Ahead]);
        assert_eq!((stream.missing(), stream.outstanding(10)), (3, 6));
        assert!([1, 2, 4].into_iter().all(|seq| stream.take(seq) == Late));
        assert_eq!(stream.missing(), 0);
    }

    #[test]
    fn any_order_of_all_is_complete_and_any_loss_is_counted() {
        let mut drawn = 88_172_645_463_325_252_u64;
        let mut next = || {
            drawn = crate::message::xorshift(drawn);
            drawn
        };
        for _ in 0..200 {
            let mut numbers: Vec<u64> = (0..40).collect();
            for n in (1..40).rev() {
                numbers.swap(n, (next() % (n as u64 + 1)) as usize);
            }
            let lost = (next() % 40) as usize;
            let mut stream = Stream::default();
            assert!(numbers[lost..].iter().all(|seq| stream.take(*seq) != Came::Again));
            assert!(numbers[lost..].iter().all(|seq| stream.take(*seq) == Came::Again));
            assert_eq!(stream.outstanding(40), lost as u64);
        }
    }

    #[test]
    fn holes_are_bounded() {
        let mut stream = Stream::default();
        assert!((0..1000).all(|n| stream.take(2 * n + 1) == Came::Ahead));
        assert!(stream.holes.len() <= HOLES);
        assert_eq!(stream.missing(), 1000);
    }

    #[test]
    fn what_was_before_the_first_is_not_missing() {
        let mut stream = Stream::from(7);
        assert_eq!((stream.take(7), stream.missing()), (Came::Ahead, 0));
    }
}
