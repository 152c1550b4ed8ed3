use std::ffi::c_void;
use std::ops::Range;
use std::ptr;
use std::sync::Mutex;
use std::time::Instant;

use fanout::Lane;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Rebalance;
use rdkafka::error::{IsError as _, KafkaResult};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::*;
use crate::context::{Consumer, Context};
use crate::record::to_event;
use crate::{EmbeddedBroker, KafkaConfig};

const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn a_cut_is_read_from_what_librdkafka_says() {
    let told = "Partition log truncation detected at offset 100 (leader epoch 3): broker end \
                offset is 57 (offset leader epoch 2). Reset to INVALID.: Local: Partition log \
                truncation detected (broker 1)";
    assert_eq!(cut(told), Some(57));
    assert_eq!(
        cut("Partition log truncation detected at offset 1: broker end offset is 5"),
        Some(5)
    );
    // It does not know the epoch, and so not where.
    let unknown = "No epoch found less or equal to offset 9 (leader epoch 3): broker end offset \
                   is -1 (offset leader epoch -1). Reset using configured policy.";
    assert_eq!(cut(unknown), None);
    for other in ["", "log truncation detected at ", "fetch failed: broker end offset is 5"] {
        assert_eq!(cut(other), None);
    }
}

/// A broker with topics `t` and `u` of two partitions each.
fn broker() -> EmbeddedBroker {
    let broker = EmbeddedBroker::start().unwrap();
    for topic in ["t", "u"] {
        broker.create_topic(topic, 2).unwrap();
    }
    broker
}

fn producer(broker: &EmbeddedBroker) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap_servers()).set("linger.ms", "0");
    config.create().unwrap()
}

fn write(broker: &EmbeddedBroker, topic: &str, payloads: impl Iterator<Item = Vec<u8>>) {
    let producer = producer(broker);
    for payload in payloads {
        let record = BaseRecord::<(), _>::to(topic).partition(0).payload(&payload);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
}

fn poll(config: &KafkaConfig) -> Poll<Context> {
    let consumer = Consumer::from_config_and_context(&config.client().unwrap(), Context::new());
    Poll::new(Arc::new(consumer.unwrap())).unwrap()
}

fn places(places: &[(&str, i32, i64)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in places {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).unwrap();
    }
    list
}

/// Polls until something is found in what comes.
fn until<C: ConsumerContext, T>(
    poll: &Poll<C>,
    mut found: impl FnMut(Polled<'_>) -> Option<T>,
) -> T {
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        if let Some(found) = poll.next(Duration::from_millis(10)).and_then(&mut found) {
            return found;
        }
    }
    panic!("nothing came in time");
}

#[expect(clippy::disallowed_methods, reason = "a condition with a deadline")]
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_end_names_its_partition_and_comes_behind_its_records() {
    let broker = broker();
    write(&broker, "t", (0..3).map(|_| b"t".to_vec()));
    write(&broker, "u", (0..5).map(|_| b"u".to_vec()));
    let poll = poll(&broker.config().topics(["t", "u"]));
    let all = places(&[("t", 0, 1), ("t", 1, 0), ("u", 0, 0), ("u", 1, 0)]);
    poll.consumer().incremental_assign(&all).unwrap();
    let (mut records, mut ends) = (Vec::new(), Vec::<(String, u32, Option<u64>)>::new());
    until(&poll, |polled| {
        match polled {
            Polled::Record(record) => {
                assert_eq!(record.payload(), Some(record.topic().as_bytes()));
                assert!(ends.iter().all(|(topic, ..)| topic != record.topic()), "behind its end");
                records.push((record.topic().to_owned(), record.offset()));
            }
            // A partition may be told of as empty before it is read whole.
            Polled::End(place) if place.partition() == 0 => {
                ends.push((place.topic().to_owned(), place.partition(), place.offset()));
            }
            _ => {}
        }
        (ends.len() == 2).then_some(())
    });
    records.sort();
    ends.sort();
    let read = |topic: &str, offsets: Range<u64>| offsets.map(|o| (topic.into(), o)).collect();
    let expected: [Vec<(String, u64)>; 2] = [read("t", 1..3), read("u", 0..5)];
    assert_eq!(records, expected.concat());
    assert_eq!(ends, [("t".into(), 0, Some(3)), ("u".into(), 0, Some(5))]);
}

#[test]
fn nothing_fetched_before_comes_after_it_is_assigned_anew() {
    let broker = broker();
    write(&broker, "t", (0..2000).map(|n| n.to_string().into_bytes()));
    let poll = poll(&broker.config().topic("t"));
    let record = |polled: Polled<'_>| match polled {
        Polled::Record(record) => Some(record.offset()),
        _ => None,
    };
    for round in 0..50 {
        // Forwards and back: what was fetched before would be later, and earlier.
        let (first, second) = if round % 2 == 0 { (0, 700) } else { (700, 300) };
        poll.consumer().incremental_assign(&places(&[("t", 0, first)])).unwrap();
        assert_eq!(until(&poll, record), first.unsigned_abs());
        wait_for("fetched ahead", || poll.queue.len() >= 500);
        poll.consumer().incremental_unassign(&places(&[("t", 0, 0)])).unwrap();
        poll.consumer().incremental_assign(&places(&[("t", 0, second)])).unwrap();
        assert_eq!(until(&poll, record), second.unsigned_abs(), "round {round}");
        poll.consumer().incremental_unassign(&places(&[("t", 0, 0)])).unwrap();
        // Nothing of it is left, not even what has waited in the queue.
        while let Some(polled) = poll.next(Duration::ZERO) {
            assert!(matches!(polled, Polled::Served | Polled::Error(_)), "round {round}");
        }
    }
}

