//! A client that sends the bytes that it is told to, and reads what comes back.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::support::DEADLINE;
use crate::wire::{Place, Stream};

/// What a header of an upgrade needs, beside `Host` and what is being tried.
pub(crate) const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A connection, and what was read of it and not looked at yet. Once dropped it is gone
/// without a word, TLS's own included.
pub(crate) struct Raw {
    incoming: ReadHalf<Box<dyn Stream>>,
    /// Until there is no more to be sent.
    outgoing: Option<WriteHalf<Box<dyn Stream>>>,
    addr: Place,
    read: Vec<u8>,
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Status line and headers, as they came.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// How the server closed: code and name, or an end without a word.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// With a code and the name in the reason.
    With(u16, String),
    /// A close frame without a code.
    Bare,
    /// The connection ended without a close frame.
    Cut,
}

impl Response {
    /// The value of a header, empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The status, and the code in the body.
    pub(crate) fn code(&self) -> (u16, String) {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        (self.status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Raw {
    pub(crate) async fn open(addr: Place) -> Self {
        Self::open_from(addr, Ipv4Addr::LOCALHOST).await
    }

    /// From another address of this machine.
    pub(crate) async fn open_from(addr: Place, from: Ipv4Addr) -> Self {
        Self::try_open(addr, from, None).await.unwrap()
    }

    /// With little room for what is not read.
    pub(crate) async fn open_narrow(addr: Place) -> Self {
        Self::try_open(addr, Ipv4Addr::LOCALHOST, Some(16 * 1024)).await.unwrap()
    }

    pub(crate) async fn try_open(
        addr: Place,
        from: Ipv4Addr,
        receive: Option<u32>,
    ) -> io::Result<Self> {
        let connecting = tokio::time::timeout(DEADLINE, addr.connect(from, receive)).await;
        let (incoming, outgoing) = tokio::io::split(connecting.expect("in time")?);
        Ok(Self { incoming, outgoing: Some(outgoing), addr, read: Vec::new() })
    }

    /// Sends it; false where the server is gone, or does not take it in time.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let Some(outgoing) = &mut self.outgoing else { return false };
        let sent = outgoing.write_all(bytes.as_ref());
        matches!(tokio::time::timeout(DEADLINE, sent).await, Ok(Ok(())))
    }

    /// Sends what the kernel takes now; `None` where it takes nothing, or the server is gone.
    pub(crate) fn send_now(&mut self, bytes: &[u8]) -> Option<usize> {
        self.outgoing.as_mut()?.write(bytes).now_or_never()?.ok()
    }

    /// Sends the end of what there is to be sent, and still reads.
    pub(crate) fn half_close(&mut self) {
        if let Some(mut outgoing) = self.outgoing.take() {
            let _ = outgoing.shutdown().now_or_never();
        }
    }

    /// Sends this over and over, reading all the while, until the server closes.
    pub(crate) async fn floods(&mut self, bytes: &[u8]) -> Closed {
        let mut outgoing = self.outgoing.take().expect("not closed yet");
        let many = bytes.repeat(100);
        let flood = async {
            while outgoing.write_all(&many).await.is_ok() {}
            std::future::pending().await
        };
        let closed = tokio::select! {
            closed = self.close_frame() => closed,
            never = flood => never,
            () = tokio::time::sleep(DEADLINE) => panic!("still taken"),
        };
        self.outgoing = Some(outgoing);
        self.half_close();
        self.rest().await;
        closed
    }

    /// Says a little more, again and again, until the server says something or ends it.
    pub(crate) async fn dribbles(&mut self, bytes: impl AsRef<[u8]>) {
        let deadline = Instant::now() + DEADLINE;
        while !self.has_something() && self.send(&bytes).await {
            assert!(Instant::now() < deadline, "still waited for");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Reads more; false at the end, be it a reset.
    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 16 * 1024];
        let read = tokio::time::timeout(DEADLINE, self.incoming.read(&mut buffer)).await;
        let read = read.unwrap_or_else(|_| panic!("nothing came in time, after {:?}", self.tail()));
        let read = read.unwrap_or(0);
        self.read.extend_from_slice(&buffer[..read]);
        read > 0
    }

    /// The end of what was read, for a person.
    fn tail(&self) -> String {
        let at = self.read.len().saturating_sub(200);
        String::from_utf8_lossy(&self.read[at..]).into_owned()
    }

    /// Reads until there are so many bytes; `None` where the server ended it before.
    async fn fill(&mut self, len: usize) -> Option<&[u8]> {
        while self.read.len() < len {
            if !self.more().await {
                return None;
            }
        }
        Some(&self.read[..len])
    }

    /// The first `len` bytes; `None` where the server ended it before.
    async fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        self.fill(len).await?;
        Some(self.read.drain(..len).collect())
    }

    /// What comes before this mark, which is passed over.
    async fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        let mut from = 0;
        loop {
            let found = self.read[from..].windows(mark.len()).position(|bytes| bytes == mark);
            if let Some(at) = found {
                let mut taken: Vec<u8> = self.read.drain(..from + at + mark.len()).collect();
                taken.truncate(from + at);
                return Some(taken);
            }
            from = self.read.len().saturating_sub(mark.len() - 1);
            if !self.more().await {
                return None;
            }
        }
    }

