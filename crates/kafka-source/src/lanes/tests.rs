use super::*;

fn lane(partition: u32) -> Arc<Lane> {
    Arc::new(Lane::new("log", "t", partition))
}

fn opening(partition: u32, from: u64, end: u64) -> Opening {
    Opening { lane: lane(partition), from, end }
}

fn lanes(openings: impl IntoIterator<Item = Opening>) -> Lanes {
    let mut lanes = Lanes::default();
    openings.into_iter().for_each(|opening| lanes.open(opening));
    lanes
}

fn frontier(lanes: &mut Lanes) -> Vec<(u32, u64)> {
    lanes.take_frontier().into_iter().map(|(lane, next)| (lane.partition, next)).collect()
}

#[test]
fn every_lane_is_told_once_when_it_opens() {
    let mut lanes = lanes([opening(0, 5, 5), opening(1, 0, 0)]);
    assert_eq!(frontier(&mut lanes), [(0, 5), (1, 0)]);
    assert_eq!(frontier(&mut lanes), []);
}

#[test]
fn an_offset_is_taken_once_and_in_order() {
    let mut lanes = lanes([opening(0, 5, 5)]);
    let taken = [4, 5, 6, 6, 5, 9].map(|offset| lanes.take("t", 0, offset).is_some());
    assert_eq!(taken, [false, true, true, false, false, true]);
    assert!(lanes.take("t", 1, 0).is_none(), "not open");
    assert!(lanes.take("u", 0, 0).is_none(), "not open");
    assert_eq!(frontier(&mut lanes), [(0, 10)]);
}

#[test]
fn partitions_side_by_side_are_not_mistaken_for_each_other() {
    let mut lanes = lanes([opening(0, 0, 0), opening(1, 0, 0)]);
    lanes.open(Opening { lane: Arc::new(Lane::new("log", "u", 0)), from: 0, end: 0 });
    for (topic, partition, offset) in [("t", 0, 7), ("u", 0, 8), ("t", 1, 9), ("t", 0, 10)] {
        let reading = lanes.take(topic, partition, offset).expect("taken");
        assert_eq!((&*reading.lane.topic, reading.lane.partition), (topic, partition));
    }
    assert_eq!(frontier(&mut lanes), [(0, 11), (1, 10), (0, 9)]);
}

#[test]
fn holes_are_passed_and_nothing_moves_back() {
    let mut lanes = lanes([opening(0, 0, 3)]);
    lanes.take("t", 0, 0);
    lanes.advance("t", 0, 3);
    lanes.advance("t", 0, 2);
    assert_eq!(frontier(&mut lanes), [(0, 3)]);
    assert!(lanes.take("t", 0, 2).is_none());
}

#[test]
fn lost_is_only_what_was_not_read() {
    let mut lanes = lanes([opening(0, 0, 0)]);
    lanes.take("t", 0, 4);
    let read_on = lanes.lose(&lane(0), 3);
    assert_eq!(read_on, Some((5, 0)), "it was read on since it was asked about");
    assert_eq!(lanes.lose(&lane(0), 5), Some((5, 0)));
    assert_eq!(lanes.lose(&lane(0), 9), Some((9, 4)));
    assert_eq!(lanes.lose(&Lane::new("log", "u", 0), 9), None, "not open");
    assert_eq!(lanes.lose(&Lane::new("another log", "t", 0), 10), None, "not this one");
    assert_eq!(frontier(&mut lanes), [(0, 9)]);
    assert!(lanes.take("t", 0, 8).is_none());
}

#[test]
fn caught_up_once_all_ends_are_reached() {
    let mut lanes = lanes([opening(0, 0, 2), opening(1, 7, 7), opening(2, 0, 5)]);
    lanes.take("t", 0, 1);
    assert!(!lanes.caught_up());
    lanes.advance("t", 2, 5);
    assert!(lanes.caught_up());
}

