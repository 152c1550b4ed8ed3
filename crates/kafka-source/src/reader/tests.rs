use std::sync::mpsc::sync_channel;

use fanout::SourceStatus;
use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::*;
use crate::EmbeddedBroker;

const DEADLINE: Duration = Duration::from_secs(30);

/// A reader of the topic `t`, of two partitions with 1,000 records each, that is told what to
/// read by the test alone.
struct Told {
    found: SyncSender<Found>,
    asked: Receiver<Ask>,
    _halts: SyncSender<(Arc<Lane>, String)>,
    out: mpsc::Receiver<Handed>,
    _broker: EmbeddedBroker,
}

fn reader() -> Told {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("t", 2).unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap_servers());
    let producer: BaseProducer = config.create().unwrap();
    for number in 0..2000 {
        let payload = (number / 2).to_string();
        let record = BaseRecord::<(), _>::to("t").partition(number % 2).payload(&payload);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(DEADLINE).unwrap();

    let config = broker.config().topic("t").max_batch(10);
    let client = config.client().unwrap();
    let consumer = Consumer::from_config_and_context(&client, Context::new()).unwrap();
    let (reporter, _) = SourceStatus::new();
    let (out, batches) = mpsc::channel(1);
    let ((found, finds), (ask, asked)) = (sync_channel(4), sync_channel(1));
    let (halt, halts) = sync_channel(4);
    let (consumer, reporter) = (Arc::new(consumer), Arc::new(reporter));
    let reader = Reader::new(consumer, reporter, config, finds, ask, halts, out);
    std::thread::spawn(|| reader.run());
    Told { found, asked, _halts: halt, out: batches, _broker: broker }
}

impl Told {
    fn open(&self, lane: &Arc<Lane>, from: u64, end: u64) {
        let opening = Opening { lane: lane.clone(), from, end };
        self.found.send(Found::Open(vec![opening])).unwrap();
    }

    fn next(&mut self) -> EventBatch {
        match self.out.blocking_recv() {
            Some(Handed::Batch(batch)) => batch,
            other => panic!("{other:?}"),
        }
    }

    /// Reads until a lane was read up to its end, and gives its offsets and all batches.
    fn read(&mut self, lane: &Arc<Lane>, end: u64) -> (Vec<u64>, Vec<EventBatch>) {
        let (mut offsets, mut batches) = (Vec::new(), Vec::new());
        loop {
            let batch = self.next();
            offsets.extend(batch.events.iter().filter(|e| e.lane == *lane).map(|e| e.offset));
            let passed = batch.frontier.iter().any(|(of, next)| of == lane && *next == end);
            batches.push(batch);
            if passed {
                return (offsets, batches);
            }
        }
    }
}

fn lane(log: &str, partition: u32) -> Arc<Lane> {
    Arc::new(Lane::new(log, "t", partition))
}

#[test]
fn what_is_closed_ends_with_a_word_and_is_not_mistaken_for_what_takes_its_place() {
    let mut told = reader();
    let (old, new, other) = (lane("old", 0), lane("new", 0), lane("old", 1));
    told.open(&old, 0, 1000);
    told.open(&other, 0, 1000);
    // One that is open already is not opened again.
    told.open(&old, 0, 1000);
    assert!(told.next().closed.is_empty());
    told.found.send(Found::Close(vec![old.clone(), lane("unknown", 1)])).unwrap();
    told.open(&new, 300, 1000);
    let (offsets, batches) = told.read(&new, 1000);
    assert_eq!(offsets, (300..1000).collect::<Vec<_>>(), "the new log, whole and alone");

    let closed: Vec<_> = batches.iter().flat_map(|batch| &batch.closed).collect();
    let lost: Vec<_> = batches.iter().flat_map(|batch| &batch.lost).collect();
    assert_eq!((closed, lost), (vec![&old], vec![&old]), "it was not read whole");
    let at = batches.iter().position(|batch| !batch.closed.is_empty()).expect("closed");
    let of_old = |batch: &EventBatch| {
        let moved = batch.frontier.iter().any(|(lane, _)| *lane == old);
        moved || batch.events.iter().any(|event| event.lane == old)
    };
    assert!(!batches[at..].iter().any(of_old), "something of it came afterwards");
    assert!(!batches[at].lost.is_empty(), "in the same batch");
    // And the other partition goes on.
    if !batches.iter().any(|b| b.frontier.iter().any(|(l, next)| *l == other && *next == 1000)) {
        told.read(&other, 1000);
    }
}

#[test]
fn what_was_read_whole_is_closed_without_a_loss() {
    let mut told = reader();
    let lane = lane("log", 0);
    told.open(&lane, 990, 1000);
    told.read(&lane, 1000);
    told.found.send(Found::Close(vec![lane.clone()])).unwrap();
    let batch = told.next();
    assert_eq!((batch.closed, batch.lost.len(), batch.events.len()), (vec![lane], 0, 0));
}

#[test]
fn only_the_lane_that_was_refused_is_asked_about_and_it_goes_on_where_it_is_told_to() {
    let mut told = reader();
    let (refused, fine) = (lane("log", 0), lane("log", 1));
    told.open(&fine, 0, 1000);
    told.open(&refused, 5000, 5000);
    let begun = Instant::now();
    let asked = loop {
        // What it reads has to be taken, or it does not come to asking.
        if let Ok(Handed::Failed(error)) = told.out.try_recv() {
            panic!("{error}");
        }
        match told.asked.recv_timeout(Duration::from_millis(1)) {
            Ok(Ask::Check) => {}
            Ok(asked) => break asked,
            Err(_) => assert!(begun.elapsed() < DEADLINE, "nothing was asked"),
        }
    };
    assert!(
        matches!(&asked, Ask::Verify(places) if *places == [(refused.clone(), 5000)]),
        "{asked:?}"
    );
    // More of it was lost than it had.
    told.found.send(Found::Resume(refused.clone(), 6000)).unwrap();
    loop {
        let batch = told.next();
        if !batch.lost.is_empty() {
            assert!(batch.frontier.contains(&(refused.clone(), 6000)));
            assert_eq!(batch.lost, [refused]);
            break;
        }
    }
}
