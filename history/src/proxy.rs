//! A proxy that cuts and stalls what goes through it.
//!
//! Before a Kafka broker it also changes the address that the broker tells of itself, or
//! clients would go on without the proxy. The address stands in answers as a text and a
//! number of four bytes, so that another port has the same length, and nothing but the
//! four bytes has to be changed.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Most connections at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 1000;
/// Largest answer of a broker that is waited for as a whole.
const MAX_ANSWER: usize = 64 << 20;
const CHUNK: usize = 16 << 10;

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// They stay, and nothing gets through.
    Stall,
    /// They are closed, and new ones too.
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    mode: Mode,
    /// Counts cuts: a connection ends when it rises.
    cuts: u64,
}

/// A proxy on a free port, until it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Before `target`, whose bytes stay what they are.
    pub(crate) async fn plain(target: SocketAddr) -> io::Result<Self> {
        Self::start(target, false).await
    }

    /// Before a Kafka broker that calls itself `target`.
    pub(crate) async fn kafka(target: SocketAddr) -> io::Result<Self> {
        Self::start(target, true).await
    }

    async fn start(target: SocketAddr, kafka: bool) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let rename = kafka.then(|| Rename::new(target, addr.port()));
        let (state, states) = watch::channel(State { mode: Mode::Pass, cuts: 0 });
        let task = tokio::spawn(accept(listener, target, rename, states));
        Ok(Self { addr, state, task })
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.state.send_modify(|state| {
            state.mode = mode;
            state.cuts += u64::from(mode == Mode::Refuse);
        });
    }

    /// Closes what is open.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    rename: Option<Rename>,
    state: watch::Receiver<State>,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(permit) = permits.clone().acquire_owned().await {
        let Ok((client, _)) = listener.accept().await else { continue };
        if state.borrow().mode == Mode::Refuse {
            continue;
        }
        let (rename, mut state) = (rename.clone(), state.clone());
        tokio::spawn(async move {
            let cuts = state.borrow_and_update().cuts;
            let mut ended = state.clone();
            tokio::select! {
                // It ends with the proxy, too.
                _ = ended.wait_for(|state| state.cuts != cuts) => {}
                _ = through(client, target, rename, state) => {}
            }
            drop(permit);
        });
    }
}

async fn through(
    client: TcpStream,
    target: SocketAddr,
    rename: Option<Rename>,
    state: watch::Receiver<State>,
) -> io::Result<()> {
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    // Whichever side ends, ends both.
    tokio::select! {
        ended = forward(from_client, to_server, None, state.clone()) => ended,
        ended = forward(from_server, to_client, rename, state) => ended,
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    rename: Option<Rename>,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let mut held = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let passes = state.wait_for(|state| state.mode == Mode::Pass).await;
        if passes.map(|_| ()).is_err() {
            return Ok(());
        }
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        // What was read while it began to stall waits.
        if state.wait_for(|state| state.mode == Mode::Pass).await.is_err() {
            return Ok(());
        }
        match &rename {
            None => to.write_all(&chunk[..read]).await?,
            Some(rename) => {
                held.extend_from_slice(&chunk[..read]);
                while let Some(len) = answer_len(&held)? {
                    rename.apply(&mut held[..len]);
                    to.write_all(&held[..len]).await?;
                    held.drain(..len);
                }
            }
        }
    }
}

/// How long the first answer is, where all of it is there.
fn answer_len(held: &[u8]) -> io::Result<Option<usize>> {
    let Some(len) = held.first_chunk::<4>() else { return Ok(None) };
    let len = 4 + u32::from_be_bytes(*len) as usize;
    if len > MAX_ANSWER {
        return Err(io::Error::other("an answer of the broker is too long"));
    }
    Ok((held.len() >= len).then_some(len))
}

/// Gives a broker another port in what it says.
#[derive(Clone, Debug)]
struct Rename {
    is: Vec<u8>,
    becomes: Vec<u8>,
}

impl Rename {
    fn new(target: SocketAddr, port: u16) -> Self {
        let address = |port: u16| {
            let mut bytes = target.ip().to_string().into_bytes();
            bytes.extend(u32::from(port).to_be_bytes());
            bytes
        };
        Self { is: address(target.port()), becomes: address(port) }
    }

    fn apply(&self, answer: &mut [u8]) {
        let mut at = 0;
        while at + self.is.len() <= answer.len() {
            if answer[at..].starts_with(&self.is) {
                answer[at..at + self.is.len()].copy_from_slice(&self.becomes);
            }
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_gets_another_port() {
        let rename = Rename::new(([127, 0, 0, 1], 19092).into(), 258);
        let mut answer = [&b"x\x0a127.0.0.1"[..], &19092_u32.to_be_bytes(), b"127.0.0.1"].concat();
        rename.apply(&mut answer);
        assert_eq!(answer, [&b"x\x0a127.0.0.1"[..], &[0, 0, 1, 2], b"127.0.0.1"].concat());
    }

    #[test]
    fn answers_are_waited_for() {
        assert_eq!(answer_len(&[0, 0, 0]).unwrap(), None);
        assert_eq!(answer_len(&[0, 0, 0, 2, 1]).unwrap(), None);
        assert_eq!(answer_len(&[0, 0, 0, 2, 1, 1, 0]).unwrap(), Some(6));
        assert!(answer_len(&[0xff, 0, 0, 2]).is_err());
    }

    #[tokio::test]
    async fn it_passes_stalls_and_cuts() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::plain(listener.local_addr().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(proxy.addr).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1];
        server.write_all(b"a").await.unwrap();
        client.read_exact(&mut buffer).await.unwrap();
        proxy.set(Mode::Stall);
        server.write_all(b"b").await.unwrap();
        assert_eq!(client.try_read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        proxy.set(Mode::Pass);
        client.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"b");
        proxy.cut();
        assert_eq!(client.read(&mut buffer).await.unwrap_or(0), 0);
        proxy.set(Mode::Refuse);
        let mut refused = TcpStream::connect(proxy.addr).await.unwrap();
        assert_eq!(refused.read(&mut buffer).await.unwrap_or(0), 0);
    }
}
