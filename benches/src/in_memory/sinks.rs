//! Sinks of the benches: one that takes all, one that comes back and takes all, one that
//! takes nothing until it is let, one that acts when it is woken.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use fanout::{Close, Cursor, Gap, Input, Room, Session, Sink};

/// Takes everything, and counts its bytes without a lock or an allocation.
#[derive(Debug, Default)]
pub struct NullSink {
    taken: u64,
}

impl Sink for NullSink {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        self.taken = std::hint::black_box(self.taken + bytes as u64);
        Ok(bytes)
    }

    fn try_read(&mut self, _: &mut Session<'_>, _: &mut [u8]) -> io::Result<Input> {
        Ok(Input::Blocked)
    }

    fn opened(&mut self, _: &mut Session<'_>) {}

    fn heartbeat(&mut self, _: &mut Session<'_>) {}

    fn gap(&mut self, _: &mut Session<'_>, _: &Gap) {}

    fn closing(&mut self, session: &mut Session<'_>, _: &Close) {
        session.finish();
    }
}

/// Comes back to a room with a cursor, and takes everything.
#[derive(Debug)]
pub struct ReturningSink {
    room: Room,
    cursor: Cursor,
    inner: NullSink,
}

impl ReturningSink {
    /// To this room, with this cursor.
    pub fn new(room: Room, cursor: Cursor) -> Self {
        Self { room, cursor, inner: NullSink::default() }
    }
}

impl Sink for ReturningSink {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.try_write(slices)
    }

    fn try_read(&mut self, _: &mut Session<'_>, _: &mut [u8]) -> io::Result<Input> {
        Ok(Input::Blocked)
    }

    fn opened(&mut self, session: &mut Session<'_>) {
        session.join(&self.room).expect("whoever comes back may be in the room");
        assert!(session.resume(self.cursor.as_str()), "the cursor is one of this hub's");
    }

    fn heartbeat(&mut self, _: &mut Session<'_>) {}

    /// # Panics
    /// Always: a bench that loses something measures something else.
    fn gap(&mut self, _: &mut Session<'_>, gap: &Gap) {
        panic!("something is missing: {gap:?}");
    }

    fn closing(&mut self, session: &mut Session<'_>, _: &Close) {
        session.finish();
    }
}

/// The wakers of many connections.
#[derive(Clone, Debug, Default)]
pub struct Wakers(Arc<Mutex<Vec<Waker>>>);

impl Wakers {
    fn add(&self, waker: Waker) {
        self.0.lock().expect("no panic under this lock").push(waker);
    }

    /// Wakes them all, in the order they came.
    ///
    /// # Panics
    /// Never: nobody panics with its lock.
    pub fn wake(&self) {
        for waker in &*self.0.lock().expect("no panic under this lock") {
            waker.wake_by_ref();
        }
    }
}

/// What many [`SlowSink`]s wait at; open at first.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    shut: Arc<AtomicBool>,
    wakers: Wakers,
}

impl Gate {
    /// Nothing is taken from now on.
    pub fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    /// Everything is taken from now on, as when many sockets become writable again.
    pub fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
        self.wakers.wake();
    }

    /// A sink that waits here.
    pub fn sink(&self) -> SlowSink {
        SlowSink { gate: self.clone(), inner: NullSink::default() }
    }
}

/// Takes everything while its gate is open, else nothing.
#[derive(Debug)]
pub struct SlowSink {
    gate: Gate,
    inner: NullSink,
}

impl Sink for SlowSink {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.gate.shut.load(Ordering::SeqCst) {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.inner.try_write(slices)
    }

    fn try_read(&mut self, _: &mut Session<'_>, _: &mut [u8]) -> io::Result<Input> {
        Ok(Input::Blocked)
    }

    fn opened(&mut self, session: &mut Session<'_>) {
        self.gate.wakers.add(session.waker());
    }

    fn heartbeat(&mut self, _: &mut Session<'_>) {}

    fn gap(&mut self, _: &mut Session<'_>, _: &Gap) {}

    fn closing(&mut self, session: &mut Session<'_>, _: &Close) {
        session.finish();
    }
}

/// Takes everything, and whenever it is woken does what it was made for.
pub struct ActingSink<F> {
    act: F,
    wakers: Wakers,
    inner: NullSink,
}

impl<F> std::fmt::Debug for ActingSink<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActingSink").finish_non_exhaustive()
    }
}

impl<F: FnMut(&mut Session<'_>) -> Input + Send + 'static> ActingSink<F> {
    /// Woken through `wakers`. What `act` answers says whether it is called again.
    pub fn new(wakers: &Wakers, act: F) -> Self {
        Self { act, wakers: wakers.clone(), inner: NullSink::default() }
    }
}

impl<F: FnMut(&mut Session<'_>) -> Input + Send + 'static> Sink for ActingSink<F> {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.inner.try_write(slices)
    }

    fn try_read(&mut self, session: &mut Session<'_>, _: &mut [u8]) -> io::Result<Input> {
        Ok((self.act)(session))
    }

    fn opened(&mut self, session: &mut Session<'_>) {
        self.wakers.add(session.waker());
    }

    fn heartbeat(&mut self, _: &mut Session<'_>) {}

    fn gap(&mut self, _: &mut Session<'_>, _: &Gap) {}

    fn closing(&mut self, session: &mut Session<'_>, _: &Close) {
        session.finish();
    }
}
