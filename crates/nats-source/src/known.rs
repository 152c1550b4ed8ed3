//! What is known of a stream, and what an answer about it changes.
//!
//! Asks nobody: it is told what the server answered, and says what is to be done.
//!
//! ```text
//!            there                      another was made, or denied for the grace
//! Unknown ----------> Open (one lane) ---------------------------------------> Closed
//!    '-- denied for the grace: new,                                              |
//!        read from its beginning <-----------------------------------------------'
//! ```
//!
//! A cluster that elects a leader, or has just elected one, may deny what exists or tell of
//! less than there is. So neither is believed before all answers of some seconds say so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanout::Lane;

use crate::api::StreamInfo;

/// A stream that is being read.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) lane: Arc<Lane>,
    created: jiff::Timestamp,
    /// The next sequence to hand on.
    pub(crate) next: u64,
    /// What is left to be reached before it has caught up.
    pub(crate) end: Option<u64>,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Read on.
    Read,
    /// Open it: `new` from its beginning, as another lane where it was `cut`.
    Open { new: bool, cut: Option<u64> },
    /// Ask again soon; this is wrong.
    Wait(String),
    /// The lane is no more; ask again at once.
    Closed(Arc<Lane>),
    /// Nothing of it can be told from what was told before.
    Halt(String),
}

/// What is known of a stream.
#[derive(Debug)]
pub(crate) struct Known {
    name: Arc<str>,
    grace: Duration,
    pub(crate) open: Option<Reading>,
    /// Whether nobody has seen anything of what comes.
    new: bool,
    /// Since when answers deny it, or what was read of it.
    doubted: Option<Instant>,
    /// Where it ended when it was first found to end before what was read of it.
    cut: Option<u64>,
    /// The log of the lane that was closed last.
    closed: Option<Arc<str>>,
}

impl Known {
    pub(crate) fn new(name: Arc<str>, grace: Duration) -> Self {
        Self { name, grace, open: None, new: false, doubted: None, cut: None, closed: None }
    }

    /// Nobody has answered: what was denied before has to be denied again.
    pub(crate) fn unanswered(&mut self) {
        self.doubted = None;
        // Of a lane that is closed it is known for certain.
        if self.open.is_some() {
            self.cut = None;
        }
    }

    /// Whether the stream is known not to have been there at start.
    pub(crate) fn is_new(&self) -> bool {
        self.new
    }

    /// What to do, after the server has told of the stream, `None` where it denies it.
    /// `log` is which log it is.
    pub(crate) fn told(&mut self, info: Option<(&StreamInfo, &Arc<str>)>, now: Instant) -> Told {
        let name = self.name.clone();
        let Some((info, log)) = info else {
            let problem = format!("stream `{name}` does not exist");
            if !self.doubt(now) {
                return Told::Wait(problem);
            }
            (self.new, self.cut) = (true, None);
            return self.close().map_or(Told::Wait(problem), Told::Closed);
        };
        let Some(reading) = &self.open else {
            self.doubted = None;
            let cut = self.cut.take();
            if self.closed.as_ref() == Some(log) && cut.is_none() {
                let problem = format!("stream `{name}` was made anew under the same identity");
                return Told::Halt(problem);
            }
            return Told::Open { new: self.new, cut };
        };
        if reading.created != info.created {
            (self.new, self.cut) = (true, None);
            return self.close().map_or(Told::Read, Told::Closed);
        }
        let (end, next) = (info.end(), reading.next);
        if end < next {
            // Sequences would come twice with other messages behind them.
            let cut = *self.cut.get_or_insert(end);
            if self.doubt(now) {
                return self.close().map_or(Told::Read, Told::Closed);
            }
            return Told::Wait(format!("stream `{name}` ends at {cut} but was read up to {next}"));
        }
        (self.doubted, self.cut) = (None, None);
        Told::Read
    }

    /// Whether an answer is of the stream that is open, and has all that was read.
    pub(crate) fn agrees(&self, info: Option<&StreamInfo>) -> bool {
        let both = self.open.as_ref().zip(info);
        both.is_some_and(|(open, info)| open.created == info.created && open.next <= info.end())
    }

    /// Begins to be read, from `from` on; it has caught up at `end`.
    pub(crate) fn open(&mut self, info: &StreamInfo, log: Arc<str>, from: u64, end: u64) {
        let lane = Arc::new(Lane::new(log, self.name.clone(), 0));
        let end = (from < end).then_some(end);
        self.open = Some(Reading { lane, created: info.created, next: from, end });
    }

    fn close(&mut self) -> Option<Arc<Lane>> {
        self.doubted = None;
        let lane = self.open.take()?.lane;
        self.closed = Some(lane.log.clone());
        Some(lane)
    }

