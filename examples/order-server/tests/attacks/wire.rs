//! What bytes travel on: TCP, or TLS over it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The certificate of every server here that has one.
static CERTIFIED: LazyLock<CertifiedKey<KeyPair>> = LazyLock::new(|| {
    let names = [Ipv4Addr::LOCALHOST.to_string()];
    generate_simple_self_signed(names).expect("a certificate")
});

/// What trusts it, and offers all that it can.
static CLIENT: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add(CERTIFIED.cert.der().clone()).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
});

/// Both directions of a connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Where a server listens, and what it speaks there. Shown as a `Host` header has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) socket: SocketAddr,
    pub(crate) tls: bool,
}

impl Place {
    /// The same, spoken to as if there were no TLS.
    pub(crate) fn plainly(self) -> Self {
        Self { tls: false, ..self }
    }

    pub(crate) fn port(self) -> u16 {
        self.socket.port()
    }

    /// From this address of this machine, with so much room for what is not read.
    pub(crate) async fn connect(
        self,
        from: Ipv4Addr,
        receive: Option<u32>,
    ) -> io::Result<Box<dyn Stream>> {
        let stream = self.tcp(from, receive).await?;
        if self.tls {
            return Ok(Box::new(handshake(stream).await?));
        }
        Ok(Box::new(stream))
    }

    async fn tcp(self, from: Ipv4Addr, receive: Option<u32>) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
        if let Some(bytes) = receive {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = socket.connect(self.socket).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// TLS, whose records are to be meddled with.
    pub(crate) async fn session(self) -> io::Result<TlsStream<TcpStream>> {
        handshake(self.tcp(Ipv4Addr::LOCALHOST, None).await?).await
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

async fn handshake(stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    TlsConnector::from(client()).connect(name(), stream).await
}

/// What a client offers and trusts.
pub(crate) fn client() -> Arc<ClientConfig> {
    CLIENT.clone()
}

/// What the certificate is for.
pub(crate) fn name() -> ServerName<'static> {
    ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Writes the certificate and its key to two files of this folder, which is made.
pub(crate) fn write_certificate(folder: &Path) -> [String; 2] {
    std::fs::create_dir_all(folder).expect("a folder");
    let files =
        [("cert.pem", CERTIFIED.cert.pem()), ("key.pem", CERTIFIED.signing_key.serialize_pem())];
    files.map(|(name, pem)| {
        let file = folder.join(name);
        std::fs::write(&file, pem).expect("a file");
        file.to_str().expect("a name in UTF-8").to_owned()
    })
}
