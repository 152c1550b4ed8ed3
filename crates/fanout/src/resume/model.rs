//! Every interleaving that the checker tries, of one that publishes into a log which keeps
//! little, and a shard whose client goes away, comes back with what it has, loses a role
//! and gets it again; and of one that closes the lane and goes on in another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
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
use crate::testing::{Ask, Lines, MemoryPeer, MemorySink};

const EVENTS: u64 = 5;

fn access() -> Access {
    let role = |name: &str, room: &str| RoleAccess::new(name).joins(room);
    Access::new([role("user", "own"), role("guest", "lobby")]).unwrap()
}

fn user() -> Identity {
    Identity::new("x", ["user"])
}

/// Of these the last are in another lane, where the first is closed.
const IN_FIRST: u64 = 3;

/// Appends event `n`, at `offset`, for the room `own`.
fn publish(shared: &Shared, lane: &Arc<Lane>, offset: u64, n: u64) {
    let lane = shared.lanes.intern(lane);
    let emission = Emission::new(Room::new("own").unwrap(), "e", Json::of(&n).unwrap());
    let entry = shared.entry(emission, Some((lane.clone(), Position::before(offset + 1)))).unwrap();
    let moved = Moved { lane: lane.id, from: offset, next: offset + 1 };
    shared.append(Append::new(vec![entry], &[moved]), Instant::now());
}

/// One shard and the client that comes and goes.
struct Stage {
    shared: Arc<Shared>,
    shard: Shard,
    protocol: crate::frame::ProtocolRef,
}

impl Stage {
    /// Lets the shard do what it can now.
    fn drive(&mut self) {
        loop {
            let woken = std::mem::take(&mut *self.shared.shards[0].woken.lock().unwrap());
            woken.iter().for_each(|waker| self.shard.woken(waker.take()));
            self.shard.let_resume(10);
            if self.shard.turn(Instant::now(), SystemTime::now()) == Turn::Idle {
                return;
            }
        }
    }

    /// What the one client that is there has.
    fn cursor(&mut self) -> Option<String> {
        let (key, _) = self.shard.connections.iter().next()?;
        Some(self.shard.cursor_of(key)?.to_string())
    }

    fn connect(&mut self, cursor: Option<String>) -> MemoryPeer {
        let (peer, sink) = MemorySink::returning(cursor, Vec::new());
        let rights = self.shared.access.rights(&user()).unwrap();
        let (reply, _) = oneshot::channel();
        self.shared.admit().unwrap();
        let (sink, protocol) = (Box::new(sink), self.protocol.clone());
        let newcomer = Newcomer { sink, protocol, identity: user(), rights, reply };
        self.shard.command(Command::Connect(Box::new(newcomer)));
        self.drive();
        peer
    }
}

/// What a client has got over all of its lives.
#[derive(Default)]
struct Record {
    whole: Option<String>,
    /// By lane.
    ats: BTreeMap<String, String>,
    numbers: Vec<u64>,
    /// How many had been got when a gap was told.
    gaps: BTreeSet<usize>,
}

impl Record {
    fn cursor(&self) -> Option<String> {
        let all = self.whole.iter().chain(self.ats.values());
        Some(all.cloned().collect::<Vec<_>>().join(","))
    }

    /// What came, and what it was told to have in the end.
    fn take(&mut self, peer: &MemoryPeer, told: Option<String>) {
        for line in peer.lines() {
            let line = line.trim_end();
            if let Some(welcome) = line.strip_prefix("!welcome ") {
                self.whole = welcome.split(' ').next().map(str::to_owned);
                self.ats.clear();
            } else if line.starts_with("!gap") {
                self.gaps.insert(self.numbers.len());
            } else if !line.starts_with('!') {
                let mut parts = line.split('|').skip(2);
                self.numbers.push(parts.next().unwrap().parse().unwrap());
                let at = parts.next().unwrap();
                let (lane, _) = at.split_once('.').unwrap();
                self.ats.insert(lane.to_owned(), at.to_owned());
            }
        }
        if let Some(told) = told {
            (self.whole, self.ats) = (Some(told), BTreeMap::new());
        }
    }

