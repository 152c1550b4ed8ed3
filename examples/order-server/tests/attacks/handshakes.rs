//! TLS handshakes that are none, that stop or that never end.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::raw::{Raw, UPGRADE};
use crate::support::until;
use crate::target::Target;
use crate::tls::{aborted, attacked, hello};

const EVIL: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// To the port, without TLS.
async fn tcp(target: &Target) -> Raw {
    Raw::open(target.addr.plainly()).await
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    attacked(&["--handshake-secs", "1"], async |target: &Target| {
        let before = aborted(target, "tls_timeout").await;
        let hello = hello();
        let mut open = Vec::new();
        for at in 0..300 {
            let mut raw = tcp(target).await;
            // Nothing at all, and of all lengths but the whole.
            assert!(raw.send(&hello[..at * 7 % hello.len()]).await);
            open.push(raw);
        }
        // One that is whole, and never answered again.
        let mut whole = tcp(target).await;
        whole.send(&hello).await;
        let mut slow = tcp(target).await;
        let mut sent = hello.iter();
        while !slow.has_something() && slow.send([*sent.next().expect("cut off before")]).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(slow.rest().await, b"");
        for mut raw in open {
            assert_eq!(raw.rest().await, b"");
        }
        let said = whole.rest().await;
        assert!(said.starts_with(&[22, 3, 3]), "its side of the handshake: {said:?}");
        assert_eq!(aborted(target, "tls_timeout").await, before + 302);
    })
    .await;
}

/// A handshake record of this version, whose hello offers this version, these suites and
/// these extensions.
fn hello_of(record: [u8; 2], version: [u8; 2], suites: &[u8], extensions: &[u8]) -> Vec<u8> {
    let long = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let hello = [&version[..], &[7; 32], &[0], &long(suites), &[1, 0], &long(extensions)].concat();
    let message = [&[1, 0][..], &long(&hello)].concat();
    [&[22][..], &record, &long(&message)].concat()
}

/// What is no handshake, and the alert that it is ended with; 0 for none.
fn no_handshakes() -> Vec<(&'static str, Vec<u8>, u8)> {
    let (unexpected, decode, version, failure) = (10, 50, 70, 40);
    // Signatures, groups and points that the server has.
    let good =
        [&[0, 13, 0, 6, 0, 4, 4, 3, 8, 4][..], &[0, 10, 0, 4, 0, 2, 0, 29], &[0, 11, 0, 2, 1, 0]];
    let good = good.concat();
    let older = [&good[..], &[0, 43, 0, 3, 2, 3, 2]].concat();
    let suites = [0xc0, 0x2f, 0xc0, 0x2b, 0x13, 0x01];
    let mut flipped = hello();
    // The length of the message within the record, and of the record.
    flipped[6] = 0xff;
    let mut ccs = vec![20, 3, 3, 0, 1, 1];
    ccs = ccs.repeat(100);
    vec![
        ("plain HTTP", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), decode),
        ("garbage", [0xde, 0xad, 0xbe, 0xef].repeat(100), decode),
        ("zeros", vec![0; 1000], decode),
        ("a record of 65,535 bytes", vec![22, 3, 1, 0xff, 0xff, 1], decode),
        ("a record of one byte too many", vec![22, 3, 1, 0x48, 0x01, 1], decode),
        ("a record of nothing", vec![22, 3, 1, 0, 0], decode),
        ("a message of 16 MiB", flipped, 0),
        (
            "a hello of SSL 2",
            [&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0][..], &[0; 40]].concat(),
            decode,
        ),
        ("SSL 3 alone", hello_of([3, 0], [3, 0], &suites, &good), version),
        ("TLS 1.0 alone", hello_of([3, 1], [3, 1], &suites, &good), version),
        ("TLS 1.1 alone", hello_of([3, 1], [3, 2], &suites, &good), version),
        ("TLS 1.1 in an extension", hello_of([3, 1], [3, 3], &suites, &older), version),
        ("TLS 1.2 without extensions", hello_of([3, 1], [3, 3], &suites, &[]), failure),
        (
            "suites that nobody should take",
            hello_of([3, 1], [3, 3], &[0, 0, 0, 5, 0, 10], &[]),
            failure,
        ),
        ("half an extension", hello_of([3, 1], [3, 3], &suites, &[0, 10, 0, 99]), decode),
        ("data at first", vec![23, 3, 3, 0, 5, 1, 2, 3, 4, 5], unexpected),
        ("a heartbeat that lies", vec![24, 3, 2, 0, 3, 1, 0x40, 0], decode),
        ("changes of cipher without end", ccs, unexpected),
        ("another message", vec![22, 3, 1, 0, 4, 20, 0, 0, 0], unexpected),
    ]
}

