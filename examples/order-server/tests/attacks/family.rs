//! What all families have in common: a server, a bystander, and what is left afterwards.

use std::ops::AsyncFn;
use std::time::Instant;

use crate::bystander::Bystander;
use crate::support::DEADLINE;
use crate::target::Target;

/// Attacks a server with these flags.
pub(crate) async fn attacked(flags: &[&str], attack: impl AsyncFn(&Target)) {
    let target = Target::start(flags).await;
    let bystander = Bystander::comes(&target).await;
    withstands(target, bystander, attack).await;
}

/// Attacks this one, where somebody is who must not notice.
///
/// All of it is done twice: at the first time the server gets what it needs for so many at
/// once, of which its allocator keeps some; the second must cost nothing more.
pub(crate) async fn withstands(
    target: Target,
    bystander: Bystander,
    attack: impl AsyncFn(&Target),
) {
    attack(&target).await;
    // The bystander's connections are in it.
    let before = target.settled().await;
    let (mut told, deadline) = (bystander.orders(), Instant::now() + DEADLINE);
    attack(&target).await;
    while bystander.orders() == told {
        // A short one, in which nobody had the time to be told of anything.
        assert!(Instant::now() < deadline, "nothing was delivered during the attack");
        target.settled().await;
        told = bystander.orders();
        attack(&target).await;
    }
    bystander.is_told(3).await;
    target.settles(before).await;
    let mut three = bystander.pauses().await;
    three.round().await;
    drop(three);
    target.end().await;
}
