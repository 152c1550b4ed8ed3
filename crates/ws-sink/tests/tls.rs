//! TLS at the door, with certificates made here.

mod common;
#[path = "common/house.rs"]
mod house;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::{token, within};
use house::{House, Plan, TEXT, ask, closed, end, frame, head, request, said, send, upgrade};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use ws_sink::door::{TlsConfig, TlsError};

/// A folder of its own, with a certificate and its key.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn new(name: &str) -> (Self, CertificateDer<'static>) {
        let folder =
            std::env::temp_dir().join(format!("ws-sink-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let files = Self { folder };
        let certificate = files.renew();
        (files, certificate)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn renew(&self) -> CertificateDer<'static> {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["house".to_owned()]).unwrap();
        std::fs::write(self.path("cert.pem"), cert.pem()).unwrap();
        std::fs::write(self.path("key.pem"), signing_key.serialize_pem()).unwrap();
        cert.der().clone()
    }

    fn read(&self) -> Result<TlsConfig, TlsError> {
        TlsConfig::from_files(self.path("cert.pem"), self.path("key.pem"))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn serve(tls: &TlsConfig) -> House {
    let mut plan = Plan::default();
    plan.door.tls = Some(tls.clone());
    plan.door.handshake_timeout = Duration::from_millis(300);
    plan.admission.connections_per_address = 10;
    plan.build().await
}

async fn connect(
    house: &House,
    trusted: &CertificateDer<'static>,
    protocol: &[u8],
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("house").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, house.tcp().await);
    within("the TLS handshake", connecting).await
}

async fn tls13(house: &House, trusted: &CertificateDer<'static>) -> TlsStream<TcpStream> {
    connect(house, trusted, b"http/1.1", &[&version::TLS13]).await.unwrap()
}

#[tokio::test]
async fn requests_sockets_and_events_over_tls() {
    let (files, certificate) = Files::new("all");
    let house = serve(&files.read().unwrap()).await;
    for version in [&version::TLS13, &version::TLS12] {
        let mut stream = connect(&house, &certificate, b"http/1.1", &[version]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(ask(&mut stream, "/hello", &[]).await.body, "hello");
        assert_eq!(ask(&mut stream, "/who", &[]).await.body, "127.0.0.1");
        drop(stream);

        let mut ws = connect(&house, &certificate, b"http/1.1", &[version]).await.unwrap();
        assert_eq!(upgrade(&mut ws, Some("ann"), &[]).await.status, 101);
        assert_eq!(said(&mut ws).await["event"], "welcome");
        let subscribe = br#"{"event":"subscribe","id":1,"data":{"room":"game:1"}}"#;
        send(&mut ws, frame(TEXT, subscribe)).await;
        assert_eq!(said(&mut ws).await["event"], "subscribed");

        let mut sse = connect(&house, &certificate, b"http/1.1", &[version]).await.unwrap();
        let bearer = format!("Bearer {}", token("ann", "user", 3600));
        send(&mut sse, request("/events?room=game:1", &[("authorization", &bearer)])).await;
        assert!(head(&mut sse).await.unwrap().starts_with("HTTP/1.1 200"));
        house.in_hub(2).await;

        // More than fits in a socket, to both.
        let room = fanout::Room::new("game:1").unwrap();
        let body = "x".repeat(100_000);
        let body = fanout::Json::of(&body).unwrap();
        let emissions = (0..20).map(|_| fanout::Emission::new(room.clone(), "e", body.clone()));
        house.hub.publish(emissions.collect()).await.unwrap();
        for _ in 0..20 {
            assert_eq!(said(&mut ws).await["data"].as_str().unwrap().len(), 100_000);
        }
        let mut got = 0;
        within("events", async {
            let mut buffer = vec![0; 1 << 16];
            while got < 20 * 100_000 {
                let n = sse.read(&mut buffer).await.unwrap();
                assert!(n > 0);
                got += n;
            }
        })
        .await;
        send(&mut ws, frame(0x88, &1000_u16.to_be_bytes())).await;
        assert_eq!(closed(&mut ws).await.0, 1000);
        drop((ws, sse));
        house.connections(0).await;
        house.in_hub(0).await;
    }
}

#[tokio::test]
async fn what_is_no_tls_ends_cleanly() {
    let (files, certificate) = Files::new("plain");
    let house = serve(&files.read().unwrap()).await;
    let mut plain = house.tcp().await;
    send(&mut plain, request("/hello", &[])).await;
    end(&mut plain).await;
    let mut silent = house.tcp().await;
    end(&mut silent).await;
    assert!(connect(&house, &certificate, b"h2", &[&version::TLS13]).await.is_err());
    house.connections(0).await;
    // Who is one too many is dropped without a handshake.
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(tls13(&house, &certificate).await);
    }
    assert!(connect(&house, &certificate, b"http/1.1", &[&version::TLS13]).await.is_err());
    drop(held);
    house.connections(0).await;
    assert_eq!(ask(&mut tls13(&house, &certificate).await, "/hello", &[]).await.status, 200);
}

#[tokio::test]
async fn a_certificate_is_renewed_without_a_restart() {
    let (files, old) = Files::new("renewed");
    let tls = files.read().unwrap();
    let house = serve(&tls).await;
    let mut before = tls13(&house, &old).await;
    assert!(!tls.reload().unwrap(), "nothing has changed");
    let new = files.renew();
    assert!(tls.reload().unwrap());
    assert_eq!(ask(&mut tls13(&house, &new).await, "/hello", &[]).await.status, 200);
    assert!(connect(&house, &old, b"http/1.1", &[&version::TLS13]).await.is_err());
    assert_eq!(ask(&mut before, "/hello", &[]).await.status, 200, "who is in stays in");
    // Half of a renewal, and nonsense: what was good stays.
    let key = std::fs::read(files.path("key.pem")).unwrap();
    files.renew();
    std::fs::write(files.path("key.pem"), key).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Mismatch { .. })));
    std::fs::write(files.path("cert.pem"), "").unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::NoCertificate { .. })));
    assert_eq!(ask(&mut tls13(&house, &new).await, "/hello", &[]).await.status, 200);
}

