//! A broker that is starting names no broker, itself included: librdkafka forgets all of
//! them, and has to be told again.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{DEADLINE, Reader};
use kafka_source::KafkaConfig;

/// What the broker does: names itself at first, then hangs up on everybody, then names
/// nobody in one answer, then itself again.
const AWAY: u8 = 1;
const NOBODY: u8 = 2;
const ITSELF_AGAIN: u8 = 3;

/// Keys of requests.
const METADATA: u64 = 3;
const API_VERSIONS: u64 = 18;

/// A broker that knows no topic, and nothing but Metadata in version 1.
#[derive(Clone)]
struct Broker {
    addr: SocketAddr,
    phase: Arc<AtomicU8>,
    /// In which phases it was asked.
    asked: Arc<Mutex<Vec<u8>>>,
}

impl Broker {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let addr = listener.local_addr().expect("address");
        let broker = Self { addr, phase: Arc::default(), asked: Arc::default() };
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
            if self.phase.load(Ordering::SeqCst) == AWAY {
                return None;
            }
            let mut request = &request[..];
            let (key, version) = (take(&mut request, 2), take(&mut request, 2));
            let mut answer = Vec::new();
            put(&mut answer, 4, take(&mut request, 4)); // The request's number.
            text(&mut request); // The client's name.
            match (key, version) {
                (API_VERSIONS, 3) => {
                    // No error; two keys, each with its versions and no tags.
                    answer.extend([0, 0, 3]);
                    answer.extend([0, METADATA as u8, 0, 1, 0, 1, 0]);
                    answer.extend([0, API_VERSIONS as u8, 0, 0, 0, 3, 0]);
                    answer.extend([0; 5]); // No throttling, no tags.
                }
                (METADATA, 1) => {
                    self.brokers(&mut answer);
                    topics(&mut answer, request);
                }
                other => panic!("a request that it does not know: {other:?}"),
            }
            let len = u32::try_from(answer.len()).ok()?;
            stream.write_all(&[&len.to_be_bytes()[..], &answer].concat()).ok()?;
        }
    }

    fn brokers(&self, answer: &mut Vec<u8>) {
        let phase = self.phase.load(Ordering::SeqCst);
        self.asked.lock().expect("whole").push(phase);
        put(answer, 4, u64::from(phase != NOBODY));
        if phase == NOBODY {
            self.phase.store(ITSELF_AGAIN, Ordering::SeqCst);
        } else {
            put(answer, 4, 1); // Its number.
            let host = self.addr.ip().to_string();
            put(answer, 2, host.len() as u64);
            answer.extend(host.into_bytes());
            put(answer, 4, self.addr.port().into());
            put(answer, 2, u64::MAX); // No rack.
        }
        put(answer, 4, 1); // The controller.
    }

    fn was_asked_in(&self, phase: u8) -> bool {
        self.asked.lock().expect("whole").contains(&phase)
    }
}

/// Answers that none of the topics exists.
fn topics(answer: &mut Vec<u8>, mut request: &[u8]) {
    // All of them may be meant, by a negative number: there are none.
    let count = Some(take(&mut request, 4)).filter(|count| *count < 1000).unwrap_or(0);
    put(answer, 4, count);
    for _ in 0..count {
        let name = text(&mut request);
        put(answer, 2, 3); // Unknown.
        put(answer, 2, name.len() as u64);
        answer.extend(name);
        answer.extend([0; 5]); // Not internal, no partitions.
    }
}

/// Takes a big-endian number of so many bytes.
fn take(bytes: &mut &[u8], len: usize) -> u64 {
    let (number, rest) = bytes.split_at(len);
    *bytes = rest;
    number.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn text(bytes: &mut &[u8]) -> Vec<u8> {
    let len = take(bytes, 2) as usize;
    let (text, rest) = bytes.split_at(len);
    *bytes = rest;
    text.to_vec()
}

/// Puts a big-endian number of so many bytes.
fn put(bytes: &mut Vec<u8>, len: usize, number: u64) {
    bytes.extend(&number.to_be_bytes()[8 - len..]);
}

#[tokio::test]
async fn brokers_that_were_forgotten_are_asked_again() {
    let broker = Broker::start();
    let config = KafkaConfig::new(broker.addr.to_string())
        .topic("t")
        .metadata_interval(Duration::from_millis(200))
        .request_timeout(Duration::from_secs(1));
    let mut reader = Reader::start(config);
    reader.until(|health| health.connected).await;

    broker.phase.store(AWAY, Ordering::SeqCst);
    reader.until(|health| !health.connected).await;
    broker.phase.store(NOBODY, Ordering::SeqCst);
    let deadline = Instant::now() + DEADLINE;
    while !broker.was_asked_in(ITSELF_AGAIN) {
        assert!(Instant::now() < deadline, "nobody is asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(broker.was_asked_in(NOBODY));
    reader.until(|health| health.connected).await;
    assert!(reader.source.close(DEADLINE).await);
}
