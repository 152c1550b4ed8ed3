//! Bytes, for what no client of a library would send.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::Client;

/// How long an answer is read that does not end by itself.
const LISTENED: Duration = Duration::from_secs(2);

/// Sends bytes as they are, and reads what comes back until the server has had enough, or
/// for a while.
pub(crate) async fn raw(client: &Client, text: &str) -> String {
    let mut stream = TcpStream::connect(client.addr).await.unwrap();
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(LISTENED, stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// What comes first of a stream of events.
pub(crate) async fn listens(client: &Client, path: &str) -> String {
    let head = "Host: x\r\nAccept: text/event-stream\r\n\r\n";
    raw(client, &format!("GET {path} HTTP/1.1\r\n{head}")).await
}
