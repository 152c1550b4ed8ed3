//! What is revoked is void at once: on connections that are there, on those that come, and
//! on every node that reads the control topic.

#[path = "revocation/behind.rs"]
mod behind;
#[path = "revocation/control.rs"]
mod control;

use std::time::{Duration, SystemTime};

use fanout::testing::{Ask, Lines, MemoryPeer, MemorySink};
use fanout::{
    Access, Body, Close, ConnectError, ConnectionId, Emission, Hub, Identity, Json, Limits,
    ProtocolRef, Revocation, RoleAccess, Room,
};

/// The desk sees everything of an order, its buyer what is his.
fn access() -> Access {
    Access::new([
        RoleAccess::new("admin").joins("desk").may_join("desk:*").max_rooms(5).sees("full"),
        RoleAccess::new("user").joins("user:{subject}").may_join("game:*").sees("own"),
        RoleAccess::new("guest").may_join("game:*").max_rooms(1).sees("own"),
    ])
    .unwrap()
}

fn hub(limits: Limits) -> (Hub, ProtocolRef) {
    let hub = Hub::builder(access()).limits(limits).shards(2).build().unwrap();
    let lines = hub.protocol(Lines);
    (hub, lines)
}

/// A time in whole seconds, as tokens have it.
fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(now() - 1_000 + seconds)
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn identity(subject: &str, roles: &[&str], issued_at: SystemTime) -> Identity {
    Identity::new(subject, roles.iter().copied()).with_issued_at(Some(issued_at))
}

async fn try_connect(
    hub: &Hub,
    lines: &ProtocolRef,
    identity: &Identity,
) -> Result<(ConnectionId, MemoryPeer), ConnectError> {
    let (peer, sink) = MemorySink::new();
    Ok((hub.connect(lines, identity.clone(), sink).await?, peer))
}

async fn connect(hub: &Hub, lines: &ProtocolRef, identity: &Identity) -> MemoryPeer {
    try_connect(hub, lines, identity).await.unwrap().1
}

/// Waits until so many are connected: a shard says so at the end of its turn.
async fn connections(hub: &Hub, n: usize) {
    let there = async {
        while hub.stats().connections != n {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), there).await;
    assert!(in_time.is_ok(), "{:?}", hub.stats());
}

fn subject(who: &str, before: SystemTime) -> Revocation {
    Revocation::Subject { subject: who.into(), before }
}

fn role(who: &str, role: &str, before: SystemTime) -> Revocation {
    Revocation::Role { subject: who.into(), role: role.into(), before }
}

fn room(name: &str) -> Room {
    Room::new(name).unwrap()
}

/// An emission with one body for the desk and one for the others.
fn order(to: &str, n: u32) -> Emission {
    let body = |view: &str| Json::of(&format!("{view} {n}")).unwrap();
    let views = [("full", body("full")), ("own", body("own"))];
    Emission::new(room(to), "order", Body::from(views))
}

/// What it says once it is asked who it is to the hub; it has read all that came before.
async fn who(peer: &MemoryPeer) -> String {
    answer(peer, Ask::Identity, "!is ").await
}

