// A node with a fixed key, and what it would give to clients.

use fanout::testing::Tokens;
use fanout::{Keyring, Lane};

pub fn lanes() -> impl Iterator<Item = Lane> {
    let topics = [("c", "orders"), ("c", "prices"), ("d", "orders")];
    topics.into_iter().flat_map(|(log, topic)| {
        [0, 1, 70].into_iter().map(move |partition| Lane::new(log, topic, partition))
    })
}

pub fn node() -> Tokens {
    let keys = Keyring::new('k', b"at least 32 bytes that nobody knows")
        .and_then(|keys| keys.accepting('o', b"other bytes, and again 32 at the least"));
    Tokens::new(keys.expect("good keys"), lanes())
}
