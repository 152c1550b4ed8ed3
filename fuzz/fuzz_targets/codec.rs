//! What a client's socket gives, in whatever reads it comes, to a server that takes its
//! messages or leaves them for later. Compared with a decoder that reads all of it at once
//! and knows no state.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use ws_sink::codec::{CodecError, Decoder, Limits, Message, encode};

#[path = "../model.rs"]
mod model;

use model::Owned;

#[path = "../frames.rs"]
mod frames;

// See `frames.rs` for what the bytes mean.
fuzz_target!(|data: &[u8]| {
    let Some(frames::Input { small, binary, reads, sent }) = frames::input(data) else { return };
    let mut limits = Limits::default();
    if small {
        limits = limits.with_max_message_bytes(130).with_max_fragments(3);
    }
    limits.allow_binary = binary;
    let expected = model::decode(&sent, &limits);
    assert_eq!(in_reads(&sent, &reads, &limits), expected, "{limits:?}");
    for message in &expected.0 {
        round_trip(message, &limits);
    }
});

/// Reads as `reads` say, over and over; what is left of a read that was not taken is asked
/// for again before the next, as a connection does.
fn in_reads(sent: &[u8], reads: &[(u8, u8)], limits: &Limits) -> (Vec<Owned>, Option<CodecError>) {
    let mut decoder = Decoder::default();
    let mut out = Vec::new();
    let mut pattern = reads.iter().cycle();
    let mut rest = sent;
    loop {
        let (bytes, messages) = pattern.next().copied().unwrap_or((u8::MAX, u8::MAX));
        let waiting = decoder.unread();
        let (read, after) = match waiting {
            0 => rest.split_at(rest.len().min(usize::from(bytes) + 1)),
            _ => rest.split_at(0),
        };
        if waiting == 0 && read.is_empty() {
            return (out, None);
        }
        rest = after;
        let mut read = read.to_vec();
        let fed = read.len().max(waiting);
        let mut found = decoder.feed(&mut read, limits);
        for _ in 0..=messages {
            match found.next_message() {
                Ok(Some(message)) => out.push(Owned::from(message)),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(found.next_message(), Ok(None), "something after the end");
                    drop(found);
                    assert!(decoder.is_closed() && decoder.unread() == 0);
                    return (out, Some(error));
                }
            }
        }
        drop(found);
        assert!(decoder.unread() <= fed, "keeps more than it was fed");
        if decoder.is_closed() {
            assert!(matches!(out.last(), Some(Owned::Close(_))), "closed without a reason");
            return (out, None);
        }
    }
}

/// What a server would send of it is read as the same by somebody who unmasks nothing.
fn round_trip(message: &Owned, limits: &Limits) {
    let mut out = BytesMut::new();
    match message {
        Owned::Text(text) => {
            let (a, b) = text.as_bytes().split_at(text.len() / 2);
            encode::text(&mut out, &[a, b]);
        }
        Owned::Binary(bytes) => encode::binary(&mut out, &[bytes]),
        Owned::Ping(bytes) => encode::ping(&mut out, bytes).expect("no longer than it came"),
        Owned::Pong(bytes) => encode::pong(&mut out, bytes).expect("no longer than it came"),
        Owned::Close(why) => {
            let why = why.as_ref().map(|(code, reason)| (*code, reason.as_str()));
            encode::close(&mut out, why).expect("a code that came may be sent");
        }
    }
    assert_eq!(out[1] & 0x80, 0, "a server masks nothing");
    // Nobody allocates less than eight bytes.
    assert!(out.capacity() <= out.len().max(8), "room for more than the frame");
    // As if a client had sent it, with a mask of zeros.
    let at = [2, 4, 10][usize::from(out[1] >= 126) + usize::from(out[1] == 127)];
    let mut theirs = [&out[..at], &[0; 4], &out[at..]].concat();
    theirs[1] |= 0x80;
    let limits = limits.with_binary();
    let mut decoder = Decoder::default();
    let mut read = decoder.feed(&mut theirs, &limits);
    assert_eq!(read.next_message().map(|read| read.map(Owned::from)), Ok(Some(message.clone())));
    assert_eq!(read.next_message(), Ok(None));
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
