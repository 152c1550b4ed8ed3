//! Each limit of the door is what its flag says.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::socket::Socket;
use crate::support::{Client, DEADLINE, until};
use crate::{ready, somebody};

/// Opens a connection that stays, and has been let in.
async fn holds(client: &Client) -> TcpStream {
    let mut stream = TcpStream::connect(client.addr).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    stream
}

/// The status that a new connection is refused with.
async fn refused(client: &Client) -> (u16, String) {
    let answer = client.get("/livez").await;
    (answer.status.as_u16(), answer.header("retry-after").to_owned())
}

#[tokio::test]
async fn connections_in_all_and_of_an_address() {
    for (flag, status) in [("--max-connections", 503), ("--max-connections-per-address", 429)] {
        let server = ready(&[flag, "2"]).await;
        let nobody = Client::nobody(&server);
        until("the first have gone", async || {
            (nobody.get("/livez").await.status == 200).then_some(())
        })
        .await;
        let (one, two) = (holds(&nobody).await, holds(&nobody).await);
        let (refused_with, retry) = refused(&nobody).await;
        assert_eq!(refused_with, status, "{flag}");
        assert!(retry.parse::<u32>().unwrap() > 0, "{flag}");
        drop(one);
        until("there is room again", async || {
            (nobody.get("/livez").await.status == 200).then_some(())
        })
        .await;
        drop(two);
        server.stop().await;
    }
}

#[tokio::test]
async fn connections_of_a_subject() {
    let server = ready(&["--max-connections-per-subject", "1"]).await;
    let (ann, bob) = (Client::login(&server, "ann@x").await, Client::login(&server, "bob@x").await);
    let (first, _) = Socket::welcome(&ann).await;
    assert_eq!(Socket::open(&ann, "/ws").await.closed().await, 4003);
    Socket::welcome(&bob).await;
    drop(first);
    until("it is gone", async || {
        let mut socket = Socket::open(&ann, "/ws").await;
        socket.is_welcome().await.then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn upgrades_of_an_address() {
    let server = ready(&["--upgrades-per-second-per-address", "1"]).await;
    let ann = Client::login(&server, "ann@x").await;
    let nobody = Client::nobody(&server);
    let mut refused = None;
    for _ in 0..200 {
        // Nobody is there: the stream says so and ends.
        let answer = nobody.get("/events").await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("two hundred in far less than two hundred seconds");
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").parse::<u32>().unwrap() > 0);
    // What opens nothing is not concerned.
    assert_eq!(ann.get("/api/orders").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn frames_and_requests_of_a_connection() {
    let server = ready(&["--frames-per-second", "1"]).await;
    let ann = Client::login(&server, "ann@x").await;
    let (mut socket, _) = Socket::welcome(&ann).await;
    let frame = json!({"event": "subscribe", "data": {"room": "inventory:updates"}}).to_string();
    for _ in 0..50 {
        // The server may have had enough before all are sent.
        if !socket.try_send(&frame).await {
            break;
        }
    }
    assert_eq!(socket.closed_at_last().await, 4003);
    server.stop().await;

    let server = ready(&["--requests-per-second", "1", "--frames-per-second", "1000"]).await;
    let ann = Client::login(&server, "ann@x").await;
    let (mut socket, _) = Socket::welcome(&ann).await;
    let mut codes = Vec::new();
    for _ in 0..200 {
        let answer = socket.subscribe("inventory:updates").await;
        codes.push(answer["data"]["code"].as_str().unwrap_or("ok").to_owned());
    }
    assert!(codes.iter().any(|code| code == "rate_limited"), "{codes:?}");
    assert_eq!(codes[0], "ok");
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn headers_that_do_not_come() {
    let server = ready(&["--header-secs", "1"]).await;
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it was waited for without an end");
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    server.stop().await;
}

#[tokio::test]
async fn logins_of_an_address() {
    let server = ready(&["--login-rate", "1"]).await;
    let nobody = Client::nobody(&server);
    let mut refused = None;
    for n in 0..20 {
        let answer = nobody.post("/api/login", &json!({"email": format!("a{n}@x")})).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("twenty logins in far less than twenty seconds");
    assert_eq!(refused.error(429).0, "rate_limited");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    server.stop().await;
}

#[tokio::test]
async fn tickets_of_a_subject() {
    let server = ready(&["--write-rate", "0"]).await;
    let ann = somebody(&server, "ann@x", "user").await;
    for _ in 0..16 {
        assert_eq!(ann.send("POST", "/api/ticket", "").await.status, 200);
    }
    let refused = ann.send("POST", "/api/ticket", "").await;
    assert_eq!(refused.error(429).0, "rate_limited");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 30);
    let bob = somebody(&server, "bob@x", "user").await;
    assert_eq!(bob.send("POST", "/api/ticket", "").await.status, 200);
    let metrics = Client::nobody(&server).get("/metrics").await;
    assert!(metrics.text().contains("order_server_tickets_refused_total{limit=\"subject\"}"));
    server.stop().await;
}
