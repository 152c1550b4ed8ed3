//! A broker that refuses a fetch and names a leader for one partition and none for another,
//! as one that restarts does: librdkafka must neither read what it has not set nor stop.
//! See `build.rs`.
#![cfg(target_os = "linux")]

mod common;

use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::DEADLINE;
use kafka_source::rdkafka::config::RDKafkaLogLevel;
use kafka_source::rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use kafka_source::rdkafka::error::KafkaError;
use kafka_source::rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

const METADATA: u8 = 3;
const PRODUCE: u8 = 0;
const FETCH: u8 = 1;
const API_VERSIONS: u8 = 18;
const NOT_LEADER: u16 = 6;
const PARTITIONS: u32 = 8;
const TOPIC_ID: [u8; 16] = [7; 16];
/// Its number, and that of every leader.
const BROKER: u32 = 1;
/// How many hints it gives before it reads as usual.
const HINTS: u32 = 50;
const NONE: u32 = u32::MAX;

/// A broker that knows Metadata in version 12 and Fetch in version 16, of one empty topic.
#[derive(Clone)]
struct Broker {
    addr: SocketAddr,
    hints: Arc<AtomicU32>,
}

impl Broker {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let addr = listener.local_addr().expect("address");
        let broker = Self { addr, hints: Arc::default() };
        let accepting = broker.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let broker = accepting.clone();
                // A client that hangs up ends it.
                std::thread::spawn(move || broker.serve(stream));
            }
        });
        broker
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        loop {
            let mut len = [0; 4];
            stream.read_exact(&mut len).ok()?;
            let mut request = vec![0; u32::from_be_bytes(len) as usize];
            stream.read_exact(&mut request).ok()?;
            // Key and version, then the request's number, which the answer begins with.
            let mut answer = Answer(request[4..8].to_vec());
            match (request[1], request[3]) {
                (API_VERSIONS, _) => api_versions(&mut answer),
                (METADATA, 12) => self.metadata(&mut answer),
                (FETCH, 16) => self.fetch(&mut answer),
                other => panic!("a request that it does not know: {other:?}"),
            }
            let len = u32::try_from(answer.0.len()).ok()?;
            stream.write_all(&[&len.to_be_bytes()[..], &answer.0].concat()).ok()?;
        }
    }

    fn metadata(&self, answer: &mut Answer) {
        answer.no_tags().int(0).len(1); // No throttling, one broker.
        self.endpoint(answer);
        answer.bytes(&[0]).int(BROKER); // No cluster id; the controller.
        answer.len(1).short(0).text("t").bytes(&TOPIC_ID).bytes(&[0]).len(PARTITIONS);
        for partition in 0..PARTITIONS {
            answer.short(0).int(partition).int(BROKER).int(1);
            answer.len(1).int(BROKER).len(1).int(BROKER).len(0).no_tags();
        }
        answer.int(0).no_tags().no_tags(); // Nobody may do anything with it.
    }

    /// Refuses every partition, and names a leader for one of them; later it has nothing new.
    fn fetch(&self, answer: &mut Answer) {
        let refused = self.hints.fetch_add(1, Ordering::SeqCst) < HINTS;
        answer.no_tags().int(0).short(0).int(0); // No throttling, no error, no session.
        answer.len(1).bytes(&TOPIC_ID).len(PARTITIONS);
        for partition in 0..PARTITIONS {
            // Error, ends and start, nothing aborted, no other replica, no records.
            let (error, at) = if refused { (NOT_LEADER, u64::MAX) } else { (0, 0) };
            answer.int(partition).short(error).long(at).long(at).long(at);
            answer.len(0).int(NONE).len(0);
            if refused {
                let leader = if partition == 0 { BROKER } else { NONE };
                // One tag, the first, of nine bytes.
                answer.bytes(&[1, 1, 9]).int(leader).int(1).no_tags();
            } else {
                answer.no_tags();
            }
        }
        answer.no_tags();
        if refused {
            let mut endpoints = Answer(Vec::new());
            endpoints.len(1);
            self.endpoint(&mut endpoints);
            let len = u8::try_from(endpoints.0.len()).expect("short");
            answer.bytes(&[1, 0, len]).bytes(&endpoints.0);
        } else {
            answer.no_tags();
        }
    }

    /// Itself: number, host, port, no rack.
    fn endpoint(&self, answer: &mut Answer) {
        let (host, port) = (self.addr.ip().to_string(), self.addr.port());
        answer.int(BROKER).text(&host).int(port.into()).bytes(&[0]).no_tags();
    }
}

