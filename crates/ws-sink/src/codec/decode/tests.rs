use bytes::BytesMut;
use proptest::prelude::*;
use tungstenite::protocol::frame::Frame as TheirFrame;

use super::*;

/// A message that owns what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Message<'_>> for Owned {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_owned()),
            Message::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Message::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Message::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Message::Close(why) => Self::Close(why.map(|(code, why)| (code, why.to_owned()))),
        }
    }
}

fn text(text: &str) -> Owned {
    Owned::Text(text.to_owned())
}

const FIN: u8 = 0x80;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame, as tungstenite writes it.
fn frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        is_final: first & FIN != 0,
        rsv1: first & 0x40 != 0,
        rsv2: first & 0x20 != 0,
        rsv3: first & 0x10 != 0,
        opcode: OpCode::from(first & 0x0f),
        mask: Some(mask),
    };
    let mut out = Vec::new();
    TheirFrame::from_payload(header, payload.to_vec().into()).format(&mut out).unwrap();
    out
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, MASK, payload)
}

/// Feeds each read whole; what came out, and what ended it.
fn decode_all(
    decoder: &mut Decoder,
    limits: &Limits,
    reads: impl IntoIterator<Item = Vec<u8>>,
) -> (Vec<Owned>, Option<CodecError>) {
    let mut out = Vec::new();
    for mut read in reads {
        let mut messages = decoder.feed(&mut read, limits);
        loop {
            match messages.next_message() {
                Ok(Some(message)) => out.push(message.into()),
                Ok(None) => break,
                Err(error) => return (out, Some(error)),
            }
        }
    }
    (out, None)
}

/// Byte by byte and at once must be the same.
fn decode(bytes: &[u8], limits: &Limits) -> (Vec<Owned>, Option<CodecError>) {
    let at_once = decode_all(&mut Decoder::default(), limits, [bytes.to_vec()]);
    let by_byte = decode_all(&mut Decoder::default(), limits, bytes.iter().map(|b| vec![*b]));
    assert_eq!(at_once, by_byte);
    at_once
}

fn error_of(bytes: &[u8], limits: &Limits) -> CodecError {
    let (messages, error) = decode(bytes, limits);
    assert_eq!(messages, [], "before the error");
    error.expect("an error")
}

#[test]
fn is_small_and_holds_nothing_between_messages() {
    assert!(size_of::<Decoder>() <= 16);
    let mut decoder = Decoder::default();
    let limits = Limits::default();
    let bytes = [masked(0x81, b"one"), masked(0x89, b"p"), masked(0x81, b"two")].concat();
    for (at, byte) in bytes.iter().enumerate() {
        let mut read = [*byte];
        let mut messages = decoder.feed(&mut read, &limits);
        while messages.next_message().unwrap().is_some() {}
        drop(messages);
        let between = [0, 9, 16, bytes.len()].contains(&(at + 1));
        assert_eq!(decoder.is_incomplete(), !between, "after byte {at}");
    }
}

#[test]
fn a_message_read_whole_is_borrowed_from_the_buffer() {
    let mut read = [masked(0x81, b"first"), masked(0x8a, b"second")].concat();
    let range = read.as_ptr_range();
    let mut decoder = Decoder::default();
    let limits = Limits::default();
    let mut messages = decoder.feed(&mut read, &limits);
    let Ok(Some(Message::Text(first))) = messages.next_message() else { panic!("no text") };
    assert!(range.contains(&first.as_ptr()));
    let Ok(Some(Message::Pong(second))) = messages.next_message() else { panic!("no pong") };
    assert!(range.contains(&second.as_ptr()));
    drop(messages);
    assert!(!decoder.is_incomplete());
}

