//! What happens to servers, broker and connections meanwhile.
//!
//! One thing a server at a time, and one the broker; what happens to different ones
//! happens together.

use std::sync::Arc;
use std::time::Duration;

use kafka_source::rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use kafka_source::rdkafka::{Offset, TopicPartitionList};
use order_server::record::topics;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::Error;
use crate::node::Node;
use crate::options::Trouble;
use crate::proxy::Mode;
use crate::reader::{self, LaneName, Quiet, client};
use crate::rng::Rng;
use crate::world::World;

/// How long a server may take until it is ready, and the broker until it answers.
pub(crate) const READY: Duration = Duration::from_secs(90);
/// Most times that partitions are added.
const MAX_GROWTH: u64 = 3;

/// What everybody who makes trouble has.
pub(crate) struct Maker {
    pub(crate) world: Arc<World>,
    pub(crate) brokers: String,
    /// Held while something is done to the broker.
    pub(crate) broker: Mutex<()>,
}

/// Makes trouble until `end`; returns when everything runs again.
pub(crate) async fn make(maker: Arc<Maker>, end: Instant) -> Result<(), Error> {
    let world = maker.world.clone();
    let mut rng = world.rng.of("trouble");
    let troubles = world.options.troubles();
    let mut going_on = JoinSet::new();
    while let Some(next) = pick(&troubles, &mut rng) {
        let pause = rng.millis(300, 4_000);
        if Instant::now() + pause > end {
            break;
        }
        tokio::time::sleep(pause).await;
        let (maker, rng) = (maker.clone(), Rng::new(rng.next()));
        going_on.spawn(async move { maker.trouble(next, rng).await });
        while let Some(done) = going_on.try_join_next() {
            done.map_err(Error::other)??;
        }
    }
    tokio::time::sleep_until(end).await;
    while let Some(done) = going_on.join_next().await {
        done.map_err(Error::other)??;
    }
    Ok(())
}

/// Common ones more often than those that take everything down.
fn pick(troubles: &[Trouble], rng: &mut Rng) -> Option<Trouble> {
    let weight = |trouble: &Trouble| match trouble {
        Trouble::None => 0,
        Trouble::LongPause => 1,
        Trouble::KillAll | Trouble::RestartBroker | Trouble::KillBroker | Trouble::Grow => 2,
        Trouble::Stop | Trouble::CutKafka | Trouble::StallKafka | Trouble::Delete => 4,
        Trouble::Pause | Trouble::CutClients | Trouble::StallClients => 5,
        Trouble::Kill => 8,
    };
    let weighed: Vec<Trouble> =
        troubles.iter().flat_map(|trouble| vec![*trouble; weight(trouble)]).collect();
    rng.pick(&weighed).copied()
}

impl Maker {
    async fn trouble(&self, trouble: Trouble, mut rng: Rng) -> Result<(), Error> {
        let node = rng.pick(&self.world.nodes).expect("there are some");
        let done = match trouble {
            Trouble::None => return Ok(()),
            Trouble::KillAll => self.kill_all(&mut rng, None).await?,
            Trouble::RestartBroker | Trouble::KillBroker => {
                let Ok(_alone) = self.broker.try_lock() else { return Ok(()) };
                let kill = trouble == Trouble::KillBroker;
                self.restart_broker(kill, &mut rng).await?;
                true
            }
            Trouble::Grow => self.grow(&mut rng).await?,
            Trouble::Delete => self.delete(&mut rng).await?,
            Trouble::CutClients => {
                if rng.percent(50) {
                    node.front.cut();
                } else {
                    let time = rng.millis(200, 5_000);
                    meanwhile(&node.front, Mode::Refuse, time).await;
                }
                true
            }
            Trouble::StallClients => {
                let time = rng.millis(500, 15_000);
                meanwhile(&node.front, Mode::Stall, time).await;
                true
            }
            _ => {
                let Ok(_alone) = node.trouble.try_lock() else { return Ok(()) };
                self.to_node(node, trouble, &mut rng).await?;
                true
            }
        };
        if done {
            self.world.tally.add(format!("trouble: {}", trouble.name()));
        }
        Ok(())
    }

    async fn to_node(&self, node: &Node, trouble: Trouble, rng: &mut Rng) -> Result<(), Error> {
        if let Some(status) = node.ended()? {
            self.world.fault(node.error(&format!("ended by itself, {status}")).to_string());
        }
        match trouble {
            Trouble::Stop => self.stop(node).await?,
            Trouble::Pause => paused(node, rng.millis(500, 10_000)).await?,
            // Its clients' heartbeats are 25 s apart, and two of them are waited for.
            Trouble::LongPause => paused(node, rng.millis(52_000, 60_000)).await?,
            Trouble::CutKafka => {
                meanwhile(&node.kafka, Mode::Refuse, rng.millis(500, 15_000)).await;
            }

            Trouble::StallKafka => {
                meanwhile(&node.kafka, Mode::Stall, rng.millis(500, 15_000)).await;
            }
            _ => node.kill().await?,
        }
        if matches!(trouble, Trouble::Stop | Trouble::Kill) {
            let away = rng.millis(0, 6_000);
            tokio::time::sleep(away).await;
            node.start()?;
            node.ready(READY).await?;
        }
        Ok(())
    }

