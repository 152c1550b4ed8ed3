//! What a hub keeps and what it allocates, counted: a room, an idle connection, a
//! delivery.
//!
//! Bytes are those that were asked for; the allocator's own are not in it, and neither
//! is what the kernel has.

// A global allocator is `unsafe` by its trait; this one only counts.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use benches::in_memory::{ActingSink, InMemory, Wakers, burst};
use fanout::{Input, Room, Session};

struct Counting;

// A hub in memory has one thread: its test's.
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

/// Bytes held after `work` that were not before.
fn held(work: impl FnOnce()) -> isize {
    let before = HELD.get();
    work();
    HELD.get() - before
}

/// A million rooms with one member each, in a hub with ten thousand connections. The
/// connections are there first; what is counted is what their rooms add.
#[test]
fn a_room_with_one_member_holds_at_most_300_bytes() {
    const CONNECTIONS: usize = 10_000;
    const EACH: usize = 100;
    const ROOMS: usize = CONNECTIONS * EACH;
    let (memory, wakers) = (InMemory::new(), Wakers::default());
    let started = Arc::new(AtomicBool::new(false));
    for connection in 0..CONNECTIONS {
        let started = started.clone();
        let act = move |session: &mut Session<'_>| {
            if started.load(Ordering::SeqCst) {
                for n in 0..EACH {
                    let room = Room::new(format!("room:{}", connection * EACH + n));
                    session.join(&room.expect("a good name")).expect("allowed");
                }
            }
            Input::Blocked
        };
        memory.connect_with(&connection.to_string(), "guest", ActingSink::new(&wakers, act));
    }
    let hub = memory.hub();
    memory.until("all to be connected", || hub.stats().connections == CONNECTIONS);
    assert_eq!(hub.stats().rooms, 0);
    let added = held(|| {
        started.store(true, Ordering::SeqCst);
        wakers.wake();
        memory.until("all rooms", || hub.stats().rooms == ROOMS);
    });
    let each = added as f64 / ROOMS as f64;
    println!("{each:.0} bytes a room");
    assert!(each > 0.0 && each <= 300.0, "{each:.0} bytes a room of one member");
}

/// With an identity, a role and two rooms, one of them its own.
#[test]
fn an_idle_connection_holds_at_most_a_kibibyte() {
    const CONNECTIONS: usize = 10_000;
    let memory = InMemory::new();
    let hub = memory.hub();
    let added = held(|| {
        for connection in 0..CONNECTIONS {
            memory.connect(&connection.to_string(), "user");
        }
        memory.until("all to be connected", || hub.stats().connections == CONNECTIONS);
    });
    assert_eq!(hub.stats().rooms, CONNECTIONS + 1);
    let each = added as f64 / CONNECTIONS as f64;
    println!("{each:.0} bytes a connection");
    assert!(each > 0.0 && each <= 1024.0, "{each:.0} bytes an idle connection");
}

/// Allocations of publishing `messages` at once to `members`, when the first have made
/// what is used again. The fewest of several times: what the hub does each second may
/// come between, and what a delivery costs is in each of them.
fn allocations(members: u64, messages: usize) -> usize {
    let memory = InMemory::new();
    for member in 0..members {
        memory.connect(&member.to_string(), "user");
    }
    let emissions = burst(messages, 200);
    let publish = || {
        let before = MADE.get();
        memory.publish(emissions.clone(), members * messages as u64);
        MADE.get() - before
    };
    for _ in 0..20 {
        publish();
    }
    (0..20).map(|_| publish()).min().expect("there were several")
}

#[test]
fn a_delivery_allocates_nothing() {
    for messages in [1, 16] {
        let (few, many) = (allocations(1_000, messages), allocations(10_000, messages));
        println!("bursts of {messages}: {few} allocations for 1,000 members, {many} for 10,000");
        assert!(few > 0, "an event is kept somewhere");
        assert_eq!(few, many, "more members, more allocations");
    }
}
