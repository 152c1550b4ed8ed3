//! Who may see what, from outside: the real server, asked by strangers.
//!
//! ```text
//! headers.rs  what browsers are told, cookies, metrics
//! roles.rs    support, which sees no price
//! control.rs  the topic that revocations are told by, which cannot be read
//! revoke.rs   rights that are taken away, on all servers
//! tokens.rs   keys of others, and their rotation
//! tls.rs      https and wss
//! limits.rs   each flag of the door
//! logs.rs     what nobody may read in a log
//! ```

#![allow(missing_docs, reason = "a test")]

mod control;
mod headers;
mod limits;
mod logs;
mod raw;
mod revoke;
mod roles;
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod tokens;

use order_server::server::Running;
use support::{Client, start, until};

/// A server that lets clients in.
async fn ready(flags: &[&str]) -> Running {
    let server = start(flags).await;
    is_ready(&Client::nobody(&server)).await;
    server
}

async fn is_ready(nobody: &Client) {
    until("ready", async || (nobody.get("/readyz").await.status == 200).then_some(())).await;
}

/// Somebody of this role, by the development login.
async fn somebody(server: &Running, email: &str, role: &str) -> Client {
    let nobody = Client::nobody(server);
    let login = serde_json::json!({"email": email, "role": role});
    let answer = nobody.post("/api/login", &login).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    nobody.bearer(answer.json()["token"].as_str().unwrap())
}
