use std::time::{Instant, SystemTime};

use tokio::sync::oneshot;

use crate::json::Json;
use crate::keys::Keyring;
use crate::limits::Limits;
use crate::log::{Append, Moved};
use crate::position::{Lane, Position};
use crate::role::{Access, Identity, RoleAccess};
use crate::room::Room;
use crate::router::Emission;
use crate::shard::{Command, Newcomer, Shard, Turn};
use crate::shared::Shared;
use crate::sink::WakersOnly;
use crate::testing::{Lines, MemoryPeer, MemorySink};
use std::sync::Arc;

/// Two shards, driven by hand: one may be where the other was.
struct Stage {
    shared: Arc<Shared>,
    shards: [Shard; 2],
    protocol: crate::frame::ProtocolRef,
}

impl Stage {
    fn new() -> Self {
        let mut limits = Limits::default();
        // A walk takes one batch.
        limits.joined_bytes = 1;
        let access = Access::new([RoleAccess::new("user").joins("own")]).unwrap();
        let (keys, now) = (Keyring::new('k', &[1; 32]).unwrap(), Instant::now());
        let shared = Arc::new(Shared::new(access, limits, &[], keys, 2, now));
        let protocol = shared.register(Arc::new(Lines));
        let shard = |n| Shard::new(n, shared.clone(), Box::new(WakersOnly), now);
        Self { shards: [shard(0), shard(1)], shared, protocol }
    }

    fn publish(&self, lane: &Arc<Lane>, offset: u64) {
        let lane = self.shared.lanes.intern(lane);
        let body = Json::of(&format!("{}{offset}", lane.lane.topic)).unwrap();
        let emission = Emission::new(Room::new("own").unwrap(), "e", body);
        let at = Some((lane.clone(), Position::before(offset + 1)));
        let entry = self.shared.entry(emission, at).unwrap();
        let moved = [Moved { lane: lane.id, from: offset, next: offset + 1 }];
        self.shared.append(Append::new(vec![entry], &moved), Instant::now());
    }

    fn turn(&mut self, shard: usize) -> Turn {
        self.shards[shard].let_resume(10);
        self.shards[shard].turn(Instant::now(), SystemTime::now())
    }

    fn drive(&mut self, shard: usize) {
        while self.turn(shard) == Turn::More {}
    }

    fn connect(&mut self, shard: usize, cursor: Option<String>) -> MemoryPeer {
        let (peer, sink) = MemorySink::returning(cursor, Vec::new());
        let identity = Identity::new("x", ["user"]);
        let rights = self.shared.access.rights(&identity).unwrap();
        let (reply, _) = oneshot::channel();
        let (sink, protocol) = (Box::new(sink), self.protocol.clone());
        let newcomer = Newcomer { sink, protocol, identity, rights, reply };
        self.shards[shard].command(Command::Connect(Box::new(newcomer)));
        peer
    }

    /// What somebody who is live on this shard has.
    fn cursor(&mut self, shard: usize) -> String {
        let (key, _) = self.shards[shard].connections.iter().next().unwrap();
        self.shards[shard].cursor_of(key).unwrap().to_string()
    }
}

/// A client that has all of a lane, from a shard that has passed its end, comes to one that has
/// not: what that one has yet to walk of the lane is not for it.
#[test]
fn a_shard_that_is_not_at_the_end_of_a_lane_doubles_nothing() {
    let mut stage = Stage::new();
    let lanes = ["a", "b"].map(|topic| Arc::new(Lane::new("log", topic, 0)));
    let first = stage.connect(0, None);
    let other = stage.connect(1, None);
    stage.drive(0);
    stage.drive(1);
    stage.publish(&lanes[1], 0);
    for offset in 0..5 {
        stage.publish(&lanes[0], offset);
    }
    stage.shared.close_lanes([&lanes[0]], Instant::now());
    stage.drive(0);
    assert_eq!(first.count(), 6);
    let cursor = stage.cursor(0);
    let back = stage.connect(1, Some(cursor));
    assert_eq!(stage.turn(1), Turn::More);
    assert!(other.count() < 6 && back.lines().len() == 1, "the shard has not come so far");
    stage.drive(1);
    stage.publish(&lanes[1], 1);
    stage.drive(1);
    assert_eq!((other.count(), back.bodies()), (7, vec!["\"b1\"".to_owned()]));
    assert!(!back.lines().iter().any(|line| line.starts_with("!gap")), "{:?}", back.lines());
    assert_eq!(stage.shards[1].counters.behind, 0, "it is live");
}

/// A client that waits for its turn when the lane is closed, and comes to it before the shard.
#[test]
fn who_has_opened_a_cursor_before_is_told() {
    let mut stage = Stage::new();
    let lane = Arc::new(Lane::new("log", "a", 0));
    let live = stage.connect(1, None);
    stage.drive(1);
    stage.publish(&lane, 0);
    stage.drive(1);
    let cursor = stage.cursor(1);
    let back = stage.connect(1, Some(cursor));
    // It has opened its cursor, and has no turn yet.
    stage.shards[1].let_resume(0);
    stage.shards[1].turn(Instant::now(), SystemTime::now());
    stage.publish(&lane, 1);
    stage.shared.close_lanes([&lane], Instant::now());
    assert_eq!(stage.turn(1), Turn::More);
    stage.drive(1);
    assert!(back.lines().iter().any(|line| line.starts_with("!gap reset")), "{:?}", back.lines());
    assert_eq!((live.count(), back.bodies().len()), (2, 0));
}

#[test]
fn what_is_closed_is_forgotten_with_the_log() {
    let mut stage = Stage::new();
    let live = stage.connect(0, None);
    stage.drive(0);
    stage.drive(1);
    for n in 0..1000 {
        let lane = Arc::new(Lane::new(format!("log {n}"), "t", 0));
        stage.publish(&lane, 0);
        let id = stage.shared.lanes.find(&lane).unwrap().id;
        stage.shared.replays.own(id, 0);
        assert_eq!(stage.shared.close_lanes([&lane], Instant::now()), [id]);
        if n % 10 == 9 {
            stage.drive(0);
            stage.drive(1);
        }
    }
    assert_eq!(stage.shared.lanes.len(), 1000, "the log has them all");
    let later = Instant::now() + stage.shared.limits.log_age * 2;
    stage.shared.append(Append::default(), later);
    stage.drive(0);
    stage.drive(1);
    stage.shared.housekeeping(later);
    assert_eq!((live.count(), stage.shared.lanes.len()), (1000, 0));
    assert_eq!(stage.shared.log.tail().1.iter().count(), 0);
    assert_eq!(stage.shards[0].frontier.iter().count(), 0);
    assert_eq!(stage.shared.replays.of(crate::position::LaneId(999)), None);
}
