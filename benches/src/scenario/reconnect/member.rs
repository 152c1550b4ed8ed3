//! One client that comes back: what it keeps, and how far it is.

use mio::net::TcpStream;
use serde::Deserialize;

use crate::message::AT_LEN;

/// What a client keeps to go on from: the newest whole cursor, and the last place of each
/// lane since then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    whole: String,
    ats: Vec<[u8; AT_LEN]>,
}

/// How far a client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Away,
    Connecting,
    Upgrading,
    Greeting,
    In,
}

/// A client.
#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) room: usize,
    pub(super) phase: Phase,
    /// `None` while it is away.
    pub(super) stream: Option<TcpStream>,
    /// The beginning of what is not whole yet.
    pub(super) partial: Vec<u8>,
    /// The number of the message that comes next.
    pub(super) next: u64,
    /// `None` before it was in for the first time.
    pub(super) kept: Option<Kept>,
    /// When it was due to come.
    pub(super) due: u64,
}

/// What the server says that is no message.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", content = "data", rename_all = "lowercase")]
pub(super) enum Said {
    Welcome { cursor: String, recovered: Option<bool>, rooms: Vec<String> },
    Heartbeat { cursor: String },
}

impl Kept {
    pub(super) fn new(whole: String) -> Self {
        Self { whole, ats: Vec::new() }
    }

    /// A message stands there. What is before the dot names the lane.
    pub(super) fn at(&mut self, at: &[u8; AT_LEN]) {
        let lane = |at: &[u8; AT_LEN]| at.iter().position(|byte| *byte == b'.').unwrap_or(AT_LEN);
        let named = &at[..lane(at)];
        match self.ats.iter_mut().find(|known| &known[..lane(known)] == named) {
            Some(known) => *known = *at,
            None => self.ats.push(*at),
        }
    }

    /// What the server is asked to go on from.
    pub(super) fn cursor(&self) -> String {
        let mut cursor = self.whole.clone();
        for at in &self.ats {
            cursor.push(',');
            cursor.extend(at.iter().map(|byte| char::from(*byte)));
        }
        cursor
    }
}

impl Member {
    /// It is not connected any more, and keeps what it has.
    pub(super) fn leave(&mut self) {
        self.stream = None;
        self.partial.clear();
        self.phase = Phase::Away;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_of_each_lane_is_kept() {
        let at = |lane: &str, block: &str| -> [u8; AT_LEN] {
            format!("b{lane}.{block:0>22}").into_bytes().try_into().unwrap()
        };
        let mut kept = Kept::new("whole".to_owned());
        assert_eq!(kept.cursor(), "whole");
        for (lane, block) in [("aaaaaa", "1"), ("cccccc", "5"), ("aaaaaa", "2"), ("aaaaaa", "3")] {
            kept.at(&at(lane, block));
        }
        let last = [at("aaaaaa", "3"), at("cccccc", "5")];
        let last = last.map(|at| String::from_utf8(at.to_vec()).unwrap());
        assert_eq!(kept.cursor(), format!("whole,{},{}", last[0], last[1]));
    }

    #[test]
    fn what_the_server_says_is_read() {
        let text = r#"{"event":"welcome","data":{"connection":"1","subject":"7","roles":["user"],
            "rooms":["user:7","r:00000001"],"cursor":"abc","recovered":true,"heartbeatMs":25000}}"#;
        let rooms = ["user:7", "r:00000001"].map(str::to_owned).to_vec();
        let welcome = Said::Welcome { cursor: "abc".to_owned(), recovered: Some(true), rooms };
        assert_eq!(serde_json::from_str::<Said>(text).unwrap(), welcome);
        let text = r#"{"event":"heartbeat","data":{"cursor":"abd"}}"#;
        let heartbeat = Said::Heartbeat { cursor: "abd".to_owned() };
        assert_eq!(serde_json::from_str::<Said>(text).unwrap(), heartbeat);
        let gap = r#"{"event":"gap","data":{"reason":"limit","rooms":[]}}"#;
        assert!(serde_json::from_str::<Said>(gap).is_err());
    }
}
