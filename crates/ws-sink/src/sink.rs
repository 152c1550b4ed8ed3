//! One WebSocket as a sink of the hub.

mod requests;

use std::io::{self, ErrorKind, IoSlice};
use std::ops::ControlFlow;
#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use fanout::{Close, Cursor, Gap, Identity, Input, RenewError, Renewed, Room, Session, Sink};
use futures::future::BoxFuture;
use serde_json::value::RawValue;

use crate::admission::nanos;
use crate::admission::rate::{Rate, Used};
use crate::auth::{AuthError, Authenticator};
use crate::close::Row;
use crate::codec::{Decoder, Limits, Message, Messages, encode};
use crate::events::{ClientEvents, Handed, Heard, Sender};
use crate::gate::Places;
use crate::protocol::{self, ErrorCode, Id, Said, Welcome};
use crate::socket::Socket;
use requests::{on_close, on_text};

/// What a client came with.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    /// Of the first frame, where that was an `auth`.
    pub(crate) id: Id,
    pub(crate) cursor: Option<String>,
    pub(crate) rooms: Vec<Room>,
}

impl Opening {
    /// Joins the rooms, and goes on from the cursor. What is to be said then: the welcome,
    /// and which rooms were not joined; with the cursor that the connection has.
    pub(crate) fn enter(self, session: &mut Session<'_>) -> (Said, Vec<Said>, Option<Cursor>) {
        let mut errors = Vec::new();
        for room in &self.rooms {
            if let Err(error) = session.join(room) {
                errors.push(protocol::not_joined(None, error, room));
            }
        }
        let recovered = self.cursor.map(|cursor| session.resume(&cursor));
        let (cursor, rooms) = (session.cursor(), session.rooms());
        let identity = session.identity();
        let welcome = Welcome {
            connection: session.connection().to_string(),
            subject: &identity.subject,
            roles: protocol::roles(identity),
            rooms: rooms.iter().map(Room::as_str).collect(),
            cursor: cursor.as_ref().map(Cursor::as_str),
            recovered,
            heartbeat_ms: session.heartbeat_interval().as_millis() as u64,
        };
        // Where a gap follows, it is the gap that has the cursor: who is cut off in between
        // has to be told again.
        let taken_over = cursor.clone().filter(|_| recovered != Some(false));
        (protocol::welcome(self.id.as_deref(), &welcome), errors, taken_over)
    }
}

/// What all connections of one [`Ws`](crate::Ws) share.
pub(crate) struct Shared {
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) limits: Limits,
    pub(crate) events: Option<Box<dyn ClientEvents>>,
    pub(crate) pace: Pace,
}

/// How fast a client has to be, and how fast it may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) frames: Rate,
    pub(crate) message_timeout: Duration,
    /// When one that was too fast may come back.
    pub(crate) retry_after: Duration,
    /// What times are counted from.
    pub(crate) start: Instant,
}

impl Pace {
    /// Counts the frames that have come, or else says why the connection ends.
    pub(crate) fn frames(
        &self,
        messages: &mut Messages<'_>,
        used: &mut Used,
        now: Instant,
    ) -> Result<(), Close> {
        let frames = messages.take_frames();
        let now = nanos(now.saturating_duration_since(self.start));
        if frames == 0 || used.take(frames, self.frames, now).is_ok() {
            return Ok(());
        }
        aborted("frames");
        Err(Close::RateLimited { after: self.retry_after })
    }
}

/// Counts a connection that was ended for what its client did.
pub(crate) fn aborted(reason: &'static str) {
    metrics::counter!("fanout_ws_aborted_total", "reason" => reason).increment(1);
}

/// One WebSocket. While it is idle it holds no buffer.
pub(crate) struct WsSink<S> {
    socket: S,
    decoder: Decoder,
    shared: Arc<Shared>,
    opening: Option<Box<Opening>>,
    /// A new token that is being checked; nothing is read meanwhile.
    renewal: Option<Box<Renewal>>,
    /// Events that the application is taking; nothing is read meanwhile.
    handed: Option<Box<Handed>>,
    /// The peer's goodbye, with its code, that waits for them.
    goodbye: Option<Goodbye>,
    bad_frames: u8,
    /// Of the frames that it may send.
    frames: Used,
    _places: Places,
}

