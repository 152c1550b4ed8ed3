//! A run, from the first topic to the verdict.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kafka_source::rdkafka::admin::{NewTopic, TopicReplication};
use kafka_source::rdkafka::error::RDKafkaErrorCode;
use order_server::record::topics;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Client, Lived, Outcome};
use crate::error::Error;
use crate::judge::{Lookup, judge, tokens};
use crate::node::Node;
use crate::options::{Run, Wire};
use crate::people::People;
use crate::producers::{self, Orders};
use crate::reader::{self, Reading, Shared};
use crate::report::{self, Report};
use crate::rng::Rng;
use crate::trouble::{self, Maker, READY, blocking};
use crate::world::{Phase, World};
use crate::{churn, control, markers, oracle};

const PARTITIONS: i32 = 3;
const CUSTOMERS: usize = 4;
/// How long clients may take to come back and get all there is.
const SETTLE: Duration = Duration::from_secs(45);
/// How long what was acknowledged may take until it is in Kafka.
const PUBLISHED: Duration = Duration::from_secs(60);

/// Servers that end with the run, whatever ends it.
struct Ends(Arc<World>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Runs, judges and prints; true where nothing is wrong.
///
/// # Errors
/// [`Error`] where the run could not be judged.
pub async fn run(options: Run) -> Result<bool, Error> {
    let id = format!("{:08x}", getrandom::u32().map_err(std::io::Error::from)?);
    let temporary = options.folder.is_none();
    let folder = options
        .folder
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("fanout-history-{id}")));
    std::fs::create_dir_all(&folder)?;
    let ran = tokio::select! {
        ran = in_folder(options, id, &folder) => ran,
        () = interrupted() => Err(Error::Interrupted),
    };
    if temporary && matches!(ran, Ok(true)) {
        let _ = std::fs::remove_dir_all(&folder);
    } else {
        println!("data and logs: {}", folder.display());
    }
    ran
}

/// Waits for Ctrl-C, or for being told to end: servers that are paused would outlive it.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

async fn in_folder(options: Run, id: String, folder: &Path) -> Result<bool, Error> {
    let brokers = options.kafka.clone();
    let broker = address(&brokers)?;
    create_topics(&brokers).await?;
    let records = Shared::default();
    let reading = {
        let (brokers, records) = (brokers.clone(), records.clone());
        blocking(move || Reading::start(&brokers, records)).await?
    };
    let world = world(options, id, folder, broker, records).await?;
    let ends = Ends(world.clone());
    for node in &world.nodes {
        node.start()?;
    }
    for node in &world.nodes {
        node.ready(READY).await?;
    }

    let clients = clients(&world);
    let count = clients.len();
    let outcomes = go(&world, &brokers, clients).await?;
    println!("{} of {count} clients got every marker", world.finished_count());
    drop(ends);
    let differences = {
        let (brokers, records) = (brokers.clone(), world.kafka.clone());
        blocking(move || reader::differences(&brokers, &records)).await?
    };
    blocking(move || {
        drop(reading);
        Ok(())
    })
    .await?;
    if let Some(first) = differences.first() {
        return Err(Error::Changed(format!("{} places, such as {first}", differences.len())));
    }
    for awaits in outcomes.iter().filter_map(|outcome| outcome.awaits.as_ref()).take(3) {
        println!("  {awaits}");
    }
    let lived = outcomes.into_iter().flat_map(|outcome| outcome.lived).collect();
    let folder = folder.to_owned();
    blocking(move || Ok(verdict(&world, lived, &folder))).await
}

fn address(brokers: &str) -> Result<SocketAddr, Error> {
    let mut found = brokers.to_socket_addrs()?;
    let ip4 = found.find(SocketAddr::is_ipv4);
    ip4.ok_or_else(|| Error::kafka(format!("`{brokers}` is no host:port of IPv4")))
}

async fn create_topics(brokers: &str) -> Result<(), Error> {
    let admin = trouble::admin(brokers)?;
    let new = topics::ALL.map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)));
    let created = admin.create_topics(&new, &trouble::options()).await;
    trouble::drop_elsewhere(admin);
    for result in created.map_err(Error::kafka)? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(Error::kafka(format!("{topic}: {code}"))),
        }
    }
    Ok(())
}

async fn world(
    options: Run,
    id: String,
    folder: &Path,
    broker: SocketAddr,
    records: Shared,
) -> Result<Arc<World>, Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(std::io::Error::from)?;
    let secret = random.iter().fold(String::new(), |secret, byte| format!("{secret}{byte:02x}"));
    let people = People::new(&id, &secret)?;
    let mut nodes = Vec::new();
    for number in 0..usize::from(options.nodes) {
        let data: PathBuf = if options.own_data {
            folder.join(format!("data-{number}"))
        } else {
            folder.join("data")
        };
        std::fs::create_dir_all(&data)?;
        let binary = &options.server_binary;
        let rng = Rng::new(options.seed).of(&format!("server {number}"));
        nodes.push(Node::new(number, binary, folder, &data, broker, &secret, rng).await?);
    }
    Ok(Arc::new(World::new(options, id, people, nodes, records)))
}

