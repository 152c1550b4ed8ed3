use std::collections::{BTreeMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const OLD: &[u8] = b"at least 32 bytes that nobody knows";
const NEW: &[u8] = b"other bytes, and again 32 at the least";

fn node(keys: Keyring, lanes: impl IntoIterator<Item = Lane>) -> Lanes {
    let node = Lanes::new(keys);
    lanes.into_iter().for_each(|lane| drop(node.intern(&Arc::new(lane))));
    node
}

fn old() -> Keyring {
    Keyring::new('k', OLD).unwrap()
}

fn lanes() -> Vec<Lane> {
    let topics = [("c", "orders"), ("c", "prices"), ("d", "orders")];
    topics.iter().flat_map(|(log, t)| (0..4).map(|p| Lane::new(*log, *t, p * p * p))).collect()
}

/// A place of the lane numbered so in [`lanes`].
fn place(lane: u32, offset: u64) -> (LaneId, Position) {
    (LaneId(lane), Position::before(offset))
}

fn at(node: &Lanes, lane: u32, offset: u64) -> String {
    node.get(LaneId(lane)).unwrap().at(Position { offset, emission: 1 }).to_string()
}

fn bits(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// Which part of the bits is another one.
fn difference(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let differ: u32 = a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum();
    f64::from(differ) / (8 * a.len()) as f64
}

#[test]
fn a_lane_has_one_number() {
    let node = node(old(), lanes());
    let again = node.intern(&Arc::new(lanes()[5].clone()));
    assert_eq!(
        (again.id, &*again.lane, node.get(LaneId(12)).is_none()),
        (LaneId(5), &lanes()[5], true)
    );
    assert!(node.get(LaneId(11)).is_some() && node.get(LaneId(12)).is_none());
}

/// The texts of a fixed key: they may not change, since clients and other nodes have them.
#[test]
fn tokens_stay_what_they_are() {
    let node = node(old(), (0..3).map(|p| Lane::new("cluster/7", "orders", p)));
    let at = node.get(LaneId(1)).unwrap().at(Position { offset: 1_000_001, emission: 1 });
    assert_eq!(at.as_str(), "kpOIP5l.kNKfRBhgcaa-t_AgKFuB2g");
    let cursor = node.seal([place(0, 1_000_000), place(1, 1_000_001), place(2, 999_000)]).unwrap();
    assert_eq!(cursor.as_str(), "kBtOzFy1D6EPIQU3rodO4D0rjuGt_uYTSmea0BRbG-yLrUETmQcGnilkE-Y0");
    assert_eq!(cursor.as_str().len(), 60);
}

#[test]
fn a_node_that_has_read_nothing_has_a_cursor() {
    let node = node(old(), []);
    let cursor = node.seal([]).unwrap();
    assert_eq!(node.open(cursor.as_str()), Ok(Vec::new()));
}

#[test]
fn the_latest_place_of_each_lane_counts() {
    let node = node(old(), lanes());
    let both = [(LaneId(2), Position { offset: 7, emission: 2 }), place(2, 7), place(0, 1)];
    let whole = node.seal(both).unwrap();
    assert_eq!(node.open(whole.as_str()).unwrap(), [place(0, 1), both[0]]);
    let (later, earlier) = (at(&node, 2, 8), at(&node, 0, 0));
    let expected = vec![place(0, 1), (LaneId(2), Position { offset: 8, emission: 1 })];
    for text in [format!("{whole},{later},{earlier}"), format!("{earlier},{later},{whole}")] {
        assert_eq!(node.open(&text), Ok(expected.clone()));
    }
}

#[test]
fn an_old_key_opens_and_never_seals() {
    let before = node(old(), lanes());
    let keys = Keyring::new('n', NEW).unwrap().accepting('k', OLD).unwrap();
    let after = node(keys, lanes());
    let text = format!("{},{}", before.seal([place(3, 9)]).unwrap(), at(&before, 4, 9));
    assert_eq!(after.open(&text), before.open(&text));
    assert_eq!(after.open(&text).unwrap().len(), 2);
    for text in [after.seal([place(3, 9)]).unwrap().to_string(), at(&after, 3, 9)] {
        assert!(text.starts_with('n'), "{text}");
        assert!(after.open(&text).is_ok());
        assert_eq!(before.open(&text), Err(CursorError::Unreadable));
    }
}

#[test]
fn another_secret_of_the_same_id_is_refused() {
    let (here, there) = (node(old(), lanes()), node(Keyring::new('k', NEW).unwrap(), lanes()));
    let whole = there.seal([place(0, 9)]).unwrap();
    assert_eq!(here.open(whole.as_str()), Err(CursorError::Unreadable));
    // Under another secret the lane has another name.
    assert_eq!(here.open(&at(&there, 0, 9)), Err(CursorError::UnknownLane));
}

#[test]
fn a_lane_that_is_not_known_is_told_apart() {
    let (here, there) = (node(old(), lanes()), node(old(), [Lane::new("c", "orders", 2)]));
    for text in [there.seal([place(0, 9)]).unwrap().to_string(), at(&there, 0, 9)] {
        assert_eq!(here.open(&text), Err(CursorError::UnknownLane));
        assert!(there.open(&text).is_ok());
    }
}

#[test]
fn what_is_no_cursor_is_refused() {
    let node = node(old(), lanes());
    let (whole, at) = (node.seal([place(0, 9)]).unwrap().to_string(), at(&node, 0, 9));
    let name = &at[..8];
    let refused = [
        String::new(),
        ",".to_owned(),
        format!(",{whole}"),
        format!("{whole},"),
        format!("{whole},,{at}"),
        format!("{whole} "),
        format!("{whole}{at}"),
        format!("{whole}, {at}"),
        "k".to_owned(),
        name.to_owned(),
        format!("{name}{}", "A".repeat(22)),
        format!("{name}{}", "é".repeat(11)),
        "k1234é.".to_owned(),
        format!("{name}0-1"),
        format!("{at}{}", "A".repeat(1000)),
        node.seal_bytes(Vec::new()),
        node.seal_bytes(vec![2]),
        node.seal_bytes(vec![1, 0]),
    ];
    for text in refused {
        assert_eq!(node.open(&text), Err(CursorError::Unreadable), "{text}");
    }
    let full = vec![at.as_str(); 264].join(",");
    assert!(full.len() <= MAX_CURSOR_BYTES && node.open(&full).is_ok());
    let long = format!("{full}{}", &at[..MAX_CURSOR_BYTES + 1 - full.len()]);
    assert_eq!(node.open(&long), Err(CursorError::TooLong));
}

/// Every text that is one change away from a token is refused: a byte replaced, left out
/// or put in, anything cut from either end.
#[test]
fn what_was_tampered_with_is_refused() {
    // The other key has the same secret: an id is more than a name for a secret.
    let node = node(old().accepting('x', OLD).unwrap(), lanes());
    let characters: Vec<String> = (0..128_u8).map(|c| char::from(c).into()).collect();
    for token in [node.seal([place(0, 9), place(5, 70_000)]).unwrap().to_string(), at(&node, 3, 9)]
    {
        assert!(node.open(&token).is_ok());
        for i in 0..token.len() {
            let (head, tail) = token.split_at(i);
            for cut in [head.to_owned(), tail.to_owned(), format!("{head}{}", &tail[1..])] {
                assert!(cut == token || node.open(&cut).is_err(), "{cut}");
            }
            for c in &characters {
                let replaced = format!("{head}{c}{}", &tail[1..]);
                assert!(replaced == token || node.open(&replaced).is_err(), "{replaced}");
                let put_in = format!("{head}{c}{tail}");
                assert!(node.open(&put_in).is_err(), "{put_in}");
            }
        }
        for c in &characters {
            assert!(node.open(&format!("{token}{c}")).is_err(), "{c:?}");
        }
    }
}

#[test]
fn a_place_is_of_its_lane_alone() {
    let node = node(old(), lanes());
    let (a, b) = (at(&node, 0, 9), at(&node, 1, 9));
    for text in [format!("{}{}", &a[..8], &b[8..]), format!("{}{}", &b[..8], &a[8..])] {
        assert_eq!(node.open(&text), Err(CursorError::Unreadable), "{text}");
    }
}

#[test]
fn lanes_of_one_name_are_told_apart() {
    let node = node(old(), []);
    let lanes = [0, 1, 2].map(|partition| Arc::new(Lane::new("c", "orders", partition)));
    let name = *b"shared";
    let known = lanes.map(|lane| {
        let key = &node.keys[0];
        let keyed = KeyedLane { topic: key.topic(&lane), key: key.lane(&lane).renamed(name) };
        node.known.write().unwrap().insert(&lane, vec![keyed].into())
    });
    for lane in &known {
        let position = Position { offset: 9, emission: lane.id.0 };
        let text = lane.at(position).to_string();
        assert_eq!(text.split_once('.').unwrap().0, "kshared");
        assert_eq!(node.open(&text), Ok(vec![(lane.id, position)]));
    }
}

#[test]
fn a_closed_lane_has_no_name_and_then_no_number() {
    let node = node(old().accepting('x', NEW).unwrap(), lanes());
    let (cursor, text) = (node.seal([place(5, 7), place(6, 7)]).unwrap(), at(&node, 5, 7));
    assert_eq!(node.close(&lanes()[5]), Some(LaneId(5)));
    assert_eq!(node.close(&lanes()[5]), None);
    for text in [cursor.as_str(), &text] {
        assert_eq!(node.open(text), Err(CursorError::UnknownLane));
    }
    // Who stands before its end still says so.
    assert_eq!(node.seal([place(5, 7), place(6, 7)]), Some(cursor.clone()));
    node.forget(LaneId(5));
    assert_eq!((node.seal([place(5, 7)]), node.get(LaneId(5)).is_none()), (None, true));
    assert_eq!(node.open(node.seal([place(6, 7)]).unwrap().as_str()), Ok(vec![place(6, 7)]));
    // Again, it is another of the same name.
    let again = node.intern(&Arc::new(lanes()[5].clone()));
    assert_eq!(again.id, LaneId(12));
    assert_eq!(node.open(&text), Ok(vec![(again.id, Position { offset: 7, emission: 1 })]));
    assert_eq!(node.open(cursor.as_str()), Ok(vec![place(6, 7), place(12, 7)]));
}

#[test]
fn what_was_closed_costs_nothing() {
    let node = node(old(), lanes());
    for n in 0..1000 {
        let lane = Arc::new(Lane::new(format!("log {n}"), "t", 0));
        let id = node.intern(&lane).id;
        assert_eq!(node.close(&lane), Some(id));
        node.forget(id);
    }
    let known = node.known.read().unwrap();
    assert_eq!((known.lanes.len(), known.numbers.len()), (12, 12));
    let names = known.named[0].by_name.values().map(SmallVec::len).sum::<usize>();
    assert_eq!((names, known.named[0].by_topic.len()), (12, 12));
}

#[test]
fn of_two_lanes_of_one_name_one_is_closed() {
    let node = node(old(), []);
    let lanes = [0, 1].map(|partition| Arc::new(Lane::new("c", "orders", partition)));
    let known = lanes.clone().map(|lane| {
        let key = &node.keys[0];
        let keyed = KeyedLane { topic: key.topic(&lane), key: key.lane(&lane).renamed(*b"shared") };
        node.known.write().unwrap().insert(&lane, vec![keyed].into())
    });
    let [a, b] = known.map(|lane| lane.at(Position::before(9)).to_string());
    node.close(&lanes[0]);
    assert_eq!(node.open(&a), Err(CursorError::Unreadable));
    assert_eq!(node.open(&b), Ok(vec![place(1, 9)]));
}

/// The limit is what the docs of it say.
#[test]
fn a_thousand_lanes_fit_into_a_cursor() {
    let (most, last) = (1019, (1 << 35) - 1);
    let node = node(old(), (0..=most).map(|partition| Lane::new("c", "orders", partition)));
    let cursor =
        |lanes: u32, offset| node.seal((0..lanes).map(|lane| place(lane, offset))).unwrap();
    let longest = cursor(most, last);
    assert!(longest.as_str().len() <= MAX_CURSOR_BYTES);
    assert_eq!(node.open(longest.as_str()).unwrap().len(), most as usize);
    assert_eq!(longest.as_str().len(), cursor(most, 0).as_str().len(), "offsets show");
    assert_eq!(node.open(cursor(most + 1, 0).as_str()), Err(CursorError::TooLong));
}

/// Neighbours have nothing in common: not at the start, not at the end, no order.
#[test]
fn offsets_cannot_be_read_off_an_at() {
    const N: usize = 4096;
    let node = node(old(), lanes());
    let blocks: Vec<String> = (0..=N as u64).map(|o| at(&node, 0, o)[8..].to_owned()).collect();
    let same = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let reverse = |text: &str| text.chars().rev().skip(1).collect::<String>();
    let pairs = || blocks.windows(2).map(|pair| (&pair[0], &pair[1]));
    // One of 64 has the same first character by chance: 64 of 4096, give or take 8.
    let heads: Vec<usize> = pairs().map(|(a, b)| same(a, b)).collect();
    // The last character has two bits, so the one before.
    let tails: Vec<usize> = pairs().map(|(a, b)| same(&reverse(a), &reverse(b))).collect();
    for shared in [heads, tails] {
        let some = shared.iter().filter(|shared| **shared > 0).count();
        assert!((24..=104).contains(&some), "{some} of {N}");
        assert!(shared.iter().all(|shared| *shared <= 3), "{:?}", shared.iter().max());
    }
    // Half of them rise by chance, give or take 19.
    let rising = pairs().filter(|(a, b)| a < b).count();
    assert!((N / 2 - 93..=N / 2 + 93).contains(&rising), "{rising} of {N}");
    assert_eq!(blocks.iter().collect::<HashSet<_>>().len(), N + 1);
    let differ = pairs().map(|(a, b)| difference(&bits(a), &bits(b))).sum::<f64>() / N as f64;
    assert!((0.49..0.51).contains(&differ), "{differ}");
}

#[test]
fn offsets_cannot_be_read_off_a_whole_cursor() {
    let node = node(old(), lanes());
    let cursors: Vec<Vec<u8>> = (0..=512)
        .map(|offset| bits(&node.seal([place(0, 70_000), place(1, offset)]).unwrap().as_str()[1..]))
        .collect();
    let differ: Vec<f64> = cursors.windows(2).map(|pair| difference(&pair[0], &pair[1])).collect();
    // Of some 300 bits: a twentieth is nearly two standard deviations.
    assert!(differ.iter().all(|differ| (0.3..0.7).contains(differ)), "{differ:?}");
    let mean = differ.iter().sum::<f64>() / differ.len() as f64;
    assert!((0.49..0.51).contains(&mean), "{mean}");
}

#[test]
fn the_same_place_looks_different_in_each_lane() {
    let node = node(old(), lanes());
    let ats: Vec<String> = (0..12).map(|lane| at(&node, lane, 9)).collect();
    let parts = |part: fn(&str) -> &str| ats.iter().map(|at| part(at)).collect::<HashSet<_>>();
    assert_eq!(parts(|at| &at[..8]).len(), 12);
    for n in 0..8 {
        let nth: HashSet<_> = ats.iter().map(|at| bits(&at[8..])[n]).collect();
        assert!(nth.len() > 8, "byte {n} of the blocks: {nth:?}");
    }
    assert!(ats.iter().all(|at| !at.contains("orders")));
}

fn any_position() -> impl Strategy<Value = Position> {
    let offset = prop_oneof![0..100_u64, any::<u64>(), Just(u64::MAX)];
    let emission = prop_oneof![Just(0), 0..5_u32, any::<u32>()];
    (offset, emission).prop_map(|(offset, emission)| Position { offset, emission })
}

proptest! {
    /// One node writes tokens, another reads them, which got to know the lanes in another
    /// order; in between they are put together as clients do.
    #[test]
    fn another_node_understands(
        order in Just((0..12).collect::<Vec<usize>>()).prop_shuffle(),
        tokens in vec((any::<bool>(), vec((0..12_u32, any_position()), 1..6)), 1..8),
    ) {
        let here = node(old(), lanes());
        let keys = Keyring::new('n', NEW).unwrap().accepting('k', OLD).unwrap();
        let there = node(keys, order.iter().map(|lane| lanes()[*lane].clone()));
        let mut latest: BTreeMap<LaneId, Position> = BTreeMap::new();
        let mut texts = Vec::new();
        for (whole, places) in tokens {
            let places: Vec<_> = places.iter().map(|(lane, at)| (LaneId(*lane), *at)).collect();
            for (lane, position) in &places {
                // On the other node, by its numbers.
                let lane = order.iter().position(|l| *l == lane.0 as usize).unwrap();
                let latest = latest.entry(LaneId(lane as u32)).or_default();
                *latest = (*latest).max(*position);
            }
            if whole {
                texts.push(here.seal(places).unwrap().to_string());
            } else {
                let at = |(lane, at): &(_, _)| here.get(*lane).unwrap().at(*at).to_string();
                texts.extend(places.iter().map(at));
            }
        }
        let text = texts.join(",");
        prop_assert_eq!(there.open(&text).unwrap(), latest.clone().into_iter().collect::<Vec<_>>());
        // The same places are the same text, whoever seals them.
        let again = node(Keyring::new('n', NEW).unwrap(), lanes());
        let by_lane = |(id, at): (&LaneId, &Position)| {
            (again.intern(&Arc::new(there.get(*id).unwrap().lane.as_ref().clone())).id, *at)
        };
        let sealed = again.seal(latest.iter().map(by_lane).collect::<Vec<_>>().into_iter().rev()).unwrap();
        prop_assert_eq!(sealed, there.seal(latest).unwrap());
    }

    #[test]
    fn arbitrary_text_does_no_harm(text in ".{0,80}", tail in "[k.,A-Za-z0-9_-]{0,80}") {
        let node = node(old(), lanes());
        let at = at(&node, 0, 9);
        for text in [text.clone(), tail.clone(), format!("k{tail}"), format!("{at},{text}"), format!("{}{tail}", &at[..8])] {
            prop_assert!(node.open(&text).is_err());
        }
    }

    /// What is behind the seal, by whoever has the key.
    #[test]
    fn what_opens_is_what_would_be_sealed(mut bytes in vec(prop_oneof![Just(0x80_u8), 0..8_u8, any::<u8>()], 0..30), known in any::<bool>()) {
        let node = node(old(), lanes());
        let topic = node.keys[0].topic(&lanes()[0]);
        let head = if known { &topic[..] } else { &[] };
        bytes.splice(0..0, [&[1], head].concat());
        let text = node.seal_bytes(bytes);
        if let Ok(places) = node.open(&text) {
            prop_assert_eq!(node.seal(places).unwrap().to_string(), text);
        }
    }
}
