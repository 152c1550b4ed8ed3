//! The body of an answer: a stream of events, or a line that says why there is none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::pipe::Reader;

/// The body of an answer to a request for events.
///
/// Dropping it ends the connection to the hub. It ends with an error only where a client
/// does not take its last bytes in time.
#[derive(Debug)]
pub struct EventBody(Kind);

#[derive(Debug)]
enum Kind {
    Text(Option<Bytes>),
    Events(Reader),
}

impl EventBody {
    pub(crate) fn events(reader: Reader) -> Self {
        Self(Kind::Events(reader))
    }
}

impl From<String> for EventBody {
    fn from(text: String) -> Self {
        Self(Kind::Text(Some(text.into())))
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Kind::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Kind::Events(reader) => {
                reader.poll(cx).map(|next| next.map(|chunk| chunk.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Kind::Text(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Events(_) => SizeHint::default(),
        }
    }
}