#[test]
fn a_refusal_names_its_partition_and_the_offset() {
    let broker = broker();
    let poll = poll(&broker.config().topics(["t", "u"]));
    let all = places(&[("t", 0, 0), ("t", 1, 0), ("u", 1, 5000)]);
    poll.consumer().incremental_assign(&all).unwrap();
    let refused = until(&poll, |polled| match polled {
        Polled::Refused(refused) => Some(refused),
        _ => None,
    });
    let place = (refused.place.topic(), refused.place.partition(), refused.place.offset());
    assert_eq!((place, refused.cut), (("u", 1, Some(5000)), None));
    assert!(poll.consumer().context().last_error().is_some(), "the context was told as well");
}

#[test]
fn a_broker_that_is_away_is_told_to_the_context() {
    let broker = broker();
    let poll = poll(&broker.config().topic("t"));
    poll.consumer().incremental_assign(&places(&[("t", 0, 0)])).unwrap();
    until(&poll, |polled| matches!(polled, Polled::End(_)).then_some(()));
    broker.go_down().unwrap();
    let error = until(&poll, |polled| match polled {
        Polled::Error(error) => Some(error),
        _ => None,
    });
    assert!(matches!(error, KafkaError::MessageConsumption(_)), "{error}");
    assert!(poll.consumer().context().last_error().is_some());
}