    /// Whether the doubt has lasted for as long as is waited for.
    fn doubt(&mut self, now: Instant) -> bool {
        let since = *self.doubted.get_or_insert(now);
        now.saturating_duration_since(since) >= self.grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    fn info(made: u8, last: u64) -> StreamInfo {
        let text = format!(
            r#"{{"config":{{"retention":"limits"}},"created":"2026-11-23T00:00:0{made}Z",
            "state":{{"first_seq":1,"last_seq":{last}}}}}"#
        );
        serde_json::from_str(&text).expect("a stream")
    }

    struct Asked {
        known: Known,
        start: Instant,
        log: Option<Arc<str>>,
    }

    impl Asked {
        fn new() -> Self {
            Self { known: Known::new("S".into(), GRACE), start: Instant::now(), log: None }
        }

        fn log(&self, made: u8) -> Arc<str> {
            self.log.clone().unwrap_or_else(|| format!("made {made}").into())
        }

        /// After some seconds the server tells when it was made, and its last sequence.
        fn told(&mut self, seconds: u64, stream: Option<(u8, u64)>) -> Told {
            let now = self.start + Duration::from_secs(seconds);
            let stream = stream.map(|(made, last)| (info(made, last), self.log(made)));
            self.known.told(stream.as_ref().map(|(info, log)| (info, log)), now)
        }

        fn open(&mut self, made: u8, from: u64, end: u64) -> Arc<Lane> {
            self.known.open(&info(made, end - 1), self.log(made), from, end);
            self.known.open.as_ref().expect("open").lane.clone()
        }
    }

    fn waits(told: &Told) -> bool {
        matches!(told, Told::Wait(problem) if problem.contains("`S`"))
    }

    #[test]
    fn what_is_there_at_start_is_not_new_and_what_is_denied_for_the_grace_is() {
        let mut asked = Asked::new();
        assert!(waits(&asked.told(0, None)) && waits(&asked.told(4, None)));
        assert_eq!(asked.told(5, Some((1, 9))), Told::Open { new: false, cut: None });
        let mut asked = Asked::new();
        assert!(waits(&asked.told(0, None)) && waits(&asked.told(4, None)));
        asked.known.unanswered();
        assert!(waits(&asked.told(6, None)) && !asked.known.is_new(), "asked anew");
        assert!(waits(&asked.told(11, None)) && asked.known.is_new());
        assert_eq!(asked.told(12, Some((1, 9))), Told::Open { new: true, cut: None });
    }

    #[test]
    fn a_stream_that_was_made_anew_is_another_lane_from_its_beginning() {
        let mut asked = Asked::new();
        let lane = asked.open(1, 5, 8);
        assert_eq!(asked.told(0, Some((1, 7))), Told::Read);
        assert!(asked.known.agrees(Some(&info(1, 7))) && !asked.known.agrees(Some(&info(2, 7))));
        assert_eq!(asked.told(0, Some((2, 7))), Told::Closed(lane.clone()));
        assert_eq!(asked.told(0, Some((2, 7))), Told::Open { new: true, cut: None });
        let other = asked.open(2, 1, 8);
        assert!(other != lane && asked.told(1, Some((2, 7))) == Told::Read);
    }

    #[test]
    fn a_stream_that_is_gone_is_closed_after_the_grace() {
        let mut asked = Asked::new();
        let lane = asked.open(1, 5, 8);
        assert!(waits(&asked.told(0, None)) && waits(&asked.told(4, None)));
        assert_eq!(asked.told(4, Some((1, 7))), Told::Read, "it was there all the time");
        assert!(waits(&asked.told(5, None)) && !asked.known.agrees(None));
        assert_eq!(asked.told(10, None), Told::Closed(lane));
        assert!(waits(&asked.told(10, None)) && asked.known.open.is_none());
        assert_eq!(asked.told(20, Some((2, 0))), Told::Open { new: true, cut: None });
    }

    #[test]
    fn a_stream_that_was_cut_goes_on_as_another_lane() {
        let mut asked = Asked::new();
        let lane = asked.open(1, 8, 8);
        assert_eq!(asked.told(0, Some((1, 7))), Told::Read, "at its end");
        let short = asked.told(0, Some((1, 6)));
        assert_eq!(short, Told::Wait("stream `S` ends at 7 but was read up to 8".into()));
        assert!(!asked.known.agrees(Some(&info(1, 6))));
        assert_eq!(asked.told(3, Some((1, 9))), Told::Read, "the new leader has it all now");
        assert!(waits(&asked.told(4, Some((1, 4)))));
        assert_eq!(asked.told(9, Some((1, 6))), Told::Closed(lane));
        asked.known.unanswered();
        let from_there = Told::Open { new: false, cut: Some(5) };
        assert_eq!(asked.told(9, Some((1, 6))), from_there, "where it ended first");
    }

    #[test]
    fn an_identity_is_never_opened_twice() {
        let mut asked = Asked::new();
        asked.log = Some("mine".into());
        let lane = asked.open(1, 1, 8);
        assert_eq!(asked.told(0, Some((2, 7))), Told::Closed(lane));
        let Told::Halt(problem) = asked.told(0, Some((2, 7))) else { panic!() };
        assert!(problem.contains("same identity"), "{problem}");
    }

    #[test]
    fn it_has_caught_up_where_there_is_nothing_to_reach() {
        let mut asked = Asked::new();
        asked.open(1, 8, 8);
        assert_eq!(asked.known.open.as_ref().expect("open").end, None);
        asked.open(1, 3, 8);
        assert_eq!(asked.known.open.as_ref().expect("open").end, Some(8));
    }
}
