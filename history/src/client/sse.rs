//! `GET /events`: Server-Sent Events, read as an `EventSource` reads them.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use super::wire::{Came, Opening, Refused, connect, header, query};
use crate::http::AbortOnDrop;

/// Most bytes of one event: what is longer is none of this server's.
const MAX_EVENT: usize = 1 << 20;

/// An open stream.
pub(crate) struct Sse {
    body: Incoming,
    parser: Parser,
    _connection: AbortOnDrop,
}

impl Sse {
    pub(super) async fn open(opening: &Opening<'_>) -> Result<Self, Refused> {
        let stream = connect(opening.addr).await?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            // The smallest there is: what waits to be read waits in the kernel.
            .max_buf_size(8 << 10)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Refused::Away)?;
        let connection = AbortOnDrop(tokio::spawn(async move {
            // The body says the same.
            let _ = connection.await;
        }));
        let mut request = Request::builder()
            .uri(format!("/events?{}", query(opening, false)))
            .header("host", opening.addr.to_string())
            .header("accept", "text/event-stream");
        if let Some((name, value)) = header(opening.proof) {
            request = request.header(name, value);
        }
        if let Some(cursor) = opening.cursor {
            request = request.header("last-event-id", cursor);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|_| Refused::Status(0))?;
        let response = sender.send_request(request).await.map_err(|_| Refused::Away)?;
        match response.status().as_u16() {
            200 => {
                let body = response.into_body();
                Ok(Self { body, parser: Parser::default(), _connection: connection })
            }
            status => Err(Refused::Status(status)),
        }
    }

    pub(super) async fn next(&mut self) -> Came {
        loop {
            while let Some(event) = self.parser.next() {
                if event.name == "close" {
                    #[derive(Deserialize)]
                    struct Close {
                        code: u16,
                    }
                    let code =
                        serde_json::from_str(&event.data).map_or(0, |close: Close| close.code);
                    return Came::End(Some((code, event.data)));
                }
                if !event.data.is_empty() {
                    return Came::Frame { json: event.data, cursor: event.id };
                }
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if self.parser.push(&data).is_err() {
                        return Came::End(Some((0, "an event without end".to_owned())));
                    }
                }
                Some(Err(_)) | None => return Came::End(None),
            }
        }
    }
}

/// An event that is there as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
    id: Option<String>,
}

/// The stream's lines, as the HTML standard has them.
#[derive(Debug, Default)]
struct Parser {
    held: Vec<u8>,
    event: Event,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.held.extend_from_slice(bytes);
        if self.held.len() + self.event.data.len() > MAX_EVENT { Err(()) } else { Ok(()) }
    }

    /// The next whole event.
    fn next(&mut self) -> Option<Event> {
        loop {
            let end = self.held.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
            // A carriage return may be half of a line's end.
            let both = self.held[end] == b'\r';
            if both && end + 1 == self.held.len() {
                return None;
            }
            let len = end + 1 + usize::from(both && self.held[end + 1] == b'\n');
            let line = String::from_utf8_lossy(&self.held[..end]).into_owned();
            self.held.drain(..len);
            if line.is_empty() {
                let mut event = std::mem::take(&mut self.event);
                event.data.pop();
                if !event.data.is_empty() || !event.name.is_empty() {
                    return Some(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.event.name),
                "data" => {
                    self.event.data.push_str(value);
                    self.event.data.push('\n');
                }
                "id" => self.event.id = Some(value.to_owned()),
                // `retry`, comments, and what is not known.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str, id: Option<&str>) -> Event {
        Event { name: name.into(), data: data.into(), id: id.map(str::to_owned) }
    }

    #[test]
    fn events_are_read_wherever_the_bytes_are_cut() {
        let stream = b": hello\nretry: 10\n\nevent: a\nid: W1\ndata: {\"x\":\ndata:1}\n\n\
            event: b\r\ndata: 2\r\n\r\ndata: 3\n\n";
        let expected =
            [event("a", "{\"x\":\n1}", Some("W1")), event("b", "2", None), event("", "3", None)];
        for size in 1..stream.len() {
            let (mut parser, mut read) = (Parser::default(), Vec::new());
            for chunk in stream.chunks(size) {
                parser.push(chunk).unwrap();
                while let Some(event) = parser.next() {
                    read.push(event);
                }
            }
            assert_eq!(read, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        assert!(parser.push(&vec![b'x'; MAX_EVENT + 1]).is_err());
    }

    /// Over a real connection, in chunks, up to a `close`.
    #[tokio::test]
    async fn a_stream_is_asked_for_and_read() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.unwrap());
            }
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            for part in ["event: a\ndata: {\"x\"", ":1}\nid: W2\n", "\nevent: close\n"] {
                let chunk = format!("{:x}\r\n{part}\r\n", part.len());
                stream.write_all(chunk.as_bytes()).await.unwrap();
            }
            let end = "data: {\"code\":4500}\n\n";
            let end = format!("{:x}\r\n{end}\r\n0\r\n\r\n", end.len());
            stream.write_all(end.as_bytes()).await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        let rooms = ["orders:a".into()];
        let proof = crate::client::wire::Proof::Header("t".into());
        let opening = Opening { addr, proof: &proof, rooms: &rooms, cursor: Some("W1,a.b") };
        let mut sse = Sse::open(&opening).await.unwrap();
        let Came::Frame { json, cursor } = sse.next().await else { panic!("an end") };
        assert_eq!((&*json, cursor.as_deref()), ("{\"x\":1}", Some("W2")));
        let Came::End(Some((code, _))) = sse.next().await else { panic!("no end") };
        assert_eq!(code, 4500);
        let asked = server.await.unwrap();
        assert!(asked.starts_with("GET /events?room=orders%3Aa HTTP/1.1\r\n"), "{asked}");
        for header in ["last-event-id: W1,a.b", "authorization: Bearer t"] {
            assert!(asked.contains(header), "{asked}");
        }
    }
}
