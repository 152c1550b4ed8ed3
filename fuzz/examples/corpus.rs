//! Writes what the targets begin with that is more than text: `cursor` and `codec`. The
//! others' is written by hand.

use std::fs;
use std::io;

#[path = "../frames.rs"]
#[allow(dead_code)] // Read by the target.
mod frames;
#[path = "../seeds.rs"]
mod seeds;

fn main() -> io::Result<()> {
    write("cursor", cursors())?;
    write("codec", codec())
}

fn write(target: &str, seeds: Vec<(&str, Vec<u8>)>) -> io::Result<()> {
    let folder = format!("{}/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(&folder)?;
    seeds.into_iter().try_for_each(|(name, bytes)| fs::write(format!("{folder}/{name}"), bytes))
}

fn cursors() -> Vec<(&'static str, Vec<u8>)> {
    let node = seeds::node();
    let lanes: Vec<_> = seeds::lanes().collect();
    let at = |lane: usize, offset| node.at((lanes[lane].clone(), offset, 1));
    let places = |n: usize| lanes.iter().take(n).map(|lane| (lane.clone(), 1_000_000, 0));
    let between = (lanes[2].clone(), u64::MAX, u32::MAX);
    // Behind the seal: no lane, and one of a topic that is not known.
    let unknown = [&[1][..], b"nobody's", &[1, 4, 0x89, 0x80, 0x80, 0x80, 0]].concat();
    let whole_and_ats = format!("{},{},{}", node.seal(places(9)), at(0, 1_000_001), at(8, 3));
    vec![
        ("at", at(0, 7).into()),
        ("whole-empty", node.seal([]).into()),
        ("whole-three", node.seal(places(3)).into()),
        ("whole-all", node.seal(places(9).chain([between.clone()])).into()),
        ("whole-and-ats", whole_and_ats.into()),
        ("unknown-topic", node.seal_bytes(&unknown).into()),
        ("cut", node.seal(places(3)).as_bytes()[..30].to_vec()),
        // Whole cursors before they are sealed, for what stands behind the seal.
        ("unsealed-empty", node.unsealed([])),
        ("unsealed-three", node.unsealed(places(3))),
        ("unsealed-all", node.unsealed(places(9).chain([between]))),
        ("unsealed-unknown", unknown),
    ]
}

/// What a client may say, each as bytes that stand on the wire and as frames to be made.
fn codec() -> Vec<(&'static str, Vec<u8>)> {
    use frames::{BINARY, EIGHT, FRAMES, LONG, MASKED, SMALL, TWO, WRONG};

    const TEXT: u8 = 0x81;
    let wire = |flags: u8, reads: &[u8], frames: &[(u8, u8, &[u8])]| {
        let mut out = vec![flags, reads.len() as u8 / 2];
        out.extend(reads);
        for (first, how, payload) in frames {
            frames::frame(&mut out, *first, *how, payload);
        }
        out
    };
    let made = |flags: u8, reads: &[u8], frames: &[(u8, u8, &[u8])]| {
        let mut out = vec![flags | FRAMES, reads.len() as u8 / 2];
        out.extend(reads);
        for (first, how, payload) in frames {
            out.extend([*first, *how, payload.len() as u8]);
            out.extend(*payload);
        }
        out
    };
    let one_by_one = &[0, 0][..];
    let fragments = [(1, MASKED, &b"h\xc3"[..]), (0, MASKED, b""), (0x80, MASKED, b"\xa9!")];
    let between = [(1, MASKED, &b"a"[..]), (0x89, MASKED, b"p"), (0x80, MASKED, b"b")];
    let three = [(TEXT, MASKED, &b"one"[..]), (0x8a, MASKED, b"two"), (TEXT, MASKED, b"three")];
    vec![
        ("wire-text", wire(0, &[], &[(TEXT, MASKED, b"hello")])),
        ("wire-empty", wire(0, one_by_one, &[(TEXT, MASKED, b"")])),
        ("wire-fragments", wire(0, &[3, 0], &fragments)),
        ("wire-ping-between", wire(0, one_by_one, &between)),
        ("wire-close", wire(0, &[], &[(0x88, MASKED, b"\x03\xe8bye"), (TEXT, MASKED, b"x")])),
        ("wire-binary", wire(BINARY, &[], &[(0x82, MASKED, b"\0\xff")])),
        ("wire-unmasked", wire(0, &[], &[(TEXT, 0, b"hi")])),
        ("wire-promises", wire(0, one_by_one, &[(TEXT, MASKED | WRONG, b"x")])),
        ("text", made(0, &[], &[(TEXT, MASKED, b"hello")])),
        ("text-126", made(0, &[200, 0], &[(TEXT, MASKED | LONG, b"0123456789")])),
        ("text-65536", made(0, &[], &[(TEXT, MASKED | LONG, &[b'x'; 255])])),
        ("text-not-utf8", made(0, one_by_one, &[(TEXT, MASKED, b"a\xed\xa0\x80")])),
        ("three-one-by-one", made(0, one_by_one, &three)),
        ("three-one-taken", made(0, &[255, 0], &three)),
        ("fragments", made(0, one_by_one, &fragments)),
        ("fragments-too-many", made(SMALL, &[], &[fragments[0], fragments[1], fragments[1]])),
        ("fragments-too-large", made(SMALL, &[], &[(1, MASKED, &[b'x'; 100]), fragments[2]])),
        ("ping-between", made(0, &[1, 1, 9, 0], &between)),
        ("nothing-to-continue", made(0, &[], &[(0x80, MASKED, b"x")])),
        ("unfinished", made(0, &[], &[(1, MASKED, b"x"), (TEXT, MASKED, b"y")])),
        ("two-for-one", made(0, &[], &[(TEXT, MASKED | TWO, b"x")])),
        ("eight-for-one", made(0, one_by_one, &[(TEXT, MASKED | EIGHT, b"x")])),
        ("promises", made(0, &[], &[(TEXT, MASKED | WRONG, b"x")])),
        ("ping-too-long", made(0, &[], &[(0x89, MASKED, &[0; 126])])),
        ("ping-fragmented", made(0, &[], &[(9, MASKED, b"")])),
        ("reserved-bits", made(0, &[], &[(0xc1, MASKED, b"")])),
        ("reserved-opcode", made(0, &[], &[(0x83, MASKED, b""), (0x8b, MASKED, b"")])),
        ("close-empty", made(0, &[], &[(0x88, MASKED, b"")])),
        ("close-half", made(0, &[], &[(0x88, MASKED, b"\x03")])),
        ("close-1005", made(0, &[], &[(0x88, MASKED, b"\x03\xed")])),
        ("close-not-utf8", made(0, &[], &[(0x88, MASKED, b"\x03\xe8\xff")])),
        ("binary-where-none-is", made(0, &[], &[(0x82, MASKED, b"x")])),
        ("binary-fragments", made(BINARY, &[2, 0], &[(2, MASKED, b"\xff"), (0x80, MASKED, b"")])),
    ]
}