#[test]
fn any_record_is_taken_as_it_is() {
    let broker = broker();
    // Neither is text, and a name may be of any bytes; what comes after a zero is lost.
    let headers: [(&[u8], Option<&[u8]>); 5] = [
        (b"\xff\xfeid", Some(b"\xff\x00\xfe")),
        (b"none", None),
        (b"", Some(b"")),
        (b"a\0b", Some(b"c")),
        (b"none", Some(b"some")),
    ];
    write_native(&broker, Some(b""), Some(b"\xff"), -1, &headers);
    write_native(&broker, None, None, i64::MAX / 2, &[]);
    write_native(&broker, Some(b"\xff\0"), Some(b""), 5, &[]);

    let poll = poll(&broker.config().topic("t"));
    poll.consumer().incremental_assign(&places(&[("t", 0, 0)])).unwrap();
    let lane = Arc::new(Lane::new("log", "t", 0));
    let mut events = Vec::new();
    until(&poll, |polled| {
        if let Polled::Record(record) = polled {
            let has = (record.key().map(<[u8]>::len), record.payload().map(<[u8]>::len));
            events.push((to_event(&record, &lane), has, record.millis()));
        }
        (events.len() == 3).then_some(())
    });
    let [(first, first_has, _), (second, second_has, millis), (third, third_has, last)] =
        &events[..]
    else {
        unreachable!()
    };
    assert_eq!((*first_has, *second_has), ((Some(0), Some(1)), (None, None)));
    assert_eq!((*third_has, *millis, *last), ((Some(2), Some(0)), Some(i64::MAX / 2), Some(5)));
    assert_eq!((first.key.as_deref(), &first.payload[..]), (Some(&b""[..]), &b"\xff"[..]));
    let expected: [(&str, &[u8]); 5] = [
        ("\u{fffd}\u{fffd}id", b"\xff\0\xfe"),
        ("none", b""),
        ("", b""),
        ("a", b"c"),
        ("none", b"some"),
    ];
    let headers = first.headers.iter().map(|(name, value)| (name.as_str(), &value[..]));
    assert_eq!(headers.collect::<Vec<_>>(), expected);
    assert_eq!((&second.key, &second.payload[..], second.headers.len()), (&None, &b""[..], 0));
    assert_eq!((third.key.as_deref(), &third.payload[..]), (Some(&b"\xff\0"[..]), &b""[..]));
    assert_eq!(third.offset, 2);
}

/// Writes what rust-rdkafka has no words for.
#[expect(unsafe_code, reason = "the bindings have no safe form")]
fn write_native(
    broker: &EmbeddedBroker,
    key: Option<&[u8]>,
    payload: Option<&[u8]>,
    millis: i64,
    headers: &[(&[u8], Option<&[u8]>)],
) {
    use rdkafka::bindings::rd_kafka_vtype_t::{
        RD_KAFKA_VTYPE_END, RD_KAFKA_VTYPE_HEADERS, RD_KAFKA_VTYPE_KEY, RD_KAFKA_VTYPE_MSGFLAGS,
        RD_KAFKA_VTYPE_PARTITION, RD_KAFKA_VTYPE_TIMESTAMP, RD_KAFKA_VTYPE_TOPIC,
        RD_KAFKA_VTYPE_VALUE,
    };
    use rdkafka::bindings::{
        RD_KAFKA_MSG_F_COPY, rd_kafka_header_add, rd_kafka_headers_new, rd_kafka_producev,
    };
    type Given<'a> = Option<&'a [u8]>;
    let pointer = |bytes: Given<'_>| bytes.map_or(ptr::null(), <[u8]>::as_ptr).cast::<c_void>();
    let len = |bytes: Given<'_>| bytes.map_or(0, <[u8]>::len);
    let producer = producer(broker);
    // SAFETY: every pointer is to as many bytes as are said with it, or null, and all are
    // copied before this returns; the list of headers is the producer's once it took them. The
    // arguments are those that each kind asks for, and the last is the end.
    let code = unsafe {
        let list = rd_kafka_headers_new(headers.len());
        for (name, value) in headers {
            let size = isize::try_from(len(*value)).unwrap();
            let added = rd_kafka_header_add(
                list,
                name.as_ptr().cast(),
                isize::try_from(name.len()).unwrap(),
                pointer(*value),
                size,
            );
            assert!(!added.is_error());
        }
        rd_kafka_producev(
            producer.client().native_ptr(),
            RD_KAFKA_VTYPE_TOPIC,
            c"t".as_ptr(),
            RD_KAFKA_VTYPE_PARTITION,
            0_i32,
            RD_KAFKA_VTYPE_MSGFLAGS,
            RD_KAFKA_MSG_F_COPY,
            RD_KAFKA_VTYPE_VALUE,
            pointer(payload),
            len(payload),
            RD_KAFKA_VTYPE_KEY,
            pointer(key),
            len(key),
            RD_KAFKA_VTYPE_TIMESTAMP,
            millis,
            RD_KAFKA_VTYPE_HEADERS,
            list,
            RD_KAFKA_VTYPE_END,
        )
    };
    assert!(!code.is_error(), "{code:?}");
    producer.flush(DEADLINE).unwrap();
}

