//! What a WebSocket is written to and read from.
//!
//! A TCP socket is handed to the shard, which polls it and writes to it directly. All
//! else (TLS, memory, a socket where the system has no readiness for us) is the same
//! connection behind a waker.

use std::io::{self, ErrorKind, IoSlice};
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads and writes without waiting.
pub(crate) trait Socket: Send + 'static {
    /// The waker to wake when there is something to read, or room to write again.
    fn set_waker(&mut self, _: impl FnOnce() -> Waker) {}

    /// As [`fanout::Sink::try_write`].
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Reads once; zero is the end.
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// What the shard can watch.
    #[cfg(unix)]
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A TCP socket that the shard polls.
#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct Tcp(std::net::TcpStream);

#[cfg(unix)]
impl Tcp {
    /// Takes the socket away from the runtime; it stays non-blocking.
    pub(crate) fn new(stream: tokio::net::TcpStream) -> io::Result<Self> {
        Ok(Self(stream.into_std()?))
    }
}

#[cfg(unix)]
impl Socket for Tcp {
    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        use std::io::Write;
        loop {
            let result = match slices {
                [one] => (&self.0).write(one),
                _ => (&self.0).write_vectored(slices),
            };
            match result {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::io::Read;
        loop {
            match (&self.0).read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

/// Any stream, behind a waker.
#[derive(Debug)]
pub(crate) struct Woken<S> {
    stream: S,
    waker: Waker,
    /// Whether something was written that the stream may still hold.
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Woken<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, waker: Waker::noop().clone(), unflushed: false }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.unflushed {
            let mut cx = Context::from_waker(&self.waker);
            if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_flush(&mut cx) {
                self.unflushed = false;
                return result;
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for Woken<S> {
    fn set_waker(&mut self, waker: impl FnOnce() -> Waker) {
        self.waker = waker();
    }

    fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut cx = Context::from_waker(&self.waker);
        let vectored = self.stream.is_write_vectored();
        let mut slices = slices.to_vec();
        let mut rest = &mut slices[..];
        let mut taken = 0;
        // Until it is pending: only then does it keep the waker.
        IoSlice::advance_slices(&mut rest, 0);
        while let Some(first) = rest.first() {
            let stream = Pin::new(&mut self.stream);
            let written = if vectored {
                stream.poll_write_vectored(&mut cx, rest)
            } else {
                stream.poll_write(&mut cx, first)
            };
            match written {
                Poll::Ready(Ok(0)) => return Err(ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => {
                    self.unflushed = true;
                    taken += n;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        self.flush()?;
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.flush()?;
        let mut cx = Context::from_waker(&self.waker);
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut self.stream).poll_read(&mut cx, &mut buffer) {
            Poll::Ready(Ok(())) => Ok(buffer.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}
