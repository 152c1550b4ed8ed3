//! TLS and passwords, against a real broker with certificates of the test's own.
//!
//! ```text
//! cargo test -p kafka-source --features tls --test tls -- --ignored
//! ```
//!
//! It runs `.ci/kafka`, which needs java and maven, and java's `keytool`.

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use common::{DEADLINE, Reader, again, producer_at, range, texts, write};
use fanout::{Source as _, SourceHealth};
use kafka_source::rdkafka::ClientConfig;
use kafka_source::rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use kafka_source::rdkafka::client::DefaultClientContext;
use kafka_source::{GroupConfig, KafkaConfig, KafkaGroup};
use tokio::time::timeout;

/// Opens the key store; nothing else is in it.
const STORE: &str = "store-secret";
const RIGHT: &str = "right-secret";
const WRONG: &str = "wrong-secret";

/// A broker in a folder that goes with it.
struct Kafka {
    folder: PathBuf,
    plaintext: String,
}

impl Kafka {
    fn start() -> Self {
        let name = format!("kafka-source-tls-{:016x}", getrandom::u64().expect("random"));
        let folder = std::env::temp_dir().join(name);
        let mut kafka = Self { folder, plaintext: String::new() };
        let certificates = kafka.folder.join("certificates");
        std::fs::create_dir_all(&certificates).expect("folder");
        certificate_authority(&certificates, "ca");
        certificate_authority(&certificates, "stranger");
        server_certificate(&certificates);
        kafka.control("start", &[]).trim().clone_into(&mut kafka.plaintext);
        kafka
    }

    /// Runs a command of `.ci/kafka`, which returns once it is true.
    fn control(&self, what: &str, more: &[&str]) -> String {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/kafka");
        run(Command::new(program)
            .arg(what)
            .arg(self.folder.join("broker"))
            .args(more)
            .env("FANOUT_KAFKA_SECURE", self.folder.join("certificates")))
    }

    fn address(&self, listener: &str) -> String {
        let file = self.folder.join("broker").join(format!("address.{listener}"));
        std::fs::read_to_string(file).expect("address").trim().to_owned()
    }

    fn ca(&self, name: &str) -> String {
        self.folder.join("certificates").join(format!("{name}.pem")).display().to_string()
    }

    async fn topic(&self) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.plaintext).create().expect("client");
        let new = NewTopic::new("t", 1, TopicReplication::Fixed(1));
        let made = admin.create_topics(&[new], &AdminOptions::new()).await;
        made.expect("asked").remove(0).expect("created");
    }

    fn config(&self, listener: &str, properties: &[(&str, &str)]) -> KafkaConfig {
        let config = KafkaConfig::new(self.address(listener))
            .topic("t")
            // Longer than the test waits: what is said does not come from a question that
            // took too long.
            .request_timeout(DEADLINE * 2)
            .property("ssl.ca.location", self.ca("ca"));
        properties.iter().fold(config, |config, (name, value)| config.property(*name, *value))
    }

    fn login(&self, mechanism: &str, user: &str, password: &str) -> KafkaConfig {
        let properties = [
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", mechanism),
            ("sasl.username", user),
            ("sasl.password", password),
        ];
        self.config("sasl_ssl", &properties)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if self.folder.join("broker/port").exists() {
            self.control("kill", &[]);
        }
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{:?}", output.stdout);
    String::from_utf8(output.stdout).expect("text")
}

fn keytool(folder: &Path, store: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("keytool");
    command.current_dir(folder).args(arguments);
    run(command.args(["-storetype", "PKCS12", "-keystore", store, "-storepass", STORE]))
}

/// The options of a key of its own, and for whom its certificate is.
const KEY: [&str; 7] =
    ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "30"];

/// `NAME.p12` with a key, and `NAME.pem` with its certificate.
fn certificate_authority(folder: &Path, name: &str) {
    let of = ["-alias", name, "-dname", &format!("CN={name}"), "-ext", "bc:c"];
    let store = format!("{name}.p12");
    keytool(folder, &store, &[&KEY[..], &of].concat());
    let pem = keytool(folder, &store, &["-exportcert", "-rfc", "-alias", name]);
    std::fs::write(folder.join(format!("{name}.pem")), pem).expect("written");
}

/// `server.p12` for this machine, signed by `ca`.
fn server_certificate(folder: &Path) {
    std::fs::copy(folder.join("ca.p12"), folder.join("server.p12")).expect("copied");
    let of = ["-alias", "server", "-dname", "CN=broker", "-ext", "san=ip:127.0.0.1"];
    let signer = ["-signer", "ca", "-signerkeypass", STORE];
    keytool(folder, "server.p12", &[&KEY[..], &of, &signer].concat());
    keytool(folder, "server.p12", &["-delete", "-alias", "ca"]);
    std::fs::write(folder.join("server.password"), STORE).expect("written");
}

/// What the log was told, as far as it is loud.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Log;

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            // A string takes whatever is written.
            let _ = write!(line, "{field}={value:?} ");
        });
        LOG.lock().expect("whole").push(line);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Reads what is written from now on, and reads it again.
