//! How a [`Close`] looks on the wire: one table of code, name, and whether to come back.
//!
//! | code | name | come back? |
//! |---|---|---|
//! | 1000, 1001 | `normal`, `going_away` | no / yes |
//! | 1002, 1003, 1007, 1009 | `protocol_error`, `unsupported`, `not_utf8`, `too_big` | no |
//! | 4000 | `draining`, `withinMs` | yes, at a random moment within, with the cursor |
//! | 4001 | `slow`, `afterMs` | yes, after it, with the cursor |
//! | 4002 | `token_expired` | yes, with a new token |
//! | 4003 | `rate_limited`, `afterMs` | yes, after it |
//! | 4004 | `server_error` | yes |
//! | 4500 | `unauthenticated` | no |
//! | 4501 | `forbidden` | no |
//! | 4502 | `protocol` | no |
//! | 4503 | `revoked` | no |
//!
//! The reason is JSON: `{"name":"slow","afterMs":2000}`. Clients that do not know a code
//! go by its range: 4500 and above is final, all else comes back with back-off.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fanout::Close;

use crate::codec::{CodecError, encode};

/// Whether, and how, a client comes back after a [`Close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ComeBack {
    /// It does not: the same would happen again.
    No,
    /// With back-off.
    WithBackoff,
    /// At a random moment within this time, so that not all come at once.
    Within(Duration),
    /// After this time.
    After(Duration),
    /// With a new token.
    WithNewToken,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The code in the close frame.
    pub code: u16,
    /// The name in the reason.
    pub name: &'static str,
    /// Whether the client comes back, and how.
    pub come_back: ComeBack,
}

impl Row {
    /// The row of `close`.
    pub fn of(close: &Close) -> Self {
        use ComeBack::{After, No, WithBackoff, WithNewToken, Within};
        let (code, name, come_back) = match *close {
            Close::Normal => (1000, "normal", No),
            Close::GoingAway => (1001, "going_away", WithBackoff),
            Close::Wire(code @ 1002) => (code, "protocol_error", No),
            Close::Wire(code @ 1003) => (code, "unsupported", No),
            Close::Wire(code @ 1007) => (code, "not_utf8", No),
            Close::Wire(code @ 1009) => (code, "too_big", No),
            Close::Wire(code @ (1000 | 4500..)) => (code, "closed", No),
            Close::Wire(code) => (code, "closed", WithBackoff),
            Close::Draining { within } => (4000, "draining", Within(within)),
            Close::Slow { after } => (4001, "slow", After(after)),
            Close::TokenExpired => (4002, "token_expired", WithNewToken),
            Close::RateLimited { after } => (4003, "rate_limited", After(after)),
            Close::Unauthenticated => (4500, "unauthenticated", No),
            Close::Forbidden => (4501, "forbidden", No),
            Close::Protocol => (4502, "protocol", No),
            Close::Revoked => (4503, "revoked", No),
            // `ServerError`, and what a later core may close for and this table does not know.
            _ => (4004, "server_error", WithBackoff),
        };
        Self { code, name, come_back }
    }

    /// The reason in the close frame: JSON, at most 123 bytes whatever the times are.
    pub fn reason(&self) -> String {
        let name = self.name;
        match self.come_back {
            ComeBack::Within(time) => {
                format!(r#"{{"name":"{name}","withinMs":{}}}"#, millis(time))
            }
            ComeBack::After(time) => format!(r#"{{"name":"{name}","afterMs":{}}}"#, millis(time)),
            ComeBack::No | ComeBack::WithBackoff | ComeBack::WithNewToken => {
                format!(r#"{{"name":"{name}"}}"#)
            }
        }
    }

    /// The close frame, ready for the socket. A code that must not be sent (of
    /// [`Close::Wire`]) is left out, with the reason.
    pub fn frame(&self) -> Bytes {
        let mut out = BytesMut::new();
        match encode::close(&mut out, Some((self.code, &self.reason()))) {
            Ok(()) => out.freeze(),
            Err(_) => Bytes::from_static(&encode::EMPTY_CLOSE),
        }
    }
}

impl From<CodecError> for Close {
    fn from(error: CodecError) -> Self {
        Self::Wire(error.close_code())
    }
}

/// What JavaScript can count, too.
fn millis(time: Duration) -> u64 {
    const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
    u64::try_from(time.as_millis()).map_or(MAX_SAFE_INTEGER, |ms| ms.min(MAX_SAFE_INTEGER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::MAX_REASON_BYTES;

    const LONG: Duration = Duration::MAX;

    const ALL: [Close; 15] = [
        Close::Normal,
        Close::GoingAway,
        Close::Wire(1002),
        Close::Wire(1003),
        Close::Wire(1007),
        Close::Wire(1009),
        Close::Draining { within: LONG },
        Close::Slow { after: LONG },
        Close::TokenExpired,
        Close::RateLimited { after: LONG },
        Close::ServerError,
        Close::Unauthenticated,
        Close::Forbidden,
        Close::Protocol,
        Close::Revoked,
    ];

    #[test]
    fn codes_and_names_are_one_each() {
        for (at, one) in ALL.iter().map(Row::of).enumerate() {
            for other in ALL[at + 1..].iter().map(Row::of) {
                assert_ne!(one.code, other.code);
                assert_ne!(one.name, other.name);
            }
        }
    }

    #[test]
    fn ranges_say_whether_to_come_back() {
        for row in ALL.iter().map(Row::of) {
            let comes_back = row.come_back != ComeBack::No;
            let by_range = !matches!(row.code, 1000 | 1002 | 1003 | 1007 | 1009 | 4500..);
            assert_eq!(comes_back, by_range, "{row:?}");
        }
    }

    #[test]
    fn reasons_are_json_that_fits() {
        for row in ALL.iter().map(Row::of) {
            let reason = row.reason();
            assert!(reason.len() <= MAX_REASON_BYTES, "{reason}");
            let json: serde_json::Value = serde_json::from_str(&reason).unwrap();
            assert_eq!(json["name"], row.name);
        }
        let reason = |close| Row::of(&close).reason();
        let slow = Close::Slow { after: Duration::from_secs(2) };
        assert_eq!(reason(slow), r#"{"name":"slow","afterMs":2000}"#);
        let draining = Close::Draining { within: Duration::from_millis(1) };
        assert_eq!(reason(draining), r#"{"name":"draining","withinMs":1}"#);
        assert_eq!(reason(Close::Revoked), r#"{"name":"revoked"}"#);
    }

    #[test]
    fn frames_carry_code_and_reason() {
        for row in ALL.iter().map(Row::of) {
            let frame = row.frame();
            assert_eq!(frame[..2], [0x88, frame.len() as u8 - 2]);
            assert_eq!(frame[2..4], row.code.to_be_bytes());
            assert_eq!(frame[4..], *row.reason().as_bytes());
        }
        assert_eq!(Row::of(&Close::Wire(1006)).frame()[..], [0x88, 0]);
    }

    #[test]
    fn what_a_client_did_on_the_wire_keeps_its_code() {
        let close = Close::from(CodecError::Binary);
        assert_eq!((Row::of(&close).code, Row::of(&close).name), (1003, "unsupported"));
    }
}
