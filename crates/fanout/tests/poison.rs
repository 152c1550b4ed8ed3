//! Records that cannot be used: what becomes of them, and that nothing else suffers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanout::testing::{Lines, MemoryPeer, MemorySink, Tokens};
use fanout::{
    Access, DeadLetter, DeadLetterError, DeadLetters, Emission, Event, EventBatch, Hub, Identity,
    JsonPayload, Keyring, Lane, Pipeline, PipelineStop, Poison, RoleAccess, Room, RouteError,
    Router, Source, SourceError, SourceReporter, SourceStatus,
};
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

/// What a source was told.
#[derive(Debug, Default)]
struct Told {
    halted: Vec<String>,
    accepted: BTreeMap<Lane, u64>,
}

/// Hands on the batches it is given.
struct Scripted<const RESUMABLE: bool> {
    batches: mpsc::Receiver<EventBatch>,
    told: Arc<Mutex<Told>>,
    status: (SourceReporter, SourceStatus),
}

impl<const RESUMABLE: bool> Source for Scripted<RESUMABLE> {
    const RESUMABLE: bool = RESUMABLE;

    async fn next(&mut self) -> Result<Option<EventBatch>, SourceError> {
        Ok(self.batches.recv().await)
    }

    fn status(&self) -> SourceStatus {
        self.status.1.clone()
    }

    fn accepted(&mut self, places: &[(Arc<Lane>, u64)]) {
        let mut told = self.told.lock().unwrap();
        for (lane, next) in places {
            let before = told.accepted.insert(Lane::clone(lane), *next);
            assert!(before.is_none_or(|before| before <= *next), "{lane} went back");
        }
    }

    fn halt(&mut self, lane: &Arc<Lane>, problem: &str) {
        self.told.lock().unwrap().halted.push(format!("{lane}: {problem}"));
    }
}

/// Letters that are answered when the test says so.
#[derive(Clone, Default)]
struct Letters(Arc<Mutex<Vec<Letter>>>);

type Letter = (DeadLetter, oneshot::Sender<bool>);

impl DeadLetters for Letters {
    fn write(&mut self, letter: DeadLetter) -> BoxFuture<'static, Result<(), DeadLetterError>> {
        let (answer, answered) = oneshot::channel();
        self.0.lock().unwrap().push((letter, answer));
        Box::pin(async move {
            match answered.await {
                Ok(true) => Ok(()),
                _ => Err(DeadLetterError("its topic is away".into())),
            }
        })
    }
}

/// A pipeline, and one who is in the room of all.
struct Shop {
    source: mpsc::Sender<EventBatch>,
    told: Arc<Mutex<Told>>,
    hub: Hub,
    peer: MemoryPeer,
    stop: PipelineStop,
    running: JoinHandle<Result<(), SourceError>>,
}

fn route(event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
    let number: u64 = event.parse()?;
    // Put there before it is refused: it must not go out.
    out.push(Emission::new(Room::new("all")?, "n", event.json()?));
    match number {
        404 => Err("no such number".into()),
        500 => panic!("no such panic"),
        _ => Ok(()),
    }
}

impl Shop {
    async fn open<const RESUMABLE: bool>(poison: Poison, router: impl Router) -> Self {
        let access = Access::new([RoleAccess::new("member").joins("all")]).unwrap();
        let hub = Hub::builder(access).shards(1).keys(keys()).build().unwrap();
        let lines = hub.protocol(Lines);
        let (peer, sink) = MemorySink::new();
        hub.connect(&lines, Identity::new("ann", ["member"]), sink).await.unwrap();
        let (source, batches) = mpsc::channel(8);
        let told = Arc::<Mutex<Told>>::default();
        let scripted =
            Scripted::<RESUMABLE> { batches, told: told.clone(), status: SourceStatus::new() };
        let pipeline =
            Pipeline::new(scripted, router, hub.clone()).decoder(JsonPayload).poison(poison);
        let stop = pipeline.stopper();
        let running = tokio::spawn(pipeline.run());
        Self { source, told, hub, peer, stop, running }
    }