#[test]
fn what_is_wrong_is_named() {
    let (files, _) = Files::new("wrong");
    let good = |name| std::fs::read_to_string(files.path(name)).unwrap();
    let (certificate, key) = (good("cert.pem"), good("key.pem"));
    let refused = |cert: &str, key: &str| {
        std::fs::write(files.path("cert.pem"), cert).unwrap();
        std::fs::write(files.path("key.pem"), key).unwrap();
        let shown = files.read().unwrap_err().to_string();
        for line in key.lines().filter(|line| !line.is_empty() && !line.contains("---")) {
            assert!(!shown.contains(line), "{shown}");
        }
        shown
    };
    assert!(refused("", &key).contains("cert.pem` has no certificate"));
    assert!(refused(&key, &key).contains("cert.pem` has no certificate"));
    assert!(refused(&certificate, "").contains("key.pem` has no private key"));
    assert!(refused(&certificate, &certificate).contains("key.pem` has no private key"));
    let cut = &certificate[..certificate.len() / 2];
    assert!(refused(cut, &key).contains("cert.pem` is no PEM file: a section has no end"));
    let other = generate_simple_self_signed(["x".to_owned()]).unwrap().signing_key.serialize_pem();
    let shown = refused(&certificate, &other);
    assert!(shown.contains("key.pem` does not fit the certificate in `"), "{shown}");
    let broken = key.replace("PRIVATE KEY-----\n", "PRIVATE KEY-----\nAAAA");
    assert!(refused(&certificate, &broken).contains("cannot be used with the key in"));
    std::fs::write(files.path("key.pem"), &key).unwrap();
    let missing = TlsConfig::from_files(files.path("none.pem"), files.path("key.pem"));
    assert!(missing.unwrap_err().to_string().contains("none.pem` cannot be read"));
    let shown = format!("{:?}", files.read().unwrap());
    assert!(shown.contains("cert.pem") && !shown.contains("PRIVATE"), "{shown}");
}