/// A client that has said who it is, on its way into the hub.
pub(crate) struct Newcomer {
    pub(crate) decoder: Decoder,
    pub(crate) frames: Used,
    pub(crate) opening: Opening,
    pub(crate) places: Places,
}

struct Goodbye {
    code: Option<u16>,
}

struct Renewal {
    id: Id,
    identity: BoxFuture<'static, Result<Identity, AuthError>>,
}

impl<S: Socket> WsSink<S> {
    pub(crate) fn new(socket: S, shared: Arc<Shared>, newcomer: Newcomer) -> Self {
        let Newcomer { decoder, frames, opening, places } = newcomer;
        Self {
            socket,
            decoder,
            shared,
            opening: Some(Box::new(opening)),
            renewal: None,
            handed: None,
            goodbye: None,
            bad_frames: 0,
            frames,
            _places: places,
        }
    }

    /// Takes the messages in what was read, until one asks for time, and hands the
    /// application's events over together.
    fn take(&mut self, session: &mut Session<'_>, input: &mut [u8]) {
        let mut heard = Heard::default();
        self.take_messages(session, input, &mut heard);
        if let Some(events) = &self.shared.events {
            let from = Sender { connection: session.connection(), identity: session.identity() };
            self.handed = heard.hand(&**events, from);
        }
    }

    fn take_messages(&mut self, session: &mut Session<'_>, input: &mut [u8], heard: &mut Heard) {
        let Self { decoder, shared, renewal, goodbye, bad_frames, frames, .. } = self;
        let mut messages = decoder.feed(input, &shared.limits);
        loop {
            if let Err(close) = shared.pace.frames(&mut messages, frames, session.now()) {
                return session.close(close);
            }
            // What is left stays in the decoder.
            if renewal.is_some() || heard.is_full() || session.congested() {
                return;
            }
            let message = match messages.next_message() {
                Ok(Some(message)) => message,
                Ok(None) => {
                    if let Err(close) = shared.pace.frames(&mut messages, frames, session.now()) {
                        session.close(close);
                    }
                    return;
                }
                Err(error) => {
                    aborted("codec");
                    return session.close(error.into());
                }
            };
            let flow = match message {
                Message::Text(_) | Message::Binary(_) | Message::Ping(_)
                    if session.is_closing() =>
                {
                    ControlFlow::Continue(())
                }
                Message::Text(text) => on_text(text, session, shared, renewal, bad_frames, heard),
                Message::Ping(payload) => {
                    let mut pong = BytesMut::new();
                    encode::pong(&mut pong, payload).expect("a ping's payload fits a pong");
                    session.send(pong.freeze());
                    ControlFlow::Continue(())
                }
                Message::Close(why) => {
                    // Answered once what came before it is taken.
                    *goodbye = Some(Goodbye { code: why.map(|(code, _)| code) });
                    ControlFlow::Break(())
                }
                // The native protocol has no binary messages: the decoder refuses them.
                Message::Pong(_) | Message::Binary(_) => ControlFlow::Continue(()),
            };
            if flow.is_break() {
                return;
            }
        }
    }

    /// Ends a connection whose client has left a message incomplete for too long. To be
    /// asked when all was read that has come.
    fn expect_rest(&mut self, session: &mut Session<'_>) {
        let (now, timeout) = (session.now(), self.shared.pace.message_timeout);
        let since = self.decoder.incomplete_since(now);
        if since.is_some_and(|since| now.saturating_duration_since(since) >= timeout) {
            aborted("message_timeout");
            session.close(Close::GoingAway);
        }
    }

    /// Goes on with what asked for time; false while any of it is still being done.
    fn go_on(&mut self, session: &mut Session<'_>) -> bool {
        if !(self.hand_on(session) && self.renew(session)) {
            return false;
        }
        if let Some(Goodbye { code }) = self.goodbye.take() {
            on_close(code, session);
        }
        true
    }

    /// Goes on with events that were handed over; false while they are being taken.
    fn hand_on(&mut self, session: &mut Session<'_>) -> bool {
        let Some(handed) = &mut self.handed else { return true };
        let Poll::Ready(taken) = handed.poll(&session.waker()) else { return false };
        self.handed = None;
        match taken {
            Ok(ids) => ids.iter().for_each(|id| session.send(protocol::accepted(id))),
            Err(close) => session.close(close),
        }
        true
    }

