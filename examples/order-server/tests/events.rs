//! Server-Sent Events of the real server.

#![allow(missing_docs, reason = "a test")]

#[allow(dead_code, reason = "each test uses a part of it")]
mod support;

use support::{Client, DEADLINE, start, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Reads `/events` as somebody, from a last id on, until all of `texts` have come.
async fn events(client: &Client, last: Option<&str>, texts: &[&str]) -> String {
    let mut stream = TcpStream::connect(client.addr).await.unwrap();
    let bearer = client.headers["authorization"].to_str().unwrap();
    let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
    let host = client.addr;
    let request =
        format!("GET /events HTTP/1.1\r\nhost: {host}\r\nauthorization: {bearer}\r\n{last}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut received = String::new();
    let mut buffer = [0; 4096];
    while !texts.iter().all(|text| received.contains(text)) {
        let read = tokio::time::timeout(DEADLINE, stream.read(&mut buffer)).await;
        let read = read.unwrap_or_else(|_| panic!("no {texts:?} in {received}")).unwrap();
        assert_ne!(read, 0, "ended early: {received}");
        received.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    received
}

#[tokio::test]
async fn events_come_as_a_stream_and_go_on_from_the_last_id() {
    let server = start(&[]).await;
    let ann = Client::login(&server, "ann@x").await;
    let refused = until("events are served", || async {
        let answer = Client::nobody(&server).get("/events").await;
        (answer.status == 200).then_some(answer)
    });
    assert!(refused.await.text().contains("event: close\ndata: {\"code\":4500"));

    let welcome = events(&ann, None, &["event: welcome\nid: ", "\ndata: {"]).await;
    let (_, id) = welcome.split_once("event: welcome\nid: ").unwrap();
    let (id, _) = id.split_once('\n').unwrap();
    let order = ann.order().await["orderId"].as_str().unwrap().to_owned();
    // What came while nobody listened, both emissions of the one record.
    let missed = events(&ann, Some(id), &["event: order:created", "event: notification"]).await;
    assert!(missed.contains("\"recovered\":true") && missed.contains(&order), "{missed}");

    let forged = events(&ann, Some("forged"), &["event: gap", "\"reason\":\"reset\""]).await;
    assert!(forged.contains("\"recovered\":false"), "{forged}");
    server.stop().await;
}
