//! A socket that has to take what is written.
//!
//! hyper waits for ever for a client that asks and does not read. Here a write, a flush or a
//! goodbye that has been waiting for so long without a byte taken is an error, which ends
//! the connection. What is read has deadlines of its own.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::aborted;

/// Such a socket.
#[derive(Debug)]
pub(crate) struct Timed<I> {
    io: I,
    timeout: Duration,
    /// Only while something waits to be taken.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<I> Timed<I> {
    pub(super) fn new(io: I, timeout: Duration) -> Self {
        Self { io, timeout, deadline: None }
    }

    /// The socket, without deadlines: whoever goes on with it has his own.
    pub(crate) fn into_inner(self) -> I {
        self.io
    }

    fn timed<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.deadline = None;
            return polled;
        }
        let timeout = self.timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        deadline.as_mut().poll(cx).map(|()| {
            aborted("write_timeout");
            Err(ErrorKind::TimedOut.into())
        })
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Timed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Timed<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.timed(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.timed(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.timed(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.timed(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_something_in_time_is_waited_for() {
        let (near, mut far) = tokio::io::duplex(10);
        let mut near = Timed::new(near, Duration::from_secs(10));
        let writing = tokio::spawn(async move {
            let written = near.write_all(&[0; 100]).await;
            (written, near)
        });
        for _ in 0..9 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            far.read_exact(&mut [0; 10]).await.unwrap();
        }
        let (written, mut near) = writing.await.unwrap();
        written.unwrap();
        assert_eq!(near.write(&[0]).await.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
