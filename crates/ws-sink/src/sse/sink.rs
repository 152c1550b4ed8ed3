//! One stream of events as a sink of the hub.
//!
//! Nothing is ever read of its client: that it has gone is told by the body, and one that
//! is silent is no worse than another.

use std::io::{self, IoSlice};

use fanout::{Close, Gap, Input, Renewed, Session, Sink};

use super::pipe::Writer;
use super::stream::{self, COMMENT};
use crate::gate::Places;
use crate::protocol;
use crate::sink::{Opening, changed};

/// One stream of events. While it is idle it holds no buffer.
pub(crate) struct SseSink {
    writer: Writer,
    /// What the client came with, until it is in.
    opening: Option<Box<Opening>>,
    _places: Places,
}

impl SseSink {
    pub(crate) fn new(writer: Writer, opening: Opening, places: Places) -> Self {
        Self { writer, opening: Some(Box::new(opening)), _places: places }
    }
}

impl Sink for SseSink {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writer.try_write(slices)
    }

    fn try_read(&mut self, _: &mut Session<'_>, _: &mut [u8]) -> io::Result<Input> {
        Ok(if self.writer.is_gone() { Input::Closed } else { Input::Blocked })
    }

    fn opened(&mut self, session: &mut Session<'_>) {
        self.writer.set_waker(session.waker());
        let (welcome, errors, cursor) = self.opening.take().unwrap_or_default().enter(session);
        session.send(stream::event(&welcome, cursor.as_ref()));
        for error in errors {
            session.send(stream::event(&error, None));
        }
    }

    fn heartbeat(&mut self, session: &mut Session<'_>) {
        if let Some(cursor) = session.cursor().filter(|_| session.is_live()) {
            session.send(stream::event(&protocol::heartbeat(&cursor), Some(&cursor)));
        } else if !session.congested() {
            session.send(bytes::Bytes::from_static(COMMENT));
        }
    }

    fn gap(&mut self, session: &mut Session<'_>, gap: &Gap) {
        let cursor = session.cursor();
        let gap = protocol::gap(gap.reason.name(), &gap.rooms);
        session.send(stream::event(&gap, cursor.as_ref()));
    }

    fn renewed(&mut self, session: &mut Session<'_>, renewed: &Renewed) {
        for said in changed(session, None, renewed) {
            session.send(stream::event(&said, None));
        }
    }

    fn closing(&mut self, session: &mut Session<'_>, close: &Close) {
        session.send(stream::close(close));
        // Nobody will answer.
        session.finish();
    }
}

impl Drop for SseSink {
    fn drop(&mut self) {
        if self.opening.is_some() {
            // The hub did not take it.
            self.writer.push(&stream::close(&Close::ServerError));
        }
    }
}
