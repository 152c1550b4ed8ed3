//! Every interleaving that the checker tries, of one that appends, a shard that
//! follows and a slow connection that reads on, while everything that may be evicted
//! is.

use std::sync::Arc;

use super::*;
use crate::overflow::{Overflow, Policy, Rules};
use crate::position::Position;
use crate::room_table::RoomTable;
use crate::seen::Seen;

const BATCHES: u64 = 4;

fn explore(test: impl Fn() + Send + Sync + 'static) {
    let test = Arc::new(test);
    let random = test.clone();
    shuttle::check_random(move || random(), 20_000);
    shuttle::check_pct(move || test(), 20_000, 3);
}

#[test]
fn append_follow_read_on_evict() {
    explore(|| {
        let now = Instant::now();
        let log = Arc::new(Log::new(Keep { bytes: 0, age: Duration::ZERO }, 1, now));
        let (start, _) = log.tail();

        let writer = log.clone();
        let writing = shuttle::thread::spawn(move || {
            for n in 0..BATCHES {
                // The second batch has no entries, the third has two.
                let range = [0..1, 1..1, 1..3, 3..4][n as usize].clone();
                let moved = [Moved { lane: LaneId(0), from: n, next: n }];
                writer.append(Append::new(entries(range, None), &moved), now);
            }
        });

        let (follower, mut place) = (log.clone(), start.clone());
        let following = shuttle::thread::spawn(move || {
            let (mut number, mut seq) = (0, FIRST);
            while number < BATCHES {
                if follower.head() <= number {
                    shuttle::thread::yield_now();
                    continue;
                }
                let read = place.read().expect("nothing that a shard needs is evicted");
                let (batch, at) = read.expect("who sees the head finds the batch");
                assert_eq!((batch.number, batch.first, at), (number + 1, seq, 0));
                (number, seq) = (batch.number, batch.end());
                place = Place::in_batch(&batch, seq);
                follower.has_read(0, &batch);
            }
        });

        let (reader, mut place) = (log.clone(), start);
        let reading = shuttle::thread::spawn(move || {
            let (mut seq, mut number) = (FIRST, 0);
            while seq < FIRST + 4 {
                match place.read() {
                    Err(Evicted) => {
                        // It is told, and only when that is so.
                        assert!(reader.chain.lock().unwrap().oldest.number > number);
                        return;
                    }
                    Ok(None) => shuttle::thread::yield_now(),
                    Ok(Some((batch, at))) => {
                        assert_eq!(batch.first + at as u64, seq, "no entry is passed over");
                        // One entry at a time: it may be cut within a batch.
                        let next = (seq + 1).min(batch.end());
                        place = Place::in_batch(&batch, next);
                        (seq, number) = (next, batch.number);
                    }
                }
            }
        });
        writing.join().unwrap();
        following.join().unwrap();
        reading.join().unwrap();
        log.evict(now);
        assert!(log.stats(now).entries <= 1, "what nobody needs is gone");
    });
}

/// Who wants a room sets its bit and then reads the head; who appends stores the
/// head and then reads the bits.
#[test]
fn a_shard_that_joins_sees_the_batch_or_is_woken() {
    explore(|| {
        let now = Instant::now();
        let log = Arc::new(Log::new(Keep { bytes: 1 << 20, age: Duration::MAX }, 1, now));
        let table = RoomTable::new(Rules::new(Overflow::default(), &[]));
        let room = table.intern(&crate::room::Room::new("a").unwrap());

        let (writer, wanted) = (log.clone(), room.clone());
        let writing = shuttle::thread::spawn(move || {
            let batch = writer.append(Append::new(entries(0..1, Some(&wanted)), &[]), now);
            batch.entries[0].rooms[0].wanted() != 0
        });
        room.want(0, true);
        let seen = log.head() > 0;
        let woken = writing.join().unwrap();
        assert!(seen || woken, "an emission that nobody is told of");
    });
}

