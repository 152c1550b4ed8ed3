//! What the clients of one worker have got, all together.

use hdrhistogram::Histogram;

use super::lines::{Share, Tally, histogram};
use super::stamp::{Draw, Finder, Found, Stamp};
use super::stream::{Came, Stream};
use crate::clock;
use crate::load::Dialect;

/// Which messages are for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of its server.
    pub(super) server: u32,
    /// Its room; 0 where there are none.
    pub(super) room: u32,
}

/// A client's streams, by publisher: there are few, and mostly one.
pub(super) type Streams = Vec<(u32, Stream)>;

/// Counts.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) dialect: Dialect,
    pub(super) tally: Tally,
    pub(super) latency: Histogram<u64>,
    /// When the last message came.
    pub(super) last: Option<u64>,
    /// Publishers at each server.
    publishers: u32,
    rooms: u32,
    finder: Finder,
    counting: bool,
    /// How many messages there are, by publisher and room; known once all are published.
    published: Option<Vec<Vec<u64>>>,
}

impl Ledger {
    pub(super) fn new(share: &Share) -> Self {
        Self {
            dialect: share.dialect,
            tally: Tally::default(),
            latency: histogram(),
            last: None,
            publishers: share.publishers,
            rooms: share.rooms,
            finder: Finder::new(share.payload, share.run),
            counting: false,
            published: None,
        }
    }

    /// Counts from now on.
    pub(super) fn go(&mut self) {
        self.counting = true;
    }

    pub(super) fn now(&self) -> u64 {
        if self.counting { clock::monotonic_ns() } else { 0 }
    }

    /// Takes a text that has come to a client.
    pub(super) fn text(&mut self, text: &[u8], place: Place, streams: &mut Streams, now: u64) {
        if !self.counting {
            return;
        }
        let Stamp { publisher, room, seq, due } = match self.finder.find(text) {
            Found::Message(stamp) => stamp,
            Found::Cut => {
                self.tally.cut += 1;
                return;
            }
            Found::Other => {
                self.tally.other += 1;
                return;
            }
        };
        if room != place.room {
            self.tally.misrouted += 1;
            return;
        }
        let known = streams.iter().position(|(of, _)| *of == publisher);
        let at = known.unwrap_or_else(|| {
            // Of its own server's publishers a client gets everything.
            let from = if self.own(place).contains(&publisher) { 0 } else { seq };
            streams.push((publisher, Stream::from(from)));
            streams.len() - 1
        });
        match streams[at].1.take(seq) {
            Came::Ahead => {}
            Came::Late => self.tally.reordered += 1,
            Came::Again => {
                self.tally.doubled += 1;
                return;
            }
        }
        self.tally.received += 1;
        self.last = Some(now);
        self.latency.saturating_record(now.saturating_sub(due));
    }

    /// The publishers at a client's own server.
    fn own(&self, place: Place) -> std::ops::Range<u32> {
        let first = place.server * self.publishers;
        first..first + self.publishers
    }

    /// So many messages each publisher has published.
    pub(super) fn published(&mut self, messages: &[u64]) {
        let count =
            |(publisher, messages): (u32, &u64)| Draw::new(publisher, self.rooms).count(*messages);
        self.published = Some((0..).zip(messages).map(count).collect());
    }

    /// What a client is still to get; `None` while publishing goes on.
    pub(super) fn outstanding(&self, place: Place, streams: &Streams) -> Option<u64> {
        let published = self.published.as_ref()?;
        let of = |publisher: u32| {
            let rooms = published.get(publisher as usize);
            rooms.and_then(|rooms| rooms.get(place.room as usize)).copied().unwrap_or_default()
        };
        let begun = streams.iter().map(|(publisher, stream)| stream.outstanding(of(*publisher)));
        let silent = self.own(place).filter(|own| streams.iter().all(|(of, _)| of != own));
        Some(begun.sum::<u64>() + silent.map(of).sum::<u64>())
    }

    /// Counts as lost what is missing at a client whose connection has ended: what it
    /// would have got later is not lost, it was not there.
    pub(super) fn leave(&mut self, streams: &Streams) {
        self.tally.lost += streams.iter().map(|(_, stream)| stream.missing()).sum::<u64>();
    }

    /// Counts as lost all that a client has not got that is there until the end.
    pub(super) fn finish(&mut self, place: Place, streams: &Streams) {
        match self.outstanding(place, streams) {
            Some(lost) => self.tally.lost += lost,
            None => self.leave(streams),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::drive::stamp::Payload;

    const PLACE: Place = Place { server: 1, room: 2 };

    /// Of one client, with two publishers at each server and three rooms.
    pub(in crate::drive) fn share() -> Share {
        Share {
            run: 9,
            dialect: Dialect::Plain,
            targets: Vec::new(),
            token: None,
            first: 0,
            clients: 1,
            connect_rate: 1.0,
            rooms: 3,
            publishers: 2,
            payload: 200,
        }
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(&share());
        ledger.go();
        ledger
    }

    fn take(ledger: &mut Ledger, streams: &mut Streams, publisher: u32, room: u32, seq: u64) {
        let stamp = Stamp { publisher, room, seq, due: 0 };
        let text = Payload::new(200, 9).stamped(&stamp).to_vec();
        ledger.text(&text, PLACE, streams, 1);
    }

    #[test]
    fn what_is_missing_at_the_end_is_lost() {
        let (mut ledger, mut streams) = (ledger(), Streams::new());
        // Publishers 2 and 3 are its own server's; 0 is another's.
        for (publisher, seq) in [(2, 0), (2, 1), (2, 3), (0, 5), (0, 6)] {
            take(&mut ledger, &mut streams, publisher, 2, seq);
        }
        assert_eq!((ledger.tally.received, ledger.outstanding(PLACE, &streams)), (5, None));
        let published = [100, 100, 60, 30];
        let there = |n: u32| Draw::new(n, 3).count(published[n as usize])[2];
        ledger.published(&published);
        let expected = (there(0) - 7) + (there(2) - 4 + 1) + there(3);
        assert_eq!(ledger.outstanding(PLACE, &streams), Some(expected));
        ledger.finish(PLACE, &streams);
        assert_eq!(ledger.tally.lost, expected);
    }

    #[test]
    fn who_leaves_has_lost_only_what_was_passed_over() {
        let (mut ledger, mut streams) = (ledger(), Streams::new());
        ledger.published(&[100, 100, 100, 100]);
        take(&mut ledger, &mut streams, 2, 2, 4);
        ledger.leave(&streams);
        assert_eq!((ledger.tally.received, ledger.tally.lost), (1, 4));
    }

    #[test]
    fn everything_else_is_counted_by_what_it_is() {
        let (mut ledger, mut streams) = (ledger(), Streams::new());
        for (room, seq) in [(2, 0), (2, 0), (1, 1), (2, 2), (2, 1)] {
            take(&mut ledger, &mut streams, 2, room, seq);
        }
        ledger.text(b"{}", PLACE, &mut streams, 1);
        ledger.text(
            &Payload::new(200, 9).stamped(&Stamp { publisher: 2, room: 2, seq: 3, due: 0 })[..150],
            PLACE,
            &mut streams,
            1,
        );
        let expected = Tally {
            received: 3,
            other: 1,
            lost: 0,
            doubled: 1,
            reordered: 1,
            cut: 1,
            misrouted: 1,
        };
        assert_eq!(ledger.tally, expected);
    }
}
