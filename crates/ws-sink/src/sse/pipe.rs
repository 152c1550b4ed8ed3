//! Bytes on their way from a sink of the hub to the body of a response, and no more of
//! them than fit.
//!
//! ```text
//! shard --try_write--> buffer --chunk--> server --written, dropped--> room again
//!   ^                                                                    |
//!   '------------------------------- woken ------------------------------'
//! ```
//!
//! What the server has taken counts until it has let go of it, which is when the kernel
//! has it: a server that queues what it cannot write yet, as hyper does, would otherwise
//! take much more than the bound for a client that does not read. It has one chunk at a
//! time, and whatever came meanwhile is the next. While nothing is under way there is no
//! buffer. (Over a transport without vectored writes hyper copies chunks, and then has a
//! bound of its own.)
//!
//! The far end going away is told to the sink, the sink's end to the body. A body whose
//! client then does not take what is left in time ends with an error, upon which the
//! server cuts it off.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Sleep;

/// The sink's end.
#[derive(Debug)]
pub(crate) struct Writer(Arc<Pipe>);

/// The body's end.
#[derive(Debug)]
pub(crate) struct Reader {
    pipe: Arc<Pipe>,
    /// How long the client may take for what is left once the sink has ended.
    patience: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Pipe {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    buffer: BytesMut,
    /// Bytes of the chunk that the server has.
    lent: usize,
    /// Whether the sink was told that there is no room.
    full: bool,
    /// No more is written.
    ended: bool,
    /// No more is read.
    gone: bool,
    writer: Option<Waker>,
    reader: Option<Waker>,
}

/// A chunk that the server has.
struct Lent {
    bytes: Bytes,
    pipe: Arc<Pipe>,
}

pub(crate) fn pipe(capacity: usize, patience: Duration) -> (Writer, Reader) {
    let pipe = Arc::new(Pipe { capacity: capacity.max(1), state: Mutex::default() });
    (Writer(pipe.clone()), Reader { pipe, patience, deadline: None })
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Writer {
    /// As [`fanout::Sink::try_write`].
    pub(crate) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.state();
        if state.gone {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = self.0.capacity.saturating_sub(state.buffer.len() + state.lent);
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut left = room.min(all);
        let taken = left;
        state.full = taken < all;
        state.buffer.reserve(taken);
        for slice in slices {
            let part = left.min(slice.len());
            state.buffer.extend_from_slice(&slice[..part]);
            left -= part;
        }
        let reader = if taken > 0 { state.reader.take() } else { None };
        drop(state);
        wake(reader);
        if taken == 0 && all > 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    /// Writes what is small and cannot wait, whether there is room or not.
    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut state = self.0.state();
        if !state.gone {
            state.buffer.extend_from_slice(bytes);
        }
        let reader = state.reader.take();
        drop(state);
        wake(reader);
    }

    /// Whom to wake when there is room again, or nobody to read.
    pub(crate) fn set_waker(&self, waker: Waker) {
        self.0.state().writer = Some(waker);
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.state().gone
    }

    /// Waits until nobody reads any more.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn gone(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.0.state();
            state.writer = Some(cx.waker().clone());
            if state.gone { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ended = true;
        let (reader, writer) = (state.reader.take(), state.writer.take());
        drop(state);
        drop(writer);
        wake(reader);
    }
}

impl Reader {
    /// The next chunk; `None` at the end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut state = self.pipe.state();
        if state.lent == 0 && !state.buffer.is_empty() {
            let bytes = std::mem::take(&mut state.buffer).freeze();
            state.lent = bytes.len();
            let lent = Lent { bytes, pipe: self.pipe.clone() };
            return Poll::Ready(Some(Ok(Bytes::from_owner(lent))));
        }
        if state.lent == 0 && state.ended {
            return Poll::Ready(None);
        }
        if state.reader.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            state.reader = Some(cx.waker().clone());
        }
        if !state.ended {
            return Poll::Pending;
        }
        drop(state);
        let patience = self.patience;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        deadline.as_mut().poll(cx).map(|()| Some(Err(ErrorKind::TimedOut.into())))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        state.gone = true;
        state.buffer = BytesMut::new();
        let (reader, writer) = (state.reader.take(), state.writer.take());
        drop(state);
        drop(reader);
        wake(writer);
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        state.lent = 0;
        let writer = if std::mem::take(&mut state.full) { state.writer.clone() } else { None };
        let more = !state.buffer.is_empty() || state.ended;
        let reader = if more { state.reader.take() } else { None };
        drop(state);
        wake(writer);
        wake(reader);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Count {
        fn take(&self) -> usize {
            self.0.swap(0, Ordering::SeqCst)
        }
    }

    fn write(writer: &Writer, text: &str) -> Result<usize, ErrorKind> {
        let (a, b) = text.as_bytes().split_at(text.len() / 2);
        writer.try_write(&[IoSlice::new(a), IoSlice::new(b)]).map_err(|error| error.kind())
    }

    fn read(reader: &mut Reader, waker: &Waker) -> Poll<Option<Result<Bytes, ErrorKind>>> {
        let polled = reader.poll(&mut Context::from_waker(waker));
        polled.map(|next| next.map(|chunk| chunk.map_err(|error| error.kind())))
    }

    fn chunk(reader: &mut Reader, waker: &Waker) -> Bytes {
        match read(reader, waker) {
            Poll::Ready(Some(Ok(bytes))) => bytes,
            other => panic!("no chunk, but {other:?}"),
        }
    }

    #[test]
    fn what_the_server_has_counts_until_it_is_let_go_of() {
        let (writer, mut reader) = pipe(8, Duration::ZERO);
        let (shard, server) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let waker = Waker::from(server.clone());
        writer.set_waker(shard.clone().into());
        assert!(read(&mut reader, &waker).is_pending());
        assert_eq!(write(&writer, "12345"), Ok(5));
        assert_eq!(server.take(), 1);
        let first = chunk(&mut reader, &waker);
        assert_eq!(&first[..], b"12345");
        assert_eq!(write(&writer, "67890"), Ok(3), "as much as there is room");
        assert_eq!(write(&writer, "90"), Err(ErrorKind::WouldBlock));
        assert!(read(&mut reader, &waker).is_pending(), "one chunk at a time");
        assert_eq!((shard.take(), server.take()), (0, 0));
        drop(first);
        assert_eq!((shard.take(), server.take()), (1, 1), "told without being asked again");
        let second = chunk(&mut reader, &waker);
        assert_eq!(&second[..], b"678");
        assert_eq!(write(&writer, "90"), Ok(2));
        drop(second);
        assert_eq!(shard.take(), 0, "nobody waited for room");
        assert_eq!(&chunk(&mut reader, &waker)[..], b"90");
    }

    #[test]
    fn nothing_is_held_while_nothing_is_under_way() {
        let (writer, mut reader) = pipe(1 << 20, Duration::ZERO);
        assert_eq!(write(&writer, &"x".repeat(100_000)), Ok(100_000));
        drop(chunk(&mut reader, Waker::noop()));
        assert_eq!(writer.0.state().buffer.capacity(), 0);
    }

    #[test]
    fn each_end_is_told_of_the_others() {
        let (writer, reader) = pipe(8, Duration::ZERO);
        let shard = Arc::new(Count::default());
        writer.set_waker(shard.clone().into());
        assert_eq!(write(&writer, "x"), Ok(1));
        drop(reader);
        assert_eq!(shard.take(), 1);
        assert!(writer.is_gone());
        assert_eq!(write(&writer, "x"), Err(ErrorKind::BrokenPipe));

        let (writer, mut reader) = pipe(8, Duration::ZERO);
        let server = Arc::new(Count::default());
        let waker = Waker::from(server.clone());
        assert!(read(&mut reader, &waker).is_pending());
        writer.push(b"longer than it may be");
        drop(writer);
        assert!(server.take() > 0);
        assert_eq!(&chunk(&mut reader, &waker)[..], b"longer than it may be");
        assert_eq!(read(&mut reader, &waker), Poll::Ready(None));
    }

    #[tokio::test]
    async fn what_is_left_has_to_be_taken_in_time() {
        let (writer, mut reader) = pipe(8, Duration::from_millis(1));
        assert_eq!(write(&writer, "x"), Ok(1));
        let unread = chunk(&mut reader, Waker::noop());
        drop(writer);
        let end = std::future::poll_fn(|cx| reader.poll(cx)).await;
        assert_eq!(
            end.map(|end| end.map_err(|error| error.kind())),
            Some(Err(ErrorKind::TimedOut))
        );
        drop(unread);
    }
}
