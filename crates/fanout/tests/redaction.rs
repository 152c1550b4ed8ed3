//! No byte of a hidden field reaches a connection without the right, however it comes.
//!
//! Every field of every body carries a marker that stands nowhere else. What a view may see
//! of it follows from the declaration by a rule of three lines, and what a connection took is
//! searched for it as bytes.

#[path = "redaction/scene.rs"]
mod scene;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fanout::testing::{Ask, CursorLines, Lines, MemoryLog, MemoryPeer, MemorySink, MemoryStart};
use fanout::{
    Access, Delivery, Emission, EventViews, Frame, Hub, Identity, Json, Keyring, Overflow,
    Pipeline, Policy, Protocol, ProtocolRef, Redaction, RoleAccess, Room, RoomPattern,
    SourceHealth,
};
use proptest::prelude::*;

use scene::{Said, Script, VIEWS, any_script, emission, route};

/// Each role sees the view of its name, and is in the same rooms.
fn access() -> Access {
    let role = |view: &&str| RoleAccess::new(*view).joins("all").joins("prices").sees(*view);
    Access::new(VIEWS.iter().map(role)).unwrap()
}

struct Node {
    hub: Hub,
    protocols: [ProtocolRef; 2],
}

impl Node {
    /// One that has read all there is.
    async fn new(log: &MemoryLog, start: MemoryStart, said: &Said) -> Self {
        let access = access();
        let redaction = Redaction::new(&access, [said.event_views()]).unwrap();
        let prices = Overflow::new(Policy::Conflate);
        let builder = Hub::builder(access).redaction(redaction).shards(2);
        let hub = builder
            .overflow(RoomPattern::new("prices").unwrap(), prices)
            .keys(Keyring::new('r', &[3; 32]).unwrap())
            .build()
            .unwrap();
        let protocols = [hub.protocol(Lines), hub.protocol(CursorLines)];
        let pipeline = Pipeline::new(log.source(start), route, hub.clone());
        let mut status = pipeline.status();
        tokio::spawn(pipeline.run());
        assert!(status.wait_for(SourceHealth::ready).await);
        Self { hub, protocols }
    }

    /// A connection of each view in each protocol.
    async fn all(&self, cursor: Option<&str>, stalled: bool) -> Vec<(&'static str, MemoryPeer)> {
        let mut all = Vec::new();
        for view in VIEWS {
            for protocol in &self.protocols {
                let (peer, sink) = MemorySink::returning(cursor.map(str::to_owned), Vec::new());
                if stalled {
                    peer.stall();
                }
                self.hub.connect(protocol, Identity::new("x", [view]), sink).await.unwrap();
                all.push((view, peer));
            }
        }
        all
    }
}

fn has(peer: &MemoryPeer, text: &str) -> bool {
    scene::has(&peer.bytes(), text)
}

/// Waits until each has got what `script` ends with, and looks at what it got of it.
async fn check(how: &str, peers: &[(&str, MemoryPeer)], said: &Said, script: &Script) {
    let behind = !["live", "published"].contains(&how);
    for (view, peer) in peers {
        peer.until(&format!("{how}: the end comes"), |peer| has(peer, &script.end)).await;
        script.check(how, view, said, &peer.bytes(), behind);
    }
}

async fn run(said: Said, logged: Script, published: Script) {
    let log = MemoryLog::new("t", 1);
    let node = Node::new(&log, MemoryStart::Earliest, &said).await;
    let before = node.hub.cursor().to_string();
    let (live, slow) = (node.all(None, false).await, node.all(None, true).await);
    for record in logged.records() {
        log.write(0, None, record);
    }
    check("live", &live, &said, &logged).await;

    let back = node.all(Some(&before), false).await;
    check("resume", &back, &said, &logged).await;

    // It began later and has nothing of it in its log.
    let late = Node::new(&log, MemoryStart::Latest, &said).await;
    let back = late.all(Some(&before), false).await;
    check("replay", &back, &said, &logged).await;
    assert!(log.passes() > 0 && log.read_again() > 0, "it was read again");

    let emissions = published.emissions().map(|sent| emission(sent).unwrap()).collect();
    node.hub.publish(emissions).await.unwrap();
    check("published", &live, &said, &published).await;

    for (_, peer) in &slow {
        peer.flow();
    }
    check("conflation", &slow, &said, &logged).await;
    check("conflation", &slow, &said, &published).await;
    if published.conflates() {
        assert!(node.hub.stats().conflated > 0, "somebody was spared something");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..Default::default() })]

    #[test]
    fn nothing_hidden_reaches_anybody(
        said in scene::any_said(),
        logged in any_script("L"),
        published in any_script("P"),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(said, logged, published));
    }
}

