//! What is tried in the clear, behind a good TLS handshake: there is one more place in which
//! bytes can pile up. And records that are meddled with.

use std::io::{Read as _, Write as _};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::rustls::ClientConnection;

use crate::floods::bomb_of_rooms;
use crate::frames::{deaf_askers, floods_of_frames, slow_readers};
use crate::http::never_say_all;
use crate::jwt::{self, bearer};
use crate::raw::{Raw, UPGRADE, frame, text};
use crate::support::{DEADLINE, Folder, until};
use crate::target::Target;
use crate::{family, wire};

const EVE: &str = "eve@shop.example";

/// A server that speaks TLS is attacked; so does the bystander.
pub(crate) async fn attacked(flags: &[&str], attack: impl AsyncFn(&Target)) {
    let folder = Folder::new();
    let [certificate, key] = wire::write_certificate(&folder.0);
    let mut all = vec!["--tls-cert", &certificate, "--tls-key", &key];
    all.extend(flags);
    family::attacked(&all, attack).await;
}

/// What a good client says at first.
pub(crate) fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut session = ClientConnection::new(wire::client(), wire::name()).unwrap();
    session.write_tls(&mut bytes).unwrap();
    bytes
}

/// How many connections the door has ended for this reason.
pub(crate) async fn aborted(target: &Target, reason: &str) -> u64 {
    target.count(&format!("fanout_door_aborted_total{{reason=\"{reason}\"}}")).await
}

#[tokio::test]
async fn slow_headers_are_not_waited_for_behind_a_handshake() {
    attacked(&["--header-secs", "1"], async |target: &Target| {
        let before = aborted(target, "header_timeout").await;
        never_say_all(target, 200).await;
        assert_eq!(aborted(target, "header_timeout").await, before + 201);
    })
    .await;
}

#[tokio::test]
async fn who_says_goodbye_is_let_go_and_who_does_not_read_is_left() {
    attacked(&["--write-secs", "2"], async |target: &Target| {
        // Nothing more is to come: that ends it, with the answer or before.
        let mut raw = Raw::open(target.addr).await;
        raw.request("GET /livez", "").await;
        raw.half_close();
        let said = raw.rest().await;
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 200 "), "{said:?}");
        // In the middle of a request, and of a WebSocket.
        let mut raw = Raw::open(target.addr).await;
        raw.send("GET /livez HTT").await;
        raw.half_close();
        assert_eq!(raw.rest().await, b"");
        let mut socket = comes(target).await;
        socket.half_close();
        socket.rest().await;

        // Requests without end, of which no answer is read: TLS takes no more than TCP does.
        let before = aborted(target, "write_timeout").await;
        let get = format!("GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", target.addr).repeat(100);
        let mut deaf = Raw::open_narrow(target.addr).await;
        let mut taken = 0;
        until("it is left", || {
            while let Some(sent @ 1..) = deaf.send_now(get.as_bytes()) {
                taken += sent;
                assert!(taken < 64 << 20, "{taken} bytes of requests were taken and not answered");
            }
            async { (aborted(target, "write_timeout").await > before).then_some(()) }
        })
        .await;
    })
    .await;
}

async fn comes(target: &Target) -> Raw {
    let mut raw = Raw::open(target.addr).await;
    assert_eq!(raw.upgrade("/ws", &bearer(&jwt::of(EVE, "user"))).await.status, 101);
    assert_eq!(raw.text().await["event"], "welcome");
    raw
}

#[tokio::test]
async fn who_never_reads_costs_no_memory_over_tls() {
    attacked(&[], deaf_askers).await;
}

#[tokio::test]
async fn a_slow_reader_is_told_to_come_back_over_tls() {
    attacked(&["--log-mib", "8"], slow_readers).await;
}

#[tokio::test]
async fn who_says_too_much_is_sent_away_over_tls() {
    attacked(&["--frames-per-second", "50"], floods_of_frames).await;
}

#[tokio::test]
async fn a_bomb_of_rooms_leaves_nothing_over_tls() {
    attacked(&[], bomb_of_rooms).await;
}

