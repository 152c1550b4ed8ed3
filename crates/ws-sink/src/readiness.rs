//! Many sockets, one thing to wait for.
//!
//! A shard polls its own sockets: `mio`'s poll inside tokio's `AsyncFd`, which is one
//! epoll or kqueue inside another. No socket has a task or a buffer of its own, and a
//! shard that wakes up learns of all that are ready at once.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::task::{Context, Poll};
use std::time::Duration;

use fanout::{Readiness, Ready, Token};
use mio::unix::SourceFd;
use mio::{Events, Interest};
use tokio::io::unix::AsyncFd;

/// Events taken at once.
const EVENTS: usize = 1024;

/// The sockets of one shard.
///
/// ```no_run
/// # fn build(access: fanout::Access) -> std::io::Result<fanout::Hub> {
/// fanout::Hub::builder(access).readiness(ws_sink::Sockets::new).build()
/// # }
/// ```
#[derive(Debug)]
pub struct Sockets {
    poll: AsyncFd<mio::Poll>,
    events: Events,
}

impl Sockets {
    /// No sockets yet.
    ///
    /// # Errors
    /// Where the system has no more descriptors.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the poll owns its descriptor, which is open for as long as the poll is,
        // and is never taken out of the `AsyncFd` or replaced in it.
        #[allow(unsafe_code)]
        let poll = unsafe {
            AsyncFd::register_with_interest(mio::Poll::new()?, tokio::io::Interest::READABLE)
        }?;
        Ok(Self { poll, events: Events::with_capacity(EVENTS) })
    }
}

fn mio_token(token: Token) -> mio::Token {
    // A token is a slot and its generation; where addresses are short the generation
    // is cut, and an event of a socket that is gone may reach the next in its slot,
    // which costs it a read that finds nothing.
    mio::Token(token.0 as usize)
}

impl Readiness for Sockets {
    fn add(&mut self, socket: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        let registry = self.poll.get_ref().registry();
        registry.register(&mut SourceFd(&socket.as_raw_fd()), mio_token(token), Interest::READABLE)
    }

    fn watch(&mut self, socket: BorrowedFd<'_>, token: Token, write: bool) -> io::Result<()> {
        let interest =
            if write { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        // Registering again is what makes a level of it: the system looks at the
        // socket anew, and tells at once where it has become writable meanwhile.
        let registry = self.poll.get_ref().registry();
        registry.reregister(&mut SourceFd(&socket.as_raw_fd()), mio_token(token), interest)
    }

    fn remove(&mut self, socket: BorrowedFd<'_>) {
        // An error means that it is not watched: what was asked for.
        let registry = self.poll.get_ref().registry();
        let _ = registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>, ready: &mut Vec<Ready>) -> Poll<()> {
        loop {
            // An error means that the runtime is going: nothing will ever be ready.
            let Poll::Ready(Ok(mut guard)) = self.poll.poll_read_ready_mut(cx) else {
                return Poll::Pending;
            };
            if guard.get_inner_mut().poll(&mut self.events, Some(Duration::ZERO)).is_err() {
                // Interrupted: what is ready stays so.
                continue;
            }
            let mut count = 0;
            for event in &self.events {
                count += 1;
                let failed = event.is_error();
                ready.push(Ready {
                    token: Token(event.token().0 as u64),
                    readable: event.is_readable() || event.is_read_closed() || failed,
                    writable: event.is_writable() || event.is_write_closed() || failed,
                });
            }
            if count < EVENTS {
                // That was all. What comes after the poll sets it again: tokio does
                // not let this clear what it has learned since the guard was made.
                guard.clear_ready();
            }
            if count > 0 {
                return Poll::Ready(());
            }
        }
    }
}
