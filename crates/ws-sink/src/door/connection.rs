//! One connection, from its first byte until it ends or is upgraded.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower_service::Service;

use super::client::Peer;
use super::io::Timed;
use super::service::Checked;
use super::{BoxError, RequestBody, Shared, aborted};

/// Serves a connection; done when it has ended, or was upgraded.
pub(super) async fn serve<S, B>(
    stream: TcpStream,
    peer: Peer,
    service: S,
    shared: Arc<Shared>,
    stop: watch::Receiver<()>,
) where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    #[cfg(feature = "tls")]
    if let Some(tls) = &shared.config.tls {
        let handshake = tls.acceptor().accept(stream);
        match tokio::time::timeout(shared.config.handshake_timeout, handshake).await {
            Ok(Ok(stream)) => http(stream, peer, service, &shared, stop).await,
            Ok(Err(error)) => {
                aborted("tls_handshake");
                tracing::debug!(%error, "no TLS handshake");
            }
            Err(_) => aborted("tls_timeout"),
        }
        return;
    }
    http(stream, peer, service, &shared, stop).await;
}

async fn http<I, S, B>(
    io: I,
    peer: Peer,
    service: S,
    shared: &Arc<Shared>,
    mut stop: watch::Receiver<()>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let io = TokioIo::new(Timed::new(io, shared.config.write_timeout));
    let service = Checked::new(service, peer, shared.clone());
    let mut connection = pin!(shared.http.serve_connection(io, service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        if error.is_timeout() {
            aborted("header_timeout");
        } else if error.is_parse_too_large() {
            metrics::counter!("fanout_door_refused_total", "limit" => "headers").increment(1);
        } else if error.is_parse() {
            aborted("bad_request");
        }
        tracing::debug!(%error, "connection ended");
    }
}
