//! What clients send as their cursor: as text, and as what stands behind the seal, which
//! no text reaches that was not made with the key.
#![no_main]

use std::collections::HashSet;
use std::sync::LazyLock;

use fanout::testing::Tokens;
use libfuzzer_sys::fuzz_target;

#[path = "../seeds.rs"]
mod seeds;

static NODE: LazyLock<Tokens> = LazyLock::new(seeds::node);

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        open(text);
    }
    let text = NODE.seal_bytes(data);
    if let Some(places) = open(&text) {
        assert_eq!(NODE.seal(places), text, "two texts say the same");
    }
});

fn open(text: &str) -> Option<Vec<fanout::testing::TokenPlace>> {
    let places = NODE.open(text)?;
    let lanes: HashSet<_> = places.iter().map(|(lane, ..)| lane).collect();
    assert_eq!(lanes.len(), places.len(), "a lane comes twice");
    assert!(lanes.iter().all(|lane| seeds::lanes().any(|known| known == **lane)));
    Some(places)
}
