//! The first frame, of a client that has not said who it is yet.
//!
//! Nobody vouches for it: it has as much time as [`WsConfig::auth_timeout`] gives, one message,
//! and no more pings than any client.
//!
//! [`WsConfig::auth_timeout`]: crate::WsConfig::auth_timeout

use std::time::Instant;

use bytes::BytesMut;
use fanout::{Close, Room};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::admission::rate::Used;
use crate::close::Row;
use crate::codec::{Decoder, Message, encode};
use crate::handshake::{MAX_ROOMS, Query};
use crate::protocol::{self, Own, Request};
use crate::sink::{Opening, Shared};

/// What reads it.
pub(super) struct FirstFrame<'a, I> {
    pub(super) io: &'a mut I,
    pub(super) decoder: &'a mut Decoder,
    pub(super) frames: &'a mut Used,
    pub(super) shared: &'a Shared,
}

impl<I: AsyncRead + AsyncWrite + Unpin> FirstFrame<'_, I> {
    /// The token in it, and what the client came with. `Err(None)` where it has gone.
    pub(super) async fn read(mut self, query: Query) -> Result<(String, Opening), Option<Close>> {
        let (auth, id) = loop {
            if let Some(auth) = self.next().await? {
                break auth;
            }
        };
        let mut opening = Opening { id, cursor: query.cursor, rooms: query.rooms };
        opening.cursor = auth.cursor.or(opening.cursor);
        for room in &auth.rooms {
            let Ok(room) = Room::new(room) else { return Err(Some(Close::Protocol)) };
            if !opening.rooms.contains(&room) {
                opening.rooms.push(room);
            }
        }
        if opening.rooms.len() > MAX_ROOMS {
            return Err(Some(Close::Protocol));
        }
        Ok((auth.token, opening))
    }

    /// Reads until there is an `auth` frame; `None` where more has to be read.
    async fn next(&mut self) -> Result<Option<(protocol::Auth, protocol::Id)>, Option<Close>> {
        let mut buffer = vec![0; 4096];
        let read = if self.decoder.unread() > 0 {
            0
        } else {
            match self.io.read(&mut buffer).await {
                Ok(0) | Err(_) => return Err(None),
                Ok(read) => read,
            }
        };
        let mut pongs = BytesMut::new();
        let found = self.take(&mut buffer[..read], &mut pongs).map_err(Some)?;
        if !pongs.is_empty() && self.io.write_all(&pongs).await.is_err() {
            return Err(None);
        }
        Ok(found)
    }

    fn take(
        &mut self,
        input: &mut [u8],
        pongs: &mut BytesMut,
    ) -> Result<Option<(protocol::Auth, protocol::Id)>, Close> {
        let pace = &self.shared.pace;
        let mut messages = self.decoder.feed(input, &self.shared.limits);
        let now = Instant::now();
        loop {
            pace.frames(&mut messages, self.frames, now)?;
            match messages.next_message()? {
                None => {
                    pace.frames(&mut messages, self.frames, now)?;
                    return Ok(None);
                }
                Some(Message::Text(text)) => {
                    return match protocol::request(text) {
                        Ok((Request::Own(Own::Auth(Some(auth))), id)) => Ok(Some((auth, id))),
                        _ => Err(Close::Unauthenticated),
                    };
                }
                Some(Message::Ping(payload)) => {
                    encode::pong(pongs, payload).expect("a ping's payload fits a pong");
                }
                Some(Message::Close(_)) => return Err(Close::Normal),
                Some(_) => {}
            }
        }
    }
}

/// Says why, and waits until the client has heard it: closing a socket that has
/// unread bytes would throw away what was sent.
pub(super) async fn refuse<I: AsyncRead + AsyncWrite + Unpin>(io: &mut I, close: &Close) {
    if io.write_all(&Row::of(close).frame()).await.is_err() || io.shutdown().await.is_err() {
        return;
    }
    let mut rest = vec![0; 4096];
    while matches!(io.read(&mut rest).await, Ok(read) if read > 0) {}
}
