//! What happens over an event is traced with the context that its producer wrote.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fanout::testing::{Lines, MemorySink};
use fanout::{
    Access, Emission, Event, EventBatch, Hub, Identity, Lane, Pipeline, RoleAccess, Room,
    RouteError, Source, SourceError, SourceStatus,
};
use tracing::instrument::WithSubscriber as _;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Lines of the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One batch.
struct Once(Option<EventBatch>);

impl Source for Once {
    async fn next(&mut self) -> Result<Option<EventBatch>, SourceError> {
        Ok(self.0.take())
    }

    fn status(&self) -> SourceStatus {
        SourceStatus::new().1
    }
}

#[tokio::test]
async fn a_router_works_in_a_span_of_its_event_that_carries_traceparent() {
    let lane = Arc::new(Lane::new("log", "orders", 3));
    let event = |offset, traceparent: &'static [u8]| {
        let headers = vec![("traceparent".into(), Bytes::from_static(traceparent))];
        Event::new(lane.clone(), offset, "1".into()).with_headers(headers)
    };
    // Whatever anybody may write there: it goes to the log.
    let forged = TRACE.replace("4bf", "\n4b").into_bytes().leak();
    let events = vec![event(7, TRACE.as_bytes()), event(8, forged), event(9, b"\xff")];
    let route = |event: &Event, out: &mut Vec<Emission>| -> Result<(), RouteError> {
        tracing::info!("routed {}", event.offset);
        out.push(Emission::new(Room::new("all")?, "n", event.json()?));
        Ok(())
    };
    let access = Access::new([RoleAccess::new("member").joins("all")]).unwrap();
    let hub = Hub::builder(access).shards(1).build().unwrap();
    let (peer, sink) = MemorySink::new();
    let lines = hub.protocol(Lines);
    hub.connect(&lines, Identity::new("ann", ["member"]), sink).await.unwrap();

    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let source = Once(Some(EventBatch { events, ..EventBatch::default() }));
    Pipeline::new(source, route, hub.clone()).run().with_subscriber(subscriber).await.unwrap();
    peer.until("all came", |peer| peer.count() == 3).await;

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let line =
        |text: &str| log.lines().find(|line| line.contains(text)).expect("a line").to_owned();
    let routed = line("routed 7");
    assert!(routed.contains("event{lane=orders/3 offset=7"), "{routed}");
    assert!(routed.contains(TRACE), "{routed}");
    for text in ["routed 8", "routed 9"] {
        assert!(!line(text).contains("traceparent"), "{log}");
    }
}
