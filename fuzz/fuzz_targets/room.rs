//! Rooms' names and patterns, and subjects that somebody else has chosen.
#![no_main]

use fanout::{MAX_ROOM_BYTES, Room, RoomPattern};
use libfuzzer_sys::fuzz_target;

// A name, a prefix, a pattern, somebody else's subject, and the rest is a subject.
fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(5, '\n');
    let [name, prefix, pattern, other, subject] =
        std::array::from_fn(|_| lines.next().unwrap_or_default());
    if let Ok(room) = Room::new(name) {
        assert_eq!(room.as_str(), name);
        legal(&room);
        let pattern = RoomPattern::new(name).expect("a name is the pattern of itself");
        assert!(pattern.matches(&room, subject));
        assert_eq!(pattern.fill(subject).as_ref(), Ok(&room));
    }
    let others = Room::of(prefix, other);
    if let Ok(room) = Room::of(prefix, subject) {
        legal(&room);
        let (before, segment) = room.as_str().rsplit_once(':').expect("prefix and segment");
        assert_eq!(before, prefix, "the subject is one segment");
        assert_eq!(unescape(segment), subject.as_bytes(), "and can be told from all others");
        assert_eq!(others.as_ref() == Ok(&room), subject == other);
        // A pattern has room for one byte at the least.
        if !subject.is_empty() {
            let pattern = RoomPattern::new(&format!("{prefix}:{{subject}}"));
            let pattern = pattern.expect("the prefix of a room is that of a pattern");
            assert_eq!(pattern.fill(subject).as_ref(), Ok(&room));
        }
    }
    patterns(pattern, subject, other, name);
});

fn patterns(text: &str, subject: &str, other: &str, name: &str) {
    let Ok(pattern) = RoomPattern::new(text) else { return };
    assert_eq!(pattern.to_string(), text);
    let closed = pattern.clone().closed();
    let named = text.split(':').any(|part| part == "{subject}");
    let filled = pattern.fill(subject);
    if let Ok(room) = &filled {
        legal(room);
        assert!(closed.is_ok(), "an open pattern names no room");
        assert!(pattern.matches(room, subject), "what is filled in matches");
        assert_eq!(room.as_str().split(':').count(), text.split(':').count());
        assert_eq!(pattern.matches(room, other), !named || subject == other);
        assert_eq!(pattern.fill(other).as_ref() == Ok(room), !named || subject == other);
    }
    if let Ok(room) = Room::new(name) {
        assert_eq!(pattern.matches(&room, subject), model(text, name, subject));
        // A closed pattern is that one room for each subject.
        if closed.is_ok() && filled.is_ok() {
            assert_eq!(pattern.matches(&room, subject), filled == Ok(room));
        }
    }
}

/// Segment for segment, with what stands in the name made plain.
fn model(pattern: &str, name: &str, subject: &str) -> bool {
    let (parts, names): (Vec<_>, Vec<_>) =
        (pattern.split(':').collect(), name.split(':').collect());
    parts.len() == names.len()
        && parts.iter().zip(names).all(|(part, name)| match *part {
            "*" => !name.is_empty(),
            "{subject}" => name == escape(subject),
            part => part == name,
        })
}

fn escape(subject: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@+".contains(&byte);
    let escaped = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    subject.bytes().map(escaped).collect()
}

fn unescape(segment: &str) -> Vec<u8> {
    let mut bytes = segment.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next().expect("two digits")).to_digit(16).unwrap();
        out.push(if byte == b'%' { (digit() * 16 + digit()) as u8 } else { byte });
    }
    out
}

/// What is pasted into frames as it is.
fn legal(room: &Room) {
    let name = room.as_str();
    assert!((1..=MAX_ROOM_BYTES).contains(&name.len()));
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b":_-.@+%".contains(&b)), "{name}");
}
