//! What a server process is told, and what it says: lines on its stdin and stdout.
//!
//! | line in | line out | what |
//! |---|---|---|
//! | | `listening ADDRESS` | once, when clients may come |
//! | `clients` | `clients N` | how many are in their rooms |
//! | `publish N` | | publish the next `N` messages as one burst |
//! | `cpu` | `cpu NANOSECONDS` | what the process has used so far |
//!
//! The scripts in `peers/` keep to it as well, and every server may count on this: the
//! next line comes when all clients that read have what was published before.
//!
//! When stdin closes the process ends: a server never outlives who has started it.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::str::FromStr;

use crate::clock;
use crate::message::Messages;
use crate::servers::Server;

/// Most messages of a burst.
pub const MAX_BURST: usize = 4096;

/// A line to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)] // Both ends are in this package.
pub enum Request {
    /// How many clients are in their rooms.
    Clients,
    /// Publish so many messages at once.
    Publish(usize),
    /// How much CPU time was used.
    Cpu,
}

/// A line that is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}`: not `clients`, `cpu` or `publish N` with N from 1 to {MAX_BURST}")]
pub struct RequestError(String);

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clients => f.write_str("clients"),
            Self::Publish(burst) => write!(f, "publish {burst}"),
            Self::Cpu => f.write_str("cpu"),
        }
    }
}

impl FromStr for Request {
    type Err = RequestError;

    fn from_str(line: &str) -> Result<Self, RequestError> {
        let error = || RequestError(line.to_owned());
        match line.split_once(' ') {
            None if line == "clients" => Ok(Self::Clients),
            None if line == "cpu" => Ok(Self::Cpu),
            Some(("publish", burst)) => {
                let burst = burst.parse().map_err(|_| error())?;
                if (1..=MAX_BURST).contains(&burst) {
                    Ok(Self::Publish(burst))
                } else {
                    Err(error())
                }
            }
            _ => Err(error()),
        }
    }
}

/// Says where a server listens, then does what it is told until `input` ends.
///
/// # Errors
/// Where a line is no request, a burst cannot be published, or nobody reads `output`.
pub fn obey(
    server: &mut dyn Server,
    addr: SocketAddr,
    messages: &mut Messages,
    input: impl BufRead,
    mut output: impl Write,
) -> io::Result<()> {
    writeln!(output, "listening {addr}")?;
    output.flush()?;
    for line in input.lines() {
        match line?.parse().map_err(io::Error::other)? {
            Request::Clients => writeln!(output, "clients {}", server.clients())?,
            Request::Publish(burst) => server.publish(messages, burst)?,
            Request::Cpu => writeln!(output, "cpu {}", clock::process_cpu().as_nanos())?,
        }
        output.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written() {
        for request in [Request::Clients, Request::Publish(1), Request::Publish(64), Request::Cpu] {
            assert_eq!(request.to_string().parse(), Ok(request));
        }
        for bad in ["", "publish", "publish 0", "publish -1", "publish 4097", "cpu 1", "stop"] {
            assert!(bad.parse::<Request>().is_err(), "{bad}");
        }
    }

    #[derive(Default)]
    struct Counting(usize);

    impl Server for Counting {
        fn clients(&self) -> usize {
            7
        }

        fn publish(&mut self, messages: &mut Messages, burst: usize) -> io::Result<()> {
            (0..burst).for_each(|_| drop(messages.text(0)));
            self.0 += burst;
            Ok(())
        }
    }

    #[test]
    fn a_server_does_what_it_is_told_until_its_input_ends() {
        let (mut server, mut out) = (Counting::default(), Vec::new());
        let mut messages = Messages::new(200, crate::run::Rooms::One, 1).unwrap();
        let addr = ([127, 0, 0, 1], 80).into();
        let input = &b"clients\npublish 3\ncpu\n"[..];
        obey(&mut server, addr, &mut messages, input, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with("listening 127.0.0.1:80\nclients 7\ncpu "), "{out}");
        assert_eq!(server.0, 3);
        let error = obey(&mut server, addr, &mut messages, &b"jump\n"[..], Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("`jump`: not "), "{error}");
    }
}
