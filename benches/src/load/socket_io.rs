//! As much of Engine.IO 4 and Socket.IO 5 as a client needs that only listens.
//!
//! | from the server | what | from the client |
//! |---|---|---|
//! | `0{...}` | Engine.IO is open | `40`, connect to the namespace `/` |
//! | `40{...}` | connected | |
//! | `44{...}` | not wanted | |
//! | `2` | still there? | `3` |
//! | `42["message",...]` | an event | |
//! | `41`, `1` | goodbye | |

use super::handshake::HandshakeError;

/// The frame of `40`, masked with zeros, which leave it as it is.
pub(crate) const CONNECT: [u8; 8] = [0x81, 0x82, 0, 0, 0, 0, b'4', b'0'];
/// The frame of `3`, likewise.
pub(crate) const PONG: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'3'];

/// What a packet means to a client that is not connected yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// To be answered with [`CONNECT`].
    Open,
    /// To be answered with [`PONG`].
    Ping,
    /// The client is in.
    Connected,
    /// Something else.
    Other,
}

/// Reads a packet before the client is connected.
pub(crate) fn greeting(packet: &[u8]) -> Result<Greeting, HandshakeError> {
    match packet {
        [b'0', b'{', ..] => Ok(Greeting::Open),
        [b'4', b'0', b'{', ..] => Ok(Greeting::Connected),
        [b'4', b'4' | b'1', ..] | [b'1', ..] => {
            Err(HandshakeError::Refused(String::from_utf8_lossy(packet).into_owned()))
        }
        packet if is_ping(packet) => Ok(Greeting::Ping),
        _ => Ok(Greeting::Other),
    }
}

/// Whether the packet is to be answered with [`PONG`].
pub(crate) fn is_ping(packet: &[u8]) -> bool {
    packet == b"2"
}

/// Whether the packet ends the connection.
pub(crate) fn is_goodbye(packet: &[u8]) -> bool {
    packet == b"1" || packet.starts_with(b"41")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_connected_when_the_server_says_so() {
        assert_eq!(greeting(br#"0{"sid":"x"}"#).unwrap(), Greeting::Open);
        assert_eq!(greeting(b"2").unwrap(), Greeting::Ping);
        assert_eq!(greeting(b"6").unwrap(), Greeting::Other);
        assert_eq!(greeting(br#"40{"sid":"y"}"#).unwrap(), Greeting::Connected);
        let refused = greeting(br#"44{"message":"no"}"#).unwrap_err();
        assert_eq!(refused.to_string(), r#"the server answers `44{"message":"no"}`"#);
        assert!(is_goodbye(b"41") && is_goodbye(b"1") && !is_goodbye(b"42[]"));
    }
}
