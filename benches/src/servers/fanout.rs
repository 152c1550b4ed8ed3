//! This library, as an application uses it: access policy, identities, hub, axum.
//!
//! Every client is in two rooms: one of its own, by its name, and the one that messages
//! are for, which it is in by its role or asks for.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::{Router, extract::Request, routing::get};
use fanout::{Access, Emission, Hub, Identity, Json, RoleAccess, Room, RoomError};
use futures::future::{BoxFuture, ready};
use tokio::runtime::Runtime;
use ws_sink::auth::{AuthError, Authenticator, Credential};
use ws_sink::{Sockets, Ws};

use super::Server;
use crate::clock;
use crate::message::{self, EVENT, Messages, ROOM};
use crate::run::Rooms;

struct Fanout {
    runtime: Runtime,
    hub: Hub,
    /// By what is drawn; the room of all is the only one, or not there.
    rooms: Vec<Room>,
}

/// Vouches for whoever shows anything, each by a name of his own.
#[derive(Default)]
pub(super) struct Everybody(AtomicU64);

impl Authenticator for Everybody {
    fn authenticate<'a>(&'a self, _: Credential<'a>) -> BoxFuture<'a, Result<Identity, AuthError>> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(ready(Ok(Identity::new(number.to_string(), ["user"]))))
    }
}

pub(super) fn start(
    listener: TcpListener,
    rooms: Rooms,
    clients: usize,
    shards: Option<usize>,
) -> io::Result<impl Server> {
    let runtime = Runtime::new()?;
    let user = RoleAccess::new("user").joins("user:{subject}");
    let (user, rooms): (_, Result<Vec<_>, RoomError>) = match rooms {
        Rooms::One => (user.joins(ROOM), [ROOM].into_iter().map(Room::new).collect()),
        Rooms::Each => {
            (user.may_join("r:*"), (0..clients).map(message::room).map(Room::new).collect())
        }
    };
    let access = Access::new([user]).map_err(io::Error::other)?;
    let entered = runtime.enter();
    let hub = Hub::builder(access).readiness(Sockets::new);
    let hub = if let Some(shards) = shards { hub.shards(shards) } else { hub };
    let hub = hub.build()?;
    let ws = Ws::new(&hub, Everybody::default());
    let app = Router::new().route("/ws", get(async move |request: Request| ws.upgrade(request)));
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    runtime.spawn(async move { axum::serve(listener, app).await });
    drop(entered);
    Ok(Fanout { runtime, hub, rooms: rooms.map_err(io::Error::other)? })
}

impl Server for Fanout {
    fn clients(&self) -> usize {
        self.hub.stats().connections
    }

    fn publish(&mut self, messages: &mut Messages, burst: usize) -> io::Result<()> {
        let now = clock::monotonic_ns();
        let mut emissions = Vec::with_capacity(burst);
        for _ in 0..burst {
            let drawn = messages.draw(now);
            let body = Json::parse(drawn.payload.to_vec().into()).map_err(io::Error::other)?;
            let room = self.rooms[drawn.room.unwrap_or_default()].clone();
            emissions.push(Emission::new(room, EVENT, body));
        }
        self.runtime.block_on(self.hub.publish(emissions)).map_err(io::Error::other)
    }
}