#[test]
fn a_group_is_joined_and_left_while_it_polls() {
    #[derive(Default)]
    struct Member(Mutex<Vec<String>>);
    impl ClientContext for Member {}
    impl ConsumerContext for Member {
        fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
            let told = match rebalance {
                Rebalance::Assign(list) => format!("assigned {}", list.count()),
                Rebalance::Revoke(list) => format!("revoked {}", list.count()),
                Rebalance::Error(error) => error.to_string(),
            };
            self.0.lock().unwrap().push(told);
        }
        fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
            let place = offsets.find_partition("t", 0).map(|place| place.offset());
            self.0.lock().unwrap().push(format!("committed {place:?}: {}", result.is_ok()));
        }
    }

    let broker = broker();
    write(&broker, "t", (0..3).map(|_| b"{}".to_vec()));
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap_servers()).set("group.id", "g");
    config.set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    config.set("partition.assignment.strategy", "cooperative-sticky");
    let consumer = BaseConsumer::from_config_and_context(&config, Member::default()).unwrap();
    let poll = Poll::new(Arc::new(consumer)).unwrap();
    let told = || poll.consumer().context().0.lock().unwrap().clone();
    poll.consumer().subscribe(&["t"]).unwrap();
    let mut offsets = Vec::new();
    until(&poll, |polled| {
        if let Polled::Record(record) = polled {
            offsets.push(record.offset());
        }
        (offsets.len() == 3).then_some(())
    });
    assert_eq!((offsets, told()), (vec![0, 1, 2], vec!["assigned 2".to_owned()]));
    poll.commit(&places(&[("t", 0, 3)])).unwrap();
    until(&poll, |_| (told().len() == 2).then_some(()));
    assert_eq!(told()[1], "committed Some(Offset(3)): true");
    poll.consumer().unsubscribe();
    until(&poll, |_| (told().len() == 3).then_some(()));
    assert_eq!(told()[2], "revoked 2");
}

#[test]
fn what_is_fetched_ahead_is_bounded_also_where_records_are_large() {
    const RECORD: usize = 900_000;
    const AHEAD: usize = 4 << 20;
    let broker = EmbeddedBroker::start().unwrap();
    // Five to a partition: all that the broker keeps.
    let topics: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    for topic in &topics {
        broker.create_topic(topic, 1).unwrap();
        write(&broker, topic, (0..5).map(|_| vec![b'x'; RECORD]));
    }
    let ahead = (AHEAD >> 10).to_string();
    let config = broker.config().topics(&topics[..]);
    let poll = poll(&config.property("queued.max.messages.kbytes", ahead));
    let all: Vec<_> = topics.iter().map(|topic| (topic.as_str(), 0, 0)).collect();
    poll.consumer().incremental_assign(&places(&all)).unwrap();
    // Until it has come to rest: its backoff is far shorter.
    let (mut waiting, mut since) = (0, Instant::now());
    wait_for("fetched ahead", || {
        let now = poll.queue.len();
        if now != waiting {
            (waiting, since) = (now, Instant::now());
        }
        waiting * RECORD >= AHEAD && since.elapsed() > Duration::from_millis(500)
    });
    // What is there is all that comes.
    broker.go_down().unwrap();
    let (mut bytes, mut of_all) = (0, 0);
    for _ in 0..waiting {
        if let Some(Polled::Record(record)) = poll.next(Duration::ZERO) {
            bytes += record.payload().unwrap().len();
            of_all += 1;
        }
    }
    // One answer was asked for while there was room, and is as large as that at most; the
    // last record may pass it.
    assert!(bytes >= AHEAD, "{bytes} bytes: it did not come to rest for being full");
    assert!(bytes <= 2 * AHEAD + RECORD, "{bytes} bytes of {of_all} records");
}
