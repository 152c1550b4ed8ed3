//! What a server shows: streams that come and go, holes, what was deleted, replays.
//!
//! ```text
//! FANOUT_TEST_NATS_SERVER=$(.ci/nats-server) cargo test -p nats-source -- --include-ignored
//! ```

mod common;

use std::time::{Duration, SystemTime};

use common::{DEADLINE, Reader, Server, again, range, texts, until};
use fanout::{Bounds, ReplayError, Source as _, SourceHealth};
use nats_source::async_nats::HeaderMap;
use nats_source::{SUBJECT, Sequences, Start};
use serde_json::json;

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn subject_headers_and_time_of_a_message_are_handed_on() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    let mut reader = Reader::ready(server.config().stream("S")).await;
    let before = SystemTime::now() - Duration::from_secs(1);
    let mut headers = HeaderMap::new();
    headers.insert("kind", "gift");
    let written = admin.0.request_with_headers("S.order.7", headers, "{}".into()).await;
    written.expect("written");
    reader.read_events(1).await;
    let event = &reader.events[0];
    assert_eq!((event.offset, &event.payload[..], event.topic()), (1, &b"{}"[..], "S"));
    assert_eq!(event.header(SUBJECT).map(|s| &s[..]), Some(&b"S.order.7"[..]));
    assert_eq!(event.key.as_deref(), Some(&b"S.order.7"[..]));
    assert_eq!(event.header("kind").map(|v| &v[..]), Some(&b"gift"[..]));
    assert!((before..before + DEADLINE).contains(&event.time), "{:?}", event.time);
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn it_begins_where_it_is_told_to() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    admin.make("EMPTY", json!({})).await;
    admin.write_numbers("S", 0..10).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let middle = SystemTime::now();
    admin.write_numbers("S", 10..20).await;
    let age = |age, messages| Start::Recent { age, messages };
    let long = Duration::from_secs(3600);
    let cases = [
        (Start::Latest, 20),
        (Start::Earliest, 0),
        (Start::At(middle), 10),
        (Start::At(middle - long), 0),
        (Start::At(middle + long), 20),
        (Start::Sequences(Sequences::otherwise(Start::Latest).at("S", 16)), 15),
        (age(long, 1000), 0),
        (age(long, 4), 16),
        (age(Duration::ZERO, 1000), 20),
    ];
    for (start, first) in cases {
        let config = server.config().streams(["S", "EMPTY"]).start(start.clone());
        let reader = Reader::ready(config).await;
        assert_eq!((reader.passed("S"), reader.passed("EMPTY")), (Some(21), Some(1)), "{start:?}");
        assert_eq!(reader.events.len() as u64, 20 - first, "{start:?}");
        reader.assert_numbers(first..20);
        assert!(reader.lost.is_empty());
    }
    // One that is not there yet is waited for.
    let start = Start::Sequences(Sequences::otherwise(Start::Latest).at("S", 23));
    let mut reader = Reader::start(server.config().stream("S").start(start));
    let health = reader.until(|health| health.problem.is_some()).await;
    assert!(health.problem.expect("told").contains("ends at 21") && !health.caught_up);
    admin.write_numbers("S", 20..25).await;
    reader.until(SourceHealth::ready).await;
    reader.assert_numbers(22..25);
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn a_sequence_that_is_no_more_is_told_as_lost() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({ "max_msgs": 5 })).await;
    admin.write_numbers("S", 0..20).await;
    let start = Start::Sequences(Sequences::otherwise(Start::Latest).at("S", 4));
    let reader = Reader::ready(server.config().stream("S").start(start)).await;
    reader.assert_numbers(15..20);
    assert_eq!(reader.lost, [0]);
    // Also where nothing is left at all.
    admin.ask("STREAM.PURGE.S", json!({})).await;
    let start = Start::Sequences(Sequences::otherwise(Start::Latest).at("S", 4));
    let mut reader = Reader::ready(server.config().stream("S").start(start)).await;
    assert_eq!(
        (reader.events.len(), &reader.lost[..], reader.passed("S")),
        (0, &[0][..], Some(21))
    );
    admin.write("S.n", "20").await;
    reader.read_events(1).await;
    assert_eq!(reader.lost, [0]);
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn holes_are_passed_in_silence() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    admin.write_numbers("S", 0..20).await;
    for sequence in [3, 4, 9, 18, 19, 20] {
        admin.delete_message("S", sequence).await;
    }
    // The last ones are among them: the end at start is none of a message.
    let reader = Reader::ready(server.config().stream("S").start(Start::Earliest)).await;
    assert_eq!((reader.events.len(), reader.passed("S")), (14, Some(21)));
    assert!(reader.lost.is_empty(), "{:?}", reader.lost);
    // So are some of a stream that keeps the newest of each subject.
    admin.make("KV", json!({ "max_msgs_per_subject": 1 })).await;
    for round in 0..30 {
        for subject in ["KV.a", "KV.b", "KV.c"] {
            admin.write(subject, &round.to_string()).await;
        }
    }
    let mut reader = Reader::ready(server.config().stream("KV").start(Start::Earliest)).await;
    assert_eq!(reader.payloads(), ["29"; 3]);
    admin.write("KV.a", "30").await;
    admin.write("KV.a", "31").await;
    reader.read_up_to("KV", 93).await;
    assert_eq!(reader.payloads().last(), Some(&"31"));
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn what_expired_before_it_was_read_is_told_where_it_stood() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({ "max_msgs": 50 })).await;
    let config = server.config().stream("S").max_batch(5).max_queued_batches(1);
    let mut reader = Reader::ready(config).await;
    // Nobody reads: some is on its way, most is deleted.
    for round in 0..4_u64 {
        admin.write_numbers("S", round * 200..round * 200 + 200).await;
        reader.read_up_to("S", round * 200 + 201).await;
        assert_eq!(reader.lost.len() as u64, round + 1, "{:?}", reader.lost);
    }
    reader.assert_lost_where_missing(1);
    let expected: Vec<String> = reader.events.iter().map(|e| (e.offset - 1).to_string()).collect();
    assert_eq!(reader.payloads(), expected);
    // What was purged after it was read is no loss; what comes goes on from there.
    admin.ask("STREAM.PURGE.S", json!({})).await;
    let lost = reader.lost.len();
    admin.write_numbers("S", 800..810).await;
    reader.read_up_to("S", 811).await;
    assert_eq!(reader.lost.len(), lost);
    // What was purged before is one.
    admin.write_numbers("S", 810..840).await;
    admin.ask("STREAM.PURGE.S", json!({})).await;
    reader.read_up_to("S", 841).await;
    assert_eq!(reader.lost.len(), lost + 1);
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn only_the_subjects_that_are_asked_for_are_read() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({ "storage": "memory" })).await;
    for subject in ["S.a.1", "S.b.1", "S.c.1", "S.b.2", "S.b.3"] {
        admin.write(subject, subject).await;
    }
    for (subjects, expected) in [
        (vec!["S.a.>"], vec!["S.a.1"]),
        (vec!["S.a.*", "S.c.1"], vec!["S.a.1", "S.c.1"]),
        (vec!["S.x"], vec![]),
    ] {
        let several = subjects.len() > 1;
        let config = server.config().stream_of("S", subjects).start(Start::Earliest);
        if several && !admin.0.is_server_compatible(2, 10, 0) {
            // It would send all of them.
            let mut reader = Reader::start(config);
            let problem = reader.until(|health| health.problem.is_some()).await.problem;
            assert!(problem.is_some_and(|problem| problem.contains("needs version 2.10")));
            assert!(reader.events.is_empty());
            continue;
        }
        let mut reader = Reader::ready(config).await;
        // It has caught up, though what is at the end is nothing of them.
        assert_eq!((reader.payloads(), reader.passed("S")), (expected, Some(6)));
        assert!(reader.lost.is_empty());
        // The others are passed all the same.
        let (sequence, replay) = (admin.write("S.b.4", "S.b.4").await, reader.source.replay());
        reader.read_up_to("S", sequence + 1).await;
        // What is read again is of them as well.
        let (lane, mut replay) = (reader.lane("S"), replay.expect("replay"));
        let (events, reached) =
            again(&mut replay, &[range(&lane, 1, sequence + 1)]).await.expect("read again");
        assert_eq!(texts(&events), reader.payloads());
        assert_eq!(reached[&lane], sequence + 1);
        admin.delete("S").await;
        admin.make("S", json!({ "storage": "memory" })).await;
        for subject in ["S.a.1", "S.b.1", "S.c.1", "S.b.2", "S.b.3"] {
            admin.write(subject, subject).await;
        }
    }
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn a_stream_that_appears_later_is_read_whole() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    let mut reader = Reader::ready(server.config().streams(["S", "LATER"])).await;
    let problem = reader.until(|health| health.problem.is_some()).await.problem;
    assert_eq!(problem.as_deref(), Some("stream `LATER` does not exist"));
    // What is there is read meanwhile.
    admin.write_numbers("S", 0..5).await;
    reader.read_events(5).await;
    admin.make("LATER", json!({})).await;
    admin.write_numbers("LATER", 5..10).await;
    reader.read_events(10).await;
    reader.assert_numbers(0..10);
    reader.until(|health| health.ready() && health.problem.is_none()).await;
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn a_stream_that_was_made_anew_is_another_lane_from_its_beginning() {
    let server = Server::start().await;
    let admin = server.admin().await;
    // On disk, a server of version 2.15 may make it anew with the messages of the old one.
    let in_memory = json!({ "storage": "memory" });
    admin.make("S", in_memory.clone()).await;
    admin.write_numbers("S", 0..3).await;
    let mut reader = Reader::ready(server.config().stream("S")).await;
    admin.write_numbers("S", 0..5).await;
    reader.read_events(5).await;
    let old = reader.lane("S");
    let mut replay = reader.source.replay().expect("replay");
    assert_eq!(
        replay.bounds(std::slice::from_ref(&old)).await.expect("asked"),
        [Some(Bounds { first: 1, end: 9 })]
    );
    for round in 1..3 {
        let old = reader.lane("S");
        admin.delete("S").await;
        admin.make("S", in_memory.clone()).await;
        // More than the old one had.
        admin.write_numbers("S", round * 20..round * 20 + 20).await;
        reader.read_closed(&old).await;
        reader.read_up_to("S", 21).await;
        let new = reader.lane("S");
        assert!(new.log != old.log && new.topic == old.topic);
        let events = reader.events.iter().filter(|event| event.lane == new);
        let read: Vec<_> = events.map(|e| (e.offset, e.payload.to_vec())).collect();
        let all = (1..=20).map(|n| (n, (round * 20 + n - 1).to_string().into_bytes()));
        assert_eq!(read, all.collect::<Vec<_>>(), "whole, from its beginning");
    }
    assert!(reader.lost.is_empty());
    assert_eq!(replay.bounds(std::slice::from_ref(&old)).await.expect("asked"), [None]);
    let gone = replay.begin(vec![range(&old, 4, 9)]).await;
    assert!(matches!(gone, Err(ReplayError::Expired { .. })), "{gone:?}");
    // Another node comes to the same name.
    let other = Reader::ready(server.config().stream("S")).await;
    assert_eq!(other.lane("S"), reader.lane("S"));
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn a_stream_that_was_deleted_is_closed_and_its_neighbour_goes_on() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    admin.make("T", json!({})).await;
    let mut reader = Reader::ready(server.config().streams(["S", "T"])).await;
    admin.write_numbers("S", 0..5).await;
    reader.read_events(5).await;
    let old = reader.lane("S");
    admin.delete("S").await;
    reader.read_closed(&old).await;
    reader.until(|health| health.problem.as_deref() == Some("stream `S` does not exist")).await;
    admin.write_numbers("T", 5..10).await;
    reader.read_events(10).await;
    admin.make("S", json!({})).await;
    admin.write_numbers("S", 10..15).await;
    reader.read_events(15).await;
    reader.assert_numbers(0..15);
    reader.until(|health| health.ready() && health.problem.is_none()).await;
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn an_identity_that_is_given_is_halted_when_it_would_lie() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    let mut reader = Reader::ready(server.config().stream("S").log_identity("mine")).await;
    let lane = reader.lane("S");
    assert_eq!(&*lane.log, "mine");
    admin.delete("S").await;
    admin.make("S", json!({})).await;
    reader.read_closed(&lane).await;
    let problem = reader.until(|health| health.problem.is_some()).await.problem.expect("told");
    assert!(problem.contains("made anew under the same identity"), "{problem}");
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn what_is_halted_is_read_no_more_and_its_neighbour_is() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    admin.make("T", json!({})).await;
    let mut reader = Reader::ready(server.config().streams(["S", "T"])).await;
    let lane = reader.lane("S");
    reader.source.halt(&lane, "17 is no JSON");
    let problem = reader.until(|health| health.problem.is_some()).await.problem.expect("told");
    assert!(problem.contains("`S` is halted: 17 is no JSON"), "{problem}");
    admin.write_numbers("S", 0..5).await;
    admin.write_numbers("T", 5..10).await;
    reader.read_events(5).await;
    reader.assert_numbers(5..10);
    assert!(until(async || admin.consumers("S").await.is_empty()).await, "its consumer is gone");
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn a_message_that_is_larger_than_a_batch_comes_alone() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    let config = server.config().stream("S").start(Start::Earliest).max_batch_bytes(1000);
    let large = "x".repeat(5000);
    let small = "y".repeat(300);
    for _ in 0..4 {
        for payload in [&small, &large, &small, &small, &small, &large] {
            admin.write("S.n", payload).await;
        }
    }
    let mut reader = Reader::ready(config).await;
    reader.read_events(24).await;
    let lengths: Vec<usize> = reader.events.iter().map(|event| event.payload.len()).collect();
    assert_eq!(lengths, [300, 5000, 300, 300, 300, 5000].repeat(4));
    let (mut replay, lane) = (reader.source.replay().expect("replay"), reader.lane("S"));
    let (events, _) = again(&mut replay, &[range(&lane, 1, 25)]).await.expect("read again");
    assert_eq!(texts(&events), reader.payloads());
    // Also the first that comes to somebody who waits.
    admin.write("S.n", &large).await;
    reader.read_events(25).await;
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn a_consumer_that_somebody_deletes_is_made_anew_at_its_place() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    let mut reader = Reader::ready(server.config().stream("S")).await;
    for round in 0..5_u64 {
        admin.write_numbers("S", round * 10..round * 10 + 5).await;
        for consumer in admin.consumers("S").await {
            // Some read again by themselves meanwhile.
            let _ =
                admin.0.request(format!("$JS.API.CONSUMER.DELETE.S.{consumer}"), "".into()).await;
        }
        admin.write_numbers("S", round * 10 + 5..round * 10 + 10).await;
        reader.read_events(round as usize * 10 + 10).await;
    }
    reader.assert_numbers(0..50);
    assert!(reader.lost.is_empty() && reader.closed.is_empty());
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn what_would_be_taken_from_others_is_not_read() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("JOBS", json!({ "retention": "workqueue" })).await;
    let mut reader = Reader::start(server.config().stream("JOBS"));
    let health = reader.until(|health| health.problem.is_some()).await;
    let problem = health.problem.expect("told");
    assert!(problem.contains("`JOBS`") && problem.contains("`workqueue`"), "{problem}");
    assert!(health.connected && !health.caught_up && reader.frontier.is_empty());
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn what_is_closed_leaves_nothing_at_the_server() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    admin.write_numbers("S", 0..5).await;
    let mut reader = Reader::ready(server.config().stream("S").start(Start::Earliest)).await;
    let (mut replay, lane) = (reader.source.replay().expect("replay"), reader.lane("S"));
    again(&mut replay, &[range(&lane, 1, 6)]).await.expect("read again");
    reader.read_up_to("S", 6).await;
    assert!(reader.source.close(DEADLINE).await);
    assert!(until(async || admin.consumers("S").await.is_empty()).await);
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn what_expired_is_not_read_again_in_silence() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({ "max_msgs": 100 })).await;
    admin.make("T", json!({})).await;
    let config = server.config().streams(["S", "T"]).start(Start::Earliest);
    let mut reader = Reader::ready(config.max_batch(10).max_queued_batches(1)).await;
    admin.write_numbers("S", 0..100).await;
    admin.write_numbers("T", 0..10).await;
    reader.read_events(110).await;
    let (s, t) = (reader.lane("S"), reader.lane("T"));
    let mut replay = reader.source.replay().expect("replay");
    let both = [range(&t, 3, 8), range(&s, 1, 101)];
    let (events, reached) = again(&mut replay, &both).await.expect("read again");
    assert_eq!((events.len(), reached[&s], reached[&t]), (105, 101, 8));
    // Deleted one by one, also at its end: no hole is told of.
    for sequence in [5, 50, 99, 100] {
        admin.delete_message("S", sequence).await;
    }
    let (events, reached) = again(&mut replay, &both[1..]).await.expect("read again");
    assert_eq!((events.len(), reached[&s]), (96, 101));

    // Deleted before the pass.
    admin.ask("STREAM.PURGE.S", json!({ "seq": 20 })).await;
    let bounds = replay.bounds(&[s.clone(), t.clone()]).await.expect("asked");
    assert_eq!(bounds, [Some(Bounds { first: 20, end: 101 }), Some(Bounds { first: 1, end: 11 })]);
    let expired = again(&mut replay, &both).await.map(|_| ());
    assert!(matches!(&expired, Err(ReplayError::Expired { lane }) if *lane == s), "{expired:?}");
    // What is not there yet may come.
    let early = again(&mut replay, &[range(&s, 20, 102)]).await.map(|_| ());
    assert!(matches!(early, Err(ReplayError::Unavailable(_))), "{early:?}");

    // Deleted during it: one batch waits, one is on its way.
    replay.begin(vec![range(&s, 20, 101)]).await.expect("begun");
    let first = replay.next().await.expect("works").expect("goes on");
    assert_eq!(first.events[0].offset, 20);
    admin.ask("STREAM.PURGE.S", json!({ "seq": 90 })).await;
    let mut read = first.events.len();
    let ended = loop {
        match tokio::time::timeout(DEADLINE, replay.next()).await.expect("goes on") {
            Ok(Some(batch)) => read += batch.events.len(),
            other => break other.map(drop),
        }
    };
    assert!(matches!(ended, Err(ReplayError::Expired { .. })), "{ended:?} after {read}");
    assert!(read < 70, "{read}");
    assert_eq!(again(&mut replay, &[range(&s, 90, 101)]).await.expect("read again").0.len(), 9);
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn a_header_that_the_client_does_not_take_is_told() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    admin.write_numbers("S", 0..3).await;
    let mut reader = Reader::ready(server.config().stream("S").start(Start::Earliest)).await;
    server.write_raw(b"HPUB S.n 21 23\r\nNATS/1.0\r\nkey: \xff\xfe\r\n\r\nhi\r\n").await;
    let told = |health: &SourceHealth| {
        health.problem.as_ref().is_some_and(|problem| problem.contains("sequence 4"))
    };
    reader.until(told).await;
    // Whoever removes it frees what stands behind it.
    admin.write_numbers("S", 3..6).await;
    admin.delete_message("S", 4).await;
    reader.read_events(6).await;
    reader.assert_numbers(0..6);
    reader.until(|health| health.ready() && health.problem.is_none()).await;
}
