//! The body of a request, which has to come in time.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{BoxError, aborted};

/// The body of a request that came through a [`Door`](super::Door). It ends with an error
/// where the client does not send all of it within
/// [`DoorConfig::body_timeout`](super::DoorConfig::body_timeout).
pub struct RequestBody {
    incoming: Incoming,
    until: Option<Instant>,
    /// Only while something is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Says what to do, to whoever reads the log.
#[derive(Debug, thiserror::Error)]
#[error("the request's body did not come in time")]
struct TooSlow;

impl RequestBody {
    pub(super) fn new(incoming: Incoming, timeout: Duration) -> Self {
        Self { incoming, until: Instant::now().checked_add(timeout), deadline: None }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            self.deadline = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(until) = self.until else { return Poll::Pending };
        let deadline =
            self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        ready!(deadline.as_mut().poll(cx));
        aborted("body_timeout");
        Poll::Ready(Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