#[test]
fn broken_rules_have_their_codes() {
    let limits = Limits::default();
    let long = [&[0x81, 0xfe, 0, 5][..], &MASK, b"hello"].concat();
    let longer = [&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 5][..], &MASK, b"hello"].concat();
    let cases = [
        (vec![0x81, 0x02, b'h', b'i'], CodecError::Unmasked, 1002),
        (masked(FIN | 0x41, b""), CodecError::ReservedBits, 1002),
        (masked(FIN | 0x21, b""), CodecError::ReservedBits, 1002),
        (masked(FIN | 0x19, b""), CodecError::ReservedBits, 1002),
        (long, CodecError::LengthForm, 1002),
        (longer, CodecError::LengthForm, 1002),
        (masked(0x09, b""), CodecError::ControlFragmented, 1002),
        (masked(0x08, b""), CodecError::ControlFragmented, 1002),
        (masked(0x8a, &[0; 126]), CodecError::ControlTooLong { len: 126 }, 1002),
        (masked(0x80, b"x"), CodecError::NothingToContinue, 1002),
        (masked(0x00, b"x"), CodecError::NothingToContinue, 1002),
        ([masked(0x01, b"x"), masked(0x81, b"y")].concat(), CodecError::Unfinished, 1002),
        ([masked(0x01, b"x"), masked(0x82, b"y")].concat(), CodecError::Unfinished, 1002),
        (masked(0x88, &[3]), CodecError::ClosePayload, 1002),
        (masked(0x82, b"x"), CodecError::Binary, 1003),
        (masked(0x02, b"x"), CodecError::Binary, 1003),
        (masked(0x81, b"\xff"), CodecError::NotUtf8, 1007),
        (masked(0x81, "é".as_bytes().split_last().unwrap().1), CodecError::NotUtf8, 1007),
        (masked(0x88, b"\x03\xe8\xff"), CodecError::NotUtf8, 1007),
    ];
    for (bytes, error, code) in cases {
        assert_eq!(error_of(&bytes, &limits), error, "{bytes:02x?}");
        assert_eq!(error.close_code(), code, "{error:?}");
    }
    for opcode in (3..=7).chain(11..=15) {
        let error = error_of(&masked(FIN | opcode, b""), &limits);
        assert_eq!(error, CodecError::ReservedOpcode(opcode));
        assert_eq!(error.close_code(), 1002);
    }
}

#[test]
fn only_close_codes_that_may_be_sent_are_taken() {
    let limits = Limits::default();
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, u16::MAX] {
        let error = error_of(&masked(0x88, &code.to_be_bytes()), &limits);
        assert_eq!(error, CodecError::CloseCode(code));
    }
    for code in [1000u16, 1001, 1003, 1007, 1011, 3000, 3999, 4000, 4999] {
        let payload = [&code.to_be_bytes()[..], b"bye"].concat();
        let (messages, error) = decode(&masked(0x88, &payload), &limits);
        assert_eq!(messages, [Owned::Close(Some((code, "bye".to_owned())))]);
        assert_eq!(error, None);
    }
    assert_eq!(decode(&masked(0x88, b""), &limits).0, [Owned::Close(None)]);
}

#[test]
fn what_comes_after_a_close_or_an_error_is_dropped() {
    let limits = Limits::default();
    for end in [masked(0x88, b""), masked(0x82, b"")] {
        let mut decoder = Decoder::default();
        let bytes = [masked(0x81, b"a"), end, masked(0x81, b"b")].concat();
        let (messages, _) = decode_all(&mut decoder, &limits, [bytes, masked(0x81, b"c")]);
        assert_eq!(messages[0], text("a"));
        assert!(!messages[1..].iter().any(|message| matches!(message, Owned::Text(_))));
        assert!(decoder.is_closed() && !decoder.is_incomplete());
        let (messages, error) = decode_all(&mut decoder, &limits, [masked(0x81, b"d")]);
        assert!(messages.is_empty() && error.is_none());
    }
}

#[test]
fn the_limit_is_checked_by_the_header_alone() {
    let limits = Limits::default().with_max_message_bytes(300);
    let fits = masked(0x81, &[b'x'; 300]);
    assert_eq!(decode(&fits, &limits).0.len(), 1);

    let header = &masked(0x81, &[b'x'; 301])[..8];
    assert_eq!(error_of(header, &limits), CodecError::TooLarge { len: 301, max: 300 });
    let first = masked(0x01, &[b'x'; 200]);
    let header = &masked(0x80, &[b'x'; 101])[..6];
    let error = error_of(&[first, header.to_vec()].concat(), &limits);
    assert_eq!(error, CodecError::TooLarge { len: 301, max: 300 });

    let most = [&[0x81, 0xff][..], &u64::MAX.to_be_bytes(), &MASK].concat();
    assert_eq!(error_of(&most, &limits), CodecError::TooLarge { len: u64::MAX, max: 300 });
    assert_eq!(error_of(&most, &limits).close_code(), 1009);
}

