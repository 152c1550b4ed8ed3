//! The task that reads one stream.
//!
//! Finds the stream, makes a consumer where it has to begin, and hands on what comes; where
//! anything goes wrong it begins again, from the sequence that is due. Streams do not wait
//! for each other, but for room in the one queue that all hand on to.
//!
//! ```text
//! Finding --there--> Opening --place resolved--> Reading --consumer lost--> Finding
//!    '-- missing: said, asked again        '-- another stream: closed --> Finding
//! ```
//!
//! While it reads, it looks at the stream now and then: whether it is still the same, how
//! far it was passed where nothing of it is read, how much is left.

mod ends;
pub(crate) mod look;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use fanout::{EventBatch, Lane};
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use crate::api::{Api, From, StreamInfo, Trouble};
use crate::collected::{Collected, Piece};
use crate::config::{NatsConfig, Wanted};
use crate::consumer::{Bounds, Broken, Consumer};
use crate::identity::{after_cut, log_of, unfit};
use crate::known::{Known, Told};
use crate::link::Link;
use crate::metrics::StreamMetrics;
use crate::record::to_event;
use crate::report::{Report, Standing};
use crate::start::Beyond;
use ends::Ends;
use look::{Look, Looks};

/// Between two tries while something is wrong.
const RETRY: Duration = Duration::from_millis(250);
/// After how many consumers in a row that sent nothing it is told that something is wrong.
const FRUITLESS: u32 = 3;
/// How long dropping the consumer may hold up the end.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the source is handed, in this order.
#[derive(Debug)]
pub(crate) enum Handed {
    Batch(EventBatch),
    /// The ends at start lie in the batches before.
    CaughtUp,
}

/// What a source no more wants of a lane, and why.
pub(crate) type Halted = Option<(Arc<Lane>, String)>;

/// What the readers of a source share.
pub(crate) struct Shared {
    pub(crate) config: Arc<NatsConfig>,
    pub(crate) report: Arc<Report>,
    pub(crate) out: mpsc::Sender<Handed>,
    /// Streams that have not caught up.
    pub(crate) behind: AtomicUsize,
}

/// Reads one stream until the source is gone.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    /// Its number.
    stream: usize,
    wanted: Wanted,
    link: Link,
    halted: watch::Receiver<Halted>,
    known: Known,
    metrics: StreamMetrics,
    caught_up: bool,
    /// Consumers in a row that have sent nothing.
    fruitless: u32,
    ends: Ends,
}

/// Why reading has stopped for now.
enum Stop {
    /// The stream is to be found again.
    Find,
    /// Nothing of it is read any more.
    Halt,
    /// The source is gone.
    Gone,
    Trouble(Trouble),
    /// The consumer has to be made anew.
    Broken(Broken),
}

impl std::convert::From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl std::convert::From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl Reader {
    pub(crate) fn new(
        shared: Arc<Shared>,
        stream: usize,
        link: Link,
        halted: watch::Receiver<Halted>,
    ) -> Self {
        let wanted = shared.config.streams[stream].clone();
        let known = Known::new(wanted.name.clone(), shared.config.missing_grace);
        let metrics = StreamMetrics::new(&wanted.name);
        Self {
            shared,
            stream,
            wanted,
            link,
            halted,
            known,
            metrics,
            caught_up: false,
            fruitless: 0,
            ends: Ends::default(),
        }
    }

    /// Ends when the source is gone.
    pub(crate) async fn run(mut self) {
        let out = self.shared.out.clone();
        loop {
            let found = tokio::select! {
                biased;
                () = out.closed() => return,
                api = self.link.api() => match api {
                    Some(api) => api,
                    None => return,
                },
            };
            let begun = Instant::now();
            match self.session(&found).await {
                Stop::Find => {}
                Stop::Gone => return,
                Stop::Halt => return out.closed().await,
                Stop::Broken(broken) => self.restart(&broken).await,
                Stop::Trouble(trouble) => {
                    self.known.unanswered();
                    match trouble {
                        // Said by whoever connects again.
                        Trouble::Ended => self.ends.count(begun.elapsed(), self.next()),
                        Trouble::Away(reason) => self.say(Standing::Silent(reason)),
                        Trouble::Refused(reason) => self.problem(&reason),
                    }
                    self.pause().await;
                }
            }
        }
    }

