//! This library, as an application uses it: access policy, identities, hub, axum.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::{Router, extract::Request, routing::get};
use fanout::{Access, Emission, Hub, Identity, Json, RoleAccess, Room};
use futures::future::{BoxFuture, ready};
use tokio::runtime::Runtime;
use ws_sink::auth::{AuthError, Authenticator, Credential};
use ws_sink::{Sockets, Ws};

use super::Server;
use crate::clock;
use crate::message::{EVENT, Messages, ROOM};

struct Fanout {
    runtime: Runtime,
    hub: Hub,
    room: Room,
}

/// Vouches for whoever shows anything, each by a name of his own.
#[derive(Default)]
struct Everybody(AtomicU64);

impl Authenticator for Everybody {
    fn authenticate<'a>(&'a self, _: Credential<'a>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(ready(Ok(Identity::new(number.to_string(), ["user"]))))
    }
}

pub(super) fn start(listener: TcpListener) -> io::Result<impl Server> {
    let runtime = Runtime::new()?;
    let access = Access::new([RoleAccess::new("user").joins("user:{subject}").joins(ROOM)]);
    let entered = runtime.enter();
    let hub = Hub::builder(access.map_err(io::Error::other)?).readiness(Sockets::new).build()?;
    let ws = Ws::new(&hub, Everybody::default());
    let app = Router::new().route("/ws", get(async move |request: Request| ws.upgrade(request)));
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    runtime.spawn(async move { axum::serve(listener, app).await });
    drop(entered);
    Ok(Fanout { runtime, hub, room: Room::new(ROOM).map_err(io::Error::other)? })
}

impl Server for Fanout {
    fn clients(&self) -> usize {
        self.hub.stats().connections
    }

    fn publish(&mut self, messages: &mut Messages, burst: usize) -> io::Result<()> {
        let now = clock::monotonic_ns();
        let mut emissions = Vec::with_capacity(burst);
        for _ in 0..burst {
            let body = Json::parse(messages.payload(now).to_vec().into());
            let body = body.map_err(io::Error::other)?;
            emissions.push(Emission::new(self.room.clone(), EVENT, body));
        }
        self.runtime.block_on(self.hub.publish(emissions)).map_err(io::Error::other)
    }
}
