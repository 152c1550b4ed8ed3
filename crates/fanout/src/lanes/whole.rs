//! What a whole cursor says, before it is sealed.
//!
//! ```text
//!  whole  = version 1, topic*              in the order of their tags
//!  topic  = 8 bytes of tag, n, lane{n}     n > 0; in the order of partitions
//!  lane   = partition, offset, emission?
//! ```
//!
//! Numbers are LEB128, seven bits a byte, the lowest first. A partition is how many were
//! left out since the one before, twice, and one more where an emission follows, which it
//! does where that is not zero. An offset has at least five bytes: the length of a token
//! can be seen by everybody and must not grow with the business.
//!
//! There is one way to say a thing and no other is read. Sealing already refuses what a
//! node did not write; this refuses what another version wrote.

use crate::keys::TopicTag;
use crate::position::Position;

const VERSION: u8 = 1;
const OFFSET_BYTES: usize = 5;

/// A place by what a key calls its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) topic: TopicTag,
    pub(super) partition: u32,
    pub(super) position: Position,
}

/// Writes places that are in order, each lane once.
pub(super) fn encode(places: &[Place]) -> Vec<u8> {
    let mut out = vec![VERSION];
    for topic in places.chunk_by(|a, b| a.topic == b.topic) {
        out.extend(topic[0].topic);
        put(&mut out, topic.len() as u64, 1);
        let mut next = 0;
        for Place { partition, position, .. } in topic {
            let partition = u64::from(*partition);
            put(&mut out, (partition - next) << 1 | u64::from(position.emission != 0), 1);
            put(&mut out, position.offset, OFFSET_BYTES);
            if position.emission != 0 {
                put(&mut out, position.emission.into(), 1);
            }
            next = partition + 1;
        }
    }
    out
}

/// Reads what [`encode`] writes, and nothing else.
pub(super) fn decode(whole: &[u8]) -> Option<Vec<Place>> {
    let (version, mut bytes) = whole.split_first()?;
    if *version != VERSION {
        return None;
    }
    let mut places: Vec<Place> = Vec::new();
    while !bytes.is_empty() {
        let topic: TopicTag;
        (topic, bytes) = bytes.split_first_chunk().map(|(tag, rest)| (*tag, rest))?;
        if places.last().is_some_and(|last| last.topic >= topic) {
            return None;
        }
        let lanes = take(&mut bytes, 1).filter(|lanes| *lanes > 0)?;
        let mut next: u64 = 0;
        // Ends with the bytes, whatever number was read.
        for _ in 0..lanes {
            let skipped = take(&mut bytes, 1)?;
            let partition = u32::try_from(next.checked_add(skipped >> 1)?).ok()?;
            let offset = take(&mut bytes, OFFSET_BYTES)?;
            let emission = match skipped & 1 {
                0 => 0,
                _ => u32::try_from(take(&mut bytes, 1)?).ok().filter(|n| *n != 0)?,
            };
            places.push(Place { topic, partition, position: Position { offset, emission } });
            next = u64::from(partition) + 1;
        }
    }
    Some(places)
}

/// Writes a number in at least `min` bytes.
fn put(out: &mut Vec<u8>, mut number: u64, min: usize) {
    for n in 1.. {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 && n >= min {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// Reads a number that has at least `min` bytes, and no more than it needs beyond.
fn take(bytes: &mut &[u8], min: usize) -> Option<u64> {
    let mut number = 0;
    for n in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        // The tenth byte has the one bit that is left of 64.
        if n == 9 && low > 1 {
            return None;
        }
        number |= low << (7 * n);
        if byte & 0x80 == 0 {
            let needed = n + 1 == min || low != 0;
            return (n + 1 >= min && needed).then_some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn place() -> impl Strategy<Value = Place> {
        let tag = (0..3_u8).prop_map(|tag| [tag; 8]);
        let partition = prop_oneof![4 => 0..6_u32, 1 => any::<u32>(), 1 => Just(u32::MAX)];
        let offset = prop_oneof![0..300_u64, any::<u64>(), Just(u64::MAX)];
        let emission = prop_oneof![2 => Just(0), 1 => 1..300_u32, 1 => any::<u32>()];
        (tag, partition, offset, emission).prop_map(|(topic, partition, offset, emission)| Place {
            topic,
            partition,
            position: Position { offset, emission },
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(mut places in vec(place(), 0..20)) {
            places.sort_unstable();
            places.dedup_by_key(|place| (place.topic, place.partition));
            let bytes = encode(&places);
            prop_assert_eq!(decode(&bytes), Some(places));
            for cut in 0..bytes.len() {
                // Only where a topic ends may a shorter one be whole.
                let shorter = decode(&bytes[..cut]);
                prop_assert!(shorter.is_none_or(|shorter| encode(&shorter) == bytes[..cut]));
            }
        }

        #[test]
        fn there_is_one_way_to_say_it(mut bytes in vec(prop_oneof![Just(0_u8), Just(0x80), 0..4_u8, any::<u8>()], 0..40)) {
            bytes.insert(0, VERSION);
            if let Some(places) = decode(&bytes) {
                prop_assert!(places.is_sorted());
                prop_assert_eq!(encode(&places), bytes);
            }
        }
    }

    #[test]
    fn other_ways_to_say_it_are_refused() {
        let lane =
            |head: &[u8], offset: &[u8]| [&[1, 7, 7, 7, 7, 7, 7, 7, 7, 1], head, offset].concat();
        let five = [0x89, 0x80, 0x80, 0x80, 0];
        let place = |emission| Place {
            topic: [7; 8],
            partition: 2,
            position: Position { offset: 9, emission },
        };
        assert_eq!(decode(&[1]), Some(Vec::new()));
        assert_eq!(decode(&lane(&[4], &five)), Some(vec![place(0)]));
        assert_eq!(decode(&[lane(&[5], &five), vec![3]].concat()), Some(vec![place(3)]));
        let bad = [
            ("nothing", vec![]),
            ("another version", vec![2]),
            ("no lanes", vec![1, 7, 7, 7, 7, 7, 7, 7, 7, 0]),
            ("a long partition", lane(&[0x84, 0], &five)),
            ("a short offset", lane(&[4], &[9])),
            ("a long offset", lane(&[4], &[0x89, 0x80, 0x80, 0x80, 0x80, 0])),
            ("no emission", [lane(&[5], &five), vec![0]].concat()),
            ("a large emission", [lane(&[5], &five), vec![0xff, 0xff, 0xff, 0xff, 0x1f]].concat()),
            ("a large partition", lane(&[0x80, 0x80, 0x80, 0x80, 0x20], &five)),
            ("more than 64 bits", lane(&[4], &[[0x80; 9].as_slice(), &[2]].concat())),
            ("eleven bytes", lane(&[4], &[[0x80; 10].as_slice(), &[1]].concat())),
            ("something behind", [lane(&[4], &five), vec![0]].concat()),
            ("a topic twice", [lane(&[4], &five), lane(&[4], &five)[1..].to_vec()].concat()),
        ];
        for (what, bytes) in bad {
            assert_eq!(decode(&bytes), None, "{what}");
        }
    }
}
