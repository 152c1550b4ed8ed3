//! The control topic: every node follows, whatever stands in it.

use bytes::Bytes;
use fanout::testing::{MemoryLog, MemoryStart};
use fanout::{Controls, MemorySource, MemoryTopic, SourceHealth};

use super::*;

/// A hub that follows a topic of its own.
fn following(limits: Limits) -> (Hub, ProtocolRef, MemoryTopic) {
    let (hub, lines) = hub(limits);
    let (topic, source) = MemorySource::new("fanout.control");
    tokio::spawn(Controls::new(source, hub.clone()).run());
    (hub, lines, topic)
}

async fn say(topic: &MemoryTopic, value: &str) {
    topic.send_raw(None, Bytes::copy_from_slice(value.as_bytes())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_follow_one_topic_and_so_does_one_that_starts_later() {
    let log = MemoryLog::new("fanout.control", 2);
    let node = || {
        let (hub, lines) = hub(Limits::default());
        let controls = Controls::new(log.source(MemoryStart::Earliest), hub.clone());
        let status = controls.status();
        (hub, lines, status, tokio::spawn(controls.run()))
    };
    let ann = identity("ann", &["user"], at(10));
    let bob = identity("bob", &["admin", "user"], at(10));
    let mut nodes = Vec::new();
    for (hub, lines, mut status, running) in [node(), node()] {
        assert!(status.wait_for(SourceHealth::ready).await);
        let (id, alone) =
            try_connect(&hub, &lines, &identity("cid", &["user"], at(10))).await.unwrap();
        let peers = [connect(&hub, &lines, &ann).await, connect(&hub, &lines, &bob).await];
        nodes.push((hub, lines, id, alone, peers, running));
    }
    let revocations = [
        subject("ann", at(10)),
        role("bob", "admin", at(10)),
        // One of the first node: the second has none of this name.
        Revocation::Connection(nodes[0].2),
    ];
    for (n, revocation) in revocations.iter().enumerate() {
        log.write(n as u32 % 2, None, revocation.to_json().as_bytes().clone());
    }
    for (n, (hub, lines, _, alone, [of_ann, of_bob], _)) in nodes.iter().enumerate() {
        of_ann.until("she is let go", MemoryPeer::dropped).await;
        assert_eq!(of_ann.closed(), Some(Close::Revoked));
        of_bob.until("he is told", |peer| !peer.lines().is_empty()).await;
        assert_eq!(of_bob.lines(), ["!unsubscribed desk\n"]);
        assert!(matches!(try_connect(hub, lines, &ann).await, Err(ConnectError::Revoked)));
        if n == 0 {
            alone.until("it is let go", MemoryPeer::dropped).await;
        } else {
            assert_eq!(who(alone).await, "!is cid user");
        }
    }
    let (late, lines, mut status, running) = node();
    assert!(status.wait_for(SourceHealth::ready).await);
    let refused = try_connect(&late, &lines, &ann).await;
    assert!(matches!(refused, Err(ConnectError::Revoked)), "once it is ready it knows");
    let bob = connect(&late, &lines, &bob).await;
    assert_eq!(who(&bob).await, "!is bob user");
    running.abort();
    for node in nodes {
        node.5.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_control_is_passed_over_and_the_next_counts() {
    let (hub, lines, topic) = following(Limits::default());
    let ann = connect(&hub, &lines, &identity("ann", &["user"], at(10))).await;
    let bob = connect(&hub, &lines, &identity("bob", &["user"], at(10))).await;
    let none = [
        "",
        "null",
        "{",
        "\u{0}",
        r#"{"revoke":null}"#,
        r#"{"revoke":{}}"#,
        r#"{"grant":{"subject":"ann"}}"#,
        r#"{"revoke":{"role":"user"}}"#,
        r#"{"revoke":{"subject":["ann"]}}"#,
        // A typing error must not take more than was meant, nor something else.
        r#"{"revoke":{"subject":"ann","rolle":"guest"}}"#,
        r#"{"revoke":{"subject":"ann","connection":"0-0-0-0"}}"#,
        r#"{"revoke":{"connection":"everything"}}"#,
        r#"{"revoke":{"subject":"ann","before":"now"}}"#,
        r#"{"revoke":{"subject":"ann","before":-1}}"#,
        r#"{"revoke":{"subject":"ann","before":1732340000000}}"#,
        r#"{"revoke":{"subject":"ann"}} {}"#,
    ];
    for value in none {
        say(&topic, value).await;
    }
    say(&topic, r#"{"revoke":{"subject":"bob"},"by":"carl"}"#).await;
    bob.until("he is let go", MemoryPeer::dropped).await;
    assert_eq!(who(&ann).await, "!is ann user", "nothing before it was about her");
    let again = identity("bob", &["user"], at(10));
    assert!(matches!(try_connect(&hub, &lines, &again).await, Err(ConnectError::Revoked)));
}

#[tokio::test(flavor = "multi_thread")]
async fn before_is_as_the_record_says_or_its_time() {
    let (hub, lines, topic) = following(Limits::default());
    let old = connect(&hub, &lines, &identity("ann", &["user"], at(10))).await;
    let new = connect(&hub, &lines, &identity("ann", &["user"], at(11))).await;
    let before = now() - 1_000 + 10;
    say(&topic, &format!(r#"{{"revoke":{{"subject":"ann","before":{before}.75}}}}"#)).await;
    old.until("she is let go", MemoryPeer::dropped).await;
    assert_eq!(who(&new).await, "!is ann user");
    say(&topic, r#"{"revoke":{"subject":"ann"}}"#).await;
    new.until("she is let go", MemoryPeer::dropped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_records_end_nothing() {
    let log = MemoryLog::new("fanout.control", 1);
    let (hub, lines) = hub(Limits::default());
    let source = log.source(MemoryStart::Earliest);
    let pause = source.pause();
    pause.pause();
    let running = tokio::spawn(Controls::new(source, hub.clone()).run());
    let ann = connect(&hub, &lines, &identity("ann", &["user"], at(10))).await;
    log.write(0, None, subject("bob", at(10)).to_json().as_bytes().clone());
    log.write(0, None, subject("ann", at(10)).to_json().as_bytes().clone());
    log.expire(0, 1);
    pause.resume();
    ann.until("she is let go", MemoryPeer::dropped).await;
    assert!(!running.is_finished());
    running.abort();
}
