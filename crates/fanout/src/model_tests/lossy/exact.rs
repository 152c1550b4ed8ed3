//! Exactly which frames come, where a reader stalls and reads again.

use super::*;

/// Emissions to one room, of one length each; keys by turns where there are any.
fn numbered(n: usize, keys: Option<usize>, range: std::ops::Range<usize>) -> Vec<Emission> {
    let make = |i: usize| {
        let body = Json::of(&format!("{i:04}")).unwrap();
        let emission = Emission::new(room(n), "e", body);
        keys.map_or(emission.clone(), |keys| emission.with_key(vec![(i % keys) as u8]))
    };
    range.map(make).collect()
}

/// A shard with one peer in one room.
fn one_in(n: usize) -> (Real, MemoryPeer) {
    let (mut real, protocol) = Real::with(Limits::default(), &overflow());
    let peer = real.connect(&protocol, false);
    peer.ask(Ask::Join(room(n)));
    real.drive();
    (real, peer)
}

#[test]
fn the_oldest_are_dropped_and_a_gap_is_told_in_their_place() {
    let (mut real, peer) = one_in(1);
    peer.stall();
    for n in 0..100 {
        real.publish(numbered(1, None, n..n + 1));
        real.drive();
    }
    real.sweep();
    peer.flow();
    real.drive();
    real.publish(numbered(1, None, 100..101));
    real.drive();
    // `e|room:1|"0000"|` and a line's end are 17 bytes: 17 of them are within 300.
    let mut expected = vec!["!joined room:1\n".to_owned(), "!gap overflow room:1\n".to_owned()];
    expected.extend((83..=100).map(|n| format!("e|room:1|\"{n:04}\"|\n")));
    assert_eq!(peer.lines(), expected);
    assert_eq!(peer.closed(), None);
    assert_eq!(real.shard.counters.overflows, 1);
}

#[test]
fn while_behind_only_the_newest_of_each_key_comes() {
    let (mut real, peer) = one_in(2);
    real.publish(numbered(2, Some(3), 0..3));
    real.drive();
    peer.stall();
    for n in 3..300 {
        real.publish(numbered(2, Some(3), n..n + 1));
        real.drive();
        real.sweep();
    }
    // The first of a round is decided with its round: here nothing was begun.
    peer.flow();
    real.drive();
    real.publish(numbered(2, Some(3), 300..303));
    real.drive();
    let line = |n: usize| format!("e|room:2|\"{n:04}\"|\n");
    let newest = |n: usize| format!("e|room:2|\"{n:04}\"||98\n");
    let expected: Vec<String> = std::iter::once("!joined room:2\n".to_owned())
        .chain((0..3).map(line))
        .chain((297..300).map(newest))
        .chain((300..303).map(line))
        .collect();
    assert_eq!(peer.lines(), expected, "lossless before and after");
    assert_eq!(real.shard.counters.conflated, 3 * 98);
}

#[test]
fn a_frame_that_was_begun_is_ended_whatever_is_dropped() {
    let (mut real, peer) = one_in(1);
    peer.stall();
    peer.allow(5);
    real.publish(numbered(1, None, 0..200));
    real.drive();
    real.sweep();
    peer.flow();
    real.drive();
    let lines = peer.lines();
    assert_eq!(lines[1..3], ["e|room:1|\"0000\"|\n", "!gap overflow room:1\n"]);
    assert_eq!(lines[3], "e|room:1|\"0183\"|\n");
    assert_eq!(lines.len(), 3 + 17);
}

#[test]
fn what_is_about_to_be_lost_elsewhere_keeps_other_rooms_whole() {
    let (mut real, peer) = one_in(1);
    peer.ask(Ask::Join(room(0)));
    real.drive();
    peer.stall();
    for n in 0..100 {
        real.publish(numbered(1, None, n..n + 1));
        real.publish(numbered(0, None, n..n + 1));
        real.drive();
        real.sweep();
    }
    peer.flow();
    real.drive();
    let of = |room: &str| -> Vec<String> {
        let mine = peer.lines().into_iter().filter(|line| line.starts_with(&format!("e|{room}|")));
        mine.collect()
    };
    assert_eq!(of("room:0").len(), 100);
    assert_eq!(of("room:1").len(), 17);
    let gaps = peer.lines().iter().filter(|line| line.starts_with("!gap")).count();
    assert_eq!(gaps, 1, "however often it had to be dropped");
}

#[test]
fn a_socket_that_takes_nothing_is_given_up_in_time() {
    let (mut real, peer) = one_in(1);
    let limit = Limits::default().write_timeout;
    peer.stall();
    real.publish(numbered(1, None, 0..2));
    real.drive();
    let begun = real.now;
    real.now = begun + limit / 2;
    peer.allow(1);
    real.drive();
    // It has taken a byte: the time begins anew.
    real.now = begun + limit;
    real.sweep();
    assert_eq!(peer.closed(), None);
    real.now = begun + 2 * limit;
    real.sweep();
    assert_eq!(peer.closed(), Some(Close::Slow { after: Limits::default().retry_after }));
}

