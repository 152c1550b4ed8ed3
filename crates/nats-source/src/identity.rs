//! Which log a stream is.
//!
//! Sequences mean nothing in another stream, so a lane says which one it is in. Every node
//! has to come to the same: what decides is what the server tells all of them. That is the
//! moment at which the stream was made, to the nanosecond: it is kept with the stream,
//! through restarts, elections, and moves to another cluster. What a server calls itself,
//! its cluster or its domain is not: the same stream has several such names, by the way on
//! which it is reached.

use std::sync::Arc;

use fanout::Lane;

use crate::api::StreamInfo;
use crate::config::NatsConfig;

/// What [`Lane::log`](fanout::Lane::log) is for a stream.
pub(crate) fn log_of(config: &NatsConfig, info: &StreamInfo) -> Arc<str> {
    match &config.log_identity {
        Some(given) => given.as_str().into(),
        None => format!("nats/{}", info.created.as_nanosecond()).into(),
    }
}

/// What it is for a stream that was cut at this sequence: what is written there from now on
/// is not what was handed on before.
pub(crate) fn after_cut(log: &str, from: u64) -> Arc<str> {
    format!("{log}~{from}").into()
}

/// The first sequence that is in a lane of the stream; `None` where it is in another.
pub(crate) fn begin_of(config: &NatsConfig, info: &StreamInfo, lane: &Lane) -> Option<u64> {
    let behind = lane.log.strip_prefix(&*log_of(config, info)).filter(|_| lane.partition == 0)?;
    match behind.strip_prefix('~') {
        Some(from) => from.parse().ok(),
        None => behind.is_empty().then_some(1),
    }
}

/// Why a stream that is there cannot be read by everybody.
pub(crate) fn unfit(name: &str, info: &StreamInfo) -> Option<String> {
    let retention = &info.config.retention;
    (retention != "limits").then(|| {
        format!(
            "stream `{name}` keeps its messages by `{retention}`: reading it would take them \
             from others; it needs `limits`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(made: &str, retention: &str) -> StreamInfo {
        let text = format!(
            r#"{{"config":{{"retention":"{retention}"}},"created":"{made}",
            "state":{{"first_seq":1,"last_seq":9}}}}"#
        );
        serde_json::from_str(&text).expect("a stream")
    }

    #[test]
    fn all_who_ask_are_told_the_same_and_each_stream_is_another_log() {
        let config = NatsConfig::new("a:1").stream("S");
        let one = log_of(&config, &info("2026-11-23T00:00:22.949560221Z", "limits"));
        assert_eq!(&*one, "nats/1795392022949560221");
        // Written differently, it is the same moment.
        assert_eq!(one, log_of(&config, &info("2026-11-23T02:00:22.949560221+02:00", "limits")));
        assert_ne!(one, log_of(&config, &info("2026-11-23T00:00:22.949560222Z", "limits")));
        let given = config.log_identity("mine");
        assert_eq!(&*log_of(&given, &info("2026-11-23T00:00:22Z", "limits")), "mine");
    }

    #[test]
    fn a_lane_behind_a_cut_is_of_its_stream_and_begins_there() {
        let config = NatsConfig::new("a:1").stream("S");
        let stream = info("2026-11-23T00:00:22Z", "limits");
        let log = log_of(&config, &stream);
        let begin = |log: &str| begin_of(&config, &stream, &Lane::new(log, "S", 0));
        assert_eq!((begin(&log), begin(&after_cut(&log, 40))), (Some(1), Some(40)));
        assert_eq!(
            (begin("nats/1"), begin(&format!("{log}0")), begin(&format!("{log}~x"))),
            (None, None, None)
        );
        assert_eq!(begin_of(&config, &stream, &Lane::new(log, "S", 1)), None);
    }

    #[test]
    fn only_what_keeps_messages_for_all_is_read() {
        assert_eq!(unfit("S", &info("2026-11-23T00:00:22Z", "limits")), None);
        let why = unfit("S", &info("2026-11-23T00:00:22Z", "workqueue")).expect("refused");
        assert!(why.contains("`S`") && why.contains("`workqueue`"), "{why}");
    }
}