    /// Reads on by another consumer, at once where this one was of some use.
    async fn restart(&mut self, broken: &Broken) {
        self.metrics.restarts.increment(1);
        tracing::debug!(stream = &*self.wanted.name, %broken, "reading on by another");
        if self.fruitless >= FRUITLESS {
            self.problem(&broken.to_string());
        }
        if self.fruitless > 0 {
            self.pause().await;
        }
    }

    fn next(&self) -> u64 {
        self.known.open.as_ref().map_or(0, |open| open.next)
    }

    async fn pause(&self) {
        tokio::select! {
            () = self.shared.out.closed() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }

    fn say(&self, standing: Standing) {
        self.shared.report.stream(self.stream, standing);
    }

    fn problem(&self, reason: &str) {
        let name = &self.wanted.name;
        // Some name it by themselves.
        let told = if reason.contains(&format!("`{name}`")) {
            reason.to_owned()
        } else {
            format!("stream `{name}` cannot be read: {reason}")
        };
        self.say(Standing::Problem(told));
    }

    /// Finds the stream and reads it, until that does not go on.
    async fn session(&mut self, api: &Api) -> Stop {
        let out = self.shared.out.clone();
        let info = tokio::select! {
            biased;
            () = out.closed() => return Stop::Gone,
            info = self.find(api) => match info {
                Ok(info) => info,
                Err(stop) => return stop,
            },
        };
        let mut consumer = None;
        let stop = tokio::select! {
            biased;
            () = out.closed() => Stop::Gone,
            stop = self.follow(api, info, &mut consumer) => stop,
        };
        if let Some(consumer) = consumer {
            let (_, received) = consumer.heard();
            self.fruitless = if received == 0 { self.fruitless + 1 } else { 0 };
            // By itself the server does it later.
            let _ = tokio::time::timeout(GOODBYE, consumer.drop()).await;
        }
        stop
    }

    /// Finds the stream, and opens it where it is not.
    async fn find(&mut self, api: &Api) -> Result<StreamInfo, Stop> {
        let info = api.stream(&self.wanted.name).await?;
        let log = info.as_ref().map(|info| log_of(&self.shared.config, info));
        match self.known.told(info.as_ref().zip(log.as_ref()), Instant::now()) {
            Told::Wait(problem) => {
                self.problem(&problem);
                if self.known.is_new() {
                    // It held nothing at start.
                    self.settle().await;
                }
                self.pause().await;
                return Err(Stop::Find);
            }
            Told::Closed(lane) => {
                tracing::warn!(stream = &*self.wanted.name, "stream is no more");
                self.close(lane).await;
                return Err(Stop::Find);
            }
            Told::Halt(problem) => {
                tracing::error!(stream = &*self.wanted.name, problem, "it is read no more");
                self.problem(&problem);
                return Err(Stop::Halt);
            }
            Told::Read => {}
            Told::Open { new, cut } => {
                let (Some(info), Some(log)) = (&info, log) else { return Err(Stop::Find) };
                match cut {
                    Some(from) => self.begin(info, after_cut(&log, from), from, from).await,
                    None => self.open(api, info, log, new).await?,
                }
            }
        }
        info.ok_or(Stop::Find)
    }

    /// Resolves where reading begins, and tells it.
    async fn open(
        &mut self,
        api: &Api,
        info: &StreamInfo,
        log: Arc<str>,
        new: bool,
    ) -> Result<(), Stop> {
        let name = self.wanted.name.clone();
        if let Some(why) = unfit(&name, info) {
            return Err(Trouble::Refused(why).into());
        }
        let (low, high) = (info.first(), info.end());
        // What appeared since is read whole: nobody has seen any of it.
        if new {
            self.begin(info, log, low, low).await;
            return Ok(());
        }
        let rule = self.shared.config.start.rule(&name);
        let found = match rule.since(SystemTime::now()) {
            Some(time) if low < high => self.search(api, time).await?,
            _ => None,
        };
        match rule.resolve(low, high, found) {
            Ok(from) => self.begin(info, log, from, high).await,
            Err(Beyond(from)) => {
                let why = format!("stream `{name}` ends at {high}, and is to be read from {from}");
                return Err(Trouble::Refused(why).into());
            }
        }
        Ok(())
    }

    /// Opens a lane that begins at `from`, and tells so; it has caught up at `end`.
    async fn begin(&mut self, info: &StreamInfo, log: Arc<str>, from: u64, end: u64) {
        tracing::info!(stream = &*self.wanted.name, from, end, "stream opened");
        self.known.open(info, log, from, end);
        self.say(Standing::Fine);
        // Told though nothing was read: a cursor has to name every lane.
        let frontier = self.known.open.iter().map(|open| (open.lane.clone(), from)).collect();
        self.hand_on(EventBatch { frontier, ..EventBatch::default() }).await;
    }

    /// The first sequence that is not older than `time`, `None` where there is none.
    async fn search(&self, api: &Api, time: SystemTime) -> Result<Option<u64>, Trouble> {
        let time = jiff::Timestamp::try_from(time);
        let time = time.map_err(|error| Trouble::Refused(error.to_string()))?;
        let one = Bounds { messages: 1, bytes: usize::MAX >> 1 };
        let mut consumer = Consumer::make(api, &self.wanted, From::Time(time), one).await?;
        let found = look::first(api, &mut consumer, &self.wanted.name).await;
        consumer.drop().await;
        found
    }

    /// Reads on from the sequence that is due.
    async fn follow(&mut self, api: &Api, info: StreamInfo, made: &mut Option<Consumer>) -> Stop {
        let Some(next) = self.known.open.as_ref().map(|open| open.next) else {
            return Stop::Find;
        };
        let config = self.shared.config.clone();
        let bounds = Bounds { messages: config.max_batch, bytes: config.max_batch_bytes };
        let begun = async {
            let consumer = Consumer::make(api, &self.wanted, From::Sequence(next), bounds).await?;
            // Asked again: it may be one of a stream that was made in between.
            Ok((consumer, api.stream(&self.wanted.name).await?))
        };
        let consumer = match begun.await {
            Ok((consumer, again)) if self.known.agrees(again.as_ref()) => made.insert(consumer),
            Ok((consumer, _)) => {
                *made = Some(consumer);
                return Stop::Find;
            }
            Err(trouble) => return Stop::Trouble(trouble),
        };
        match self.ends.told(next) {
            Some(problem) => self.problem(&problem),
            None => self.say(Standing::Fine),
        }
        let mut looks = Looks::new(info);
        match self.read(api, consumer, &mut looks, next).await {
            Ok(never) => match never {},
            Err(stop) => stop,
        }
    }

    async fn read(
        &mut self,
        api: &Api,
        consumer: &mut Consumer,
        looks: &mut Looks,
        next: u64,
    ) -> Result<std::convert::Infallible, Stop> {
        let config = self.shared.config.clone();
        let mut halted = self.halted.clone();
        let mut ended = std::pin::pin!(api.ended());
        let mut looking = self.looking(api, consumer);
        let mut collected = Collected::from(next);
        // What is passed once a probe has found nothing.
        let mut probed: Option<u64> = None;
        self.settle_if_reached().await;
        loop {
            if consumer.take_empty() {
                collected.pass(probed.take().unwrap_or_default());
                self.hand_on_collected(api, &mut collected).await?;
            }
            consumer.pull().await?;
            tokio::select! {
                biased;
                () = is_halted(&mut halted, &self.known) => return Err(self.halt(&halted)),
                trouble = &mut ended => return Err(trouble.into()),
                looked = &mut looking => {
                    probed = self.looked(looks, &looked?, consumer, collected.next()).await?;
                    looking = self.looking(api, consumer);
                }
                came = consumer.next() => {
                    let mut came = came?;
                    let Some(lane) = self.known.open.as_ref().map(|open| open.lane.clone()) else {
                        return Err(Stop::Find);
                    };
                    while let Some((place, message)) = came {
                        collected.take(place.sequence, || to_event(&message, &lane, place));
                        let full = collected.len() >= config.max_batch
                            || collected.bytes() >= config.max_batch_bytes;
                        let more = if full { Ok(None) } else { consumer.next_now() };
                        came = more?;
                    }
                    self.hand_on_collected(api, &mut collected).await?;
                }
            }
        }
    }

    /// Hands on what was collected; where it has holes, it is asked what they are.
    async fn hand_on_collected(
        &mut self,
        api: &Api,
        collected: &mut Collected,
    ) -> Result<(), Stop> {
        let first = if collected.has_holes() { self.first(api).await? } else { 0 };
        self.flush(collected, first).await;
        Ok(())
    }

    /// Where the stream begins now.
    async fn first(&self, api: &Api) -> Result<u64, Stop> {
        let info = api.stream(&self.wanted.name).await?;
        // What is in hand is read again, of the same stream or of another.
        info.filter(|info| self.known.agrees(Some(info))).map(|info| info.first()).ok_or(Stop::Find)
    }

    /// Hands on what was collected, where the stream begins at `first`.
    async fn flush(&mut self, collected: &mut Collected, first: u64) {
        let late = collected.take_late();
        let mut pieces = collected.take_pieces(first);
        if late > 0 {
            // Never in silence, though it cannot be handed on any more.
            tracing::error!(stream = &*self.wanted.name, late, "came when it had been passed");
            if pieces.is_empty() {
                let next = collected.next();
                pieces.push(Piece { next, ..Piece::default() });
            }
            pieces[0].lost += late;
        }
        for Piece { events, lost, next } in pieces {
            if self.ends.moved() {
                self.say(Standing::Fine);
            }
            let Some(open) = &mut self.known.open else { return };
            open.next = next;
            let lane = open.lane.clone();
            if lost > 0 {
                self.metrics.expired.increment(lost);
                tracing::error!(%lane, lost, next, "deleted before it was read");
            }
            self.metrics.records.increment(events.len() as u64);
            let bytes: usize = events.iter().map(|event| event.payload.len()).sum();
            self.metrics.bytes.increment(bytes as u64);
            let lost = if lost > 0 { vec![lane.clone()] } else { Vec::new() };
            let frontier = vec![(lane, next)];
            self.hand_on(EventBatch { events, frontier, lost, ..EventBatch::default() }).await;
        }
        self.settle_if_reached().await;
    }

    async fn settle_if_reached(&mut self) {
        let Some(open) = &mut self.known.open else { return };
        if open.end.is_none_or(|end| open.next >= end) {
            open.end = None;
            self.settle().await;
        }
    }

    /// Tells once that the stream's end at start was reached, or that there was none.
    async fn settle(&mut self) {
        if std::mem::replace(&mut self.caught_up, true) {
            return;
        }
        // Behind the batches of all: each has sent its own before it counts itself.
        if self.shared.behind.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.shared.out.send(Handed::CaughtUp).await;
        }
    }

