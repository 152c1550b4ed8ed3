//! What takes a clock that is set by hand.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use crate::connection::Connection;
use crate::keys::Keyring;
use crate::limits::Limits;
use crate::role::{Access, Identity, RoleAccess};
use crate::shard::{Command, Newcomer, Shard, Turn};
use crate::shared::Shared;
use crate::sink::{Close, WakersOnly};
use crate::testing::{Ask, Lines, MemoryPeer, MemorySink};
use crate::{RequestRate, Revocation};

/// One shard, and the time.
struct Stage {
    shared: Arc<Shared>,
    shard: Shard,
    protocol: crate::frame::ProtocolRef,
    began: Instant,
    since: Duration,
}

/// The wall's time at the beginning.
fn epoch() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

impl Stage {
    fn new() -> Self {
        let roles = [
            RoleAccess::new("user").requests(RequestRate { per_second: 2, burst: 3 }),
            RoleAccess::new("admin").requests(RequestRate { per_second: 1, burst: 5 }),
        ];
        let began = Instant::now();
        let (access, keys) = (Access::new(roles).unwrap(), Keyring::random());
        let shared = Arc::new(Shared::new(access, Limits::default(), &[], keys, 1, began));
        let protocol = shared.register(Arc::new(Lines));
        let shard = Shard::new(0, shared.clone(), Box::new(WakersOnly), began);
        Self { shared, shard, protocol, began, since: Duration::ZERO }
    }

    fn pass(&mut self, time: Duration) {
        self.since += time;
        self.shard.tick();
        self.drive();
    }

    fn drive(&mut self) {
        loop {
            let woken = std::mem::take(&mut *self.shared.shards[0].woken.lock().unwrap());
            for waker in woken {
                self.shard.woken(waker.take());
            }
            if self.shard.turn(self.began + self.since, epoch() + self.since) == Turn::Idle {
                return;
            }
        }
    }

    fn connect(&mut self, identity: Identity) -> MemoryPeer {
        let (peer, sink) = MemorySink::new();
        let rights = self.shared.access.rights(&identity).unwrap();
        let (reply, _) = oneshot::channel();
        self.shared.admit().unwrap();
        let (sink, protocol) = (Box::new(sink), self.protocol.clone());
        let newcomer = Newcomer { sink, protocol, identity, rights, reply };
        self.shard.command(Command::Connect(Box::new(newcomer)));
        self.drive();
        peer
    }

    fn ask(&mut self, peer: &MemoryPeer, ask: Ask) -> String {
        peer.ask(ask);
        self.drive();
        peer.lines().pop().unwrap()
    }
}

fn until(seconds: u64) -> Identity {
    let end = epoch() + Duration::from_secs(seconds);
    Identity::new("ann", ["user"]).with_expiry(Some(end))
}

#[test]
fn who_renews_within_the_grace_stays_and_who_does_not_goes() {
    let mut stage = Stage::new();
    let [renewing, silent] = [(); 2].map(|()| stage.connect(until(20)));
    stage.pass(Duration::from_millis(29_999));
    assert_eq!((renewing.closed(), silent.closed()), (None, None), "the grace is ten seconds");
    assert_eq!(stage.ask(&renewing, Ask::Renew(until(60))), "!renewed true\n");
    stage.pass(Duration::from_millis(1));
    assert_eq!(silent.closed(), Some(Close::TokenExpired));
    assert_eq!(renewing.closed(), None);
    stage.pass(Duration::from_secs(40));
    assert_eq!(renewing.closed(), Some(Close::TokenExpired));
}

#[test]
fn requests_are_taken_at_the_rate_of_the_roles() {
    let mut stage = Stage::new();
    let ann = stage.connect(Identity::new("ann", ["user"]));
    let both = stage.connect(Identity::new("bob", ["user", "admin"]));
    for (peer, burst) in [(&ann, 3), (&both, 5)] {
        for _ in 0..burst {
            assert_eq!(stage.ask(peer, Ask::Request), "!taken\n");
        }
        assert_eq!(stage.ask(peer, Ask::Request), "!wait 500\n", "two a second");
    }
    stage.pass(Duration::from_millis(500));
    assert_eq!(stage.ask(&ann, Ask::Request), "!taken\n");
    assert_eq!(stage.ask(&ann, Ask::Request), "!wait 500\n");
    // With the role goes what it allowed: `admin` alone has one a second.
    stage.pass(Duration::from_millis(500));
    stage.ask(&both, Ask::Renew(Identity::new("bob", ["admin"])));
    for _ in 0..3 {
        assert_eq!(stage.ask(&both, Ask::Request), "!taken\n");
    }
    assert_eq!(stage.ask(&both, Ask::Request), "!wait 500\n");
}

#[test]
fn what_a_shard_is_told_is_a_pass_a_turn() {
    let mut stage = Stage::new();
    let ann = stage.connect(Identity::new("ann", ["user"]));
    let mut answers = Vec::new();
    for who in ["bob", "ann"] {
        let revocation = Revocation::Subject { subject: who.into(), before: epoch() };
        let revoked = stage.shared.revoke(&[(revocation, epoch())], epoch());
        let (done, answer) = oneshot::channel();
        stage.shard.command(Command::Revoke { revoked, done });
        answers.push(answer);
    }
    let now = (stage.began, epoch());
    assert_eq!(stage.shard.turn(now.0, now.1), Turn::More);
    assert_eq!((answers[0].try_recv(), ann.closed()), (Ok(0), None));
    stage.drive();
    assert_eq!((answers[1].try_recv(), ann.closed()), (Ok(1), Some(Close::Revoked)));
}

/// A hundred thousand of these are what a node has to remember.
#[test]
fn a_connection_is_small() {
    let size = std::mem::size_of::<Connection>();
    assert!(size <= 208, "{size}");
}
