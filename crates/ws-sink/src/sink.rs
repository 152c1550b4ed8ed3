//! One WebSocket as a sink of the hub.

use std::io::{self, ErrorKind, IoSlice};
use std::ops::ControlFlow;
#[cfg(unix)]
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use fanout::{Close, Cursor, Gap, Identity, Input, RenewError, Room, Session, Sink};
use futures::future::BoxFuture;

use crate::auth::{AuthError, Authenticator, Credential};
use crate::close::Row;
use crate::codec::{Decoder, Limits, Message, encode};
use crate::events::{ClientEvent, ClientEvents, Handed, Heard, Refused, Sender};
use crate::protocol::{self, BadFrame, BadRoom, ErrorCode, Id, Own, Request, Said, Welcome};
use crate::socket::Socket;

/// Frames that are none, in a row, before the connection is closed.
const BAD_FRAMES: u8 = 3;

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
}

struct Goodbye {
    code: Option<u16>,
}

struct Renewal {
    id: Id,
    identity: BoxFuture<'static, Result<Identity, AuthError>>,
}

impl<S: Socket> WsSink<S> {
    pub(crate) fn new(socket: S, decoder: Decoder, shared: Arc<Shared>, opening: Opening) -> Self {
        let opening = Some(Box::new(opening));
        Self {
            socket,
            decoder,
            shared,
            opening,
            renewal: None,
            handed: None,
            goodbye: None,
            bad_frames: 0,
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
        let Self { decoder, shared, renewal, goodbye, bad_frames, .. } = self;
        let mut messages = decoder.feed(input, &shared.limits);
        loop {
            // What is left stays in the decoder.
            if renewal.is_some() || heard.is_full() || session.congested() {
                return;
            }
            let message = match messages.next_message() {
                Ok(Some(message)) => message,
                Ok(None) => return,
                Err(error) => return session.close(error.into()),
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
                    for room in &renewed.left {
                        session.send(protocol::in_room("unsubscribed", None, room));
                    }
                    let (identity, rooms) = (session.identity().clone(), session.rooms());
                    session.send(protocol::authenticated(id, &identity, &rooms));
                }
                Err(error @ RenewError::OtherSubject) => refuse(session, &error.to_string()),
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

fn on_text(
    text: &str,
    session: &mut Session<'_>,
    shared: &Shared,
    renewal: &mut Option<Box<Renewal>>,
    bad_frames: &mut u8,
    heard: &mut Heard,
) -> ControlFlow<()> {
    let taken = protocol::request(text).and_then(|(request, id)| match request {
        Request::Event(event) => on_event(event, id, session, shared, heard),
        Request::Own(request) => {
            on_request(request, id, session, shared, renewal);
            Ok(())
        }
    });
    let Err(BadFrame { id, message }) = taken else {
        *bad_frames = 0;
        return ControlFlow::Continue(());
    };
    metrics::counter!("fanout_ws_bad_frames_total").increment(1);
    session.send(protocol::error(id.as_deref(), ErrorCode::BadFrame, message, None));
    *bad_frames += 1;
    if *bad_frames < BAD_FRAMES {
        return ControlFlow::Continue(());
    }
    session.close(Close::Protocol);
    ControlFlow::Break(())
}

/// An event of the application's, to be handed over with the others.
fn on_event(
    event: Result<ClientEvent, BadRoom>,
    id: Id,
    session: &mut Session<'_>,
    shared: &Shared,
    heard: &mut Heard,
) -> Result<(), BadFrame> {
    let Some(events) = &shared.events else {
        return Err(BadFrame { id, message: "unknown event" });
    };
    let event = match event {
        Ok(event) => event,
        Err(bad) => {
            session.send(protocol::error(id.as_deref(), ErrorCode::BadRoom, &bad.0, None));
            return Ok(());
        }
    };
    let from = Sender { connection: session.connection(), identity: session.identity() };
    let (code, message) = match events.check(from, &event) {
        Ok(()) => {
            heard.events.push(event);
            heard.ids.extend(id);
            return Ok(());
        }
        Err(Refused::Unknown) => return Err(BadFrame { id, message: "unknown event" }),
        Err(Refused::Malformed(message)) => return Err(BadFrame { id, message }),
        Err(Refused::BadRoom(message)) => (ErrorCode::BadRoom, message.to_owned()),
        Err(refused @ Refused::Forbidden) => (ErrorCode::Forbidden, refused.to_string()),
        Err(refused @ Refused::RateLimited) => (ErrorCode::RateLimited, refused.to_string()),
    };
    session.send(protocol::error(id.as_deref(), code, &message, event.room.as_ref()));
    Ok(())
}

fn on_request(
    request: Own,
    id: Id,
    session: &mut Session<'_>,
    shared: &Shared,
    renewal: &mut Option<Box<Renewal>>,
) {
    let answer_id = id.as_deref();
    match request {
        Own::Subscribe(Err(bad)) | Own::Unsubscribe(Err(bad)) => {
            session.send(protocol::error(answer_id, ErrorCode::BadRoom, &bad.0, None));
        }
        Own::Subscribe(Ok(room)) => {
            let answer = match session.join(&room) {
                Ok(_) => protocol::in_room("subscribed", answer_id, &room),
                Err(error) => protocol::not_joined(answer_id, error, &room),
            };
            session.send(answer);
        }
        Own::Unsubscribe(Ok(room)) => {
            let answer = match session.leave(&room) {
                Ok(_) => protocol::in_room("unsubscribed", answer_id, &room),
                Err(error) => {
                    protocol::error(answer_id, ErrorCode::BadRoom, &error.to_string(), Some(&room))
                }
            };
            session.send(answer);
        }
        Own::Auth(None) => {
            let message = "`data.token` is missing or not a string";
            session.send(protocol::error(answer_id, ErrorCode::BadToken, message, None));
        }
        Own::Auth(Some(auth)) => {
            let authenticator = shared.authenticator.clone();
            let identity = Box::pin(async move {
                let credential = Credential::Bearer(&auth.token).checked()?;
                authenticator.authenticate(credential).await
            });
            *renewal = Some(Box::new(Renewal { id, identity }));
        }
    }
}

fn on_close(code: Option<u16>, session: &mut Session<'_>) {
    if !session.is_closing() {
        // RFC 6455, 5.5.1: answered with the same code.
        let mut echo = BytesMut::new();
        let echoed = encode::close(&mut echo, code.map(|code| (code, "")));
        session.send(match echoed {
            Ok(()) => echo.freeze(),
            Err(_) => bytes::Bytes::from_static(&encode::EMPTY_CLOSE),
        });
    }
    session.finish();
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
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Input::Blocked),
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

    fn closing(&mut self, session: &mut Session<'_>, close: &Close) {
        session.send(Row::of(close).frame());
    }

    #[cfg(unix)]
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.fd()
    }
}