#[test]
fn fragments_are_counted_also_where_they_are_empty() {
    let limits = Limits::default().with_max_fragments(3);
    let open = [masked(0x01, b""), masked(0x00, b""), masked(0x00, b"x")].concat();
    let error = error_of(&[open, masked(0x80, b"")].concat(), &limits);
    assert_eq!(error, CodecError::TooManyFragments { max: 3 });
    assert_eq!(error.close_code(), 1009);
    let three = [masked(0x01, b"a"), masked(0x00, b""), masked(0x80, b"b")].concat();
    assert_eq!(decode(&three, &limits).0, [text("ab")]);
}

#[test]
fn text_gone_wrong_is_refused_before_its_message_ends() {
    let limits = Limits::default();
    // Valid so far: the first two bytes of a code point.
    let good = masked(0x01, b"\xce\xba\xf4");
    assert_eq!(decode(&good, &limits), (vec![], None));
    // No code point begins with these two.
    let bad = [good, masked(0x00, b"\x90")].concat();
    assert_eq!(error_of(&bad, &limits), CodecError::NotUtf8);
    // Also inside a frame whose rest has not come.
    let whole = masked(0x81, b"\xce\xba\xf4\x90\x80\x80");
    assert_eq!(error_of(&whole[..whole.len() - 2], &limits), CodecError::NotUtf8);
}

#[test]
fn binary_is_taken_where_it_is_allowed() {
    let limits = Limits::default().with_binary();
    let bytes = [masked(0x82, b"\xff"), masked(0x02, b"\xfe"), masked(0x80, b"\xfd")].concat();
    let (messages, error) = decode(&bytes, &limits);
    assert_eq!(messages, [Owned::Binary(vec![0xff]), Owned::Binary(vec![0xfe, 0xfd])]);
    assert_eq!(error, None);
}

#[test]
fn what_is_not_taken_waits_and_comes_first() {
    let limits = Limits::default();
    let mut decoder = Decoder::default();
    let second = [masked(0x81, b"two"), masked(0x01, b"thr")].concat();
    let mut read = [masked(0x81, b"one"), second.clone()].concat();
    let mut messages = decoder.feed(&mut read, &limits);
    assert_eq!(messages.next_message(), Ok(Some(Message::Text("one"))));
    drop(messages);
    assert_eq!(decoder.unread(), second.len());
    // Nothing is lost where nobody takes anything, and what is fed meanwhile comes after.
    drop(decoder.feed(&mut [], &limits));
    assert_eq!(decoder.unread(), second.len());
    let mut more = masked(0x80, b"ee");
    let mut messages = decoder.feed(&mut more, &limits);
    assert_eq!(messages.next_message(), Ok(Some(Message::Text("two"))));
    assert_eq!(messages.next_message(), Ok(Some(Message::Text("three"))));
    assert_eq!(messages.next_message(), Ok(None));
    drop(messages);
    assert_eq!(decoder.unread(), 0);
    assert!(!decoder.is_incomplete());
}

#[test]
fn a_promise_of_bytes_costs_nothing_until_they_come() {
    let limits = Limits::default();
    let mut decoder = Decoder::default();
    let frame = masked(0x81, &vec![b'x'; 64 * 1024]);
    let mut fed = 0;
    for piece in frame.chunks(1000) {
        fed += piece.len();
        let mut piece = piece.to_vec();
        let whole = decoder.feed(&mut piece, &limits).next_message().unwrap().is_some();
        assert_eq!(whole, fed == frame.len());
        if let Some(partial) = decoder.partial() {
            let held = partial.message.as_ref().map_or(0, |message| message.bytes.capacity());
            assert!(held <= (2 * fed).min(limits.max_message_bytes), "{held} of {fed}");
        }
    }
    assert!(!decoder.is_incomplete());
}

#[test]
fn debug_shows_no_byte_of_a_client() {
    let limits = Limits::default();
    let mut decoder = Decoder::default();
    let mut read = masked(0x01, b"secret");
    let mut messages = decoder.feed(&mut read, &limits);
    assert_eq!(messages.next_message(), Ok(None));
    let shown = format!("{messages:?}");
    drop(messages);
    let shown = format!("{shown} {decoder:?}");
    assert!(shown.contains("busy") && !shown.contains("secret"), "{shown}");
}