    /// The head of the next answer; `None` where there is none.
    pub(crate) async fn head(&mut self) -> Option<Response> {
        let head = String::from_utf8(self.until(b"\r\n\r\n").await?).unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status: {head}"));
        Some(Response { status, head, body: Vec::new() })
    }

    /// The next answer, whose body has a length; `None` where there is none.
    pub(crate) async fn response(&mut self) -> Option<Response> {
        let mut response = self.head().await?;
        let length = response.header("content-length").parse().unwrap_or(0);
        response.body = self.take(length).await?;
        Some(response)
    }

    /// The next piece of a chunked body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.until(b"\r\n").await?;
        let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap(), 16).unwrap();
        let chunk = self.take(size).await?;
        self.until(b"\r\n").await?;
        (size > 0).then_some(chunk)
    }

    /// All that still comes of a chunked body.
    pub(crate) async fn stream_to_its_end(&mut self) -> String {
        let mut text = Vec::new();
        while let Some(chunk) = self.chunk().await {
            text.extend(chunk);
        }
        String::from_utf8(text).unwrap()
    }

    /// Whether the server has said something, or ended it; does not wait.
    pub(crate) fn has_something(&mut self) -> bool {
        let mut buffer = vec![0; 16 * 1024];
        let Some(read) = self.incoming.read(&mut buffer).now_or_never() else { return false };
        self.read.extend_from_slice(&buffer[..read.unwrap_or(0)]);
        true
    }

    /// What still comes until the server ends the connection, which it must.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }

    /// Sends a request's first lines, the host and these headers, and nothing after them.
    pub(crate) async fn request(&mut self, line: &str, headers: &str) -> bool {
        let host = self.addr;
        self.send(format!("{line} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n")).await
    }

    /// Asks for something, and gets an answer whose body has a length.
    pub(crate) async fn ask(&mut self, line: &str, headers: &str, body: &str) -> Response {
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let host = self.addr;
        let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{length}{headers}\r\n{body}");
        self.send(head).await;
        self.response().await.unwrap_or_else(|| panic!("no answer to {line}"))
    }

    /// Asks for an upgrade; what it is answered with.
    pub(crate) async fn upgrade(&mut self, path: &str, headers: &str) -> Response {
        self.request(&format!("GET {path}"), &format!("{UPGRADE}{headers}")).await;
        let mut response = self.head().await.expect("an answer to the upgrade");
        if response.status != 101 {
            let length = response.header("content-length").parse().unwrap_or(0);
            response.body = self.take(length).await.unwrap_or_default();
        }
        response
    }

    /// The next frame; `None` where the server ended it. Nothing is lost where it is no
    /// longer waited for.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        let head = self.fill(2).await?;
        assert_eq!(head[0] & 0xf0, 0x80, "whole, and without reserved bits");
        assert_eq!(head[1] & 0x80, 0, "not masked");
        let (start, length) = match head[1] {
            126 => (4, u16::from_be_bytes(self.fill(4).await?[2..].try_into().unwrap()).into()),
            127 => (10, u64::from_be_bytes(self.fill(10).await?[2..].try_into().unwrap())),
            short => (2, short.into()),
        };
        let mut bytes = self.take(start + usize::try_from(length).unwrap()).await?;
        let opcode = bytes[0] & 0x0f;
        Some(Frame { opcode, payload: bytes.split_off(start) })
    }

    /// The next text that is no heartbeat, as an object.
    pub(crate) async fn text(&mut self) -> Value {
        loop {
            let frame = self.frame().await.expect("still open");
            match frame.opcode {
                1 => {
                    let object: Value = serde_json::from_slice(&frame.payload).unwrap();
                    if object["event"] != "heartbeat" {
                        return object;
                    }
                }
                8 => panic!("closed: {:?}", closed_by(&frame.payload)),
                _ => {}
            }
        }
    }

    /// How the server closes, whatever it says before; then it ends the connection.
    pub(crate) async fn closed(&mut self) -> Closed {
        // In all: a heartbeat now and then is no goodbye.
        let closed = tokio::time::timeout(DEADLINE, self.close_frame()).await;
        let closed = closed.expect("closed in time");
        self.half_close();
        self.rest().await;
        closed
    }

    async fn close_frame(&mut self) -> Closed {
        loop {
            match self.frame().await {
                Some(Frame { opcode: 8, payload }) => return closed_by(&payload),
                Some(_) => {}
                None => return Closed::Cut,
            }
        }
    }
}

fn closed_by(payload: &[u8]) -> Closed {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else { return Closed::Bare };
    let reason: Value = serde_json::from_slice(reason).unwrap_or_default();
    let name = reason["name"].as_str().unwrap_or_default();
    Closed::With(u16::from_be_bytes(*code), name.to_owned())
}

/// A frame as clients send it, masked with a mask that changes it.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 + len as u8),
        len @ 126..65_536 => {
            bytes.push(0x80 + 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 + 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A whole text.
pub(crate) fn text(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}

/// The rooms that a welcome names, sorted.
pub(crate) fn rooms_of(welcome: &Value) -> Vec<&str> {
    let rooms = welcome["rooms"].as_array().expect("a list of rooms");
    let mut rooms: Vec<_> = rooms.iter().filter_map(Value::as_str).collect();
    rooms.sort_unstable();
    rooms
}