#[tokio::test]
async fn what_is_no_handshake_ends_at_once() {
    // Who waits for more would wait for longer than the test.
    attacked(&["--handshake-secs", "600"], async |target: &Target| {
        let before = aborted(target, "tls_handshake").await;
        let cases = no_handshakes();
        let mut wrong = Vec::new();
        for (what, bytes, alert) in &cases {
            let mut raw = tcp(target).await;
            raw.send(bytes).await;
            let said = raw.rest().await;
            let expected = [21, 3, 3, 0, 2, 2, *alert];
            if said != expected[..if *alert == 0 { 0 } else { 7 }] {
                wrong.push((what, said));
            }
        }
        assert_eq!(wrong, [], "answered otherwise");
        // Half of one, and nobody to go on.
        for cut in [0, 1, 5, 100] {
            let mut raw = tcp(target).await;
            raw.send(&hello()[..cut]).await;
            raw.half_close();
            assert_eq!(raw.rest().await, b"", "{cut}");
        }
        // An alert of theirs.
        let mut raw = tcp(target).await;
        raw.send([21, 3, 3, 0, 2, 2, 40]).await;
        assert_eq!(raw.rest().await, b"");
        let ended = (cases.len() + 5) as u64;
        assert_eq!(aborted(target, "tls_handshake").await, before + ended);
    })
    .await;
}

#[tokio::test]
async fn handshakes_count_for_their_address() {
    let flags = ["--max-connections-per-address", "20", "--handshake-secs", "600"];
    attacked(&flags, async |target: &Target| {
        let mut held = Vec::new();
        for at in 0..20 {
            let mut raw = Raw::open_from(target.addr.plainly(), EVIL).await;
            raw.send(&hello()[..at * 10]).await;
            held.push(raw);
        }
        // Nobody has shaken hands yet, and there is no place for one more.
        for _ in 0..20 {
            assert!(Raw::try_open(target.addr, EVIL, None).await.is_err());
            let mut raw = Raw::open_from(target.addr.plainly(), EVIL).await;
            assert_eq!(raw.rest().await, b"", "it is not told: that would cost a handshake");
        }
        let other = Raw::open(target.addr).await.ask("GET /livez", "", "").await;
        assert_eq!(other.status, 200);
        held.pop();
        until("a place is free", || async {
            let mut raw = Raw::try_open(target.addr, EVIL, None).await.ok()?;
            (raw.ask("GET /livez", "", "").await.status == 200).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn handshakes_that_are_given_up_leave_nothing() {
    attacked(&[], async |target: &Target| {
        let hello = hello();
        for at in 0..1000 {
            match at % 5 {
                // Gone before a word, in the middle of one, behind it, and behind the whole.
                0 => drop(tcp(target).await),
                1 => drop(tcp(target).await.send(&hello[..100]).await),
                2 => {
                    tcp(target).await.send(&hello).await;
                }
                3 => drop(Raw::open(target.addr).await),
                _ => {
                    let mut raw = Raw::open(target.addr).await;
                    raw.request("GET /ws", UPGRADE).await;
                }
            }
        }
    })
    .await;
}
