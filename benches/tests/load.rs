//! The load against servers that are not this package's own.

#[allow(dead_code)] // It is for other tests as well.
mod hub;

use std::time::{Duration, Instant};

use benches::load::{Dialect, Endpoint, Load, LoadError};
use benches::message::Messages;
use benches::run::Rooms;
use hub::{Fault, Hub, Speaks};

fn soon() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

fn endpoint(hub: &Hub, dialect: Dialect, rooms: Rooms) -> Endpoint {
    let path = if dialect == Dialect::SocketIo { "/socket.io/" } else { "/ws" };
    Endpoint { addr: hub.addr, path: path.to_owned(), dialect, rooms }
}

/// The text of the next message, and the name of its room.
fn next(messages: &mut Messages, dialect: Dialect) -> (String, String) {
    let room = |room: Option<usize>| room.map_or("all".to_owned(), benches::message::room);
    if dialect == Dialect::SocketIo {
        let drawn = messages.draw(0);
        let payload = std::str::from_utf8(drawn.payload).unwrap();
        return (room(drawn.room), format!(r#"42["message",{payload}]"#));
    }
    let (drawn, text) = messages.text(0);
    (room(drawn), text)
}

#[test]
fn each_dialect_is_understood_with_one_room_and_with_many() {
    for (speaks, dialect) in
        [(Speaks::Plain, Dialect::Plain), (Speaks::SocketIo, Dialect::SocketIo)]
    {
        for rooms in [Rooms::One, Rooms::Each] {
            let hub = Hub::start(speaks, Fault::None);
            let mut load = Load::new(200).unwrap();
            // Socket.IO lets nobody in whose connection is only open.
            load.connect(&endpoint(&hub, dialect, rooms), 70, soon()).unwrap();
            while hub.members() < 70 {
                load.idle(Duration::from_millis(1)).unwrap();
            }
            let mut messages = Messages::new(200, rooms, 70).unwrap();
            for _ in 0..140 {
                let (room, text) = next(&mut messages, dialect);
                hub.say(&room, &text);
            }
            let expected = if rooms == Rooms::One { 70 * 140 } else { 140 };
            load.receive(expected, soon()).unwrap();
            assert_eq!((load.received(), hub.delivered()), (expected, expected));
        }
    }
}

#[test]
fn who_has_stalled_is_not_judged() {
    let hub = Hub::start(Speaks::Plain, Fault::None);
    let mut load = Load::new(200).unwrap();
    load.connect(&endpoint(&hub, Dialect::Plain, Rooms::One), 10, soon()).unwrap();
    while hub.members() < 10 {
        load.idle(Duration::from_millis(1)).unwrap();
    }
    let mut messages = Messages::new(200, Rooms::One, 1).unwrap();
    hub.say("all", &next(&mut messages, Dialect::Plain).1);
    load.receive(10, soon()).unwrap();
    load.stall(4);
    load.stall(3);
    hub.say("all", &next(&mut messages, Dialect::Plain).1);
    load.receive(16, soon()).unwrap();
    // They are still connected, and nobody hears what they say.
    assert_eq!((hub.delivered(), hub.connections()), (20, 10));
    let late = load.receive(17, Instant::now() + Duration::from_millis(100)).unwrap_err();
    assert!(matches!(late, LoadError::Late { received: 16, expected: 17 }), "{late:?}");
    hub.close_all();
    load.finish(soon()).unwrap();
}

#[test]
fn who_is_not_wanted_is_told_why() {
    let hub = Hub::start(Speaks::Native, Fault::None);
    let endpoint = endpoint(&hub, Dialect::SocketIo, Rooms::One);
    let refused = Load::new(200).unwrap().connect(&endpoint, 1, soon()).unwrap_err();
    let LoadError::Handshake { client: 0, source } = refused else { panic!("{refused:?}") };
    assert_eq!(source.to_string(), "the server closes the connection with code 4500");
}
