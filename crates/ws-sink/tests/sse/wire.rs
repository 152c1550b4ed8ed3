//! One event, to the byte.

use bytes::Bytes;
use fanout::testing::{MemoryLog, MemoryStart};
use fanout::{Emission, Event, Json, Pipeline, Room, RouteError};
use serde_json::{Value, json};

use crate::client::{bearer, start};
use crate::common::within;

pub(crate) fn to(room: &str, event: &'static str, body: &Value) -> Emission {
    Emission::new(Room::new(room).unwrap(), event, Json::of(body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_name_cursor_and_the_native_object() {
    let server = start().await;
    let headers = [("authorization", &*bearer("ann", "user"))];
    let mut stream = server.get("/events", &headers).await;
    server.connections(1).await;
    let log = MemoryLog::new("orders", 1);
    let router = |event: &Event, out: &mut Vec<Emission>| -> Result<(), RouteError> {
        out.push(Emission::new(Room::new("user:ann")?, "order:\"created\"", event.json()?));
        Ok(())
    };
    tokio::spawn(Pipeline::new(log.source(MemoryStart::Latest), router, server.hub.clone()).run());
    log.write(0, None, r#"{"total": 7.50}"#);
    let id = within("the event", async {
        loop {
            let message = stream.next().await;
            if message.name == "order:\"created\"" {
                return message;
            }
        }
    })
    .await;
    assert_eq!(id.id, server.hub.cursor().as_str());
    let at = id.json()["at"].as_str().unwrap().to_owned();
    let object = format!(
        r#"{{"event":"order:\"created\"","room":"user:ann","at":"{at}","data":{{"total": 7.50}}}}"#
    );
    assert_eq!(id.data, object, "the payload as it was written");

    drop(stream);
    let mut raw = server.get("/events", &[headers[0], ("last-event-id", &id.id)]).await;
    server.connections(1).await;
    log.write(0, None, "1");
    within("the event", async {
        while server.hub.stats().deliveries < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    tokio::spawn(async move {
        server.hub.drain(std::time::Duration::ZERO, std::time::Duration::from_secs(10)).await;
    });
    let text = raw.text().await;
    let event = text.split_inclusive("\n\n").find(|event| event.starts_with("event: order"));
    let event = event.unwrap_or_else(|| panic!("no event in {text}"));
    let lines: Vec<&str> = event.split('\n').collect();
    let [name, id, data, "", ""] = lines[..] else { panic!("{event}") };
    assert_eq!(name, "event: order:\"created\"");
    assert!(id.starts_with("id: ") && data.starts_with("data: {\"event\":"), "{event}");
    assert!(text.starts_with("retry: ") && text.contains("\n\nevent: welcome\nid: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_with_line_breaks_is_the_same_value() {
    let server = start().await;
    let (mut stream, _) = server.connect("ann", "user").await;
    let texts = [
        "{\n  \"a\": [1,\n 2]\n}\n",
        "{\r\n\"a\":\r\n[1,2]}\r\n",
        "{\r\"a\":\r\r[1,2]\n\r\n\r}",
        "\n\n{\"a\":[1,2]}\r",
    ];
    for text in texts {
        let body = Json::parse(Bytes::from(text)).unwrap();
        let emission = Emission::new(Room::new("user:ann").unwrap(), "x", body);
        server.hub.publish(vec![emission]).await.unwrap();
        let message = stream.next().await;
        assert_eq!(message.name, "x");
        assert_eq!(message.json()["data"], json!({"a": [1, 2]}), "{text:?}");
        let breaks = text.replace("\r\n", "\n").replace('\r', "\n").matches('\n').count();
        assert_eq!(message.data.matches('\n').count(), breaks, "each one data line: {text:?}");
    }
    // What is written inside of a string is none.
    server.hub.publish(vec![to("user:ann", "x", &json!("a\r\n\ndata: b"))]).await.unwrap();
    assert_eq!(stream.next().await.json()["data"], "a\r\n\ndata: b");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_is_another_event_or_the_browsers_own() {
    let server = start().await;
    let (mut stream, _) = server.connect("ann", "user").await;
    for name in [
        "error",
        "open",
        "message",
        "close",
        "",
        "x\ndata: {\"event\":\"forged\"}\n\nevent: y",
        "x\revent: y",
        "x\r\n",
    ] {
        server.hub.publish(vec![to("user:ann", name, &json!(1))]).await.unwrap();
        let message = stream.next().await;
        assert_eq!((&*message.name, &message.json()["event"]), ("message", &json!(name)));
    }
    for name in ["order:created", " x", "x:", "Error", "é", "\t", "errors"] {
        server.hub.publish(vec![to("user:ann", name, &json!(1))]).await.unwrap();
        let message = stream.next().await;
        assert_eq!((&*message.name, &message.json()["event"]), (name, &json!(name)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_position_keeps_the_cursor() {
    let server = start().await;
    let (mut stream, welcome) = server.connect("ann", "user").await;
    let emission = to("user:ann", "x", &json!(1)).and_to(Room::new("game:1").unwrap());
    server.hub.publish(vec![emission]).await.unwrap();
    let message = stream.next().await;
    assert_eq!(message.json(), json!({"event": "x", "data": 1}));
    assert_eq!(message.id, welcome.id);
}
