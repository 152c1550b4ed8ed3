//! What a client's messages do to its connection.

use std::ops::ControlFlow;

use bytes::BytesMut;
use fanout::{Close, Session};

use super::{Renewal, Shared};
use crate::auth::Credential;
use crate::codec::encode;
use crate::events::{ClientEvent, Heard, Refused, Sender};
use crate::protocol::{self, BadFrame, BadRoom, ErrorCode, Id, Own, Request};

/// Frames that are none, in a row, before the connection is closed.
const BAD_FRAMES: u8 = 3;

pub(super) fn on_text(
    text: &str,
    session: &mut Session<'_>,
    shared: &Shared,
    renewal: &mut Option<Box<Renewal>>,
    bad_frames: &mut u8,
    heard: &mut Heard,
) -> ControlFlow<()> {
    let taken = protocol::request(text).and_then(|(request, id)| {
        if let Err(after) = session.take_request() {
            let message = format!("too many requests: try again in {} ms", after.as_millis() + 1);
            session.send(protocol::error(id.as_deref(), ErrorCode::RateLimited, &message, None));
            return Ok(());
        }
        match request {
            Request::Event(event) => on_event(event, id, session, shared, heard),
            Request::Own(request) => {
                on_request(request, id, session, shared, renewal);
                Ok(())
            }
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
    super::aborted("bad_frames");
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

pub(super) fn on_close(code: Option<u16>, session: &mut Session<'_>) {
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
