//! Flags of what a client may take of the server's time and memory once it is in.

use std::time::Duration;

use clap::Args;
use fanout::Limits;
use ws_sink::door::DoorConfig;
use ws_sink::{SseConfig, WsConfig};

/// What a client may take of the server's time and memory.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What a client may take")]
#[non_exhaustive]
pub struct Bounds {
    /// How long a client may take for the TLS handshake, in seconds.
    #[arg(long, env = "ORDER_SERVER_HANDSHAKE_SECS", value_name = "SECONDS", default_value_t = 5,
        value_parser = clap::value_parser!(u16).range(1..=600))]
    pub handshake_secs: u16,

    /// How long a client may take for the body of a request, in seconds.
    #[arg(long, env = "ORDER_SERVER_BODY_SECS", value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u16).range(1..=600))]
    pub body_secs: u16,

    /// How long a client may take until it has said who it is, by a first frame where the
    /// request did not, in seconds; then it is closed with 4500.
    #[arg(long, env = "ORDER_SERVER_FIRST_FRAME_SECS", value_name = "SECONDS",
        default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub first_frame_secs: u16,

    /// How long a client may take for a message once it has begun one, in seconds; then it is
    /// closed with 1001.
    #[arg(long, env = "ORDER_SERVER_MESSAGE_SECS", value_name = "SECONDS", default_value_t = 10,
        value_parser = clap::value_parser!(u16).range(1..=600))]
    pub message_secs: u16,

    /// How long a client may take nothing of what is written to it before it is dropped, in
    /// seconds.
    #[arg(long, env = "ORDER_SERVER_WRITE_SECS", value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u16).range(1..=600))]
    pub write_secs: u16,

    /// Headers of a request; more are answered with 431.
    #[arg(long, env = "ORDER_SERVER_MAX_HEADERS", value_name = "N", default_value_t = 64,
        value_parser = clap::value_parser!(u16).range(16..=1000))]
    pub max_headers: u16,

    /// Bytes of a request's headers, cookies included; more are answered with 431.
    #[arg(long, env = "ORDER_SERVER_MAX_HEADER_BYTES", value_name = "BYTES",
        default_value_t = 32 * 1024, value_parser = clap::value_parser!(u32).range(8192..=1_048_576))]
    pub max_header_bytes: u32,

    /// Bytes of a request's address, with its query; more are answered with 414.
    #[arg(long, env = "ORDER_SERVER_MAX_TARGET_BYTES", value_name = "BYTES",
        default_value_t = 16 * 1024, value_parser = clap::value_parser!(u32).range(1024..=65_534))]
    pub max_target_bytes: u32,

    /// Bytes of one message of a client; more are closed with 1009.
    #[arg(long, env = "ORDER_SERVER_MAX_MESSAGE_BYTES", value_name = "BYTES",
        default_value_t = 64 * 1024, value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
    pub max_message_bytes: u32,

    /// Fragments of one message; more are closed with 1009.
    #[arg(long, env = "ORDER_SERVER_MAX_FRAGMENTS", value_name = "N", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_fragments: u32,

    /// Rooms of one connection; more are answered with `too_many_rooms`.
    #[arg(long, env = "ORDER_SERVER_MAX_ROOMS", value_name = "N", default_value_t = 64,
        value_parser = clap::value_parser!(u16).range(4..=1024))]
    pub max_rooms: u16,

    /// Bytes of answers that may wait for a client that does not read; from a quarter on it is
    /// no longer read, beyond it is dropped.
    #[arg(long, env = "ORDER_SERVER_MAX_QUEUED_BYTES", value_name = "BYTES",
        default_value_t = 64 * 1024, value_parser = clap::value_parser!(u32).range(16_384..=16_777_216))]
    pub max_queued_bytes: u32,

    /// What was read again of Kafka for those who come back, kept at once, in MiB; when they have
    /// missed more they wait for one another.
    #[arg(long, env = "ORDER_SERVER_REPLAY_MIB", value_name = "MIB", default_value_t = 128,
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub replay_mib: u32,

    /// WebSockets, and streams of events, that may be opening at a time; more are answered with
    /// 503.
    #[arg(long, env = "ORDER_SERVER_MAX_OPENING", value_name = "N", default_value_t = 1024,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_opening: u32,
}

