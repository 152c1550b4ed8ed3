//! Exactly what a socket had taken is sent, and nothing after it.

use super::*;

/// A peer that has taken one whole frame, and its line; then `more` bytes of the next. Three
/// more are pending: 2 to `user:ann`, 3 to `desk`, 4 to `user:ann`.
async fn behind(hub: &Hub, lines: &ProtocolRef, more: usize) -> (MemoryPeer, String) {
    let peer = connect(hub, lines, &identity("ann", &["admin", "user"], at(10))).await;
    hub.publish(vec![order("user:ann", 1)]).await.unwrap();
    peer.until("the first came", |peer| peer.count() == 1).await;
    let first = peer.lines().concat();
    peer.stall();
    peer.allow(more);
    let pending = [("user:ann", 2), ("desk", 3), ("user:ann", 4)];
    for (to, n) in pending {
        hub.publish(vec![order(to, n)]).await.unwrap();
    }
    peer.until("it took what it takes", |peer| peer.bytes().len() == first.len() + more).await;
    let behind = async {
        while hub.stats().behind != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), behind).await.expect("it is behind");
    (peer, first)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_gets_nothing_of_what_was_pending_but_the_goodbye() {
    let (hub, lines) = hub(Limits::default());
    let (peer, first) = behind(&hub, &lines, 0).await;
    assert_eq!(hub.revoke(subject("ann", at(10))).await, 1);
    peer.flow();
    peer.until("it was let go", MemoryPeer::dropped).await;
    assert_eq!(peer.lines(), [first, "!close revoked\n".to_owned()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_frame_that_was_begun_the_other_part_is_not_sent() {
    let (hub, lines) = hub(Limits::default());
    let (peer, first) = behind(&hub, &lines, 5).await;
    assert_eq!(hub.revoke(subject("ann", at(10))).await, 1);
    peer.flow();
    peer.until("it was let go", MemoryPeer::dropped).await;
    assert_eq!(peer.lines(), [first, "order".to_owned()], "no goodbye could be read behind it");
    assert_eq!(peer.closed(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_answer_that_was_begun_the_other_part_is_sent_and_the_goodbye() {
    let (hub, lines) = hub(Limits::default());
    let peer = connect(&hub, &lines, &identity("ann", &["admin", "user"], at(10))).await;
    who(&peer).await;
    peer.stall();
    peer.allow(3);
    peer.ask(Ask::Ping);
    peer.until("a part of it came", |peer| peer.lines().last().unwrap() == "!po").await;
    hub.publish(vec![order("user:ann", 2)]).await.unwrap();
    assert_eq!(hub.revoke(subject("ann", at(10))).await, 1);
    peer.flow();
    peer.until("it was let go", MemoryPeer::dropped).await;
    assert_eq!(peer.lines()[1..], ["!pong\n", "!close revoked\n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_forfeits_what_was_pending_in_its_rooms_and_the_rest_is_seen_as_now() {
    let (hub, lines) = hub(Limits::default());
    let (peer, first) = behind(&hub, &lines, 0).await;
    assert_eq!(hub.revoke(role("ann", "admin", at(10))).await, 1);
    hub.publish(vec![order("desk", 5), order("user:ann", 6)]).await.unwrap();
    peer.flow();
    peer.until("all that is left came", |peer| peer.count() == 4).await;
    let told = ["!unsubscribed desk\n", "order|user:ann|\"own 2\"|\n"];
    let rest = ["order|user:ann|\"own 4\"|\n", "order|user:ann|\"own 6\"|\n"];
    let expected: Vec<&str> = [first.as_str()].into_iter().chain(told).chain(rest).collect();
    assert_eq!(peer.lines(), expected);
    assert_eq!(who(&peer).await, "!is ann user");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stays_without_a_role_gets_the_frame_that_was_begun_and_nothing_more_of_it() {
    let (hub, lines) = hub(Limits::default());
    let (peer, first) = behind(&hub, &lines, 5).await;
    assert_eq!(hub.revoke(role("ann", "admin", at(10))).await, 1);
    peer.flow();
    peer.until("all that is left came", |peer| peer.count() == 3).await;
    let told = ["order|user:ann|\"full 2\"|\n", "!unsubscribed desk\n"];
    let expected = [first.as_str(), told[0], told[1], "order|user:ann|\"own 4\"|\n"];
    assert_eq!(peer.lines(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_role_left_gets_nothing_of_what_was_pending() {
    let (hub, lines) = hub(Limits::default());
    let peer = connect(&hub, &lines, &identity("ann", &["admin"], at(10))).await;
    who(&peer).await;
    peer.stall();
    hub.publish(vec![order("desk", 1)]).await.unwrap();
    assert_eq!(hub.revoke(role("ann", "admin", at(10))).await, 1);
    hub.publish(vec![order("desk", 2)]).await.unwrap();
    peer.flow();
    peer.until("it was let go", MemoryPeer::dropped).await;
    assert_eq!(peer.lines()[1..], ["!close forbidden\n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_without_the_role_gets_nothing_of_what_he_missed_by_it() {
    let (hub, lines) = hub(Limits::default());
    let log = fanout::testing::MemoryLog::new("orders", 1);
    let route = |event: &fanout::Event, out: &mut Vec<Emission>| {
        let n: u32 = event.parse()?;
        out.extend([order("desk", n), order("user:ann", n)]);
        Ok::<_, fanout::RouteError>(())
    };
    let source = log.source(fanout::testing::MemoryStart::Earliest);
    let pipeline = fanout::Pipeline::new(source, route, hub.clone());
    let mut status = pipeline.status();
    tokio::spawn(pipeline.run());
    assert!(status.wait_for(fanout::SourceHealth::ready).await);
    let both = identity("ann", &["admin", "user"], at(10));
    let cursor = hub.cursor().to_string();
    for n in 0..3 {
        log.write(0, None, n.to_string());
    }
    let watcher = connect(&hub, &lines, &both).await;
    hub.revoke(role("ann", "admin", at(10))).await;
    drop(watcher);
    let (back, sink) = MemorySink::returning(Some(cursor), vec![room("desk:1")]);
    hub.connect(&lines, both, sink).await.unwrap();
    back.until("all came", |peer| peer.count() == 3).await;
    assert_eq!(back.bodies(), ["\"own 0\"", "\"own 1\"", "\"own 2\""]);
    who(&back).await;
    assert_eq!(back.count(), 3, "{:?}", back.lines());
}