/// Messages, and the frames that say them.
fn any_message() -> impl Strategy<Value = (Owned, Vec<Vec<u8>>)> {
    let control = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(|p| (Owned::Ping(p.clone()), 0x89, p)),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(|p| (Owned::Pong(p.clone()), 0x8a, p)),
    ];
    let control = (control, any::<[u8; 4]>()).prop_map(|((message, first, payload), mask)| {
        (message, vec![frame(first, mask, &payload)])
    });
    let payload = prop_oneof![
        "[ -~]{0,40}".prop_map(Owned::Text),
        "\\PC{0,300}".prop_map(Owned::Text),
        prop::collection::vec(any::<u8>(), 0..400).prop_map(Owned::Binary),
    ];
    let cuts = prop::collection::vec((any::<prop::sample::Index>(), any::<[u8; 4]>()), 1..6);
    let data = (payload, cuts).prop_map(|(message, cuts)| {
        let (opcode, bytes) = match &message {
            Owned::Text(text) => (1, text.as_bytes()),
            Owned::Binary(bytes) => (2, &bytes[..]),
            _ => unreachable!("data only"),
        };
        // Anywhere, also inside a code point, and in the same place more than once.
        let mut ends: Vec<_> = cuts.iter().map(|(cut, _)| cut.index(bytes.len() + 1)).collect();
        ends.sort_unstable();
        *ends.last_mut().expect("one at least") = bytes.len();
        let mut start = 0;
        let pieces = ends.iter().zip(&cuts).enumerate().map(|(at, (end, (_, mask)))| {
            let first = if at == 0 { opcode } else { 0 };
            let last = if at + 1 == cuts.len() { FIN } else { 0 };
            let piece = frame(first | last, *mask, &bytes[start..*end]);
            start = *end;
            piece
        });
        let pieces = pieces.collect();
        (message, pieces)
    });
    prop_oneof![1 => control, 2 => data]
}

/// A client's session: what it says, and the bytes, with control frames between the
/// fragments of other messages.
fn any_session() -> impl Strategy<Value = (Vec<Owned>, Vec<u8>)> {
    let messages = prop::collection::vec((any_message(), any::<bool>()), 0..12);
    messages.prop_map(|messages| {
        let (mut said, mut bytes) = (Vec::new(), Vec::new());
        // A message in pieces stays open until its last piece; control frames may come
        // in front of that.
        let mut open: Option<(Owned, Vec<u8>)> = None;
        for ((message, frames), between) in messages {
            let control = matches!(message, Owned::Ping(_) | Owned::Pong(_));
            if let Some((opened, last)) = open.take_if(|_| !(control && between)) {
                said.push(opened);
                bytes.extend(last);
            }
            let (last, front) = frames.split_last().expect("a frame at least");
            bytes.extend(front.concat());
            if front.is_empty() {
                said.push(message);
                bytes.extend(last);
            } else {
                open = Some((message, last.clone()));
            }
        }
        if let Some((opened, last)) = open {
            said.push(opened);
            bytes.extend(last);
        }
        (said, bytes)
    })
}

