//! Every interleaving that the checker tries, of one that revokes and of shards to which a
//! newcomer comes that was let in before, and on which somebody renews.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::oneshot;

use crate::keys::Keyring;
use crate::limits::Limits;
use crate::revocation::Revocation;
use crate::role::{Access, Identity, RoleAccess};
use crate::shard::{Command, Newcomer, Shard, Turn};
use crate::shared::Shared;
use crate::sink::{Close, WakersOnly};
use crate::sync::Mutex;
use crate::testing::{Ask, Lines, MemoryPeer, MemorySink};

/// What waits for the shard, as its channel would hold it.
type Mailbox = Arc<Mutex<VecDeque<Command>>>;

fn access() -> Access {
    let role = |name: &str, room: &str| RoleAccess::new(name).joins(room);
    Access::new([role("admin", "desk"), role("user", "own")]).unwrap()
}

fn ann(issued: SystemTime) -> Identity {
    Identity::new("ann", ["admin", "user"]).with_issued_at(Some(issued))
}

fn drive(shared: &Shared, shard: &mut Shard, mailbox: &Mailbox) {
    loop {
        while let Some(command) = mailbox.lock().unwrap().pop_front() {
            shard.command(command);
        }
        let woken = std::mem::take(&mut *shared.shards[0].woken.lock().unwrap());
        woken.iter().for_each(|waker| shard.woken(waker.take()));
        if shard.turn(Instant::now(), SystemTime::now()) == Turn::Idle {
            return;
        }
    }
}

/// What [`Hub::connect`](crate::Hub::connect) does.
fn connect(shared: &Shared, mailbox: &Mailbox, identity: Identity) -> Option<MemoryPeer> {
    let (peer, sink) = MemorySink::new();
    let identity = shared.unrevoked(identity, SystemTime::now()).ok()?;
    let rights = shared.access.rights(&identity).ok()?;
    let (reply, _) = oneshot::channel();
    shared.admit().unwrap();
    let (sink, protocol) = (Box::new(sink), shared.register(Arc::new(Lines)));
    let newcomer = Newcomer { sink, protocol, identity, rights, reply };
    mailbox.lock().unwrap().push_back(Command::Connect(Box::new(newcomer)));
    Some(peer)
}

fn explore(role: bool) {
    let test = move || {
        let now = SystemTime::now();
        let keys = Keyring::new('k', &[1; 32]).unwrap();
        let shared = Shared::new(access(), Limits::default(), &[], keys, 1, Instant::now());
        let shared = Arc::new(shared);
        let mut shard = Shard::new(0, shared.clone(), Box::new(WakersOnly), Instant::now());
        let mailbox = Mailbox::default();
        // One that is there, with what was issued later, and renews with what was before.
        let later = now + std::time::Duration::from_secs(10);
        let renewing = connect(&shared, &mailbox, ann(later)).unwrap();
        drive(&shared, &mut shard, &mailbox);

        let revoking = {
            let (shared, mailbox) = (shared.clone(), mailbox.clone());
            shuttle::thread::spawn(move || {
                let (subject, before) = ("ann".into(), now);
                let revocation = if role {
                    Revocation::Role { subject, role: "admin".into(), before }
                } else {
                    Revocation::Subject { subject, before }
                };
                // What `Hub::revoke` does.
                let revoked = shared.revoke(&[(revocation, now)], now);
                let (done, _) = oneshot::channel();
                mailbox.lock().unwrap().push_back(Command::Revoke { revoked, done });
            })
        };
        let connecting = {
            let (shared, mailbox) = (shared.clone(), mailbox.clone());
            shuttle::thread::spawn(move || connect(&shared, &mailbox, ann(now)))
        };
        drive(&shared, &mut shard, &mailbox);
        shuttle::thread::yield_now();
        renewing.ask(Ask::Renew(ann(now)));
        drive(&shared, &mut shard, &mailbox);
        revoking.join().unwrap();
        let newcomer = connecting.join().unwrap();
        drive(&shared, &mut shard, &mailbox);

        for (_, connection) in &shard.connections {
            let identity = &connection.identity;
            if identity.issued_at == Some(now) {
                assert!(role, "what was revoked is connected");
                let roles: Vec<_> = identity.roles.iter().map(crate::Role::as_str).collect();
                assert_eq!(roles, ["user"], "what was revoked is connected");
            }
        }
        let whole = role.then_some(Close::Revoked);
        if let Some(newcomer) = newcomer {
            assert!(role || newcomer.dropped() || newcomer.closed() == Some(Close::Revoked));
            assert!(newcomer.closed().is_none() || newcomer.closed() != whole);
        }
        let renewed = renewing.lines().contains(&"!renewed true\n".to_owned());
        assert_eq!(renewing.closed().is_some(), renewed && !role, "{:?}", renewing.lines());
    };
    let test = Arc::new(test);
    let random = test.clone();
    shuttle::check_random(move || random(), 3_000);
    shuttle::check_pct(move || test(), 3_000, 3);
}

#[test]
fn nobody_slips_through_between_revoked_and_connected() {
    explore(false);
}

#[test]
fn no_role_slips_through_between_taken_away_and_connected() {
    explore(true);
}