/// A WebSocket whose records can be meddled with.
struct Session {
    tcp: TcpStream,
    tls: ClientConnection,
}

impl Session {
    async fn comes(target: &Target) -> Self {
        let (tcp, tls) = target.addr.session().await.unwrap().into_inner();
        let mut session = Self { tcp, tls };
        let token = bearer(&jwt::of(EVE, "user"));
        let host = target.addr;
        let asks =
            session.records(format!("GET /ws HTTP/1.1\r\nHost: {host}\r\n{UPGRADE}{token}\r\n"));
        session.tcp.write_all(&asks).await.unwrap();
        session.reads("welcome").await;
        session
    }

    /// As the client would send it.
    fn records(&mut self, plain: impl AsRef<[u8]>) -> Vec<u8> {
        self.tls.writer().write_all(plain.as_ref()).unwrap();
        self.written()
    }

    fn written(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Reads until this was said.
    async fn reads(&mut self, wanted: &str) {
        let mut said = Vec::new();
        while !said.windows(wanted.len()).any(|part| part == wanted.as_bytes()) {
            let mut buffer = vec![0; 16 * 1024];
            let read = tokio::time::timeout(DEADLINE, self.tcp.read(&mut buffer)).await;
            let read = read.expect("in time").expect("still open");
            assert!(read > 0, "ended before {wanted}");
            let mut records = &buffer[..read];
            while !records.is_empty() {
                self.tls.read_tls(&mut records).unwrap();
                self.tls.process_new_packets().unwrap();
            }
            // Where there is no more it says that it would block.
            let _ = self.tls.reader().read_to_end(&mut said);
        }
    }

    /// Sends these bytes; the server ends it.
    async fn ends_by(mut self, bytes: &[u8]) {
        let _ = self.tcp.write_all(bytes).await;
        let rest = async {
            let mut buffer = vec![0; 16 * 1024];
            while self.tcp.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        };
        tokio::time::timeout(DEADLINE, rest).await.expect("it is ended");
    }
}

#[tokio::test]
async fn records_that_are_meddled_with_end_the_connection_and_no_other() {
    attacked(&[], async |target: &Target| {
        let ask = text(r#"{"event":"subscribe","id":1,"data":{"room":"inventory:updates"}}"#);
        // Gone in the middle of a frame: between two records, and within one.
        for at in 0..200 {
            let mut session = Session::comes(target).await;
            let mut bytes = session.records(&frame(0x81, &vec![b'x'; 30_000])[..10_000 + at]);
            if at % 2 == 0 {
                bytes.truncate(bytes.len() / 2);
            }
            session.tcp.write_all(&bytes).await.unwrap();
        }
        // A bit that is not theirs, at the end and in the length; a record twice, one left out;
        // and one in the clear.
        let mut session = Session::comes(target).await;
        let mut bytes = session.records(&ask);
        *bytes.last_mut().unwrap() ^= 1;
        session.ends_by(&bytes).await;
        let mut session = Session::comes(target).await;
        let mut bytes = session.records(&ask);
        bytes[3] = 0xff;
        session.ends_by(&bytes).await;
        let mut session = Session::comes(target).await;
        let twice = session.records(&ask).repeat(2);
        session.ends_by(&twice).await;
        let mut session = Session::comes(target).await;
        session.records(&ask);
        let second = session.records(&ask);
        session.ends_by(&second).await;
        let session = Session::comes(target).await;
        session.ends_by(&[&[23, 3, 3, 0, ask.len() as u8][..], &ask].concat()).await;
        let session = Session::comes(target).await;
        session.ends_by(&hello()).await;
        // New keys, again and again.
        let mut session = Session::comes(target).await;
        let mut bytes = Vec::new();
        for _ in 0..1000 {
            session.tls.refresh_traffic_keys().unwrap();
            bytes.extend(session.written());
        }
        session.ends_by(&bytes).await;
        // Now and then it is fine.
        let mut session = Session::comes(target).await;
        session.tls.refresh_traffic_keys().unwrap();
        let bytes = session.records(&ask);
        session.tcp.write_all(&bytes).await.unwrap();
        session.reads("subscribed").await;
    })
    .await;
}
