//! A connection over either transport, as whole frames of the native protocol.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::sse::Sse;
use crate::judge::Room;

/// How long connecting and the handshake may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a client's kernel holds: little, so that who does not read is noticed.
const RECEIVE_BUFFER: u32 = 8 << 10;
const READ_BUFFER: usize = 4 << 10;

/// What shows who somebody is, and where.
#[derive(Clone)]
pub(crate) enum Proof {
    Header(String),
    /// Beside the subprotocol, as a browser's page does.
    Subprotocol(String),
    Cookie(String),
    /// In the query; good once.
    Ticket(String),
    /// In the first frame, with cursor and rooms.
    FirstFrame(String),
}

/// What to connect with.
#[derive(Clone)]
pub(crate) struct Opening<'a> {
    pub(crate) addr: SocketAddr,
    pub(crate) proof: &'a Proof,
    /// The rooms beyond its own.
    pub(crate) rooms: &'a [Room],
    pub(crate) cursor: Option<&'a str>,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nobody answered.
    Away,
    /// An HTTP status.
    Status(u16),
}

/// What came.
#[derive(Debug)]
pub(crate) enum Came {
    /// A frame, and over SSE the whole cursor after it.
    Frame { json: String, cursor: Option<String> },
    /// The end, with a close code and reason where there was one.
    End(Option<(u16, String)>),
}

/// An open connection.
pub(crate) enum Wire {
    Ws(Box<WebSocketStream<TcpStream>>),
    Sse(Box<Sse>),
}

pub(crate) async fn connect(addr: SocketAddr) -> Result<TcpStream, Refused> {
    let connect = async {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.connect(addr).await
    };
    match tokio::time::timeout(PATIENCE, connect).await {
        Ok(Ok(stream)) => Ok(stream),
        _ => Err(Refused::Away),
    }
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// `room=..&room=..` with the ticket and, where asked for, the cursor.
pub(super) fn query(opening: &Opening<'_>, cursor: bool) -> String {
    let rooms = opening.rooms.iter().map(|room| format!("room={}", escaped(room)));
    let cursor = opening.cursor.filter(|_| cursor);
    let cursor = cursor.map(|text| format!("cursor={}", escaped(text)));
    let ticket = match opening.proof {
        Proof::Ticket(ticket) => Some(format!("ticket={}", escaped(ticket))),
        _ => None,
    };
    let all: Vec<String> = cursor.into_iter().chain(ticket).chain(rooms).collect();
    all.join("&")
}

/// The header that shows who somebody is, where it is one.
pub(super) fn header(proof: &Proof) -> Option<(&'static str, String)> {
    match proof {
        Proof::Header(token) => Some(("authorization", format!("Bearer {token}"))),
        Proof::Cookie(token) => Some(("cookie", format!("theme=dark; token={token}"))),
        _ => None,
    }
}

/// The first frame of who says by it who he is.
fn first_frame(opening: &Opening<'_>, token: &str) -> String {
    let cursor = opening.cursor;
    let rooms: Vec<&str> = opening.rooms.iter().map(|room| &**room).collect();
    let mut data = json!({"token": token, "rooms": rooms});
    if let Some(cursor) = cursor {
        data["cursor"] = cursor.into();
    }
    json!({"event": "auth", "data": data}).to_string()
}

impl Wire {
    pub(crate) async fn open(opening: &Opening<'_>, sse: bool) -> Result<Self, Refused> {
        let open = async {
            if sse {
                Ok(Self::Sse(Box::new(Sse::open(opening).await?)))
            } else {
                open_ws(opening).await.map(Box::new).map(Self::Ws)
            }
        };
        tokio::time::timeout(PATIENCE, open).await.unwrap_or(Err(Refused::Away))
    }

    /// The next frame.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> Came {
        match self {
            Self::Sse(sse) => sse.next().await,
            Self::Ws(socket) => loop {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Came::Frame { json: text.as_str().to_owned(), cursor: None };
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let close = frame.map(|f| (f.code.into(), f.reason.as_str().to_owned()));
                        return Came::End(close);
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Came::End(None),
                }
            },
        }
    }

    /// Sends a frame; false where that is not possible any more.
    pub(crate) async fn send(&mut self, json: String) -> bool {
        match self {
            Self::Sse(_) => false,
            Self::Ws(socket) => {
                let sent = tokio::time::timeout(PATIENCE, socket.send(Message::text(json)));
                matches!(sent.await, Ok(Ok(())))
            }
        }
    }

    /// Says goodbye, and reads on until the other side has, too: what is on its way is
    /// not taken any more.
    pub(crate) async fn close(mut self) {
        if let Self::Ws(socket) = &mut self {
            let goodbye = async {
                if socket.send(Message::Close(None)).await.is_ok() {
                    while let Some(Ok(_)) = socket.next().await {}
                }
            };
            let _ = tokio::time::timeout(PATIENCE, goodbye).await;
        }
    }
}

async fn open_ws(opening: &Opening<'_>) -> Result<WebSocketStream<TcpStream>, Refused> {
    let stream = connect(opening.addr).await?;
    let url = match opening.proof {
        Proof::FirstFrame(_) => format!("ws://{}/ws", opening.addr),
        _ => format!("ws://{}/ws?{}", opening.addr, query(opening, true)),
    };
    let mut request = url.into_client_request().map_err(|_| Refused::Status(0))?;
    let headers = request.headers_mut();
    if let Some((name, value)) = header(opening.proof) {
        headers.insert(name, value.parse().map_err(|_| Refused::Status(0))?);
    }
    let protocols = match opening.proof {
        Proof::Subprotocol(token) => format!("fanout.v1, bearer.{token}"),
        _ => "fanout.v1".to_owned(),
    };
    let protocols = protocols.parse().map_err(|_| Refused::Status(0))?;
    headers.insert("sec-websocket-protocol", protocols);
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
    match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
        Ok((mut socket, _)) => {
            if let Proof::FirstFrame(token) = opening.proof {
                let first = Message::text(first_frame(opening, token));
                socket.send(first).await.map_err(|_| Refused::Away)?;
            }
            Ok(socket)
        }
        Err(Error::Http(response)) => Err(Refused::Status(response.status().as_u16())),
        Err(_) => Err(Refused::Away),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_and_cursor_are_escaped() {
        let rooms = ["user:a@b".into(), "x".into()];
        let opening = Opening {
            addr: ([127, 0, 0, 1], 1).into(),
            proof: &Proof::Ticket("a b".into()),
            rooms: &rooms,
            cursor: Some("W,a.1+/"),
        };
        let rest = "ticket=a%20b&room=user%3Aa%40b&room=x";
        assert_eq!(query(&opening, true), format!("cursor=W%2Ca%2E1%2B%2F&{rest}"));
        assert_eq!(query(&opening, false), rest);
        let first = first_frame(&opening, "t");
        assert!(first.contains(r#""rooms":["user:a@b","x"]"#), "{first}");
    }
}
