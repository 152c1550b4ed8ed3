use super::*;

const KEEP: Keep = Keep { bytes: 0, age: Duration::from_secs(60) };

#[test]
fn a_shard_keeps_what_it_needs_and_no_more() {
    let now = Instant::now();
    let log = Log::new(KEEP, 1, now);
    let (start, _) = log.tail();
    for n in 0..10 {
        log.append(entries(n..n + 1, None), vec![(LaneId(0), n + 1)], now);
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
        log.append(entries(n..n + 1, None), Vec::new(), start + Duration::from_secs(n * 20));
    }
    log.evict(start + Duration::from_secs(110));
    assert_eq!(log.stats(start).entries, 2);
}

#[test]
fn batches_without_entries_are_places_too() {
    let now = Instant::now();
    let log = Log::new(KEEP, 1, now);
    let (start, _) = log.tail();
    log.append(Vec::new(), vec![(LaneId(0), 5)], now);
    let (empty, at) = start.read().unwrap().unwrap();
    assert_eq!((at, empty.entries.len()), (0, 0));
    log.has_read(0, &empty);
    log.append(entries(0..2, None), Vec::new(), now);
    let place = Place::in_batch(&empty, empty.end());
    assert_eq!(place.read().unwrap().unwrap().0.first, 0);
}

#[test]
fn a_long_chain_is_dropped_without_recursion() {
    let now = Instant::now();
    let log = Log::new(Keep { bytes: u64::MAX, ..KEEP }, 0, now);
    let (start, _) = log.tail();
    for n in 0..200_000 {
        log.append(entries(n..n + 1, None), Vec::new(), now);
    }
    let held = start.read().unwrap().unwrap().0;
    drop(log);
    drop(held);
}