    /// In order, each once, and nothing missing but where a gap was told.
    fn check(&self) {
        let first = self.numbers.first() == Some(&0) || self.gaps.contains(&0);
        assert!(first, "{:?}, gaps at {:?}", self.numbers, self.gaps);
        for (n, pair) in self.numbers.windows(2).enumerate() {
            let excused = self.gaps.contains(&(n + 1));
            assert!(
                pair[1] == pair[0] + 1 || (excused && pair[1] > pair[0]),
                "{:?}, gaps at {:?}",
                self.numbers,
                self.gaps
            );
        }
    }
}

/// What happens beside publishing, coming and going.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// The client loses its role and gets it again.
    Renew,
    /// The lane is closed, and another begun.
    Close,
}

fn explore(keep_batches: u64, beside: Beside) {
    let (renew, close) = (beside == Beside::Renew, beside == Beside::Close);
    let test = move || {
        let mut limits = Limits::default();
        // A batch of this test counts for less than a thousand bytes, and for more than 500.
        limits.log_bytes = 800 * keep_batches;
        let keys = Keyring::new('k', &[1; 32]).unwrap();
        let now = Instant::now();
        let shared = Arc::new(Shared::new(access(), limits, &[], keys, 1, now));
        let protocol = shared.register(Arc::new(Lines));
        let shard = Shard::new(0, shared.clone(), Box::new(WakersOnly), now);
        let lane = Arc::new(Lane::new("log", "t", 0));
        let id = shared.lanes.intern(&lane).id;
        let moved = Moved { lane: id, from: 0, next: 0 };
        shared.append(Append::new(Vec::new(), &[moved]), now);
        let mut stage = Stage { shared: shared.clone(), shard, protocol };
        let begin = shared.lanes.seal([(id, Position::before(0))]).unwrap();
        let mut record = Record { whole: Some(begin.to_string()), ..Record::default() };
        let other = Arc::new(Lane::new("other log", "t", 0));

        let writing = shuttle::thread::spawn(move || {
            for n in 0..EVENTS {
                if close && n == IN_FIRST {
                    shared.close_lanes([&lane], now);
                }
                if close && n >= IN_FIRST {
                    publish(&shared, &other, n - IN_FIRST, n);
                    // What is forgotten is forgotten now.
                    shared.housekeeping(now);
                } else {
                    publish(&shared, &lane, n, n);
                }
            }
        });
        for life in 0..3 {
            let peer = stage.connect(record.cursor());
            if renew && life == 1 {
                peer.ask(Ask::Renew(Identity::new("x", ["guest"])));
                stage.drive();
                peer.ask(Ask::Renew(user()));
                stage.drive();
            }
            shuttle::thread::yield_now();
            stage.drive();
            let told = if close && life != 1 { stage.cursor() } else { None };
            peer.hang_up();
            stage.drive();
            record.take(&peer, told);
        }
        writing.join().unwrap();
        let peer = stage.connect(record.cursor());
        stage.drive();
        record.take(&peer, None);
        let here = stage.cursor().expect("it is live");
        let named = stage.shared.lanes.open(&here).expect("of lanes that are known");
        assert_eq!(named.len(), 1, "the last lane alone");
        if renew {
            // What came while the role was away is not for it: order alone is promised.
            assert!(
                record.numbers.windows(2).all(|pair| pair[0] < pair[1]),
                "{:?}",
                record.numbers
            );
        } else {
            record.check();
            let last = record.numbers.last() == Some(&(EVENTS - 1));
            assert!(last || record.gaps.contains(&record.numbers.len()), "{:?}", record.numbers);
        }
        if keep_batches > EVENTS + 1 && !close {
            assert!(record.gaps.is_empty(), "the log has everything");
        }
    };
    let test = Arc::new(test);
    let random = test.clone();
    shuttle::check_random(move || random(), 3_000);
    shuttle::check_pct(move || test(), 3_000, 3);
}

#[test]
fn who_comes_back_misses_nothing_that_the_log_has() {
    explore(100, Beside::Nothing);
}

#[test]
fn what_is_evicted_meanwhile_is_a_gap_and_never_silence() {
    explore(1, Beside::Nothing);
    explore(2, Beside::Nothing);
}

#[test]
fn a_role_that_comes_and_goes_doubles_nothing() {
    explore(100, Beside::Renew);
    explore(2, Beside::Renew);
}

#[test]
fn a_lane_that_is_closed_meanwhile_is_had_whole_or_is_a_gap() {
    explore(100, Beside::Close);
    explore(1, Beside::Close);
    explore(2, Beside::Close);
}