    async fn stop(&self, node: &Node) -> Result<(), Error> {
        match node.stop().await {
            Err(Error::Node { node, problem }) => {
                self.world.fault(format!("server {node}: {problem}"));
                Ok(())
            }
            other => other,
        }
    }

    /// Kills all servers, deletes a lane meanwhile where asked to, and starts them again.
    async fn kill_all(&self, rng: &mut Rng, lane: Option<&LaneName>) -> Result<bool, Error> {
        let mut alone = Vec::new();
        for node in &self.world.nodes {
            let Ok(held) = node.trouble.try_lock() else { return Ok(false) };
            alone.push(held);
        }
        for node in &self.world.nodes {
            node.kill().await?;
        }
        let away = rng.millis(0, 5_000);
        tokio::time::sleep(away).await;
        if let Some(lane) = lane {
            self.delete_lane(lane).await?;
        }
        for node in &self.world.nodes {
            node.start()?;
        }
        for node in &self.world.nodes {
            node.ready(READY).await?;
        }
        Ok(true)
    }

    async fn restart_broker(&self, kill: bool, rng: &mut Rng) -> Result<(), Error> {
        if !kill {
            return self.control("restart").await;
        }
        self.control("kill").await?;
        let away = rng.millis(0, 8_000);
        tokio::time::sleep(away).await;
        self.control("start").await
    }

    async fn control(&self, what: &str) -> Result<(), Error> {
        let control = self.world.options.control.as_deref().unwrap_or_default();
        let Some((program, folder)) = control.rsplit_once(' ') else {
            return Err(Error::Broker("--control is a program and a folder".to_owned()));
        };
        // The broker must not hold a pipe of this process.
        let mut command = tokio::process::Command::new(program);
        let output = command.args([what, folder]).output().await?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::Broker(format!("{program} {what} {folder}: {said}")))
    }

    /// Gives a topic one more partition.
    async fn grow(&self, rng: &mut Rng) -> Result<bool, Error> {
        if self.world.tally.of("trouble: partition growth") >= MAX_GROWTH {
            return Ok(false);
        }
        let Ok(_alone) = self.broker.try_lock() else { return Ok(false) };
        let topic = *rng.pick(&topics::ALL).expect("there are some");
        let brokers = self.brokers.clone();
        let lanes = blocking(move || reader::lanes(&brokers)).await?;
        let count = lanes.iter().filter(|(of, _)| of == topic).count() + 1;
        let admin = admin(&self.brokers)?;
        let grown = [NewPartitions::new(topic, count)];
        let grown = admin.create_partitions(&grown, &options()).await;
        drop_elsewhere(admin);
        match grown.map_err(Error::kafka)?.remove(0) {
            Ok(_) => Ok(true),
            Err((topic, code)) => Err(Error::kafka(format!("{topic} did not grow: {code}"))),
        }
    }

    /// Deletes what a lane has; now and then while no server runs, so that none has it in
    /// memory either.
    async fn delete(&self, rng: &mut Rng) -> Result<bool, Error> {
        let Ok(_alone) = self.broker.try_lock() else { return Ok(false) };
        let lane = {
            let records = self.world.kafka.lock().expect("nobody panics with it");
            let lanes: Vec<&LaneName> =
                records.keys().filter(|(topic, _)| topic != reader::CONTROL).collect();
            (*rng.pick(&lanes).expect("there are some")).clone()
        };
        if rng.percent(50) {
            return self.kill_all(rng, Some(&lane)).await;
        }
        self.delete_lane(&lane).await?;
        Ok(true)
    }

    async fn delete_lane(&self, lane: &LaneName) -> Result<(), Error> {
        let (brokers, lanes) = (self.brokers.clone(), vec![lane.clone()]);
        let (_, end) = blocking(move || reader::ends(&brokers, &lanes)).await?[0];
        // What is deleted must have been read before.
        let deadline = Instant::now() + READY;
        let read = || {
            let records = self.world.kafka.lock().expect("nobody panics with it");
            end == 0 || reader::next(&records, lane) >= end
        };
        while !read() {
            if Instant::now() > deadline {
                return Err(Error::kafka("what is to be deleted could not be read"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut up_to = TopicPartitionList::new();
        let offset = Offset::Offset(end);
        up_to.add_partition_offset(&lane.0, lane.1, offset).map_err(Error::kafka)?;
        let admin = admin(&self.brokers)?;
        let deleted = admin.delete_records(&up_to, &options()).await;
        drop_elsewhere(admin);
        deleted.map_err(Error::kafka)?;
        self.world.tally.add("lanes deleted");
        Ok(())
    }
}

async fn paused(node: &Node, time: Duration) -> Result<(), Error> {
    node.pause()?;
    tokio::time::sleep(time).await;
    node.go_on()
}

async fn meanwhile(proxy: &crate::proxy::Proxy, mode: Mode, time: Duration) {
    proxy.set(mode);
    tokio::time::sleep(time).await;
    proxy.set(Mode::Pass);
}

pub(crate) fn admin(brokers: &str) -> Result<AdminClient<Quiet>, Error> {
    client(brokers).create_with_context(Quiet).map_err(Error::kafka)
}

pub(crate) fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(READY)).request_timeout(Some(READY))
}

/// Closing a client can block.
pub(crate) fn drop_elsewhere<T: Send + 'static>(client: T) {
    drop(tokio::task::spawn_blocking(move || drop(client)));
}

pub(crate) async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(ask).await.map_err(Error::other)?
}
