//! What only a real broker can show of a group: its coordinator waits for those who drain,
//! survives a restart, and knows who was killed.
//!
//! ```text
//! FANOUT_TEST_KAFKA=host:port cargo test -p kafka-source --test real_group -- --ignored
//! ```
//!
//! The test that restarts it needs `FANOUT_TEST_KAFKA_CONTROL` too; see `real_kafka`.

mod common;
mod members;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Writer, producer_at, write};
use fanout::testing::{SourceHarness, source_contract};
use fanout::{Poison, Source as _, SourceHealth};
use kafka_source::rdkafka::ClientConfig;
use kafka_source::rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use kafka_source::rdkafka::client::DefaultClientContext;
use kafka_source::{
    DeadLetterConfig, GroupConfig, KafkaConfig, KafkaDeadLetters, KafkaGroup, Start,
};
use members::{DEADLINE, Handled, Member, Numbers, accept, committed, member, read_until};
use tokio::sync::{RwLock, RwLockReadGuard};
use tokio::time::timeout;

/// Who restarts the broker waits for those who use it, and they for its return.
static BROKER: RwLock<()> = RwLock::const_new(());

/// A topic and a group that no other test uses; both have the same name.
struct Kafka {
    brokers: String,
    name: String,
    partitions: i32,
    _stays: Option<RwLockReadGuard<'static, ()>>,
}

async fn kafka(partitions: i32) -> Kafka {
    let stays = BROKER.read().await;
    Kafka { _stays: Some(stays), ..kafka_that_may_restart(partitions).await }
}

async fn kafka_that_may_restart(partitions: i32) -> Kafka {
    let brokers = std::env::var("FANOUT_TEST_KAFKA").expect("FANOUT_TEST_KAFKA names a broker");
    let kafka = Kafka { brokers, name: random(), partitions, _stays: None };
    kafka.create(NewTopic::new(&kafka.name, partitions, TopicReplication::Fixed(1))).await;
    kafka
}

fn random() -> String {
    format!("kafka-group-{:016x}", getrandom::u64().expect("random"))
}

impl Kafka {
    async fn create(&self, topic: NewTopic<'_>) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).create().expect("client");
        let made = admin.create_topics(&[topic], &AdminOptions::new()).await;
        made.expect("asked").remove(0).expect("created");
    }

    fn source(&self) -> KafkaConfig {
        KafkaConfig::new(&self.brokers).topic(&self.name).start(Start::Earliest)
    }

    fn config(&self) -> GroupConfig {
        member(self.source(), &self.name)
    }

    fn numbers(&self) -> Numbers {
        Numbers::start(producer_at(&self.brokers), &self.name, self.partitions.unsigned_abs())
    }

    fn committed(&self) -> Vec<Option<u64>> {
        committed(&self.brokers, &self.name, &self.name, self.partitions)
    }

    /// Three members come, and go one after the other, while numbers are written.
    async fn members_come_and_go(&self, config: impl Fn() -> GroupConfig) {
        let numbers = self.numbers();
        let handled = Handled::default();
        let start = |number| Member::start(number, config(), &handled);
        let mut running = Vec::new();
        for number in 0..3 {
            running.push(start(number).ready().await);
            handled.more_by(number, 100).await;
        }
        for number in 3..6 {
            // A rolling restart.
            running.remove(0).stop().await;
            running.push(start(number).ready().await);
            handled.more_by(number, 100).await;
        }
        running.remove(1).stop().await;
        running.remove(0).stop().await;
        handled.more_by(5, 100).await;
        let ends = numbers.stop().await;
        handled.exactly(&ends).await;
        running.remove(0).stop().await;
        assert_eq!(self.committed(), ends.into_values().map(Some).collect::<Vec<_>>());
    }
}

impl SourceHarness for Kafka {
    type Source = KafkaGroup;
    type Writer = Writer;

    async fn open(&mut self) -> (KafkaGroup, Writer) {
        self.name = random();
        self.create(NewTopic::new(&self.name, self.partitions, TopicReplication::Fixed(1))).await;
        let producer = producer_at(&self.brokers);
        let source = KafkaGroup::start(self.config()).expect("started");
        (source, Writer { producer, topic: self.name.clone(), broker: None })
    }

    async fn reopen(&mut self, source: KafkaGroup, _: &Writer) -> Option<KafkaGroup> {
        assert!(source.close(DEADLINE).await, "it is closed");
        Some(KafkaGroup::start(self.config()).expect("started"))
    }

    fn max_batch(&self) -> usize {
        KafkaConfig::DEFAULT_MAX_BATCH
    }
}