#[test]
fn those_who_catch_up_share_a_part_of_each_turn() {
    let mut limits = Limits::default();
    limits.catch_up_bytes = 1_000;
    let (mut real, protocol) = Real::new(limits);
    let slow: Vec<_> = (0..10).map(|_| real.connect(&protocol, false)).collect();
    let live = real.connect(&protocol, false);
    slow.iter().for_each(MemoryPeer::stall);
    for n in 0..100 {
        real.publish(numbered(ROOMS, None, n..n + 1));
        real.drive();
    }
    slow.iter().for_each(MemoryPeer::flow);
    for waker in std::mem::take(&mut *real.shared.shards[0].woken.lock().unwrap()) {
        real.shard.woken(waker.take());
    }
    let taken = || slow.iter().map(|peer| peer.bytes().len()).sum::<usize>();
    let (mut turns, mut most) = (0, 0);
    for n in 100.. {
        // What is new comes in the same turn, however many catch up.
        real.publish(numbered(ROOMS, None, n..n + 1));
        let before = taken();
        let turn = real.shard.turn(real.now, SystemTime::now());
        assert_eq!(live.count(), n + 1);
        turns += 1;
        most = most.max(taken() - before);
        if turn == Turn::Idle {
            break;
        }
    }
    // A turn may go over by what one connection takes at once.
    let at_once = 1_000 + slow.len() * "e|own|\"0000\"|\n".len();
    assert!(most <= 2 * at_once, "{most}");
    assert!(turns > 5, "{turns}");
    assert!(slow.iter().all(|peer| peer.bodies() == live.bodies()));
}

#[test]
fn what_another_stands_for_does_not_count() {
    // Room 3 allows for 150 bytes of bodies: three keys have 21, however often they change.
    let (mut real, peer) = one_in(3);
    peer.stall();
    for n in 0..300 {
        real.publish(numbered(3, Some(3), n..n + 1));
        real.drive();
        real.sweep();
    }
    peer.flow();
    real.drive();
    let newest = |n: usize| format!("e|room:3|\"{n:04}\"||99\n");
    assert_eq!(peer.lines()[1..], [newest(297), newest(298), newest(299)]);
}

#[test]
fn what_one_room_drops_another_still_brings() {
    let (mut real, peer) = one_in(1);
    peer.ask(Ask::Join(room(2)));
    real.drive();
    peer.stall();
    // More than room 1 allows for, by itself.
    let body = Json::of(&"x".repeat(400)).unwrap();
    real.publish(vec![Emission::new(room(1), "e", body).and_to(room(2))]);
    real.drive();
    real.sweep();
    peer.flow();
    real.drive();
    assert_eq!(peer.count(), 1, "{:?}", peer.lines());
    assert!(!peer.lines().iter().any(|line| line.starts_with("!gap")));
}

#[test]
fn a_gap_names_the_rooms_that_lost_something() {
    let rule = Overflow::new(Policy::DropOldest).with_max_bytes(300);
    let rules = [1, 2].map(|n| (RoomPattern::new(room(n).as_str()).unwrap(), rule));
    let (mut real, protocol) = Real::with(Limits::default(), &rules);
    let peer = real.connect(&protocol, false);
    for n in [1, 2] {
        peer.ask(Ask::Join(room(n)));
    }
    real.drive();
    peer.stall();
    real.publish(numbered(1, None, 0..100));
    real.publish(numbered(2, None, 100..101));
    real.drive();
    real.sweep();
    peer.flow();
    real.drive();
    assert_eq!(peer.lines()[2], "!gap overflow room:1\n");
    assert_eq!(peer.bodies().last().unwrap(), "\"0100\"");
}

/// How many were passed over can be told only as long as the log has where the round began.
#[test]
fn a_round_that_the_log_has_left_behind_is_a_gap() {
    let mut limits = Limits::default();
    limits.log_bytes = 20_000;
    let (mut real, protocol) = Real::with(limits, &overflow());
    let peer = real.connect(&protocol, false);
    peer.ask(Ask::Join(room(2)));
    real.drive();
    peer.stall();
    for n in 0..20 {
        real.publish(numbered(2, Some(3), n..n + 1));
        real.drive();
    }
    // The round begins, and the first of the three that are left.
    peer.allow(5);
    real.drive();
    let places = |real: &Real| {
        let (_, connection) = real.shard.connections.iter().next().unwrap();
        let crate::connection::Flow::Behind(behind) = &connection.flow else { panic!("live") };
        (behind.round.is_gone(), behind.place.is_gone())
    };
    let mut others = 0;
    while !places(&real).0 {
        real.publish(numbered(0, None, 0..1));
        real.drive();
        others += 1;
        assert!(others < 1_000);
    }
    assert!(!places(&real).1, "what is to come is still there");
    peer.flow();
    real.drive();
    let expected = ["e|room:2|\"0017\"||5\n", "!gap overflow room:2\n"];
    assert_eq!(peer.lines()[1..], expected);
    real.publish(numbered(2, Some(3), 20..21));
    real.drive();
    assert_eq!(peer.bodies().last().unwrap(), "\"0020\"");
}
