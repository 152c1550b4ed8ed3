//! The smallest server: a clock that everybody sees, over WebSocket, without Kafka.
//!
//! ```text
//! cargo run -p examples --example hello
//! ```
//!
//! then open <http://127.0.0.1:3000>, and in the console of that page:
//!
//! ```text
//! ws = new WebSocket('ws://127.0.0.1:3000/ws', ['fanout.v1', 'bearer.ann'])
//! ws.onmessage = (m) => console.log(m.data)
//! ```

use std::time::Duration;

use axum::{Router, extract::Request, routing::get};
use fanout::{
    Access, Emission, Event, Hub, Identity, MemorySource, Pipeline, RoleAccess, Room, RouteError,
};
use futures::future::{BoxFuture, FutureExt, ready};
use ws_sink::auth::{AuthError, Authenticator, Credential};
use ws_sink::{Sockets, Ws};

/// Believes everybody: the token is the name. Real ones check a signature, see
/// [`ws_sink::auth::Hs256`].
struct Believer;

impl Authenticator for Believer {
    fn authenticate<'a>(
        &'a self,
        credential: Credential<'a>,
    ) -> BoxFuture<'a, Result<Identity, AuthError>> {
        ready(match credential {
            Credential::Bearer(name) => Ok(Identity::new(name, ["guest"])),
            _ => Err(AuthError::Invalid("there are no tickets here")),
        })
        .boxed()
    }
}

fn route(event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
    out.push(Emission::new(Room::new("lobby")?, "tick", event.json()?));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let access = Access::new([RoleAccess::new("guest").joins("lobby")])?;
    let hub = Hub::builder(access).readiness(Sockets::new).build()?;

    let (clock, source) = MemorySource::new("clock");
    tokio::spawn(Pipeline::new(source, route, hub.clone()).run());
    tokio::spawn(async move {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        for n in 0_u64.. {
            seconds.tick().await;
            if clock.send(&n).await.is_err() {
                return;
            }
        }
    });

    let ws = Ws::new(&hub, Believer);
    let app = Router::new()
        .route("/", get(async || "open the console of this page"))
        .route("/ws", get(async move |request: Request| ws.upgrade(request)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("ws://{}/ws", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
