//! Writes the corpus that the target `cursor` begins with.

use std::fs;

#[path = "../seeds.rs"]
mod seeds;

fn main() -> std::io::Result<()> {
    let node = seeds::node();
    let lanes: Vec<_> = seeds::lanes().collect();
    let at = |lane: usize, offset| node.at((lanes[lane].clone(), offset, 1));
    let places = |n: usize| lanes.iter().take(n).map(|lane| (lane.clone(), 1_000_000, 0));
    let between = (lanes[2].clone(), u64::MAX, u32::MAX);
    // Behind the seal: no lane, and one of a topic that is not known.
    let unknown = [&[1][..], b"nobody's", &[1, 4, 0x89, 0x80, 0x80, 0x80, 0]].concat();
    let seeds = [
        ("at", at(0, 7)),
        ("whole-empty", node.seal([])),
        ("whole-three", node.seal(places(3))),
        ("whole-all", node.seal(places(9).chain([between.clone()]))),
        ("whole-and-ats", format!("{},{},{}", node.seal(places(9)), at(0, 1_000_001), at(8, 3))),
        ("unknown-topic", node.seal_bytes(&unknown)),
        ("cut", node.seal(places(3))[..30].to_owned()),
    ];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/cursor");
    fs::create_dir_all(folder)?;
    for (name, text) in seeds {
        fs::write(format!("{folder}/{name}"), text)?;
    }
    // Whole cursors before they are sealed, for what stands behind the seal.
    let unsealed = [
        ("unsealed-empty", node.unsealed([])),
        ("unsealed-three", node.unsealed(places(3))),
        ("unsealed-all", node.unsealed(places(9).chain([between]))),
        ("unsealed-unknown", unknown),
    ];
    for (name, bytes) in unsealed {
        fs::write(format!("{folder}/{name}"), bytes)?;
    }
    Ok(())
}
