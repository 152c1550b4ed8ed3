//! A WebSocket client that reads whole frames, with a deadline.

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::{Client, DEADLINE};

/// An open WebSocket.
pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Connects with the client's headers and this path.
    pub(crate) async fn open(client: &Client, path: &str) -> Self {
        let mut request = format!("ws://{}{path}", client.addr).into_client_request().unwrap();
        for (name, value) in &client.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let stream = TcpStream::connect(client.addr).await.unwrap();
        Self(tokio_tungstenite::client_async(request, stream).await.unwrap().0)
    }

    /// Connects and is welcome.
    pub(crate) async fn welcome(client: &Client) -> (Self, Value) {
        let mut socket = Self::open(client, "/ws").await;
        let welcome = socket.next().await;
        assert_eq!(welcome["event"], "welcome", "{welcome}");
        (socket, welcome["data"].clone())
    }

    async fn message(&mut self) -> Message {
        loop {
            let message = tokio::time::timeout(DEADLINE, self.0.next()).await;
            let message = message.expect("a frame in time").expect("still open").unwrap();
            if matches!(message, Message::Text(_) | Message::Close(_)) {
                return message;
            }
        }
    }

    /// The next frame that is no heartbeat.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let message = self.message().await;
            let Message::Text(text) = message else { panic!("{message:?}") };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["event"] != "heartbeat" {
                return frame;
            }
        }
    }

    /// The data of the next frame, which must be this event.
    pub(crate) async fn expect(&mut self, event: &str) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["event"], event, "{frame}");
        frame["data"].clone()
    }

    /// The code with which the server closes.
    pub(crate) async fn closed(&mut self) -> u16 {
        match self.message().await {
            Message::Close(Some(close)) => close.code.into(),
            other => panic!("{other:?}"),
        }
    }

    /// The same, whatever was said before.
    pub(crate) async fn closed_at_last(&mut self) -> u16 {
        loop {
            if let Message::Close(Some(close)) = self.message().await {
                return close.code.into();
            }
        }
    }

    /// Whether the first that comes is a welcome.
    pub(crate) async fn is_welcome(&mut self) -> bool {
        matches!(self.message().await, Message::Text(text) if text.contains("\"welcome\""))
    }

    /// Sends, and says whether it is still open.
    pub(crate) async fn try_send(&mut self, text: &str) -> bool {
        self.0.send(Message::text(text)).await.is_ok()
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// Asks for a room and returns the answer.
    pub(crate) async fn subscribe(&mut self, room: &str) -> Value {
        let frame = json!({"event": "subscribe", "id": room, "data": {"room": room}});
        self.send(&frame.to_string()).await;
        let answer = self.next().await;
        assert_eq!(answer["id"], room, "{answer}");
        answer
    }
}