impl Bounds {
    /// Sets what is the door's.
    pub fn of_door(&self, config: &mut DoorConfig) {
        config.handshake_timeout = seconds(self.handshake_secs);
        config.body_timeout = seconds(self.body_secs);
        config.write_timeout = seconds(self.write_secs);
        config.max_headers = self.max_headers.into();
        config.max_header_bytes = self.max_header_bytes as usize;
        config.max_target_bytes = self.max_target_bytes as usize;
    }

    /// Sets what is the hub's.
    pub fn of_hub(&self, limits: &mut Limits) {
        limits.write_timeout = seconds(self.write_secs);
        limits.rooms_per_connection = self.max_rooms.into();
        limits.control_bytes = self.max_queued_bytes as usize;
        limits.replay_bytes = u64::from(self.replay_mib) << 20;
    }

    /// Sets what is a WebSocket's.
    pub fn of_ws(&self, config: &mut WsConfig) {
        config.auth_timeout = seconds(self.first_frame_secs);
        config.message_timeout = seconds(self.message_secs);
        config.pending = self.max_opening as usize;
        config.limits = config
            .limits
            .with_max_message_bytes(self.max_message_bytes as usize)
            .with_max_fragments(self.max_fragments);
    }

    /// Sets what is a stream's of events.
    pub fn of_sse(&self, config: &mut SseConfig) {
        config.auth_timeout = seconds(self.first_frame_secs);
        config.pending = self.max_opening as usize;
    }
}

fn seconds(seconds: u16) -> Duration {
    Duration::from_secs(seconds.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use clap::Parser as _;

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let bounds = Config::parse_from(["order-server"]).bounds;
        let (mut door, mut ws, mut sse) =
            (DoorConfig::default(), WsConfig::default(), SseConfig::default());
        let mut limits = Limits::default();
        let before = format!("{door:?} {ws:?} {sse:?} {limits:?}");
        bounds.of_door(&mut door);
        bounds.of_hub(&mut limits);
        bounds.of_ws(&mut ws);
        bounds.of_sse(&mut sse);
        assert_eq!(format!("{door:?} {ws:?} {sse:?} {limits:?}"), before);
    }

    #[test]
    fn each_flag_sets_what_it_names() {
        let given = Config::parse_from([
            "order-server",
            "--handshake-secs=7",
            "--body-secs=8",
            "--first-frame-secs=9",
            "--message-secs=11",
            "--write-secs=12",
            "--max-headers=20",
            "--max-header-bytes=9000",
            "--max-target-bytes=2000",
            "--max-message-bytes=3000",
            "--max-fragments=5",
            "--max-rooms=6",
            "--max-queued-bytes=20000",
            "--replay-mib=15",
            "--max-opening=14",
        ]);
        let (mut door, mut ws, mut sse) =
            (DoorConfig::default(), WsConfig::default(), SseConfig::default());
        let mut limits = Limits::default();
        given.bounds.of_door(&mut door);
        given.bounds.of_hub(&mut limits);
        given.bounds.of_ws(&mut ws);
        given.bounds.of_sse(&mut sse);
        assert_eq!((door.handshake_timeout, door.body_timeout), (seconds(7), seconds(8)));
        assert_eq!((ws.auth_timeout, sse.auth_timeout), (seconds(9), seconds(9)));
        assert_eq!((ws.message_timeout, door.write_timeout), (seconds(11), seconds(12)));
        assert_eq!(limits.write_timeout, seconds(12));
        assert_eq!(
            (door.max_headers, door.max_header_bytes, door.max_target_bytes),
            (20, 9000, 2000)
        );
        assert_eq!((ws.limits.max_message_bytes, ws.limits.max_fragments), (3000, 5));
        assert_eq!((limits.rooms_per_connection, limits.control_bytes), (6, 20_000));
        assert_eq!((ws.pending, sse.pending, limits.replay_bytes), (14, 14, 15 << 20));
    }
}
