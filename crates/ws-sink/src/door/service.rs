//! What is checked of each request before the application sees it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tower_service::Service;

use super::client::{Client, Peer};
use super::{BoxError, RequestBody, Shared};
use crate::admission::Refused;

/// A service behind the checks, for one connection.
pub(super) struct Checked<S> {
    service: S,
    peer: Peer,
    shared: Arc<Shared>,
}

impl<S> Checked<S> {
    pub(super) fn new(service: S, peer: Peer, shared: Arc<Shared>) -> Self {
        Self { service, peer, shared }
    }

    /// Who asks, or why he is not answered.
    fn check(&self, request: &Request<Incoming>) -> Result<Client, No> {
        let config = &self.shared.config;
        let uri = request.uri();
        let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target > config.max_target_bytes {
            metrics::counter!("fanout_door_refused_total", "limit" => "target").increment(1);
            return Err(No::TooLong { max: config.max_target_bytes });
        }
        self.peer.client(request.headers(), config).map_err(No::Refused)
    }
}

/// Why a request does not reach the application.
enum No {
    TooLong { max: usize },
    Refused(Refused),
}

impl No {
    fn response<B>(self) -> Response<Answer<B>> {
        let mut response: Response<String> = match self {
            Self::TooLong { max } => too_long(max),
            Self::Refused(refused) => refused.response(),
        };
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response.map(|text| Answer::Text(Some(text.into())))
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Checked<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Send + 'static,
{
    type Response = Response<Answer<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let client = match self.check(&request) {
            Ok(client) => client,
            Err(no) => return Box::pin(std::future::ready(Ok(no.response()))),
        };
        let timeout = self.shared.config.body_timeout;
        let mut request = request.map(|body| RequestBody::new(body, timeout));
        request.extensions_mut().insert(client.clone());
        let mut service = self.service.clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
            let answer = service.call(request).await.map_err(Into::into)?;
            // Until now at least it counts, whatever the application does with its own.
            drop(client);
            Ok(answer.map(Answer::Of))
        })
    }
}

/// The application's answer, or the door's.
pub(super) enum Answer<B> {
    Of(B),
    Text(Option<Bytes>),
}

impl<B> Body for Answer<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Of(body) => {
                Pin::new(body).poll_frame(cx).map(|next| next.map(|f| f.map_err(Into::into)))
            }
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Of(body) => body.is_end_stream(),
            Self::Text(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Of(body) => body.size_hint(),
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

fn too_long(max: usize) -> Response<String> {
    let text = format!("the address is longer than {max} bytes: send less in its query\n");
    let mut response = Response::new(text);
    *response.status_mut() = StatusCode::URI_TOO_LONG;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}
