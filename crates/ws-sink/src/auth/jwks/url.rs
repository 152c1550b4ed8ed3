//! Keys from a URL, which a provider publishes them at.
//!
//! HTTPS only, as whoever can change the answer can sign; plain HTTP from this machine's
//! own addresses. Redirects are not followed, and nothing that a token says leads
//! anywhere: the URL is the configured one.

use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use http::header::{ACCEPT, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

use super::set::{KeySet, Secrets};
use super::source::{Loaded, Source};
use super::{JwksError, MAX_JWKS_BYTES};

type Https = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

pub(super) struct UrlSource {
    url: Uri,
    client: Https,
}

impl UrlSource {
    pub(super) fn new(url: &str) -> Result<Self, JwksError> {
        let url = checked(url)?;
        let provider = rustls::crypto::ring::default_provider();
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(provider)
            .map_err(JwksError::Roots)?
            .https_or_http()
            .enable_http1()
            .build();
        // Ten minutes lie between two requests: no connection waits for the next.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .pool_idle_timeout(Duration::ZERO)
            .build(connector);
        Ok(Self { url, client })
    }
}

impl Source for UrlSource {
    fn load(&self, _force: bool) -> BoxFuture<'static, Result<Loaded, JwksError>> {
        let (client, url) = (self.client.clone(), self.url.clone());
        async move { fetch(&client, url).await.map(Loaded::Set) }.boxed()
    }
}

async fn fetch(client: &Https, url: Uri) -> Result<KeySet, JwksError> {
    let request = Request::get(url)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, concat!("fanout/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|error| JwksError::Fetch(error.into()))?;
    let response = client.request(request).await.map_err(|error| JwksError::Fetch(error.into()))?;
    if response.status() != StatusCode::OK {
        return Err(JwksError::Status { status: response.status().as_u16() });
    }
    let body = Limited::new(response.into_body(), MAX_JWKS_BYTES);
    let json = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(JwksError::TooLarge),
        Err(error) => return Err(JwksError::Fetch(error)),
    };
    KeySet::read(&json, Secrets::Refused)
}

/// The URL, if keys may come from it. Errors do not repeat it: it may hold a password.
fn checked(url: &str) -> Result<Uri, JwksError> {
    let url: Uri = url.parse().map_err(|_| JwksError::Url("not a URL"))?;
    let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(JwksError::Url("it needs a scheme and a host"));
    };
    if authority.as_str().contains('@') {
        return Err(JwksError::Url("a name or password in it would be shown to others"));
    }
    let host = authority.host().trim_matches(['[', ']']);
    match scheme {
        "https" => Ok(url),
        "http" if host == "localhost" => Ok(url),
        "http" if host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()) => Ok(url),
        "http" => Err(JwksError::Url("`http` only from a loopback address: use `https`")),
        _ => Err(JwksError::Url("only `https` is taken")),
    }
}
