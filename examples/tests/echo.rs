//! The echo example, over real WebSockets.

#[allow(dead_code)] // Its `main`.
#[path = "../echo.rs"]
mod echo;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(Duration::from_secs(20), future).await;
    result.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

async fn start() -> SocketAddr {
    let listener = echo::listen(&echo::Args::parse_from(["echo", "--port", "0"])).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(echo::run(listener));
    addr
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_back_as_they_were() {
    let url = format!("ws://{}", start().await);
    let connected = within("the handshake", tokio_tungstenite::connect_async(url)).await;
    let mut client = connected.unwrap().0;
    let large = "é".repeat(1024 * 1024);
    for message in [Message::text("hello"), Message::binary(vec![0xff; 300]), Message::text(large)]
    {
        within("sending", client.send(message.clone())).await.unwrap();
        let echo = within("the echo", client.next()).await.unwrap().unwrap();
        assert!(echo == message, "another message");
    }
    client.send(Message::Ping("p".into())).await.unwrap();
    let pong = within("the pong", client.next()).await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("p".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_is_answered_with_its_code() {
    let url = format!("ws://{}", start().await);
    let connected = within("the handshake", tokio_tungstenite::connect_async(url)).await;
    let mut client = connected.unwrap().0;
    let close = CloseFrame { code: 4321.into(), reason: "enough".into() };
    client.send(Message::Close(Some(close.clone()))).await.unwrap();
    let answer = within("the answer", client.next()).await.unwrap().unwrap();
    assert_eq!(answer, Message::Close(Some(close)));
    assert!(within("the end", client.next()).await.is_none());
}

const HEAD: &str = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// All that the server says to these bytes, until it closes.
async fn answered(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    within("the end", socket.read_to_end(&mut answer)).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_mask_is_told_so_and_no_reset_overtakes_it() {
    let addr = start().await;
    // More follows than is read at once.
    let frames = [b"\x81\x02hi".to_vec(), vec![0; 200_000]].concat();
    let answer = answered(addr, &[format!("{HEAD}\r\n").as_bytes(), &frames].concat()).await;
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    let close = [&[0x88, 21, 0x03, 0xea][..], b"frame is not masked"].concat();
    assert!(answer.ends_with(&close), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_opens_no_websocket_is_refused() {
    let addr = start().await;
    let foreign = format!("{HEAD}Origin: http://evil.example\r\nConnection: close\r\n\r\n");
    let answer = answered(addr, foreign.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 403 "), "{}", String::from_utf8_lossy(&answer));
}
