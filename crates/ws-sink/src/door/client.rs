//! Whose connection it is, and whose request.
//!
//! A connection of a client is the client's. One of a trusted proxy carries requests of
//! many: it counts among all, and each request among those of the address that it is for,
//! until it is answered, or for as long as what it opened lives.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;

use super::DoorConfig;
use crate::admission::{Place, Refused};

/// Who sends a request: an extension of each that comes through a [`Door`](super::Door).
///
/// Whoever keeps it keeps the place that the connection has among those of its address.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Client {
    /// Where it comes from: the peer, or what a trusted proxy says.
    pub address: IpAddr,
    /// Whether a trusted proxy sends it: what that one adds to the headers is true.
    pub proxied: bool,
    held: Held,
}

/// The places of a client, until the last of its clones is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    _connection: Arc<Place>,
    _client: Option<Arc<Place>>,
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    address: IpAddr,
    proxy: bool,
    place: Arc<Place>,
}

impl Client {
    /// Its places alone.
    pub(crate) fn into_held(self) -> Held {
        self.held
    }
}

impl Peer {
    /// Takes a place for a connection.
    pub(super) fn enter(address: IpAddr, config: &DoorConfig) -> Result<Self, Refused> {
        let address = address.to_canonical();
        let proxy = config.trusted_proxies.contains(address);
        let place = config.admission.connection((!proxy).then_some(address))?;
        Ok(Self { address, proxy, place: Arc::new(place) })
    }

    /// Whom a request with these headers is from.
    pub(super) fn client(
        &self,
        headers: &HeaderMap,
        config: &DoorConfig,
    ) -> Result<Client, Refused> {
        let connection = self.place.clone();
        if !self.proxy {
            let held = Held { _connection: connection, _client: None };
            return Ok(Client { address: self.address, proxied: false, held });
        }
        let address = match config.trusted_proxies.client(headers) {
            Ok(address) => address.unwrap_or(self.address),
            Err(error) => {
                metrics::counter!("fanout_door_bad_forwarded_total").increment(1);
                tracing::debug!(%error, proxy = %self.address, "counted for the proxy");
                self.address
            }
        };
        let client = Some(Arc::new(config.admission.client(address)?));
        let held = Held { _connection: connection, _client: client };
        Ok(Client { address, proxied: true, held })
    }
}