/// Asks, and waits for a line that begins so and was not there before.
async fn answer(peer: &MemoryPeer, ask: Ask, begins: &str) -> String {
    let count = |peer: &MemoryPeer| {
        let lines = peer.lines();
        lines.iter().filter(|line| line.starts_with(begins) && line.ends_with('\n')).count()
    };
    let before = count(peer);
    peer.ask(ask);
    peer.until(begins, |peer| count(peer) > before).await;
    let lines = peer.lines();
    lines.iter().rfind(|line| line.starts_with(begins)).unwrap().trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_is_closed_refused_and_let_in_again_with_what_is_newer() {
    let (hub, lines) = hub(Limits::default());
    let [old, same, new] = [9, 10, 11].map(|second| identity("ann", &["user"], at(second)));
    let unsaid = Identity::new("ann", ["user"]);
    let bob = connect(&hub, &lines, &identity("bob", &["user"], at(1))).await;
    let mut gone = Vec::new();
    for void in [&old, &same, &unsaid] {
        gone.push(connect(&hub, &lines, void).await);
    }
    let stays = connect(&hub, &lines, &new).await;

    let revoked = hub.revoke(subject("ann", at(10) + Duration::from_millis(500))).await;
    assert_eq!(revoked, 3);
    hub.publish(vec![order("user:ann", 1), order("user:bob", 2)]).await.unwrap();
    for peer in [&stays, &bob] {
        peer.until("who is not revoked gets it", |peer| peer.count() == 1).await;
    }
    for peer in &gone {
        peer.until("it was let go", MemoryPeer::dropped).await;
        assert_eq!(peer.closed(), Some(Close::Revoked));
        assert_eq!(peer.lines(), ["!close revoked\n"], "nothing that came afterwards");
    }
    for void in [&old, &same, &unsaid] {
        let refused = try_connect(&hub, &lines, void).await;
        assert!(matches!(refused, Err(ConnectError::Revoked)), "{refused:?}");
        assert!(matches!(hub.validate(void.clone()), Err(ConnectError::Revoked)));
        let renewed = answer(&stays, Ask::Renew(void.clone()), "!renewed").await;
        assert_eq!(renewed, "!renewed false the identity was revoked");
    }
    assert_eq!(hub.validate(new.clone()).unwrap(), new);
    let again = connect(&hub, &lines, &new).await;
    assert_eq!(answer(&again, Ask::Renew(new), "!renewed").await, "!renewed true");
    assert_eq!(stays.closed(), None);
    connections(&hub, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_alone_is_closed_and_its_subject_may_come_again() {
    let (hub, lines) = hub(Limits::default());
    let ann = identity("ann", &["user"], at(10));
    let (id, one) = try_connect(&hub, &lines, &ann).await.unwrap();
    let other = connect(&hub, &lines, &ann).await;
    let said = Revocation::Connection(id).to_json();
    let said = Revocation::from_json(said.as_bytes(), SystemTime::now()).unwrap();
    assert_eq!(hub.revoke(said.clone()).await, 1);
    one.until("it was let go", MemoryPeer::dropped).await;
    assert_eq!(one.closed(), Some(Close::Revoked));
    assert_eq!(who(&other).await, "!is ann user");
    connect(&hub, &lines, &ann).await;
    assert_eq!(hub.revoke(said).await, 0, "a slot's next tenant is another");
    connections(&hub, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_another_hub_is_not_meant() {
    let (here, lines) = hub(Limits::default());
    let (there, lines_there) = hub(Limits::default());
    let ann = identity("ann", &["user"], at(10));
    let (_, peer) = try_connect(&here, &lines, &ann).await.unwrap();
    let (id, other) = try_connect(&there, &lines_there, &ann).await.unwrap();
    assert_eq!(here.revoke(Revocation::Connection(id)).await, 0);
    here.disconnect(id, Close::Normal).await;
    assert_eq!(who(&peer).await, "!is ann user");
    there.disconnect(id, Close::Normal).await;
    other.until("it was let go", MemoryPeer::dropped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_taken_away_leaves_its_rooms_and_its_view() {
    let (hub, lines) = hub(Limits::default());
    let both = identity("ann", &["admin", "user"], at(10));
    let ann = connect(&hub, &lines, &both).await;
    let desk = connect(&hub, &lines, &identity("ann", &["admin"], at(10))).await;
    let later = connect(&hub, &lines, &identity("ann", &["admin"], at(11))).await;
    for name in ["desk:7", "game:7"] {
        answer(&ann, Ask::Join(room(name)), "!joined").await;
    }
    hub.publish(vec![order("user:ann", 1), order("desk:7", 2)]).await.unwrap();
    ann.until("both came", |peer| peer.count() == 2).await;
    assert_eq!(ann.bodies(), ["\"full 1\"", "\"full 2\""]);

    assert_eq!(hub.revoke(role("ann", "admin", at(10))).await, 2);
    let told = ann.lines();
    let told: Vec<_> = told.iter().filter(|line| line.starts_with("!unsubscribed")).collect();
    assert_eq!(told, ["!unsubscribed desk\n", "!unsubscribed desk:7\n"]);
    assert_eq!(who(&ann).await, "!is ann user");
    desk.until("it was let go", MemoryPeer::dropped).await;
    assert_eq!(desk.closed(), Some(Close::Forbidden), "no role is left");
    let all = ["desk", "desk:7", "game:7", "user:ann"].map(|to| order(to, 3));
    hub.publish(all.to_vec()).await.unwrap();
    ann.until("what is left came", |peer| peer.count() == 4).await;
    assert_eq!(ann.bodies()[2..], ["\"own 3\"", "\"own 3\""], "{:?}", ann.lines());
    assert_eq!(answer(&ann, Ask::Join(room("desk:8")), "!refused").await, "!refused desk:8");
    assert_eq!(who(&later).await, "!is ann admin", "what is newer is as good as ever");

    let again = connect(&hub, &lines, &both).await;
    assert_eq!(who(&again).await, "!is ann user", "it is told what is left");
    assert_eq!(answer(&again, Ask::Join(room("desk:7")), "!refused").await, "!refused desk:7");
    let refused = try_connect(&hub, &lines, &identity("ann", &["admin"], at(10))).await;
    assert!(matches!(refused, Err(ConnectError::Access(_))), "{refused:?}");
    assert_eq!(answer(&later, Ask::Renew(both), "!renewed").await, "!renewed true");
    assert_eq!(who(&later).await, "!is ann user", "a renewal brings nothing back");
    let renewed = answer(&later, Ask::Renew(identity("ann", &["admin"], at(10))), "!renewed");
    assert_eq!(renewed.await, "!renewed false the identity may not connect");
    assert_eq!(hub.validate(identity("ann", &["admin", "user"], at(9))).unwrap().roles.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_too_much_is_revoked_everybody_needs_a_new_token() {
    let mut limits = Limits::default();
    limits.revocations = 1;
    let (hub, lines) = hub(limits);
    let dan = connect(&hub, &lines, &identity("dan", &["user"], at(5))).await;
    hub.revoke(subject("ann", at(10))).await;
    hub.revoke(subject("bob", at(20))).await;
    for old in [identity("ann", &["user"], at(10)), identity("dan", &["user"], at(5))] {
        let refused = try_connect(&hub, &lines, &old).await;
        assert!(matches!(refused, Err(ConnectError::Outdated)), "{refused:?}");
    }
    let renewed = answer(&dan, Ask::Renew(identity("dan", &["user"], at(5))), "!renewed").await;
    assert_eq!(renewed, "!renewed false the identity is too old: a new token is needed");
    let new = identity("dan", &["user"], at(11));
    assert_eq!(answer(&dan, Ask::Renew(new.clone()), "!renewed").await, "!renewed true");
    connect(&hub, &lines, &new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_as_many_as_the_largest_of_the_roles_allows() {
    let mut limits = Limits::default();
    limits.rooms_per_connection = 3;
    let (hub, lines) = hub(limits);
    for (roles, most) in [(&["guest"][..], 1), (&["user"], 2), (&["user", "guest"], 2)] {
        let peer = connect(&hub, &lines, &identity("ann", roles, at(1))).await;
        for n in 0..=most {
            let asked = Ask::Join(room(&format!("game:{n}")));
            let expected = if n < most { "!joined" } else { "!refused" };
            answer(&peer, asked, expected).await;
        }
        // Who is in a room may ask for it again, however many those are.
        answer(&peer, Ask::Join(room("game:0")), "!joined").await;
    }
    let admin = connect(&hub, &lines, &identity("ann", &["admin", "user"], at(1))).await;
    for n in 0..3 {
        answer(&admin, Ask::Join(room(&format!("game:{n}"))), "!joined").await;
    }
    answer(&admin, Ask::Join(room("game:3")), "!refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_room_and_one_that_is_not_there_are_the_same() {
    let (hub, lines) = hub(Limits::default());
    // `desk` is there, with somebody in it; `desk:9` and `nowhere` are not.
    connect(&hub, &lines, &identity("carl", &["admin"], at(1))).await;
    let ann = connect(&hub, &lines, &identity("ann", &["user"], at(1))).await;
    let rooms = hub.stats().rooms;
    for name in ["desk", "desk:9", "nowhere", "user:carl", "user:nobody"] {
        let refused = answer(&ann, Ask::Join(room(name)), "!refused").await;
        assert_eq!(refused, format!("!refused {name}"));
        let left = answer(&ann, Ask::Leave(room(name)), "!left").await;
        assert_eq!(left, format!("!left {name}"));
    }
    // Nor by coming back: what is asked for at the door is asked for the same way.
    let asked = ["desk", "nowhere"].map(room);
    let (back, sink) = MemorySink::returning(Some(hub.cursor().to_string()), asked.to_vec());
    hub.connect(&lines, identity("ann", &["user"], at(1)), sink).await.unwrap();
    hub.publish(vec![order("desk", 1), order("user:ann", 2)]).await.unwrap();
    back.until("her own came", |peer| peer.count() == 1).await;
    assert_eq!(back.bodies(), ["\"own 2\""]);
    // What an entry in the log is for has a number; what was refused has none.
    assert_eq!(hub.stats().rooms, rooms);
}
