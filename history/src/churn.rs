//! Rights that come and go: somebody, a role of theirs or a connection is revoked at some
//! server, by who runs the shop; staff are given other roles.

use std::sync::Arc;
use std::time::Duration;

use order_server::access::ADMIN;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::http;
use crate::people::{LONG, POSTS};
use crate::rng::Rng;
use crate::world::World;

/// How long servers may take to hear of everything, once there is peace.
const HEARD: Duration = Duration::from_secs(60);
/// Pulses that a server has to know in peace: the first may have been written before.
const PULSES: usize = 3;

/// Takes rights away and gives them, until `end`.
pub(crate) async fn churn(world: Arc<World>, end: Instant) {
    let mut rng = world.rng.of("rights");
    // Whoever is asked may not answer: that holds up nobody.
    let mut asked = JoinSet::new();
    loop {
        let pause = rng.millis(500, 2_500);
        if Instant::now() + pause > end {
            break;
        }
        tokio::time::sleep(pause).await;
        let revocation = match rng.below(10) {
            0..4 => subject(&world, &mut rng),
            4..7 => role(&world, &mut rng),
            7..8 => connection(&world, &mut rng),
            _ => None,
        };
        match revocation {
            Some((what, body)) => {
                let node = rng.below(world.nodes.len());
                asked.spawn(revoke(world.clone(), node, what, body));
            }
            None => give(&world, &mut rng),
        }
        while asked.try_join_next().is_some() {}
    }
    while asked.join_next().await.is_some() {}
}

/// What is counted, and what is asked for.
type Revocation = (&'static str, Value);

/// Everything that somebody has is void.
fn subject(world: &World, rng: &mut Rng) -> Option<Revocation> {
    let people: Vec<_> = world.people.all().collect();
    let person = rng.pick(&people)?;
    world.people.revokes(&person.subject);
    Some(("revoked, subject", json!({"subject": person.subject})))
}

/// An admin is none any more, and stays what else they are; or becomes a support.
fn role(world: &World, rng: &mut Rng) -> Option<Revocation> {
    let admins = world.people.staff.iter();
    let is_admin = |subject: &str| world.people.roles(subject).iter().any(|role| role == ADMIN);
    let admins: Vec<_> = admins.filter(|person| is_admin(&person.subject)).collect();
    let person = rng.pick(&admins)?;
    // Before it is said: a token that is made meanwhile has no such role.
    let mut left = world.people.roles(&person.subject);
    left.retain(|role| role != ADMIN);
    if left.is_empty() {
        let post = 3 + rng.below(POSTS.len() - 3);
        left = POSTS[post].iter().map(|role| (*role).to_owned()).collect();
    }
    world.people.set_roles(&person.subject, left);
    world.people.revokes(&person.subject);
    Some(("revoked, role", json!({"subject": person.subject, "role": ADMIN})))
}

fn connection(world: &World, rng: &mut Rng) -> Option<Revocation> {
    let connections: Vec<String> = {
        let connections = world.connections.lock().expect("nobody panics with it");
        connections.values().cloned().collect()
    };
    let connection = rng.pick(&connections)?;
    Some(("revoked, connection", json!({"connection": connection})))
}

/// Somebody of the staff is something else from the next token on.
fn give(world: &World, rng: &mut Rng) {
    let Some(person) = rng.pick(&world.people.staff) else { return };
    // Admins more often than not, or soon nobody could be revoked.
    let post = if rng.percent(70) { rng.below(3) } else { rng.below(POSTS.len()) };
    let roles = POSTS[post].iter().map(|role| (*role).to_owned()).collect();
    world.people.set_roles(&person.subject, roles);
    world.tally.add("roles given");
}

/// Asks a server. Whether it was done is told by the control topic alone.
async fn revoke(world: Arc<World>, node: usize, what: &'static str, body: Value) {
    let addr = world.nodes[node].addr;
    let token = world.people.token(&world.people.boss.subject, LONG).text;
    let answer = http::ask(addr, "POST", "/api/revoke", Some(&token), Some(&body)).await;
    match answer {
        Some((202, _)) => world.tally.add(what),
        Some((503 | 429, _)) => world.tally.add("revocations refused"),
        None => world.tally.add("revocations without an answer"),
        Some((status, answer)) => {
            world.fault(format!("POST /api/revoke was answered with {status} {answer}"));
        }
    }
}

/// Waits until every server has heard of everything that was revoked.
pub(crate) async fn heard(world: &World) {
    let deadline = Instant::now() + HEARD;
    let known: Vec<usize> = (0..world.nodes.len()).map(|node| world.pulses.of(node)).collect();
    for (node, known) in known.into_iter().enumerate() {
        while world.pulses.of(node) < known + PULSES {
            if Instant::now() > deadline {
                let says = world.nodes[node].says().await;
                world.fault(format!("server {node} does not hear what is revoked; {says}"));
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