/// Not by chance: everything that can be hidden is, and all ways are gone.
#[tokio::test(start_paused = true)]
async fn a_buyer_sees_no_margin_and_an_auditor_does() {
    let said = Said::example();
    run(said, Script::example("L"), Script::example("P")).await;
}

fn shop() -> (Access, Redaction) {
    let access = access();
    let redaction = Redaction::new(&access, [Said::example().event_views()]).unwrap();
    (access, redaction)
}

#[tokio::test]
async fn a_redaction_for_another_policy_is_refused() {
    let (_, redaction) = shop();
    let role = |view| RoleAccess::new(view).sees(view);
    for views in [&["admin"][..], &["guest", "user", "support", "admin"]] {
        let access = Access::new(views.iter().copied().map(role)).unwrap();
        let error = Hub::builder(access).redaction(redaction.clone()).build().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        let text = error.to_string();
        let end = format!("admin, support, user, guest, the hub's has {}", views.join(", "));
        assert!(text.ends_with(&end), "{text}");
    }
    let access = Access::new(["other"].map(role)).unwrap();
    assert!(Hub::builder(access).redaction(Redaction::default()).build().is_ok());
}

/// Where the bodies lie that it was given to encode, by what they say.
#[derive(Clone, Debug, Default)]
struct Places(Arc<Mutex<BTreeMap<String, Vec<usize>>>>);

