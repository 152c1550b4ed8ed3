//! Each event goes to one member of a group, whoever comes and goes.
//!
//! The embedded broker's coordinator does not wait for a member that gives partitions back: on
//! a busy machine it goes on to the next generation without, and refuses what that member
//! commits. So what is said here of what is handled twice is what always holds;
//! `real_group.rs` says the rest.

mod common;
mod members;

use std::time::Duration;

use common::{Writer, broker, producer, write, write_numbers};
use fanout::testing::{SourceHarness, source_contract};
use fanout::{Poison, Source as _, SourceHealth};
use kafka_source::rdkafka::mocking::{MockCluster, MockCoordinator};
use kafka_source::rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use kafka_source::{EmbeddedBroker, GroupConfig, KafkaConfig, KafkaGroup, Start};
use members::{Handled, Member, Numbers, accept, committed, member, member_for, read_until};
use tokio::time::timeout;

/// A member of `g` that reads `t` from its beginning.
fn config(broker: &EmbeddedBroker) -> GroupConfig {
    member(broker.config().topic("t").start(Start::Earliest), "g")
}

struct Group {
    partitions: u32,
}

impl SourceHarness for Group {
    type Source = KafkaGroup;
    type Writer = Writer;

    async fn open(&mut self) -> (KafkaGroup, Writer) {
        let broker = broker(self.partitions);
        let producer = producer(&broker);
        let source = KafkaGroup::start(config(&broker)).expect("started");
        (source, Writer { producer, topic: "t".into(), broker: Some(broker) })
    }

    async fn reopen(&mut self, source: KafkaGroup, writer: &Writer) -> Option<KafkaGroup> {
        assert!(source.close(members::DEADLINE).await, "it is closed");
        let broker = writer.broker.as_ref().expect("an embedded one");
        Some(KafkaGroup::start(config(broker)).expect("started"))
    }