    /// Goes on with a new token; false while it is still being checked.
    fn renew(&mut self, session: &mut Session<'_>) -> bool {
        let Some(renewal) = &mut self.renewal else { return true };
        let waker = session.waker();
        let Poll::Ready(identity) =
            renewal.identity.as_mut().poll(&mut Context::from_waker(&waker))
        else {
            return false;
        };
        let id = self.renewal.take().and_then(|renewal| renewal.id);
        let id = id.as_deref();
        let refuse = |session: &mut Session<'_>, message: &str| {
            session.send(protocol::error(id, ErrorCode::BadToken, message, None));
        };
        match identity {
            Err(error @ AuthError::Unavailable(_)) => {
                tracing::warn!(%error, source = ?std::error::Error::source(&error), "token not checked");
                refuse(session, "the token cannot be checked now; try again");
            }
            Err(error) => refuse(session, &error.to_string()),
            Ok(identity) => match session.renew(identity) {
                Ok(renewed) => {
                    for said in changed(session, id, &renewed) {
                        session.send(said);
                    }
                }
                Err(
                    error @ (RenewError::OtherSubject | RenewError::Revoked | RenewError::Outdated),
                ) => refuse(session, &error.to_string()),
                Err(error) => {
                    session.send(protocol::error(
                        id,
                        ErrorCode::Forbidden,
                        &error.to_string(),
                        None,
                    ));
                }
            },
        }
        true
    }
}

/// What is said of another identity: which rooms it was taken out of, then who it is now.
pub(crate) fn changed(
    session: &Session<'_>,
    id: Option<&RawValue>,
    renewed: &Renewed,
) -> Vec<Said> {
    let left = renewed.left.iter();
    let mut said: Vec<_> = left.map(|room| protocol::in_room("unsubscribed", None, room)).collect();
    said.push(protocol::authenticated(id, session.identity(), &session.rooms()));
    said
}

impl<S: Socket> Sink for WsSink<S> {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.try_write(slices)
    }

    fn try_read(&mut self, session: &mut Session<'_>, scratch: &mut [u8]) -> io::Result<Input> {
        if !self.go_on(session) {
            return Ok(Input::Blocked);
        }
        if self.decoder.unread() > 0 {
            self.take(session, &mut []);
        } else {
            match self.socket.try_read(scratch) {
                Ok(0) => return Ok(Input::Closed),
                Ok(read) => self.take(session, &mut scratch[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.expect_rest(session);
                    return Ok(Input::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(if self.go_on(session) { Input::More } else { Input::Blocked })
    }

    fn opened(&mut self, session: &mut Session<'_>) {
        self.socket.set_waker(|| session.waker());
        let (welcome, errors, _) = self.opening.take().unwrap_or_default().enter(session);
        session.send(welcome);
        for error in errors {
            session.send(error);
        }
    }

    fn heartbeat(&mut self, session: &mut Session<'_>) {
        if session.silent_for() >= 2 * session.heartbeat_interval() {
            return session.close(Close::GoingAway);
        }
        if !session.congested() && self.renewal.is_none() && self.handed.is_none() {
            self.expect_rest(session);
        }
        if let Some(cursor) = session.cursor().filter(|_| session.is_live()) {
            session.send(protocol::heartbeat(&cursor));
        }
        if !session.congested() {
            let mut ping = BytesMut::new();
            encode::ping(&mut ping, b"").expect("nothing fits");
            session.send(ping.freeze());
        }
    }

    fn gap(&mut self, session: &mut Session<'_>, gap: &Gap) {
        session.send(protocol::gap(gap.reason.name(), &gap.rooms));
    }

    fn renewed(&mut self, session: &mut Session<'_>, renewed: &Renewed) {
        for said in changed(session, None, renewed) {
            session.send(said);
        }
    }

    fn closing(&mut self, session: &mut Session<'_>, close: &Close) {
        session.send(Row::of(close).frame());
    }

    #[cfg(unix)]
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.fd()
    }
}
