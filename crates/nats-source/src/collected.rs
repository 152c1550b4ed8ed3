//! What was read and not handed on yet, in order, with the holes in between.
//!
//! Sequences have holes, of which most mean nothing: what was deleted one by one, what is
//! not of the subjects that are read. But what the server deletes from the beginning on, by
//! age or size, before it was read, is lost, and everybody is to be told where. Both look
//! the same to who reads. So a batch with holes costs a question: does the stream still
//! begin before the first of them? If so, nothing of it was lost.
//!
//! Invariants: sequences rise, none is taken twice; a hole is told of before the event
//! behind it and after the one before it.

use fanout::Event;

/// Sequences that did not come, from `from` up to the event at `before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    from: u64,
    to: u64,
    /// The place of the event behind it.
    before: usize,
}

/// Events that stand together, behind what is lost.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) events: Vec<Event>,
    /// How many sequences were lost before the first of them, at least one of which was a
    /// message as far as anybody can tell.
    pub(crate) lost: u64,
    /// The next sequence after them.
    pub(crate) next: u64,
}

/// What was read since it was last handed on.
#[derive(Debug)]
pub(crate) struct Collected {
    events: Vec<Event>,
    bytes: usize,
    holes: Vec<Hole>,
    next: u64,
    /// Messages that came when their place had been passed.
    late: u64,
}

impl Collected {
    /// Nothing yet; `next` comes next.
    pub(crate) fn from(next: u64) -> Self {
        Self { events: Vec::new(), bytes: 0, holes: Vec::new(), next, late: 0 }
    }

    /// The next sequence.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the event at `sequence`, unless its place was passed.
    pub(crate) fn take(&mut self, sequence: u64, event: impl FnOnce() -> Event) {
        if sequence < self.next {
            self.late += 1;
            return;
        }
        if sequence > self.next {
            self.holes.push(Hole { from: self.next, to: sequence, before: self.events.len() });
        }
        let event = event();
        self.bytes += event.payload.len();
        self.events.push(event);
        self.next = sequence + 1;
    }

    /// Moves on to `next`, beyond what never came.
    pub(crate) fn pass(&mut self, next: u64) {
        if next > self.next {
            self.holes.push(Hole { from: self.next, to: next, before: self.events.len() });
            self.next = next;
        }
    }

    /// Whether it has to be known where the stream begins.
    pub(crate) fn has_holes(&self) -> bool {
        !self.holes.is_empty()
    }

    /// Where the first hole begins.
    pub(crate) fn first_hole(&self) -> Option<u64> {
        self.holes.first().map(|hole| hole.from)
    }

    /// How many messages came when their place had been passed, since this was last asked.
    pub(crate) fn take_late(&mut self) -> u64 {
        std::mem::take(&mut self.late)
    }

    /// Everything, in order, where the stream begins at `first` now: one piece, and one more
    /// for each hole in which something was lost. Empty where nothing was read or passed.
    pub(crate) fn take_pieces(&mut self, first: u64) -> Vec<Piece> {
        let (events, holes) = (std::mem::take(&mut self.events), std::mem::take(&mut self.holes));
        self.bytes = 0;
        if events.is_empty() && holes.is_empty() {
            return Vec::new();
        }
        let (mut pieces, mut piece) = (Vec::new(), Piece::default());
        let mut lost = holes.iter().filter(|hole| hole.from < first).peekable();
        for (at, event) in events.into_iter().enumerate() {
            if let Some(hole) = lost.next_if(|hole| hole.before == at) {
                if !piece.events.is_empty() {
                    piece.next = hole.from;
                    pieces.push(std::mem::take(&mut piece));
                }
                piece.lost += hole.to.min(first) - hole.from;
            }
            piece.events.push(event);
        }
        if let Some(hole) = lost.next() {
            // Behind the last event.
            if !piece.events.is_empty() {
                piece.next = hole.from;
                pieces.push(std::mem::take(&mut piece));
            }
            piece.lost += hole.to.min(first) - hole.from;
        }
        piece.next = self.next;
        pieces.push(piece);
        pieces
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use fanout::Lane;

    use super::*;

    fn collected(next: u64, sequences: impl IntoIterator<Item = u64>) -> Collected {
        let lane = Arc::new(Lane::new("log", "S", 0));
        let mut collected = Collected::from(next);
        for sequence in sequences {
            let event = || Event::new(lane.clone(), sequence, Bytes::from_static(b"12"));
            collected.take(sequence, event);
        }
        collected
    }

    /// Of each piece its sequences, what was lost before, and what comes next.
    fn pieces(collected: &mut Collected, first: u64) -> Vec<(Vec<u64>, u64, u64)> {
        let pieces = collected.take_pieces(first).into_iter();
        let told = |p: Piece| (p.events.iter().map(|e| e.offset).collect(), p.lost, p.next);
        pieces.map(told).collect()
    }

    #[test]
    fn a_sequence_is_taken_once_and_in_order() {
        let mut taken = collected(5, [4, 5, 6, 6, 5, 7]);
        assert_eq!((taken.len(), taken.bytes(), taken.next()), (3, 6, 8));
        assert!(!taken.has_holes() && taken.take_late() == 3 && taken.take_late() == 0);
        assert_eq!(pieces(&mut taken, 0), [(vec![5, 6, 7], 0, 8)]);
        assert_eq!(pieces(&mut taken, 0), []);
        assert_eq!((taken.len(), taken.bytes(), taken.next()), (0, 0, 8));
    }

    #[test]
    fn holes_that_mean_nothing_are_passed_in_silence() {
        let mut taken = collected(1, [1, 4, 9]);
        taken.pass(20);
        taken.pass(15);
        assert_eq!((taken.first_hole(), taken.next()), (Some(2), 20));
        assert_eq!(pieces(&mut taken, 2), [(vec![1, 4, 9], 0, 20)], "it begins with the hole");
    }

    #[test]
    fn what_was_lost_is_told_where_it_stood() {
        let read = || collected(1, [1, 2, 5, 6, 9]);
        assert_eq!(pieces(&mut read(), 3), [(vec![1, 2, 5, 6, 9], 0, 10)]);
        assert_eq!(pieces(&mut read(), 4), [(vec![1, 2], 0, 3), (vec![5, 6, 9], 1, 10)]);
        assert_eq!(pieces(&mut read(), 7), [(vec![1, 2], 0, 3), (vec![5, 6, 9], 2, 10)]);
        let all = [(vec![1, 2], 0, 3), (vec![5, 6], 2, 7), (vec![9], 2, 10)];
        assert_eq!(pieces(&mut read(), 40), all);
        assert_eq!(pieces(&mut collected(1, [4]), 4), [(vec![4], 3, 5)], "before the first");
    }

    #[test]
    fn what_was_lost_behind_everything_is_told_too() {
        let mut taken = collected(1, [1]);
        taken.pass(8);
        assert_eq!(pieces(&mut taken, 8), [(vec![1], 0, 2), (vec![], 6, 8)]);
        let mut none = collected(3, []);
        none.pass(8);
        assert_eq!(pieces(&mut none, 5), [(vec![], 2, 8)], "of which three were no messages");
        none.pass(9);
        assert_eq!(pieces(&mut none, 5), [(vec![], 0, 9)]);
    }
}