fn clients(world: &Arc<World>) -> Vec<Client> {
    let sse = |number: usize| match world.options.wire {
        Wire::Both => number % 2 == 1,
        Wire::Ws => false,
        Wire::Sse => true,
    };
    let all = 0..usize::from(world.options.clients);
    all.map(|number| Client::new(world.clone(), number, sse(number))).collect()
}

/// Trouble, and then peace until everybody has everything.
async fn go(
    world: &Arc<World>,
    brokers: &str,
    clients: Vec<Client>,
) -> Result<Vec<Outcome>, Error> {
    let count = clients.len();
    let mut listening = JoinSet::new();
    for client in clients {
        listening.spawn(client.run());
    }
    let mut writing = JoinSet::new();
    let orders = Arc::<Orders>::default();
    for number in 0..CUSTOMERS {
        let (world, orders) = (world.clone(), orders.clone());
        writing.spawn(async move {
            producers::customers(world, orders, number).await;
            Ok(())
        });
    }
    writing.spawn(producers::other_services(world.clone(), brokers.to_owned()));

    let mut pulses = JoinSet::new();
    for node in 0..world.nodes.len() {
        pulses.spawn(control::pulse(world.clone(), brokers.to_owned(), node));
    }

    let maker = Maker { world: world.clone(), brokers: brokers.to_owned(), broker: Mutex::new(()) };
    let end = Instant::now() + Duration::from_secs(world.options.trouble_seconds());
    let churning = churn::churn(world.clone(), end);
    let (made, ()) = tokio::join!(trouble::make(Arc::new(maker), end), churning);
    made?;
    churn::heard(world).await;

    let markers = markers::all(world, &{
        let brokers = brokers.to_owned();
        blocking(move || reader::lanes(&brokers)).await?
    });
    let emissions = Arc::new(markers::emissions(&markers));
    world.phase.send_replace(Phase::Settle(emissions));
    while let Some(written) = writing.join_next().await {
        written.map_err(Error::other)??;
    }
    published(world).await?;
    markers::write(brokers, &markers).await?;
    let settled = tokio::time::timeout(SETTLE, world.all_finished(count)).await;
    if settled.is_err() {
        println!("not every client got every marker within {SETTLE:?}");
    }
    read_up(world, brokers).await?;
    pulses.shutdown().await;
    world.phase.send_replace(Phase::Over);
    let mut outcomes = Vec::new();
    while let Some(outcome) = listening.join_next().await {
        outcomes.push(outcome.map_err(Error::other)?);
    }
    Ok(outcomes)
}

/// Waits until all that the servers have acknowledged is in Kafka: one more order at each
/// is behind all that it had taken.
async fn published(world: &World) -> Result<(), Error> {
    let deadline = Instant::now() + PUBLISHED;
    for node in 0..world.nodes.len() {
        while producers::place(world, node, &world.people.users[0]).await.is_none() {
            if Instant::now() > deadline {
                let says = world.nodes[node].says().await;
                let problem = format!("takes no orders in peace; {says}");
                return Err(world.nodes[node].error(&problem));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    loop {
        let missing = report::unpublished(world);
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            for (order, version) in missing {
                world.fault(format!("version {version} of order {order} never came to Kafka"));
            }
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until all that is in Kafka was read here.
async fn read_up(world: &World, brokers: &str) -> Result<(), Error> {
    let deadline = Instant::now() + PUBLISHED;
    let brokers = brokers.to_owned();
    let (lanes, ends) = blocking(move || {
        let mut lanes = reader::lanes(&brokers)?;
        lanes.push((reader::CONTROL.to_owned(), 0));
        let ends = reader::ends(&brokers, &lanes)?;
        Ok((lanes, ends))
    })
    .await?;
    let read = || {
        let records = world.kafka.lock().expect("nobody panics with it");
        let mut all = lanes.iter().zip(&ends);
        all.all(|(lane, (first, end))| first == end || reader::next(&records, lane) >= *end)
    };
    while !read() {
        if Instant::now() > deadline {
            return Err(Error::kafka("what is there could not be read"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn verdict(world: &World, lived: Vec<Lived>, folder: &Path) -> bool {
    let records = world.kafka.lock().expect("nobody panics with it");
    let log = oracle::log(&records, &world.run, &world.said);
    let revocations = control::revocations(&records, &world.run, &world.pulses.all());
    drop(records);
    println!("revocations in Kafka: {}", revocations.len());
    let lookup = Lookup::new(&log);
    let judged: Vec<_> = lived
        .into_iter()
        .map(|Lived { subject, mut life }| {
            life.revoked = revocations.of(&subject, &life.connections());
            let verdict = judge(&lookup, &life);
            (life, verdict)
        })
        .collect();
    for fault in tokens::check(&judged, |id| world.ats.text(id).to_string()) {
        world.fault(fault);
    }
    Report { world, lookup: &lookup, judged: &judged }.print(folder)
}
