//! The server with a certificate of its own: https and wss.

use std::fmt::Write as _;
use std::sync::Arc;

use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::raw::raw;
use crate::support::{Client, DEADLINE, Folder, start, until};

/// A certificate for `localhost` in two files, and what trusts it.
fn certificate(folder: &Folder) -> (String, String, TlsConnector) {
    std::fs::create_dir_all(&folder.0).unwrap();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| folder.0.join(name).to_str().unwrap().to_owned();
    let (chain, key) = (path("chain.pem"), path("key.pem"));
    std::fs::write(&chain, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(cert.der().to_vec())).unwrap();
    let ring = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (chain, key, TlsConnector::from(Arc::new(client)))
}

async fn connect(client: &Client, tls: &TlsConnector) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(client.addr).await.unwrap();
    tls.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
}

/// Status, headers and body of an answer over TLS.
async fn ask(
    client: &Client,
    tls: &TlsConnector,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, http::HeaderMap, Value) {
    let stream = TokioIo::new(connect(client, tls).await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", format!("localhost:{}", client.addr.port()))
        .header("content-type", "application/json")
        .body(Full::new(bytes::Bytes::copy_from_slice(body.as_bytes())))
        .unwrap();
    let answer = tokio::time::timeout(DEADLINE, sender.send_request(request)).await.unwrap();
    let (head, body) = answer.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    connection.abort();
    (head.status.as_u16(), head.headers, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn https_and_wss_work_and_nothing_else_does() {
    let folder = Folder::new();
    let (chain, key, tls) = certificate(&folder);
    let server = start(&["--tls-cert", &chain, "--tls-key", &key]).await;
    let nobody = Client::nobody(&server);
    until("ready", async || {
        (ask(&nobody, &tls, "GET", "/readyz", "").await.0 == 200).then_some(())
    })
    .await;
    let (status, headers, login) =
        ask(&nobody, &tls, "POST", "/api/login", r#"{"email":"ann@x"}"#).await;
    assert_eq!(status, 200, "{login}");
    assert!(headers["strict-transport-security"].to_str().unwrap().starts_with("max-age="));
    assert!(headers["set-cookie"].to_str().unwrap().contains("; Secure"), "{headers:?}");
    let token = login["token"].as_str().unwrap();

    let url = format!("wss://localhost:{}/ws", nobody.addr.port());
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    // A page of this server, by the name that it has in the certificate.
    let origin = format!("https://localhost:{}", nobody.addr.port());
    request.headers_mut().insert("origin", origin.parse().unwrap());
    let stream = connect(&nobody, &tls).await;
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let frame = tokio::time::timeout(DEADLINE, socket.next()).await.unwrap().unwrap().unwrap();
    assert!(frame.to_text().unwrap().contains("welcome"), "{frame:?}");

    let plain = raw(&nobody, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(!plain.contains("HTTP/1.1 200"), "{plain}");
    drop(socket);
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_stops_the_start() {
    use clap::Parser as _;
    use order_server::config::Config;
    use order_server::server::Server;

    let (folder, other) = (Folder::new(), Folder::new());
    let (chain, _, _) = certificate(&folder);
    let (_, other_key, _) = certificate(&other);
    for (chain, key, names) in [
        (chain.as_str(), other_key.as_str(), "does not fit"),
        (&chain, "/nowhere/key", "/nowhere/key"),
    ] {
        let flags = ["x", "--port", "0", "--data", ":memory:"];
        let flags = [&flags[..], &["--tls-cert", chain, "--tls-key", key]].concat();
        let error = Server::start(Config::try_parse_from(flags).unwrap()).await.unwrap_err();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            write!(text, ": {error}").unwrap();
            source = error.source();
        }
        assert!(text.contains("--tls-cert") && text.contains(names), "{text}");
    }
    assert!(Config::try_parse_from(["x", "--tls-cert", &chain]).is_err(), "without its key");
}
