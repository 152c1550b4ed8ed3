//! The servers outside of Rust, as they are installed:
//!
//! ```sh
//! benches/peers/install.sh && cargo test -p benches --test peers -- --include-ignored
//! ```
//!
//! `FANOUT_BENCH_PEERS` names another folder than this package's own, such as a copy of it
//! outside of the working tree.

use std::process::Command;
use std::time::Duration;

use benches::message::Messages;
use benches::run::{self, Case, Rooms};
use benches::servers::{Kind, Programs};

const LIMIT: Duration = Duration::from_mins(1);

fn programs() -> Programs {
    let peers = std::env::var_os("FANOUT_BENCH_PEERS");
    let peers = peers.map_or_else(Programs::peers_here, Into::into);
    Programs { own: env!("CARGO_BIN_EXE_fanout-bench").into(), peers, shards: None }
}

/// That every client gets everything once and in order a run checks itself.
fn delivers(kind: Kind) {
    let one =
        Case { clients: 20, payload: 200, burst: 1, bursts: 40, rooms: Rooms::One, stalled: 0 };
    let cases = [
        one,
        Case { burst: 7, ..one },
        Case { burst: 7, rooms: Rooms::Each, bursts: 100, ..one },
        // 8 MiB for each client: more than the kernel holds for one.
        Case { payload: 8192, burst: 16, bursts: 64, stalled: 10, ..one },
    ];
    for case in cases {
        let measured = run::run(&programs(), kind, &case, LIMIT).unwrap();
        assert_eq!(measured.latency.len(), case.deliveries(), "{case:?}");
        assert!(measured.cpu > Duration::ZERO, "{case:?}");
        // A clock of its own would make them nothing, or years.
        let (least, most) = (measured.latency.min(), measured.latency.max());
        assert!(0 < least && u128::from(most) < LIMIT.as_nanos(), "{least} to {most} ns");
    }
}

#[test]
#[ignore = "needs benches/peers/install.sh"]
fn bun_delivers_everything_in_order() {
    delivers(Kind::Bun);
}

#[test]
#[ignore = "needs benches/peers/install.sh"]
fn ws_delivers_everything_in_order() {
    delivers(Kind::Ws);
}

#[test]
#[ignore = "needs benches/peers/install.sh"]
fn socket_io_delivers_everything_in_order() {
    delivers(Kind::SocketIo);
}

#[test]
#[ignore = "needs benches/peers/install.sh"]
fn what_is_sent_is_the_same() {
    const SENT: u64 = 1234;
    let script = "
        const { Messages } = await import(`${process.cwd()}/message.mjs`);
        const [payload, rooms, clients] = ['PAYLOAD', 'ROOMS', 'CLIENTS'];
        const options = { payload: Number(payload), rooms, clients: Number(clients) };
        const messages = new Messages(options);
        for (let n = 0; n < 100; n++) console.log(messages.text(1234n).text);
    ";
    for (payload, rooms, clients) in
        [(69, Rooms::One, 1), (200, Rooms::One, 9), (200, Rooms::Each, 7), (69, Rooms::Each, 9999)]
    {
        let mut messages = Messages::new(payload, rooms, clients).unwrap();
        let expected: Vec<String> = (0..100).map(|_| messages.text(SENT).1).collect();
        let script = script.replace("PAYLOAD", &payload.to_string());
        let script = script.replace("ROOMS", rooms.name()).replace("CLIENTS", &clients.to_string());
        let bun = programs().peers.join("node_modules/.bin/bun");
        for mut program in [Command::new("node"), Command::new(bun)] {
            program.current_dir(programs().peers);
            let output = program.args(["--input-type=module", "-e", &script]).output().unwrap();
            let told = String::from_utf8(output.stderr).unwrap();
            let out = String::from_utf8(output.stdout).unwrap();
            assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{told}");
        }
    }
}
