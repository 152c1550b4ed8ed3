//! Reading whole messages costs no allocation, and an idle decoder holds none.

// A global allocator is `unsafe` by its trait; this one only counts.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::BytesMut;
use ws_sink::codec::{Decoder, Limits, Message, encode};

struct Counting;

thread_local! {
    static MADE: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MADE.set(MADE.get() + 1);
        HELD.set(HELD.get() + layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size().cast_signed());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations made by `work`, and bytes held after it that were not before.
fn count(work: impl FnOnce()) -> (usize, isize) {
    let (made, held) = (MADE.get(), HELD.get());
    work();
    (MADE.get() - made, HELD.get() - held)
}

/// A client's frame, masked with zeros.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).expect("a short payload");
    [&[first, 0x80 | len, 0, 0, 0, 0], payload].concat()
}

#[test]
fn whole_messages_allocate_nothing() {
    let once = [masked(0x81, b"{\"event\":\"x\"}"), masked(0x89, b"p")].concat();
    let mut read = once.repeat(500);
    let (mut decoder, limits) = (Decoder::default(), Limits::default());
    let mut heard = 0;
    let (made, held) = count(|| {
        let mut messages = decoder.feed(&mut read, &limits);
        while let Ok(Some(Message::Text(_) | Message::Ping(_))) = messages.next_message() {
            heard += 1;
        }
    });
    assert_eq!((heard, made, held), (1000, 0, 0));
}

#[test]
fn ten_thousand_decoders_hold_nothing_after_split_messages() {
    let (first, rest) = (masked(0x01, b"hel"), masked(0x80, b"lo"));
    let limits = Limits::default();
    let mut decoders: Vec<Decoder> = (0..10_000).map(|_| Decoder::default()).collect();
    let mut shared = [0; 64];
    let mut heard = 0;
    let (made, held) = count(|| {
        for part in [&first[..], &rest[..4], &rest[4..]] {
            for decoder in &mut decoders {
                let read = &mut shared[..part.len()];
                read.copy_from_slice(part);
                let mut messages = decoder.feed(read, &limits);
                while let Ok(Some(message)) = messages.next_message() {
                    heard += usize::from(message == Message::Text("hello"));
                }
            }
        }
    });
    assert_eq!((heard, held), (10_000, 0));
    assert!(made > 0, "split messages are kept somewhere");
}

#[test]
fn a_frame_is_written_into_room_that_is_there_without_allocating() {
    let mut out = BytesMut::with_capacity(256);
    let (made, _) = count(|| {
        encode::text(&mut out, &[b"{\"data\":", b"1", b"}"]);
        encode::pong(&mut out, b"p").expect("a short payload");
    });
    assert_eq!(made, 0);
}