    async fn close(&mut self, lane: Arc<Lane>) {
        self.metrics.lag.set(0.0);
        // What it still had at start cannot be reached any more.
        self.hand_on(EventBatch { closed: vec![lane], ..EventBatch::default() }).await;
        self.settle().await;
    }

    /// Waits for room. Where nobody is left to take it, that is no loss, and the end.
    async fn hand_on(&self, batch: EventBatch) {
        let _ = self.shared.out.send(Handed::Batch(batch)).await;
    }

    fn halt(&self, halted: &watch::Receiver<Halted>) -> Stop {
        if let Some((_, problem)) = &*halted.borrow() {
            self.problem(&format!("stream `{}` is halted: {problem}", self.wanted.name));
        }
        Stop::Halt
    }

    /// The next look, once it is time for it.
    fn looking(&self, api: &Api, consumer: &Consumer) -> BoxFuture<'static, Result<Look, Trouble>> {
        // What is at the end may be nothing that is read: only a look can tell.
        let behind = self.known.open.as_ref().is_some_and(|open| open.end.is_some());
        let after = if behind { look::SOON } else { self.shared.config.info_interval };
        let (api, stream, consumer) =
            (api.clone(), self.wanted.name.clone(), consumer.name.clone());
        Box::pin(async move {
            tokio::time::sleep(after).await;
            look::look(&api, &stream, &consumer).await
        })
    }

    /// Does what a look is for. Where that is worth it, asks whether there is nothing: up to
    /// where the stream is passed then.
    async fn looked(
        &mut self,
        looks: &mut Looks,
        look: &Look,
        consumer: &mut Consumer,
        next: u64,
    ) -> Result<Option<u64>, Stop> {
        let Some(stream) = look.stream.as_ref().filter(|info| self.known.agrees(Some(info))) else {
            return Err(Stop::Find);
        };
        let Some(told) = &look.consumer else { return Err(Broken::gone().into()) };
        self.metrics.lag.set(told.num_pending as f64);
        if looks.is_stuck(consumer, told) {
            return Err(Broken::stuck().into());
        }
        let end = looks.worth_a_probe(told, stream).filter(|end| *end > next);
        if end.is_some() {
            consumer.probe().await?;
        }
        Ok(end)
    }
}

/// Waits until the lane that is open is to be halted.
async fn is_halted(halted: &mut watch::Receiver<Halted>, known: &Known) {
    let lane = known.open.as_ref().map(|open| &open.lane);
    let ours = |told: &Halted| told.as_ref().is_some_and(|(halted, _)| Some(halted) == lane);
    if halted.wait_for(ours).await.is_err() {
        std::future::pending::<()>().await;
    }
}