async fn reads(kafka: &Kafka, config: KafkaConfig, payload: &str) {
    let mut reader = Reader::ready(config).await;
    let offset = write(&producer_at(&kafka.plaintext), "t", 0, payload).await;
    let offset = u64::try_from(offset).expect("an offset");
    reader.read_up_to("t", 0, offset + 1).await;
    assert_eq!(reader.payloads(), [payload]);

    let mut replay = reader.source.replay().expect("can be read again");
    let (events, _) = again(&mut replay, &[range(&reader.lane("t", 0), offset, offset + 1)])
        .await
        .expect("read again");
    assert_eq!(texts(&events), [payload]);
    drop(replay);
    assert!(reader.source.close(DEADLINE).await);
}

/// What the status says of a broker that cannot be used, and the log too; all `words` must be
/// in it.
async fn refused(mut reader: Reader, words: &[&str]) -> Reader {
    told_why(reader.until(|health| health.problem.is_some()).await, words);
    reader
}

/// The same of a member of a group.
async fn member_is_refused(config: KafkaConfig, words: &[&str]) -> KafkaGroup {
    let group = KafkaGroup::start(GroupConfig::new(config, "g")).expect("started");
    let mut status = group.status();
    let waiting = status.wait_for(|health| health.problem.is_some());
    assert_eq!(timeout(DEADLINE, waiting).await, Ok(true), "nothing is said");
    told_why(status.health(), words);
    group
}

fn told_why(health: SourceHealth, words: &[&str]) {
    let SourceHealth { connected, problem, .. } = health;
    let problem = problem.expect("said");
    assert!(!connected && problem.starts_with("no broker can be used at 127.0.0.1:"), "{problem}");
    for word in words {
        assert!(problem.contains(word), "no `{word}`: {problem}");
    }
    let logged = LOG.lock().expect("whole").join("\n");
    let (_, said) = problem.split_once(": ").expect("where: what");
    assert!(logged.contains(&format!("kafka: {said}")), "not `{said}` in the log: {logged}");
    for secret in [RIGHT, WRONG] {
        assert!(!problem.contains(secret) && !logged.contains(secret), "{problem} {logged}");
    }
    LOG.lock().expect("whole").clear();
}

#[tokio::test]
#[ignore = "starts a broker with java"]
async fn who_is_trusted_reads_and_who_is_not_is_told_why() {
    tracing::subscriber::set_global_default(Log).expect("the only one");
    let kafka = Kafka::start();
    kafka.topic().await;
    kafka.control("user", &["reader", RIGHT]);
    for user in ["late", "member"] {
        kafka.control("user", &[user, "another-secret"]);
    }

    let tls = [("security.protocol", "ssl")];
    reads(&kafka, kafka.config("ssl", &tls), "by tls").await;
    reads(&kafka, kafka.login("PLAIN", "plain", "plain-secret"), "by plain").await;
    reads(&kafka, kafka.login("SCRAM-SHA-256", "reader", RIGHT), "by scram 256").await;
    reads(&kafka, kafka.login("SCRAM-SHA-512", "reader", RIGHT), "by scram 512").await;

    let broker = |listener| format!("broker {}: ", kafka.address(listener));
    let (plain, with_tls, login) =
        (format!("broker {}: ", kafka.plaintext), broker("ssl"), broker("sasl_ssl"));
    LOG.lock().expect("whole").clear();
    let stranger = kafka.config("ssl", &tls).property("ssl.ca.location", kafka.ca("stranger"));
    refused(Reader::start(stranger), &[&with_tls, "verify failed", "`ssl.ca.location`"]).await;
    let no_tls = kafka.config("ssl", &[]);
    refused(Reader::start(no_tls), &["brokers are down", "`security.protocol`"]).await;
    let too_much = KafkaConfig::new(&kafka.plaintext).topic("t").request_timeout(DEADLINE * 2);
    let too_much = too_much.property("security.protocol", "ssl");
    refused(Reader::start(too_much), &[&plain, "`security.protocol`"]).await;
    let no_login = kafka.config("sasl_ssl", &tls);
    refused(Reader::start(no_login), &["`security.protocol`"]).await;
    for (mechanism, user) in [("PLAIN", "plain"), ("SCRAM-SHA-256", "reader")] {
        let config = kafka.login(mechanism, user, WRONG);
        refused(Reader::start(config), &[&login, "uthentication failed", "`sasl.password`"]).await;
    }

    // Put right at the broker: it goes on by itself.
    let config = kafka.login("SCRAM-SHA-512", "late", RIGHT);
    let mut reader = refused(Reader::start(config), &[&login, "`sasl.password`"]).await;
    kafka.control("user", &["late", RIGHT]);
    let health = reader.until(SourceHealth::ready).await;
    assert_eq!(health.problem, None);
    write(&producer_at(&kafka.plaintext), "t", 0, "let in").await;
    reader.read_events(1).await;
    assert_eq!(reader.payloads(), ["let in"]);
    assert!(reader.source.close(Duration::from_secs(30)).await);
    LOG.lock().expect("whole").clear();

    let config = kafka.login("SCRAM-SHA-512", "member", RIGHT);
    let group = member_is_refused(config, &[&login, "`sasl.password`"]).await;
    kafka.control("user", &["member", RIGHT]);
    let mut status = group.status();
    let waiting = status.wait_for(SourceHealth::ready);
    assert_eq!(timeout(DEADLINE, waiting).await, Ok(true), "{:?}", status.health());
    assert_eq!(status.health().problem, None);
    assert!(group.close(Duration::from_secs(30)).await);
}