impl Protocol for Places {
    fn frame(&self, delivery: &Delivery<'_>) -> Frame {
        let body = delivery.body.as_str();
        let mut places = self.0.lock().unwrap();
        places.entry(body.to_owned()).or_default().push(body.as_ptr() as usize);
        Lines.frame(delivery)
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_cut_once_for_a_view_and_never_for_one_that_nobody_has() {
    let access = access();
    let event = EventViews::of("e").all("admin").hide("support", ["b"]).show("user", ["b"]);
    let redaction = Redaction::new(&access, [event.show("guest", ["a"])]).unwrap();
    let prices = Overflow::new(Policy::Conflate);
    let builder = Hub::builder(access).redaction(redaction).shards(2);
    let hub = builder.overflow(RoomPattern::new("prices").unwrap(), prices).build().unwrap();
    let places = [Places::default(), Places::default()];
    let protocols = places.clone().map(|places| hub.protocol(places));
    let mut peers = Vec::new();
    for n in 0..24 {
        let (peer, sink) = MemorySink::new();
        if n % 2 == 0 {
            peer.stall();
        }
        let who = Identity::new("x", [["admin", "support", "user"][n % 3]]);
        hub.connect(&protocols[n / 12], who, sink).await.unwrap();
        peers.push(peer);
    }
    for n in 0..3 {
        let body = Json::of(&serde_json::json!({"a": n, "b": n, "c": n})).unwrap();
        let priced = Emission::new(Room::new("prices").unwrap(), "e", body).with_key("k");
        hub.publish(vec![priced]).await.unwrap();
        let live = peers.iter().skip(1).step_by(2);
        for peer in live {
            peer.until("it came", |peer| peer.count() == n + 1).await;
        }
    }
    for peer in peers.iter().step_by(2) {
        peer.flow();
        peer.until("the newest came", |peer| peer.count() > 0).await;
        assert!(peer.lines()[0].ends_with("|2\n"), "{:?}", peer.lines());
    }
    let mut seen = BTreeMap::<String, Vec<usize>>::new();
    for places in &places {
        for (body, at) in places.0.lock().unwrap().iter() {
            seen.entry(body.clone()).or_default().extend(at);
        }
    }
    let of = |n| {
        [
            format!(r#"{{"a":{n},"b":{n},"c":{n}}}"#),
            format!(r#"{{"a":{n},"c":{n}}}"#),
            format!(r#"{{"b":{n}}}"#),
        ]
    };
    let mut expected: Vec<String> = (0..3).flat_map(of).collect();
    expected.sort();
    assert_eq!(seen.keys().cloned().collect::<Vec<_>>(), expected, "none for `guest`");
    for (body, mut at) in seen {
        // Once a protocol, and of the newest for each that was spared some.
        assert_eq!(at.len(), if body.contains('2') { 2 + 4 } else { 2 }, "{body}");
        at.dedup();
        assert_eq!(at.len(), 1, "cut once: {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_when_somebody_becomes_less_is_what_he_may_see_then() {
    let (access, redaction) = shop();
    let hub = Hub::builder(access).redaction(redaction).shards(1).build().unwrap();
    let lines = hub.protocol(Lines);
    let (peer, sink) = MemorySink::new();
    hub.connect(&lines, Identity::new("x", ["admin"]), sink).await.unwrap();
    let (said, script) = (Said::example(), Script::example("P"));
    let publish = async || {
        let emissions = script.emissions().map(|sent| emission(sent).unwrap()).collect();
        hub.publish(emissions).await.unwrap();
    };
    publish().await;
    peer.until("he sees all", |peer| has(peer, &script.end)).await;
    let before = peer.bytes().len();
    assert!(
        script.markers().all(|marker| !said.may_see("admin", marker) || has(&peer, &marker.text))
    );

    peer.stall();
    publish().await;
    peer.ask(Ask::Renew(Identity::new("x", ["user"])));
    // Paused time moves on once nobody has anything left to do.
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    assert_eq!(peer.bytes().len(), before, "his socket took nothing");
    peer.flow();
    let since = |peer: &MemoryPeer| String::from_utf8(peer.bytes().split_off(before)).unwrap();
    peer.until("the rest comes", |peer| since(peer).contains(&script.end)).await;
    let since = since(&peer);
    assert!(since.contains("!renewed true\n"), "{since}");
    for marker in script.markers() {
        assert_eq!(
            since.contains(&marker.text),
            said.may_see("user", marker),
            "{marker:?} {since}"
        );
    }
}

/// A body that cannot be cut is for those alone who see all of it.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_cut_is_not_delivered() {
    let (access, redaction) = shop();
    let hub = Hub::builder(access).redaction(redaction).shards(1).build().unwrap();
    let lines = hub.protocol(Lines);
    let mut peers = Vec::new();
    for view in VIEWS {
        let (peer, sink) = MemorySink::new();
        hub.connect(&lines, Identity::new("x", [view]), sink).await.unwrap();
        peers.push((view, peer));
    }
    let deep = format!("{}1{}", "{\"id\":".repeat(200), "}".repeat(200));
    let all = |body: String| {
        let body = Json::parse(Bytes::from(body)).unwrap();
        Emission::new(Room::new("all").unwrap(), "e", body)
    };
    let end = Emission::new(Room::new("all").unwrap(), "end", Json::of("END").unwrap());
    let bodies = [deep.clone(), "\"text\"".into(), "[1,[true]]".into()];
    hub.publish(bodies.iter().cloned().map(all).chain([end]).collect()).await.unwrap();
    for (view, peer) in peers {
        peer.until("the end comes", |peer| has(peer, "END")).await;
        let mut expected = vec!["\"END\"".to_owned()];
        if view == "admin" {
            expected.splice(..0, bodies.iter().cloned());
        }
        assert_eq!(peer.bodies(), expected, "{view}");
    }
}