#[test]
fn opening_again_changes_nothing() {
    let mut lanes = lanes([opening(0, 0, 2)]);
    lanes.take("t", 0, 1);
    lanes.open(opening(0, 0, 9));
    assert!(lanes.caught_up());
    assert!(lanes.take("t", 0, 1).is_none());
}

#[test]
fn what_was_halted_stays_where_it_is_and_holds_nobody_up() {
    let mut lanes = lanes([opening(0, 0, 9)]);
    lanes.take("t", 0, 3);
    assert!(lanes.doubt("t", 0, None).is_some());
    assert!(lanes.halt(&lane(0)));
    assert!(!lanes.halt(&lane(0)) && lanes.doubt("t", 0, None).is_none(), "once");
    assert!(lanes.caught_up() && lanes.is_empty() && lanes.doubted().next().is_none());
    lanes.advance("t", 0, 8);
    assert!(lanes.take("t", 0, 5).is_none() && lanes.lose(&lane(0), 7).is_none());
    assert_eq!(frontier(&mut lanes), [(0, 4)]);
    let closed = lanes.close(&lane(0)).expect("open");
    assert!(closed.is_halted() && closed.next == 4);
    assert_eq!(closed.unread(), 5);
}

#[test]
fn a_place_is_in_doubt_until_it_is_known() {
    let mut lanes = lanes([opening(0, 0, 0), opening(1, 0, 0)]);
    lanes.take("t", 1, 6);
    assert_eq!(lanes.doubt("t", 1, None), Some((&lane(1), 7, None)));
    assert_eq!(lanes.doubt("t", 1, Some(3)), None, "it is known");
    assert_eq!(lanes.doubted().collect::<Vec<_>>(), [(&lane(1), 7)]);
    lanes.lose(&lane(1), 7);
    assert_eq!(lanes.doubted().next(), None);
    assert!(lanes.doubt("u", 1, None).is_none());
    let behind = lanes.doubt("t", 1, Some(7));
    assert_eq!(behind, Some((&lane(1), 7, None)), "nothing that was read was cut off");
    lanes.lose(&lane(1), 7);
    assert_eq!(lanes.doubt("t", 1, Some(6)), Some((&lane(1), 7, Some(6))));
    assert_eq!(lanes.doubted().next(), None, "it is not in doubt that it was cut");
}

#[test]
fn what_was_closed_makes_room_for_another_log_and_the_others_stay() {
    let mut lanes = lanes([opening(0, 0, 9), opening(1, 0, 0), opening(2, 0, 5)]);
    lanes.take("t", 0, 3);
    lanes.take("t", 2, 1);
    lanes.iter_mut().for_each(|reading| reading.ends(12));
    lanes.iter_mut().for_each(|reading| reading.ends(2));
    let closed = lanes.close(&lane(0)).expect("open");
    assert_eq!((closed.next, closed.unread(), closed.is_halted()), (4, 8, false));
    assert!(lanes.close(&lane(0)).is_none() && lanes.take("t", 0, 7).is_none());
    let next = Arc::new(Lane::new("another log", "t", 0));
    lanes.open(Opening { lane: next.clone(), from: 0, end: 0 });
    assert!(lanes.close(&lane(0)).is_none() && !lanes.is_open(&lane(0)));
    assert_eq!(lanes.take("t", 0, 0).expect("taken").lane, next);
    // The others kept their places, and what is not caught up is partition 2 alone.
    assert_eq!(lanes.take("t", 2, 2).expect("taken").lane, lane(2));
    assert_eq!(lanes.take("t", 1, 0).expect("taken").lane, lane(1));
    assert!(!lanes.caught_up());
    lanes.advance("t", 2, 5);
    assert!(lanes.caught_up());
    let mut told = frontier(&mut lanes);
    told.sort_unstable();
    assert_eq!(told, [(0, 1), (1, 1), (2, 5)]);
}
