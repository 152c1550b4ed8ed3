//! How a connection ends.
//!
//! ```text
//!  Open --begin_close--> Closing: what is left, and why, is written; the peer is waited for
//!   |                       |
//!   +-------finish----------+--> Finishing: what is left is written
//!   |                       |         |
//!   '--broken, or deadline--+---------+--> Dead: dropped once nobody walks over it
//! ```
//!
//! From the first step on it is in no room: there is nothing new for it.

use crate::connection::{Flow, Phase};
use crate::shard::Shard;
use crate::sink::Close;

impl Shard {
    /// Says goodbye: no more events, what is left is written, then the peer is waited
    /// for.
    pub(crate) fn begin_close(&mut self, key: usize, close: &Close) {
        let deadline = self.now + self.shared.limits.close_timeout;
        let connection = &mut self.connections[key];
        if connection.phase != Phase::Open {
            return;
        }
        connection.phase = Phase::Closing { deadline };
        if let Flow::Behind(behind) = &mut connection.flow {
            behind.forget(self.now);
        }
        crate::metrics::closed(close);
        self.members.leave_all(&mut self.connections, key);
        self.with_sink(key, |sink, session| sink.closing(session, close));
    }

    /// Nothing more is to be read: what is left is written, then it is dropped.
    pub(crate) fn finish(&mut self, key: usize) {
        let deadline = self.now + self.shared.limits.close_timeout;
        let connection = &mut self.connections[key];
        connection.readable = false;
        match connection.phase {
            Phase::Dead | Phase::Finishing { .. } => return,
            _ => connection.phase = Phase::Finishing { deadline },
        }
        if let Flow::Behind(behind) = &mut connection.flow {
            behind.forget(self.now);
        }
        self.members.leave_all(&mut self.connections, key);
        if self.connections[key].is_live() && self.connections[key].control.is_none() {
            self.condemn(key);
        }
    }

    /// Drops a connection as soon as nobody walks over it.
    pub(crate) fn condemn(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if connection.phase != Phase::Dead {
            connection.phase = Phase::Dead;
            self.dead.push(key as u32);
        }
    }

    pub(crate) fn bury(&mut self) {
        while let Some(key) = self.dead.pop() {
            let key = key as usize;
            self.members.leave_all(&mut self.connections, key);
            let connection = self.connections.remove(key);
            self.counters.behind -= u64::from(!connection.is_live());
            #[cfg(unix)]
            if let Some(socket) = connection.sink.as_ref().and_then(|sink| sink.socket()) {
                self.readiness.remove(socket);
                self.counters.sockets -= 1;
            }
            drop(connection);
            self.shared.release(self.index);
        }
    }
}
