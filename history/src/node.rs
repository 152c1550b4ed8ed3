//! A server's process, with a proxy before it and one before its Kafka.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::error::Error;
use crate::http;
use crate::proxy::Proxy;
use crate::reader::CONTROL;
use crate::rng::Rng;

/// How long a server that was told to end may take before it is killed.
const END: Duration = Duration::from_secs(15);
/// How far clocks may be apart for the servers, in seconds.
pub(crate) const LEEWAY: u64 = 1;
/// How long a connection outlives its token, in seconds.
const GRACE: u64 = 1;
const POLL: Duration = Duration::from_millis(50);
/// Linux gives ports from 32768 on to those who connect.
const PORTS: std::ops::Range<usize> = 12_000..20_000;
/// Most servers of a run.
const NODES: usize = 256;

/// A server that is started, killed and started again in the same place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) number: usize,
    /// The server itself, and what is before it.
    pub(crate) addr: SocketAddr,
    pub(crate) front: Proxy,
    pub(crate) kafka: Proxy,
    binary: PathBuf,
    data: PathBuf,
    log: PathBuf,
    secret: String,
    child: Mutex<Option<Child>>,
    rng: Mutex<Rng>,
    /// Held while something is done to it.
    pub(crate) trouble: tokio::sync::Mutex<()>,
}

/// An address that is free now, to be taken again and again by the same server: below the
/// ports that the system gives to whoever connects, or somebody who connects while the server
/// is down may have its port, be it by connecting to it.
fn free(number: usize, rng: &Rng) -> Result<SocketAddr, Error> {
    let mut rng = rng.of("port");
    let mut tries = 0;
    loop {
        // No two servers have one in common.
        let port = PORTS.start + NODES * rng.below(PORTS.len() / NODES) + number % NODES;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap_or(0)));
        tries += 1;
        match std::net::TcpListener::bind(addr) {
            Ok(_) => return Ok(addr),
            Err(error) if tries == 100 => return Err(error.into()),
            Err(_) => {}
        }
    }
}

impl Node {
    /// Prepares one; nothing runs yet.
    #[allow(clippy::too_many_arguments, reason = "each says where something is")]
    pub(crate) async fn new(
        number: usize,
        binary: &Path,
        folder: &Path,
        data: &Path,
        kafka: SocketAddr,
        secret: &str,
        rng: Rng,
    ) -> Result<Self, Error> {
        let addr = free(number, &rng)?;
        Ok(Self {
            number,
            addr,
            front: Proxy::plain(addr).await?,
            kafka: Proxy::kafka(kafka).await?,
            binary: binary.to_owned(),
            data: data.to_owned(),
            log: folder.join(format!("server-{number}.log")),
            secret: secret.to_owned(),
            child: Mutex::new(None),
            rng: Mutex::new(rng),
            trouble: tokio::sync::Mutex::new(()),
        })
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Starts its process.
    pub(crate) fn start(&self) -> Result<(), Error> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        for (name, value) in self.limits() {
            // What was asked for by whoever started the run stays.
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        let child = command
            .args(["--port", &self.addr.port().to_string(), "--write-rate", "0"])
            .args(["--auth", "dev", "--drain-secs", "3", "--log", "info"])
            .args(["--jwt-leeway-secs", &LEEWAY.to_string()])
            .args(["--expiry-grace-secs", &GRACE.to_string()])
            .args(["--control-topic", CONTROL])
            .args(["--kafka", &self.kafka.addr.to_string()])
            .arg("--data")
            .arg(&self.data)
            .env("ORDER_SERVER_SECRET", &self.secret)
            // Where the folder is not shared, the keys have to be all the same.
            .env("ORDER_SERVER_CURSOR_KEYS", format!("h:{}", self.secret))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.error(&format!("{}: {error}", self.binary.display())))?;
        *self.child() = Some(child);
        Ok(())
    }

    /// How much it keeps in memory, another at each start: who comes back is to be served
    /// from there at times, and at others from Kafka.
    fn limits(&self) -> [(&'static str, String); 2] {
        let mut rng = self.rng.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut pick = |of: &[u32]| rng.pick(of).copied().unwrap_or_default().to_string();
        [
            ("ORDER_SERVER_LOG_SECS", pick(&[1, 3, 10, 300])),
            ("ORDER_SERVER_WARM_START", pick(&[0, 5, 60])),
        ]
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&self, patience: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some((200, _)) = http::ask(self.addr, "GET", "/readyz", None, None).await {
                return Ok(());
            }
            if let Some(status) = self.ended()? {
                return Err(self.error(&format!("ended while starting, {status}")));
            }
            if Instant::now() > deadline {
                return Err(self.error(&format!("not ready within {patience:?}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What it says of itself, and what the system says of its process.
    pub(crate) async fn says(&self) -> String {
        let id = self.child().as_ref().and_then(Child::id).unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let state = status.lines().find(|line| line.starts_with("State")).unwrap_or("no process");
        let live = http::ask(self.addr, "GET", "/livez", None, None).await;
        let ready = http::ask(self.addr, "GET", "/readyz", None, None).await;
        format!("{state}, /livez: {live:?}, /readyz: {ready:?}")
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&self) -> Result<Option<String>, Error> {
        let Some(child) = &mut *self.child() else { return Ok(None) };
        Ok(child.try_wait()?.map(|status| status.to_string()))
    }

    pub(crate) fn error(&self, problem: &str) -> Error {
        let problem = format!("{problem}; see {}", self.log.display());
        Error::Node { node: self.number, problem }
    }

    /// Kills it, and waits until it is gone.
    pub(crate) async fn kill(&self) -> Result<(), Error> {
        let child = self.child().take();
        if let Some(mut child) = child {
            child.kill().await?;
        }
        Ok(())
    }

    /// Ends it in order.
    pub(crate) async fn stop(&self) -> Result<(), Error> {
        self.signal(Signal::TERM)?;
        let child = self.child().take();
        let Some(mut child) = child else { return Ok(()) };
        if tokio::time::timeout(END, child.wait()).await.is_err() {
            child.kill().await?;
            return Err(self.error(&format!("did not stop within {END:?}")));
        }
        Ok(())
    }

    pub(crate) fn pause(&self) -> Result<(), Error> {
        self.signal(Signal::STOP)
    }

    pub(crate) fn go_on(&self) -> Result<(), Error> {
        self.signal(Signal::CONT)
    }

    /// While its handle is held and it was not waited for, the id is nobody else's.
    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let child = self.child();
        let id = child.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok());
        match id.and_then(Pid::from_raw) {
            Some(id) => Ok(kill_process(id, signal).map_err(std::io::Error::from)?),
            None => Ok(()),
        }
    }

    /// Ends it now, without waiting.
    pub(crate) fn end(&self) {
        if let Some(child) = &mut *self.child() {
            // An error means that it is gone.
            let _ = child.start_kill();
        }
    }
}