fn api_versions(answer: &mut Answer) {
    // Without records of version 2 for those who write, a client reads none either.
    let keys = [(PRODUCE, 3, 3), (FETCH, 16, 16), (METADATA, 12, 12), (API_VERSIONS, 0, 3)];
    answer.short(0).len(keys.len() as u32);
    for (key, least, most) in keys {
        answer.short(key.into()).short(least).short(most).no_tags();
    }
    answer.int(0).no_tags();
}

/// Kafka's compact encoding.
struct Answer(Vec<u8>);

impl Answer {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }
    fn short(&mut self, number: u16) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }
    fn int(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }
    fn long(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }
    /// Of an array or a text that is not long: one more than it has, as a variable number.
    fn len(&mut self, len: u32) -> &mut Self {
        self.bytes(&[u8::try_from(len + 1).expect("short")])
    }
    fn text(&mut self, text: &str) -> &mut Self {
        self.len(text.len() as u32).bytes(text.as_bytes())
    }
    fn no_tags(&mut self) -> &mut Self {
        self.bytes(&[0])
    }
}

/// What librdkafka says of the hints that it uses, right or wrong.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl ClientContext for Lines {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        if facility == "METADATAUPDATE" {
            self.0.lock().expect("whole").push(line.to_owned());
        }
    }
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Lines {}

#[expect(unsafe_code, reason = "functions of C")]
mod c {
    use super::{c_int, c_void};

    unsafe extern "C" {
        pub(super) fn rd_kafka_metadata_update_op(client: *mut c_void, hint: *mut c_void) -> c_int;
        pub(super) fn fanout_rd_kafka_metadata_update_op(
            client: *mut c_void,
            hint: *mut c_void,
        ) -> c_int;
        #[cfg(target_env = "gnu")]
        pub(super) safe fn mallopt(param: c_int, value: c_int) -> c_int;
    }
}

/// Says, with a line of librdkafka's, each time it takes what it has not set for a leader.
fn fill_fresh_memory() {
    #[cfg(target_env = "gnu")]
    assert_eq!(c::mallopt(-6, 1), 1, "no M_PERTURB");
}

#[test]
fn the_function_that_takes_hints_is_replaced() {
    // The compiler knows that two functions are not one.
    let theirs = black_box(c::rd_kafka_metadata_update_op as *const ());
    let ours = black_box(c::fanout_rd_kafka_metadata_update_op as *const ());
    assert_eq!(theirs, ours);
}

#[test]
fn a_hint_without_a_leader_is_passed_over_and_reading_goes_on() {
    fill_fresh_memory();
    let broker = Broker::start();
    let lines = Lines::default();
    let consumer: BaseConsumer<Lines> = ClientConfig::new()
        .set("bootstrap.servers", broker.addr.to_string())
        .set("group.id", "none")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.error.backoff.ms", "10")
        .set("retry.backoff.ms", "10")
        .set("topic.metadata.refresh.fast.interval.ms", "20")
        .set_log_level(RDKafkaLogLevel::Warning)
        .create_with_context(lines.clone())
        .expect("consumer");
    let mut places = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let partition = i32::try_from(partition).expect("few");
        places.add_partition_offset("t", partition, Offset::Offset(0)).expect("place");
    }
    consumer.assign(&places).expect("assigned");

    // Once it is refused no longer, each partition is read up to its end.
    let (mut ended, deadline) = (vec![false; PARTITIONS as usize], Instant::now() + DEADLINE);
    while !ended.iter().all(|ended| *ended) {
        assert!(Instant::now() < deadline, "read to their ends: {ended:?}");
        if let Some(Err(KafkaError::PartitionEOF(partition))) =
            consumer.poll(Duration::from_millis(20))
        {
            ended[usize::try_from(partition).expect("a partition")] = true;
        }
    }
    assert!(broker.hints.load(Ordering::SeqCst) > HINTS);
    assert_eq!(*lines.0.lock().expect("whole"), Vec::<String>::new(), "hints were used");
}
