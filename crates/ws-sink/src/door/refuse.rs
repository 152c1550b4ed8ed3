//! An answer to who is not let in, without a server for it.
//!
//! Closing a socket that has unread bytes throws away what was written to it, so what the
//! client sends is read for a moment. That costs a task: few, for a second, and no more.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::admission::Refused;

const MOMENT: Duration = Duration::from_secs(1);

/// Most of a request that is read for it.
const MOST: u64 = 64 * 1024;

/// Says why, and closes.
pub(super) async fn tell(mut stream: TcpStream, refused: Refused, permit: OwnedSemaphorePermit) {
    let said = async {
        stream.write_all(answer(refused).as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MOST), &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(MOMENT, said).await;
    drop(permit);
}

fn answer(refused: Refused) -> String {
    let text = format!("{refused}\n");
    format!(
        "HTTP/1.1 {}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         retry-after: {}\r\nconnection: close\r\n\r\n{text}",
        refused.status(),
        text.len(),
        refused.retry_after(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_answer() {
        assert_eq!(
            answer(Refused::Full(Duration::from_secs(5))),
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-length: 75\r\nretry-after: 5\r\nconnection: close\r\n\r\n\
             this server has as many connections as it may have: try again later\n"
                .replace(
                    "75",
                    &"this server has as many connections as it may have: try again later\n"
                        .len()
                        .to_string()
                ),
        );
        assert!(
            answer(Refused::Address(Duration::ZERO))
                .starts_with("HTTP/1.1 429 Too Many Requests\r\n")
        );
    }
}