    fn max_batch(&self) -> usize {
        KafkaConfig::DEFAULT_MAX_BATCH
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    source_contract(&mut Group { partitions: 3 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_and_nothing_is_lost() {
    let broker = broker(4);
    let numbers = Numbers::start(producer(&broker), "t", 4);
    let handled = Handled::default();
    let start = |number| Member::start(number, config(&broker), &handled);
    let first = start(1).ready().await;
    handled.more_by(1, 50).await;
    let second = start(2).ready().await;
    handled.more_by(2, 50).await;
    // A rolling restart.
    first.stop().await;
    handled.more_by(2, 50).await;
    let third = start(3).ready().await;
    handled.more_by(3, 50).await;
    second.stop().await;
    handled.more_by(3, 50).await;
    let ends = numbers.stop().await;
    handled.at_least(&ends).await;
    third.stop().await;
    let expected: Vec<_> = ends.into_values().map(Some).collect();
    assert_eq!(committed(broker.bootstrap_servers(), "g", "t", 4), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_accepted_in_time_comes_again() {
    let broker = broker(2);
    let numbers = producer(&broker);
    for number in 0..20 {
        write(&numbers, "t", number % 2, &number.to_string()).await;
    }
    let hasty = config(&broker).rebalance_timeout(Duration::from_millis(200));
    let mut first = KafkaGroup::start(hasty).expect("started");
    let held = read_until(&mut first, |events| events.len() == 20).await;
    let begun: Vec<_> =
        held.iter().filter(|e| e.offset == 0).map(|e| (e.lane.clone(), 4)).collect();
    first.accepted(&begun);
    let handled = Handled::default();
    let second = Member::start(2, config(&broker), &handled).ready().await;
    let whole = |handled: &Handled| handled.offsets().values().any(|o| o.last() == Some(&9));
    handled.until("read to the end", whole).await;
    let offsets: Vec<_> = handled.offsets().into_iter().collect();
    let [(moved, offsets)] = &offsets[..] else { panic!("one partition moves: {offsets:?}") };
    // From what was accepted on, where the coordinator has taken that.
    let begin = offsets[0];
    let known = begin == 4 || begin == 0;
    assert!(known && offsets.iter().copied().eq(begin..10), "{moved}: {offsets:?}");
    // What is said of it now is nobody's business any more.
    accept(&mut first, &held);
    assert!(first.close(members::DEADLINE).await);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_behind_stays_a_member() {
    let broker = broker(2);
    let config = |batches| {
        let source = broker.config().topic("t").start(Start::Earliest);
        member(source.max_batch(10).max_queued_batches(batches), "g")
    };
    let mut first = KafkaGroup::start(config(1)).expect("started");
    let mut status = first.status();
    let told = timeout(members::DEADLINE, status.wait_for(SourceHealth::ready)).await;
    assert_eq!(told, Ok(true), "{:?}", status.health());
    let producer = producer(&broker);
    for number in 0..400 {
        write(&producer, "t", number % 2, &number.to_string()).await;
    }
    // Nobody takes anything of it, and what is queued is full: were it not polled, the other
    // would wait for it until it is thrown out.
    let handled = Handled::default();
    let second = Member::start(2, config(8), &handled).ready().await;
    handled.until("its share", |handled| handled.by(2) >= 200).await;
    let taken = read_until(&mut first, |events| events.len() >= 200).await;
    let offsets: Vec<u64> = taken.iter().map(|event| event.offset).collect();
    assert!(offsets.iter().copied().eq(0..200), "each of its own once: {offsets:?}");
    let others = handled.offsets();
    assert!(others.len() == 1 && others.values().all(|o| o.iter().copied().eq(0..200)));
    accept(&mut first, &taken);
    assert!(first.close(members::DEADLINE).await);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halted_partition_keeps_its_record_for_whoever_is_next() {
    let broker = broker(2);
    let producer = producer(&broker);
    for payload in ["0", "1", "{", "3"] {
        write(&producer, "t", 0, payload).await;
        write(&producer, "t", 1, "1").await;
    }
    let handled = Handled::default();
    for _ in 0..2 {
        let mut halted = Member::with_poison(1, config(&broker), &handled, Poison::Halt);
        halted
            .until(|health| {
                health
                    .problem
                    .as_ref()
                    .is_some_and(|problem| problem.contains("t/0 is halted at 2"))
            })
            .await;
        handled.until("the others", |h| h.offsets().get(&1).is_some_and(|o| o.len() == 4)).await;
        halted.stop().await;
        assert_eq!(committed(broker.bootstrap_servers(), "g", "t", 2), [Some(2), Some(4)]);
    }
    let mended = Member::start(2, config(&broker), &handled);
    handled.more_by(2, 1).await;
    assert_eq!(handled.offsets()[&0], [0, 1, 3], "skipped by policy now, and read on");
    mended.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_between_two_members_is_read_though_they_begin_at_the_end() {
    let broker = broker(1);
    let producer = producer(&broker);
    write_numbers(&producer, 0..10).await;
    let latest = || member(broker.config().topic("t").start(Start::Latest), "g");
    let first = Member::start(1, latest(), &Handled::default()).ready().await;
    first.stop().await;
    write_numbers(&producer, 10..20).await;
    let handled = Handled::default();
    let second = Member::start(2, latest(), &handled);
    handled.until("what was written between", |handled| handled.by(2) >= 10).await;
    assert!(handled.offsets()[&0].iter().copied().eq(10..20));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_matches_later_is_read_from_its_beginning() {
    let broker = broker(1);
    let source = broker.config().topic_pattern("^orders\\..*").start(Start::Latest);
    let source = source.missing_grace(Duration::from_millis(200));
    let handled = Handled::default();
    let reader = Member::start(1, member(source, "g"), &handled).ready().await;
    broker.create_topic("orders.new", 2).expect("topic");
    let producer = producer(&broker);
    for number in 0..6 {
        write(&producer, "orders.new", number % 2, &number.to_string()).await;
    }
    handled.until("all of it", |handled| handled.by(1) >= 6).await;
    write(&producer, "t", 0, "7").await;
    reader.stop().await;
    assert_eq!(handled.by(1), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_away_interrupts_and_nothing_else() {
    let broker = broker(2);
    let producer = producer(&broker);
    let handled = Handled::default();
    // Long enough to be one of the group all the time: who was not begins where it last committed.
    let config = member_for(broker.config().topic("t").start(Start::Earliest), "g", "60000");
    let mut reader = Member::start(1, config, &handled).ready().await;
    for number in 0..10 {
        write(&producer, "t", number % 2, &number.to_string()).await;
    }
    handled.more_by(1, 0).await;
    broker.go_down().expect("down");
    reader.until(|health| !health.connected && health.problem.is_some()).await;
    broker.come_up().expect("up");
    reader.until(SourceHealth::ready).await;
    for number in 10..20 {
        write(&producer, "t", number % 2, &number.to_string()).await;
    }
    handled.exactly(&[(0, 10), (1, 10)].into()).await;
    reader.stop().await;
    assert_eq!(committed(broker.bootstrap_servers(), "g", "t", 2), [Some(10), Some(10)]);
}

#[tokio::test]
async fn a_group_that_may_not_be_joined_is_said() {
    let cluster = MockCluster::new(1).expect("cluster");
    cluster.create_topic("t", 1, 1).expect("topic");
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::JoinGroup, &[denied; 5]);
    let source = KafkaConfig::new(cluster.bootstrap_servers()).topic("t").log_identity("mock");
    let mut reader = Member::start(1, member(source, "g"), &Handled::default());
    reader
        .until(|health| {
            let problem = health.problem.as_deref().unwrap_or_default();
            health.connected && !health.caught_up && problem.contains("group `g` may not be joined")
        })
        .await;
    // Somebody has put it right.
    cluster.clear_request_errors(RDKafkaApiKey::JoinGroup);
    reader.until(|health| health.ready() && health.problem.is_none()).await;
    reader.stop().await;
}

/// Nobody can tell where a partition without a leader begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_of_which_no_place_is_known_holds_up_no_other() {
    let cluster = MockCluster::new(2).expect("cluster");
    cluster.create_topic("t", 2, 1).expect("topic");
    cluster.coordinator(MockCoordinator::Group("g".into()), 1).expect("coordinator");
    for (partition, broker) in [(0, 1), (1, 2)] {
        cluster.partition_leader("t", partition, Some(broker)).expect("leader");
    }
    let brokers = cluster.bootstrap_servers();
    let producer = common::producer_at(&brokers);
    for number in 0..6 {
        write(&producer, "t", number % 2, &number.to_string()).await;
    }
    cluster.partition_leader("t", 1, None).expect("no leader");
    let source = KafkaConfig::new(&brokers).topic("t").start(Start::Earliest).log_identity("mock");
    let handled = Handled::default();
    let mut reader = Member::start(1, member(source, "g"), &handled);
    handled.until("the other", |handled| handled.by(1) >= 3).await;
    reader
        .until(|health| health.problem.as_ref().is_some_and(|problem| problem.contains("t/1")))
        .await;
    assert!(!reader.status.health().caught_up && handled.partitions_of(1).len() == 1);

    cluster.partition_leader("t", 1, Some(2)).expect("leader");
    handled.exactly(&[(0, 3), (1, 3)].into()).await;
    reader.until(|health| health.ready() && health.problem.is_none()).await;
    for number in 6..8 {
        write(&producer, "t", number % 2, &number.to_string()).await;
    }
    handled.exactly(&[(0, 4), (1, 4)].into()).await;
    reader.stop().await;
    assert_eq!(committed(&brokers, "g", "t", 2), [Some(4), Some(4)]);
}
