//! Says what it hears: a WebSocket on `ws-sink`'s handshake and codec alone, without hub and
//! without protocol. It is what the Autobahn cases are run against.
//!
//! ```text
//! cargo run --release -p examples --example echo -- --port 9001
//! ```
//!
//! [`Handshake`] checks the request and makes its answer, [`Decoder`] turns what is read
//! into messages, [`encode`] writes frames. What is left to whoever uses them is what is
//! here: to read and to write, how long to wait, and to end in an orderly way.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use clap::Parser;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, upgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use ws_sink::codec::{CodecError, Decoder, Limits, Message, encode};
use ws_sink::handshake::{Handshake, Origins};

/// A peer that says nothing, or takes nothing, for this long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// For the peer's end, once ours is said.
const GOODBYE: Duration = Duration::from_secs(1);

#[derive(Parser)]
pub(crate) struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The port; 0 takes any that is free.
    #[arg(long, default_value_t = 9001)]
    port: u16,
}

/// What the largest of the Autobahn cases need; the defaults are far smaller.
fn limits() -> Limits {
    Limits::default()
        .with_max_message_bytes(16 * 1024 * 1024)
        .with_max_fragments(128 * 1024)
        .with_binary()
}

/// Answers the request that opens a WebSocket, and goes on with its connection.
async fn open(mut request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let upgraded = upgrade::on(&mut request);
    let (head, _) = request.into_parts();
    let handshake = match Handshake::check(&head, &Origins::default()) {
        Ok(handshake) => handshake,
        Err(refusal) => return Ok(refusal.response()),
    };
    tokio::spawn(async move {
        // An error is a peer that has gone: there is nobody to tell.
        if let Ok(upgraded) = upgraded.await {
            let _ = echo(TokioIo::new(upgraded)).await;
        }
    });
    Ok(handshake.response())
}

/// Sends back whatever comes, until the peer or a mistake of its ends it.
async fn echo(mut socket: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let limits = limits();
    let mut decoder = Decoder::default();
    let mut read = vec![0; 64 * 1024];
    let mut out = BytesMut::new();
    while !decoder.is_closed() {
        let len = timeout(SILENCE, socket.read(&mut read)).await??;
        if len == 0 {
            return Ok(());
        }
        // All messages in it are answered before the next read: what is not sent yet is no
        // more than a read and a message.
        let mut messages = decoder.feed(&mut read[..len], &limits);
        while answer(messages.next_message(), &mut out) {}
        drop(messages);
        timeout(SILENCE, socket.write_all_buf(&mut out)).await??;
    }
    // Closing with something unread would be a reset, which may overtake what was said last.
    socket.shutdown().await?;
    let _ = timeout(GOODBYE, tokio::io::copy(&mut socket, &mut tokio::io::sink())).await;
    Ok(())
}

/// Writes what is to be said to a message; whether there may be another.
fn answer(message: Result<Option<Message<'_>>, CodecError>, out: &mut BytesMut) -> bool {
    let fits = match message {
        Ok(None) => return false,
        Ok(Some(Message::Text(text))) => {
            encode::text(out, &[text.as_bytes()]);
            Ok(())
        }
        Ok(Some(Message::Binary(bytes))) => {
            encode::binary(out, &[bytes]);
            Ok(())
        }
        Ok(Some(Message::Ping(payload))) => encode::pong(out, payload),
        Ok(Some(Message::Pong(_))) => Ok(()),
        // RFC 6455, 5.5.1: with the code that came.
        Ok(Some(Message::Close(why))) => encode::close(out, why),
        Err(error) => encode::close(out, Some((error.close_code(), &error.to_string()))),
    };
    fits.expect("what came fits into what goes, and our own reasons are short");
    true
}

async fn serve(stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    // The timer is what makes hyper give up on a request that does not come: after 30 s.
    let http = http1::Builder::new().timer(TokioTimer::new()).clone();
    let served = http.serve_connection(TokioIo::new(stream), service_fn(open));
    if let Err(error) = served.with_upgrades().await {
        tracing::debug!(%error, "connection failed before it was a WebSocket");
    }
}

/// Serves whoever connects.
pub(crate) async fn run(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream));
    }
}

pub(crate) async fn listen(args: &Args) -> io::Result<TcpListener> {
    TcpListener::bind((args.host.as_str(), args.port)).await
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = listen(&Args::parse()).await?;
    println!("ws://{}", listener.local_addr()?);
    run(listener).await
}
