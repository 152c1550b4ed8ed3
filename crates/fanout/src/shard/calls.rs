//! Calling a connection's sink, and what it may ask about its place.

use super::Shard;
use crate::connection::Flow;
use crate::position::{Cursor, Frontier, Position};
use crate::session::{Ending, Session};
use crate::sink::Sink;

impl Shard {
    /// Calls a connection's sink, then does what it has asked for and writes what it has
    /// sent.
    pub(crate) fn with_sink<R>(
        &mut self,
        key: usize,
        call: impl FnOnce(&mut dyn Sink, &mut Session<'_>) -> R,
    ) -> R {
        let result = self.call_sink(key, call);
        self.flush(key);
        result
    }

    /// As [`with_sink`](Self::with_sink), but what it has sent waits for whoever writes.
    pub(crate) fn call_sink<R>(
        &mut self,
        key: usize,
        call: impl FnOnce(&mut dyn Sink, &mut Session<'_>) -> R,
    ) -> R {
        self.called(key, false, call)
    }

    pub(super) fn called<R>(
        &mut self,
        key: usize,
        opening: bool,
        call: impl FnOnce(&mut dyn Sink, &mut Session<'_>) -> R,
    ) -> R {
        let sink = self.connections[key].sink.take();
        let mut sink = sink.expect("a sink's call does not come back to its shard");
        let mut session = Session { shard: self, key, ending: None, opening };
        let result = call(&mut *sink, &mut session);
        let ending = session.ending;
        self.connections[key].sink = Some(sink);
        if self.connections[key].control_bytes() > self.shared.limits.control_bytes {
            // It makes the server queue and does not read.
            self.condemn(key);
        }
        match ending {
            Some(Ending::Close(close)) => self.begin_close(key, &close),
            Some(Ending::Finish) => self.finish(key),
            None => {}
        }
        result
    }

    /// What a connection has; see [`Session::cursor`].
    pub(crate) fn cursor_of(&mut self, key: usize) -> Option<Cursor> {
        if let Flow::Behind(behind) = &mut self.connections[key].flow {
            behind.pass_closes(self.batch);
        }
        let connection = &self.connections[key];
        if let Flow::Behind(behind) = &connection.flow {
            if let Some(resume) = &behind.resume {
                let mut seen = resume.seen.clone();
                if behind.has_all() {
                    // It has what its shard has, and more.
                    seen.advance_to(&self.frontier);
                }
                // None where a lane is forgotten that was closed on its way: it is about to be
                // told.
                return self.shared.lanes.seal(seen.iter());
            }
            if !connection.has_all() && behind.gap.is_none() {
                return None;
            }
        }
        match &self.cursor {
            Some((batch, cursor)) if *batch == self.batch => Some(cursor.clone()),
            _ => {
                let cursor = self.seal(&self.frontier)?;
                self.cursor = Some((self.batch, cursor.clone()));
                Some(cursor)
            }
        }
    }

    fn seal(&self, frontier: &Frontier) -> Option<Cursor> {
        let places = frontier.iter().map(|(lane, next)| (lane, Position::before(next)));
        self.shared.lanes.seal(places)
    }
}