/// Runs `PROGRAM what FOLDER`, which returns once it is true.
async fn control(what: &'static str) {
    let control = std::env::var("FANOUT_TEST_KAFKA_CONTROL")
        .expect("FANOUT_TEST_KAFKA_CONTROL says how to restart the broker");
    let run = move || {
        let (program, folder) = control.rsplit_once(' ').expect("a program and a folder");
        // The broker must not hold a pipe of the test's.
        Command::new(program).args([what, folder]).output().expect("it runs")
    };
    let done = tokio::task::spawn_blocking(run).await.expect("ended");
    assert!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn it_keeps_the_contract() {
    source_contract(&mut kafka(3).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn members_come_and_go_and_nothing_is_lost_or_doubled() {
    let kafka = kafka(7).await;
    kafka.members_come_and_go(|| kafka.config()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn an_eager_group_loses_and_doubles_nothing_either() {
    let kafka = kafka(5).await;
    let eager = || kafka.source().property("partition.assignment.strategy", "range");
    kafka.members_come_and_go(|| member(eager(), &kafka.name)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn nor_does_one_of_the_newer_protocol() {
    let kafka = kafka(5).await;
    let config = || {
        let source = kafka.source().metadata_interval(Duration::from_millis(200));
        GroupConfig::new(source.property("group.protocol", "consumer"), &kafka.name)
    };
    kafka.members_come_and_go(config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn a_static_member_comes_back_to_what_it_had_and_its_double_is_fenced() {
    let kafka = kafka(4).await;
    let numbers = kafka.numbers();
    let handled = Handled::default();
    let named =
        |name: &str| member(kafka.source().property("group.instance.id", name), &kafka.name);
    let first = Member::start(1, named("one"), &handled).ready().await;
    let second = Member::start(2, named("two"), &handled).ready().await;
    handled.more_by(2, 50).await;
    second.stop().await;
    let second = Member::start(3, named("two"), &handled).ready().await;
    handled.more_by(3, 50).await;
    // Another one of the same name.
    let third = Member::start(4, named("two"), &handled).ready().await;
    let fenced = second.failed().await;
    let error = fenced.0.to_string();
    assert!(error.to_lowercase().contains("fenced"), "{error}");
    handled.more_by(4, 50).await;
    let ends = numbers.stop().await;
    handled.at_least(&ends).await;
    third.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn what_was_handed_out_is_waited_for_before_it_is_given_back() {
    let kafka = kafka(2).await;
    let producer = producer_at(&kafka.brokers);
    for number in 0..20 {
        write(&producer, &kafka.name, number % 2, &number.to_string()).await;
    }
    let slow = kafka.config().rebalance_timeout(Duration::from_secs(60));
    let mut first = KafkaGroup::start(slow).expect("started");
    let held = read_until(&mut first, |events| events.len() == 20).await;
    // It is told that it has nothing yet: what moves has to be given back first.
    let handled = Handled::default();
    let second = Member::start(2, kafka.config(), &handled).ready().await;
    for number in 20..30 {
        write(&producer, &kafka.name, number % 2, &number.to_string()).await;
    }
    assert_eq!(handled.by(2), 0, "nobody has accepted what stands before");
    accept(&mut first, &held);
    handled.more_by(2, 5).await;
    for (partition, offsets) in handled.offsets() {
        assert!(offsets.iter().all(|offset| *offset >= 10), "{partition}: {offsets:?}");
    }
    second.stop().await;
    assert!(first.close(DEADLINE).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn one_that_is_killed_has_its_last_events_handled_again() {
    let kafka = kafka(4).await;
    let numbers = kafka.numbers();
    let handled = Handled::default();
    let first = Member::start(1, kafka.config(), &handled).ready().await;
    let mut child = Command::new(std::env::current_exe().expect("its path"))
        .args(["--exact", "a_member_of_its_own", "--ignored", "--nocapture"])
        .env("FANOUT_TEST_MEMBER", &kafka.name)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let said = child.stdout.take().expect("piped");
    let by_child = handled.clone();
    let listening = std::thread::spawn(move || {
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            let Some((_, place)) = line.split_once("handled ") else { continue };
            let Some((partition, offset)) = place.split_once(' ') else { continue };
            // A last line may be cut.
            if let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) {
                by_child.note_place(2, partition, offset);
            }
        }
    });
    handled.more_by(2, 200).await;
    child.kill().expect("killed");
    child.wait().expect("gone");
    listening.join().expect("heard");
    let partitions = handled.partitions_of(2);
    assert!(!partitions.is_empty());
    // Its partitions go on once its session is over.
    handled
        .until("taken over", |handled| {
            partitions.iter().all(|partition| handled.partitions_of(1).contains(partition))
        })
        .await;
    handled.more_by(1, 200).await;
    let ends = numbers.stop().await;
    handled.at_least(&ends).await;
    first.stop().await;
}

/// Not a test: a member in a process that can be killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn a_member_of_its_own() {
    let Ok(name) = std::env::var("FANOUT_TEST_MEMBER") else { return };
    let brokers = std::env::var("FANOUT_TEST_KAFKA").expect("FANOUT_TEST_KAFKA names a broker");
    let source = KafkaConfig::new(brokers).topic(&name).start(Start::Earliest);
    let mut group = KafkaGroup::start(member(source, &name)).expect("started");
    // It ends by itself where nobody kills it.
    let reading = async {
        while let Some(batch) = group.next().await.expect("works") {
            let mut out = std::io::stdout().lock();
            for event in &batch.events {
                writeln!(out, "handled {} {}", event.lane.partition, event.offset).expect("heard");
            }
            out.flush().expect("heard");
            drop(out);
            accept(&mut group, &batch.events);
        }
    };
    drop(timeout(DEADLINE, reading).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA and its FANOUT_TEST_KAFKA_CONTROL"]
async fn a_broker_that_is_restarted_interrupts_and_nothing_else() {
    let kafka = kafka_that_may_restart(4).await;
    let alone = BROKER.write().await;
    let handled = Handled::default();
    // Longer than the broker needs to come back: nobody is thrown out meanwhile.
    let config = || member(kafka.source().property("session.timeout.ms", "45000"), &kafka.name);
    let mut first = Member::start(1, config(), &handled).ready().await;
    let second = Member::start(2, config(), &handled).ready().await;
    let numbers = kafka.numbers();
    handled.more_by(1, 50).await;
    handled.more_by(2, 50).await;
    let mut ends = numbers.stop().await;
    handled.exactly(&ends).await;
    control("restart").await;
    first.until(SourceHealth::ready).await;
    let numbers = kafka.numbers();
    handled.more_by(1, 50).await;
    handled.more_by(2, 50).await;
    ends.extend(numbers.stop().await);
    handled.at_least(&ends).await;
    first.stop().await;
    second.stop().await;
    assert_eq!(kafka.committed(), ends.into_values().map(Some).collect::<Vec<_>>());
    drop(alone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn what_was_deleted_before_the_group_came_to_it_is_passed() {
    use kafka_source::rdkafka::{Offset, TopicPartitionList};
    let kafka = kafka(1).await;
    let producer = producer_at(&kafka.brokers);
    for number in 0..5 {
        write(&producer, &kafka.name, 0, &number.to_string()).await;
    }
    let handled = Handled::default();
    let first = Member::start(1, kafka.config(), &handled);
    handled.more_by(1, 5).await;
    first.stop().await;
    for number in 5..20 {
        write(&producer, &kafka.name, 0, &number.to_string()).await;
    }
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create().expect("client");
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&kafka.name, 0, Offset::Offset(12)).expect("place");
    admin.delete_records(&before, &AdminOptions::new()).await.expect("deleted");
    let second = Member::start(2, kafka.config(), &handled);
    handled.more_by(2, 8).await;
    second.stop().await;
    assert!(handled.offsets()[&0].iter().copied().eq((0..5).chain(12..20)));
    assert_eq!(kafka.committed(), [Some(20)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a real broker at FANOUT_TEST_KAFKA"]
async fn a_letter_that_is_too_large_for_its_topic_says_so() {
    let kafka = kafka(1).await;
    let dead = format!("{}.dead", kafka.name);
    let topic = NewTopic::new(&dead, 1, TopicReplication::Fixed(1));
    kafka.create(topic.set("max.message.bytes", "2000")).await;
    let letters = DeadLetterConfig::new(&kafka.source(), &dead);
    let letters = Poison::DeadLetters(Box::new(KafkaDeadLetters::start(letters).expect("letters")));
    let handled = Handled::default();
    let mut reader = Member::with_poison(1, kafka.config(), &handled, letters);
    let producer = producer_at(&kafka.brokers);
    write(&producer, &kafka.name, 0, "{ small").await;
    write(&producer, &kafka.name, 0, &"x".repeat(5_000)).await;
    reader
        .until(|health| {
            let problem = health.problem.as_deref().unwrap_or_default();
            problem.contains("halted at 1") && problem.contains("takes no record of 5001 bytes")
        })
        .await;
    reader.stop().await;
    assert_eq!(kafka.committed(), [Some(1)], "its letter is not written");
}