/// Whoever sees the head knows of everything up to there what it stands for.
#[test]
fn what_is_seen_knows_what_stands_for_it() {
    explore(|| {
        let now = Instant::now();
        let log = Arc::new(Log::new(Keep { bytes: 0, age: Duration::ZERO }, 1, now));
        let table = RoomTable::new(Rules::new(Overflow::new(Policy::Conflate), &[]));
        let room = table.intern(&crate::room::Room::new("a").unwrap());
        let (start, _) = log.tail();
        let keyed = move || {
            let body = crate::frame::EntryBody::Shared(crate::json::Json::of(&1).unwrap());
            let rooms = std::iter::once(room.clone()).collect();
            vec![Entry::new(rooms, "n".into(), body, None, Some("key".into()), 1)]
        };
        let writer = log.clone();
        let writing = shuttle::thread::spawn(move || {
            for _ in 0..3 {
                writer.append(Append::new(keyed(), &[]), now);
            }
            // Everything that may go goes, while it is being read.
            writer.evict(now);
        });
        let (mut place, mut number) = (start, 0);
        while number < 3 {
            let head = log.head();
            let Some((batch, _)) = place.read().expect("a shard needs it") else {
                shuttle::thread::yield_now();
                continue;
            };
            let newer = batch.entries[0].keyed.as_ref().unwrap().newer();
            if head > batch.number {
                assert_eq!(newer, Some(batch.end()), "nobody would be told of it");
            }
            (place, number) = (Place::in_batch(&batch, batch.end()), batch.number);
            log.has_read(0, &batch);
        }
        writing.join().unwrap();
        log.evict(now);
        assert_eq!(log.chain.lock().unwrap().lines.len(), 1);
    });
}

/// One closes a lane while a shard follows and others come with what they have of it. Each of
/// them gets the rest of it, or is told; and nobody keeps it in the log.
#[test]
fn a_lane_is_closed() {
    explore(|| {
        let now = Instant::now();
        let log = Arc::new(Log::new(Keep { bytes: 0, age: Duration::ZERO }, 1, now));
        let (start, _) = log.tail();
        let (lane, other) = (LaneId(0), LaneId(1));
        let one = |n: u64| entries(n..n + 1, None);
        log.append(Append::new(one(0), &[Moved { lane, from: 0, next: 1 }]), now);

        let writer = log.clone();
        let writing = shuttle::thread::spawn(move || {
            writer.append(Append::new(one(1), &[Moved { lane, from: 1, next: 2 }]), now);
            writer.append_close(&[lane], now);
            writer.append(Append::new(one(2), &[Moved { lane: other, from: 0, next: 1 }]), now);
        });

        let comer = log.clone();
        let coming = shuttle::thread::spawn(move || {
            let (passed, has) = (comer.head(), 1);
            let mut seen = Seen::new([(lane, Position::before(has))]);
            match comer.find(&mut seen, passed) {
                Err(NotHere::Missing(lanes)) => assert_eq!(lanes, [lane]),
                Err(NotHere::Closed) => {
                    let (_, frontier) = comer.tail();
                    assert_eq!(frontier.next(lane), None, "told before it is so");
                }
                Ok((place, _)) => {
                    // Or it came when all was over: then a cursor would not have been read.
                    assert!(place.seq() <= FIRST + 1 || passed > 2, "{}", place.seq());
                }
            }
        });

        let (mut place, mut frontier, mut number) = (start, Frontier::default(), 0);
        while number < 4 {
            if log.head() <= number {
                shuttle::thread::yield_now();
                continue;
            }
            let (batch, _) = place.read().expect("a shard needs it").expect("it is there");
            for (lane, next) in &batch.frontier {
                frontier.advance(*lane, *next);
            }
            batch.closed.iter().for_each(|lane| frontier.close(*lane));
            number = batch.number;
            let expected = [None, Some(1), Some(2), None, None][number as usize];
            assert_eq!(frontier.next(lane), expected);
            if let Some(at) = batch.entries.len().checked_sub(1) {
                // What a frame says of it is what the shard has.
                let positions = log.positions_after(&batch, at).expect("a shard needs it");
                let known = positions.iter().any(|(of, _)| *of == lane);
                assert_eq!(known, number < 3 && number > 1);
            }
            place = Place::in_batch(&batch, batch.end());
            log.has_read(0, &batch);
        }
        writing.join().unwrap();
        coming.join().unwrap();
        log.evict(now);
        assert_eq!(log.take_forgotten(), [lane]);
        assert_eq!((log.oldest(lane), log.newest(lane)), (None, None));
    });
}
