use super::*;
use crate::overflow::{Overflow, Policy, Rules};
use crate::position::Position;
use crate::room_table::RoomTable;
use crate::seen::Seen;

const KEEP: Keep = Keep { bytes: 0, age: Duration::from_secs(60) };

fn moved(lane: u32, from: u64, next: u64) -> Moved {
    Moved { lane: LaneId(lane), from, next }
}

#[test]
fn a_shard_keeps_what_it_needs_and_no_more() {
    let now = Instant::now();
    let log = Log::new(KEEP, 1, now);
    let (start, _) = log.tail();
    for n in 0..10 {
        log.append(Append::new(entries(n..n + 1, None), &[moved(0, n, n + 1)]), now);
    }
    assert_eq!(log.stats(now).entries, 10, "the shard has read nothing");
    let (first, _) = start.read().unwrap().unwrap();
    log.has_read(0, &first);
    log.evict(now);
    assert_eq!(log.stats(now).entries, 10, "its place is in the first batch");
    let (second, _) = Place::in_batch(&first, first.end()).read().unwrap().unwrap();
    log.has_read(0, &second);
    log.evict(now);
    assert_eq!(log.stats(now).entries, 9);
    log.stopped(0);
    log.evict(now);
    assert_eq!(log.stats(now).entries, 1, "the newest stays: there is always a place");
    assert_eq!(start.read().err(), Some(Evicted));
    assert_eq!(log.tail().1.next(LaneId(0)), Some(10));
}

#[test]
fn what_is_old_goes_though_there_is_room() {
    let start = Instant::now();
    let keep = Keep { bytes: u64::MAX, age: Duration::from_secs(60) };
    let log = Log::new(keep, 0, start);
    for n in 0..5 {
        log.append(Append::new(entries(n..n + 1, None), &[]), start + Duration::from_secs(n * 20));
    }
    log.evict(start + Duration::from_secs(110));
    assert_eq!(log.stats(start).entries, 2);
}

#[test]
fn batches_without_entries_are_places_too() {
    let now = Instant::now();
    let log = Log::new(KEEP, 1, now);
    let (start, _) = log.tail();
    log.append(Append::new(Vec::new(), &[moved(0, 5, 5)]), now);
    let (empty, at) = start.read().unwrap().unwrap();
    assert_eq!((at, empty.entries.len()), (0, 0));
    log.has_read(0, &empty);
    log.append(Append::new(entries(0..2, None), &[]), now);
    let place = Place::in_batch(&empty, empty.end());
    assert_eq!(place.read().unwrap().unwrap().0.first, FIRST);
}

#[test]
fn a_long_chain_is_dropped_without_recursion() {
    let now = Instant::now();
    let log = Log::new(Keep { bytes: u64::MAX, ..KEEP }, 0, now);
    let (start, _) = log.tail();
    for n in 0..200_000 {
        log.append(Append::new(entries(n..n + 1, None), &[]), now);
    }
    let held = start.read().unwrap().unwrap().0;
    drop(log);
    drop(held);
}

/// Somebody who has this much of lane 0.
fn seen(offset: u64) -> Seen {
    Seen::new([(LaneId(0), Position::before(offset))])
}

#[test]
fn a_closed_lane_is_there_for_those_before_its_end_and_then_for_nobody() {
    let now = Instant::now();
    let log = Log::new(KEEP, 1, now);
    let append = |moved: Moved| log.append(Append::new(entries(0..1, None), &[moved]), now);
    let first = append(moved(0, 0, 1));
    append(moved(1, 0, 1));
    let last = append(moved(0, 1, 2));
    let close = log.append_close(&[LaneId(0)], now);
    let after = append(moved(1, 1, 2));
    assert_eq!((close.entries.len(), &close.closed[..]), (0, &[LaneId(0)][..]));
    let positions = |batch: &Batch| -> Vec<_> {
        let all = log.positions_after(batch, 0).unwrap();
        all.into_iter().map(|(lane, position)| (lane.0, position.offset)).collect()
    };
    assert_eq!(positions(&last), [(0, 1), (1, 1)]);
    assert_eq!(positions(&after), [(1, 1)]);
    assert_eq!(log.tail().1.iter().collect::<Vec<_>>(), [(LaneId(1), 2)]);
    // Whoever came before is told; whoever has opened his cursor since was behind it.
    assert_eq!(log.find(&mut seen(2), close.number - 1).err(), Some(NotHere::Closed));
    let mut late = Seen::new([(LaneId(1), Position::before(1))]);
    assert_eq!(log.find(&mut late, close.number).unwrap().0.seq(), after.first);
    assert!(late.reads(LaneId(1)) && !late.reads(LaneId(0)));
    // He may also be from before its beginning.
    let mut early = Seen::new([]);
    assert_eq!(log.find(&mut early, close.number).err(), Some(NotHere::Closed));
    // What comes of it nevertheless brings nothing.
    append(moved(0, 2, 9));
    assert_eq!(log.newest(LaneId(0)), None);
    let newest = append(moved(1, 2, 3));
    for batch in [&first, &last] {
        log.has_read(0, batch);
        log.evict(now);
        assert!(log.take_forgotten().is_empty() && log.oldest(LaneId(0)).is_some());
    }
    log.has_read(0, &newest);
    log.evict(now);
    assert_eq!((log.take_forgotten(), log.take_forgotten()), (vec![LaneId(0)], vec![]));
    assert_eq!((log.oldest(LaneId(0)), log.newest(LaneId(0))), (None, None));
    assert_eq!(log.chain.lock().unwrap().lanes.iter().count(), 1);
}

#[test]
fn what_is_known_of_keys_goes_with_the_log() {
    let table = RoomTable::new(Rules::new(Overflow::new(Policy::Conflate), &[]));
    let room = table.intern(&crate::room::Room::new("a").unwrap());
    let now = Instant::now();
    let log = Log::new(KEEP, 1, now);
    let keyed = |key: u8| {
        let body = crate::frame::EntryBody::Shared(crate::json::Json::of(&1).unwrap());
        let rooms = std::iter::once(room.clone()).collect();
        Entry::new(rooms, "n".into(), body, None, Some(vec![key].into()), 1)
    };
    let first = log.append(Append::new(vec![keyed(0), keyed(1), keyed(0)], &[]), now);
    let second = log.append(Append::new(vec![keyed(0)], &[]), now);
    let of = |batch: &Batch, at: usize| {
        let keyed = batch.entries[at].keyed.as_ref().unwrap();
        (keyed.newer(), keyed.older().map(|(seq, _)| seq), keyed.older_from(0))
    };
    assert_eq!(of(&first, 0), (Some(FIRST + 2), None, 0));
    assert_eq!(of(&first, 1), (None, None, 0));
    assert_eq!(of(&second, 0), (None, Some(FIRST + 2), 2));
    assert_eq!(second.entries[0].keyed.as_ref().unwrap().older_from(FIRST + 1), 1);
    assert_eq!(log.chain.lock().unwrap().lines.len(), 2);
    log.stopped(0);
    log.evict(now);
    assert_eq!(log.chain.lock().unwrap().lines.len(), 1, "the newest batch stays");
    assert_eq!(of(&second, 0), (None, None, 0));
}