    /// Records of lanes, by partition, each with the next offset of its lane.
    fn send(&self, next: &mut [u64], records: &[(u32, &'static str)]) {
        let events = records.iter().map(|(partition, payload)| {
            let offset = &mut next[*partition as usize];
            *offset += 1;
            Event::new(lane(*partition), *offset - 1, (*payload).into())
                .with_headers(vec![("h".into(), "v".into())])
        });
        let events: Vec<Event> = events.collect();
        let frontier = (0..).zip(&*next).map(|(partition, next)| (lane(partition), *next));
        let frontier = frontier.collect();
        let batch = EventBatch { events, frontier, ..EventBatch::default() };
        self.source.try_send(batch).expect("room in its queue");
    }

    async fn got(&self, bodies: &[&str]) {
        self.peer.until("what is good came", |peer| peer.count() >= bodies.len()).await;
        assert_eq!(self.peer.bodies(), bodies);
    }

    async fn told(&self, what: &str, enough: impl Fn(&Told) -> bool) {
        let waiting = async {
            while !enough(&self.told.lock().unwrap()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, waiting).await.unwrap_or_else(|_| {
            panic!("not told {what}: {:?}", self.told.lock().unwrap());
        });
    }

    async fn end(self) -> Told {
        self.stop.stop();
        timeout(DEADLINE, self.running).await.expect("ends").unwrap().unwrap();
        drop(self.hub);
        Arc::into_inner(self.told).expect("the source is gone").into_inner().unwrap()
    }
}

fn keys() -> Keyring {
    Keyring::new('k', b"at least thirty-two bytes of a secret").unwrap()
}

fn lane(partition: u32) -> Arc<Lane> {
    Arc::new(Lane::new("log", "t", partition))
}

#[tokio::test]
async fn what_is_skipped_is_passed_over_and_nothing_of_it_goes_out() {
    let shop = Shop::open::<true>(Poison::Skip, route).await;
    let before = shop.hub.cursor();
    let mut next = [0; 1];
    // Not JSON, not a number, refused, a panic.
    shop.send(&mut next, &[(0, "1"), (0, "{"), (0, "{}"), (0, "404"), (0, "500"), (0, "2")]);
    shop.got(&["1", "2"]).await;
    assert_ne!(shop.hub.cursor(), before);
    assert!(shop.end().await.halted.is_empty());
}

#[tokio::test]
async fn a_halted_lane_stops_at_its_record_and_the_others_go_on() {
    let shop = Shop::open::<true>(Poison::Halt, route).await;
    let mut next = [0; 2];
    shop.send(&mut next, &[(0, "1"), (1, "10"), (0, "500"), (0, "2"), (1, "11")]);
    shop.got(&["1", "10", "11"]).await;
    // What was read already comes nevertheless; the other lane goes on.
    shop.send(&mut next, &[(0, "3"), (0, "404")]);
    shop.send(&mut next, &[(1, "12")]);
    shop.got(&["1", "10", "11", "12"]).await;
    let tokens = Tokens::new(keys(), [0, 1].map(|partition| Lane::clone(&lane(partition))));
    let places = tokens.open(shop.hub.cursor().as_str()).unwrap();
    let places: Vec<_> = places.iter().map(|(lane, offset, _)| (lane.partition, *offset)).collect();
    assert_eq!(places, [(0, 1), (1, 3)], "the cursor has not passed the record");
    let told = shop.end().await;
    assert_eq!(told.halted.len(), 1, "{told:?}");
    let said = &told.halted[0];
    assert!(
        said.starts_with("t/0: t/0 is halted at 1") && said.contains("no such panic"),
        "{said}"
    );
}

#[tokio::test]
async fn a_letter_has_the_record_as_it_was_read() {
    let letters = Letters::default();
    let shop = Shop::open::<true>(Poison::DeadLetters(Box::new(letters.clone())), route).await;
    shop.send(&mut [0; 1], &[(0, "404"), (0, "{"), (0, "1")]);
    // Nobody waits for what is written.
    shop.got(&["1"]).await;
    let written: Vec<_> = letters.0.lock().unwrap().drain(..).collect();
    let [(refused, first), (broken, second)] = <[_; 2]>::try_from(written).ok().unwrap();
    assert_eq!((refused.reason, &refused.event.payload[..]), ("unroutable", &b"404"[..]));
    assert!(refused.error.contains("no such number"), "{}", refused.error);
    assert_eq!((broken.reason, broken.event.offset), ("not_json", 1));
    assert_eq!(broken.event.header("h").unwrap(), "v");
    first.send(true).unwrap();
    second.send(true).unwrap();
    assert!(shop.end().await.halted.is_empty());
}

#[tokio::test]
async fn a_letter_that_is_not_written_halts_its_lane() {
    let letters = Letters::default();
    let poison = Poison::DeadLetters(Box::new(letters.clone()));
    let shop = Shop::open::<false>(poison, route).await;
    let mut next = [0; 2];
    shop.send(&mut next, &[(0, "1"), (0, "{"), (0, "2"), (1, "10")]);
    shop.got(&["1", "2", "10"]).await;
    letters.0.lock().unwrap().remove(0).1.send(false).unwrap();
    shop.told("that it is halted", |told| !told.halted.is_empty()).await;
    shop.send(&mut next, &[(0, "3"), (1, "11")]);
    shop.got(&["1", "2", "10", "11"]).await;
    let told = shop.end().await;
    // Nothing beyond the letter is acknowledged.
    let accepted: Vec<u64> = told.accepted.into_values().collect();
    assert_eq!((accepted, told.halted.len()), (vec![1, 2], 1));
}

#[tokio::test]
async fn nothing_is_acknowledged_beyond_a_letter_that_is_under_way() {
    let letters = Letters::default();
    let poison = Poison::DeadLetters(Box::new(letters.clone()));
    let shop = Shop::open::<false>(poison, route).await;
    shop.send(&mut [0; 1], &[(0, "1"), (0, "{"), (0, "2"), (0, "}"), (0, "3")]);
    shop.got(&["1", "2", "3"]).await;
    let at = |offset| move |told: &Told| told.accepted.get(&*lane(0)) == Some(&offset);
    shop.told("of what stands before", at(1)).await;
    // In any order: the later one first.
    let (first, second) = {
        let mut letters = letters.0.lock().unwrap();
        (letters.remove(0).1, letters.remove(0).1)
    };
    second.send(true).unwrap();
    first.send(true).unwrap();
    shop.told("of everything", at(5)).await;
    drop(shop.end().await);
}

#[tokio::test]
async fn a_lane_that_was_given_back_is_not_halted_by_its_letter() {
    let letters = Letters::default();
    let poison = Poison::DeadLetters(Box::new(letters.clone()));
    let shop = Shop::open::<false>(poison, route).await;
    let mut next = [0; 1];
    shop.send(&mut next, &[(0, "1"), (0, "{")]);
    shop.got(&["1"]).await;
    let closed = EventBatch { closed: vec![lane(0)], ..EventBatch::default() };
    shop.source.try_send(closed).expect("room in its queue");
    // It comes again, from what was not accepted on.
    shop.send(&mut [1], &[(0, "{"), (0, "2")]);
    shop.got(&["1", "2"]).await;
    let (old, new) = {
        let mut letters = letters.0.lock().unwrap();
        (letters.remove(0), letters.remove(0))
    };
    assert_eq!((old.0.event.offset, new.0.event.offset), (1, 1));
    new.1.send(true).unwrap();
    shop.told("of what its second letter let pass", |told| {
        told.accepted.get(&*lane(0)) == Some(&3)
    })
    .await;
    old.1.send(false).unwrap();
    shop.send(&mut [3], &[(0, "3")]);
    shop.got(&["1", "2", "3"]).await;
    assert!(shop.end().await.halted.is_empty());
}

#[tokio::test]
async fn stopping_waits_for_letters() {
    let letters = Letters::default();
    let poison = Poison::DeadLetters(Box::new(letters.clone()));
    let shop = Shop::open::<false>(poison, route).await;
    shop.send(&mut [0; 1], &[(0, "{"), (0, "1")]);
    shop.got(&["1"]).await;
    shop.stop.stop();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!shop.running.is_finished(), "its letter is not written");
    letters.0.lock().unwrap().remove(0).1.send(true).unwrap();
    assert_eq!(shop.end().await.accepted.into_values().collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn too_many_letters_stop_the_reading_until_some_are_written() {
    let letters = Letters::default();
    let poison = Poison::DeadLetters(Box::new(letters.clone()));
    let shop = Shop::open::<true>(poison, route).await;
    let mut next = [0; 2];
    shop.send(&mut next, &vec![(0, "{"); Poison::MAX_LETTERS]);
    shop.send(&mut next, &[(1, "1")]);
    let waiting = || letters.0.lock().unwrap().len();
    let full = async {
        while waiting() < Poison::MAX_LETTERS {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, full).await.expect("all letters are begun");
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(shop.peer.count(), 0, "nothing more is read");
    letters.0.lock().unwrap().remove(0).1.send(true).unwrap();
    shop.got(&["1"]).await;
    letters.0.lock().unwrap().drain(..).for_each(|(_, answer)| answer.send(true).unwrap());
    drop(shop.end().await);
}

#[tokio::test]
async fn a_source_without_positions_leaves_the_cursor_alone_and_is_told_what_was_taken() {
    let shop = Shop::open::<false>(Poison::Skip, route).await;
    let before = shop.hub.cursor();
    let mut next = [0; 2];
    shop.send(&mut next, &[(0, "1"), (1, "2"), (1, "{"), (0, "3")]);
    shop.got(&["1", "2", "3"]).await;
    assert_eq!(shop.hub.cursor(), before, "nothing of it can be resumed");
    let lines = shop.peer.lines();
    assert!(lines.iter().all(|line| line.trim_end().ends_with('|')), "no `at`: {lines:?}");
    let told = shop.end().await;
    assert_eq!(told.accepted.into_values().collect::<Vec<_>>(), [2, 2]);
}

#[tokio::test]
async fn a_decoder_that_panics_ends_nothing() {
    struct Panics;
    impl fanout::Decoder for Panics {
        fn decode<'a>(
            &self,
            record: &'a Event,
        ) -> Result<std::borrow::Cow<'a, Event>, fanout::DecodeError> {
            assert!(record.payload != "0", "a zero");
            Ok(std::borrow::Cow::Borrowed(record))
        }
    }
    let letters = Letters::default();
    let access = Access::new([RoleAccess::new("member").joins("all")]).unwrap();
    let hub = Hub::builder(access).shards(1).build().unwrap();
    let (peer, sink) = MemorySink::new();
    let lines = hub.protocol(Lines);
    hub.connect(&lines, Identity::new("ann", ["member"]), sink).await.unwrap();
    let (topic, source) = fanout::MemorySource::new("t");
    let pipeline = Pipeline::new(source, route, hub.clone())
        .decoder(Panics)
        .poison(Poison::DeadLetters(Box::new(letters.clone())));
    tokio::spawn(pipeline.run());
    topic.send(&0).await.unwrap();
    topic.send(&1).await.unwrap();
    peer.until("what is good came", |peer| peer.count() == 1).await;
    let letters = letters.0.lock().unwrap();
    assert_eq!(letters[0].0.reason, "panic");
    assert!(letters[0].0.error.contains("the decoder panicked: a zero"), "{}", letters[0].0.error);
}