proptest! {
    #[test]
    fn any_session_in_any_reads_says_the_same(
        (said, bytes) in any_session(),
        reads in prop::collection::vec(1..200usize, 1..50),
        stops in prop::collection::vec(0..4usize, 1..20),
    ) {
        let limits = Limits::default().with_binary();
        let mut decoder = Decoder::default();
        let mut heard: Vec<Owned> = Vec::new();
        let mut bytes = &bytes[..];
        let (mut sizes, mut stops) = (reads.iter().cycle(), stops.iter().cycle());
        while !bytes.is_empty() || decoder.unread() > 0 {
            // Like a shard: read only when nothing waits, and stop when told to.
            let len = if decoder.unread() > 0 { 0 } else { *sizes.next().unwrap() };
            let (read, rest) = bytes.split_at(len.min(bytes.len()));
            bytes = rest;
            let mut read = read.to_vec();
            let mut messages = decoder.feed(&mut read, &limits);
            // 0 takes everything.
            let stop = *stops.next().unwrap();
            let mut taken = 0;
            while stop == 0 || taken < stop {
                let Some(message) = messages.next_message().unwrap() else { break };
                heard.push(message.into());
                taken += 1;
            }
            drop(messages);
            prop_assert!(decoder.unread() <= 200);
        }
        prop_assert_eq!(heard, said);
        prop_assert!(!decoder.is_incomplete());
    }

    #[test]
    fn any_bytes_end_well_and_hold_no_more_than_the_limit(
        // Bytes that make frames more often than chance would.
        bytes in prop::collection::vec(
            prop_oneof![
                any::<u8>(),
                prop::sample::select(vec![0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x89, 0xfe, 0xff]),
            ],
            0..600,
        ),
        reads in prop::collection::vec(1..100usize, 1..20),
    ) {
        let limits = Limits::default().with_max_message_bytes(100).with_binary();
        let mut decoder = Decoder::default();
        let mut rest = &bytes[..];
        for size in reads.iter().cycle() {
            if rest.is_empty() || decoder.is_closed() {
                break;
            }
            let (read, after) = rest.split_at((*size).min(rest.len()));
            rest = after;
            let mut read = read.to_vec();
            let mut messages = decoder.feed(&mut read, &limits);
            while let Ok(Some(_)) = messages.next_message() {}
            drop(messages);
            if let Some(partial) = decoder.partial() {
                let message = partial.message.as_ref().map_or(0, |m| m.bytes.capacity());
                prop_assert!(message <= 100, "{message}");
                prop_assert!(partial.unread.capacity() == 0);
            }
        }
    }

    /// tungstenite reads the same stream; where both take it they hear the same, and
    /// what it refuses we refuse too.
    #[test]
    fn agrees_with_tungstenite(
        (_, mut bytes) in any_session(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
    ) {
        for (at, flip) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
            }
        }
        let (theirs, their_end) = heard_by_tungstenite(&bytes);
        let limits = Limits::default().with_binary();
        let (ours, our_end) = decode_all(&mut Decoder::default(), &limits, [bytes.clone()]);
        match our_end {
            // It takes lengths that are longer than they need be.
            Some(CodecError::LengthForm) => {}
            // It looks at the reason first, and where that is text hands on a close of its
            // own making for a code that must not be sent.
            Some(CodecError::CloseCode(_)) if their_end => prop_assert_eq!(theirs, ours),
            Some(CodecError::CloseCode(_)) => {
                let made = Owned::Close(Some((1002, "Protocol violation".to_owned())));
                prop_assert_eq!(theirs, [&ours[..], &[made]].concat());
            }
            // We look at text before its message has ended, it may not have come so far.
            Some(CodecError::NotUtf8) => prop_assert!(theirs.starts_with(&ours)),
            _ => {
                prop_assert_eq!(&theirs, &ours);
                // We refuse a frame by its header, it waits for the rest of it first.
                prop_assert!(our_end.is_some() || !their_end);
            }
        }
    }
}

/// What tungstenite's server hears, and whether an error ended it.
fn heard_by_tungstenite(bytes: &[u8]) -> (Vec<Owned>, bool) {
    use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

    struct Wire(Cursor<Vec<u8>>);
    impl std::io::Read for Wire {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(out)
        }
    }
    impl std::io::Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let max = Some(Limits::default().max_message_bytes);
    let config = WebSocketConfig::default().max_message_size(max).max_frame_size(max);
    let wire = Wire(Cursor::new(bytes.to_vec()));
    let mut socket = WebSocket::from_raw_socket(wire, Role::Server, Some(config));
    let mut heard = Vec::new();
    loop {
        use tungstenite::Message as Theirs;
        heard.push(match socket.read() {
            Ok(Theirs::Text(text)) => Owned::Text(text.to_string()),
            Ok(Theirs::Binary(bytes)) => Owned::Binary(bytes.to_vec()),
            Ok(Theirs::Ping(bytes)) => Owned::Ping(bytes.to_vec()),
            Ok(Theirs::Pong(bytes)) => Owned::Pong(bytes.to_vec()),
            Ok(Theirs::Close(why)) => {
                let why = why.map(|why| (why.code.into(), why.reason.to_string()));
                heard.push(Owned::Close(why));
                return (heard, false);
            }
            Ok(Theirs::Frame(_)) => unreachable!("never read"),
            Err(tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => return (heard, false),
            Err(_) => return (heard, true),
        });
    }
}

#[test]
fn our_frames_are_read_by_tungstenite() {
    use tungstenite::protocol::{Role, WebSocket};
    let mut out = BytesMut::new();
    super::super::encode::text(&mut out, &[b"{\"a\":", b"1}"]);
    super::super::encode::ping(&mut out, b"p").unwrap();
    super::super::encode::close(&mut out, Some((4001, "slow"))).unwrap();
    let wire = Cursor::new(out.to_vec());
    let mut socket = WebSocket::from_raw_socket(wire, Role::Client, None);
    assert_eq!(socket.read().unwrap().into_text().unwrap(), "{\"a\":1}");
    assert_eq!(socket.read().unwrap(), tungstenite::Message::Ping("p".into()));
    let tungstenite::Message::Close(Some(close)) = socket.read().unwrap() else {
        panic!("no close")
    };
    assert_eq!((u16::from(close.code), &close.reason[..]), (4001, "slow"));
}
