//! The server away, at start and later; who is not let in.
//!
//! ```text
//! FANOUT_TEST_NATS_SERVER=$(.ci/nats-server) cargo test -p nats-source -- --include-ignored
//! ```

mod common;

use std::time::Duration;

use common::{DEADLINE, Reader, Server, again, range, user};
use fanout::{ReplayError, Source as _, SourceHealth};
use nats_source::{NatsConfig, Start};
use serde_json::json;

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn at_start_it_is_waited_for() {
    let mut server = Server::not_yet("");
    let mut reader = Reader::start(server.config().stream("S").start(Start::Earliest));
    let health = reader.until(|health| health.problem.is_some()).await;
    assert!(!health.connected && !health.caught_up, "{health:?}");
    let problem = health.problem.expect("told");
    assert!(problem.contains(&server.address()) && problem.contains("refused"), "{problem}");

    server.run().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    admin.write_numbers("S", 0..20).await;
    reader.until(|health| health.ready() && health.problem.is_none()).await;
    reader.read_events(20).await;
    reader.assert_numbers(0..20);
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn a_crash_and_a_restart_lose_and_repeat_nothing() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    admin.write_numbers("S", 0..10).await;
    let config = server.config().stream("S").start(Start::Earliest);
    let mut reader = Reader::ready(config).await;
    let (mut replay, lane) = (reader.source.replay().expect("replay"), reader.lane("S"));
    again(&mut replay, &[range(&lane, 1, 11)]).await.expect("read again");
    for round in 1..4_u64 {
        let first = round * 100;
        // Some of it is on its way.
        admin.write_numbers("S", first - 90..first).await;
        server.kill();
        let health = reader.until(|health| !health.connected).await;
        assert!(health.caught_up, "{health:?}");
        reader.until(|health| health.problem.is_some()).await;
        let away = again(&mut replay, &[range(&lane, 1, 11)]).await.map(drop);
        assert!(matches!(away, Err(ReplayError::Unavailable(_))), "{away:?}");

        server.run().await;
        admin.write_numbers("S", first..first + 10).await;
        reader.until(|health| health.ready() && health.problem.is_none()).await;
        reader.read_events(first as usize + 10).await;
        assert_eq!(reader.lane("S"), lane, "it is the same log");
        let (events, _) = loop {
            match again(&mut replay, &[range(&lane, 1, first + 11)]).await {
                Ok(read) => break read,
                Err(error) => assert!(matches!(error, ReplayError::Unavailable(_)), "{error}"),
            }
        };
        assert_eq!(events.len() as u64, first + 10);
    }
    reader.assert_numbers(0..310);
    assert!(reader.lost.is_empty() && reader.closed.is_empty());
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn a_server_that_stands_still_is_told_and_read_on() {
    let server = Server::start().await;
    let admin = server.admin().await;
    admin.make("S", json!({})).await;
    let config = server.config().stream("S").request_timeout(Duration::from_millis(500));
    let mut reader = Reader::ready(config).await;
    for round in 0..2_u64 {
        let first = round * 20;
        admin.write_numbers("S", first..first + 10).await;
        server.pause();
        let problem = reader.until(|health| !health.connected).await.problem.expect("told");
        assert!(problem.contains(&server.address()), "{problem}");
        server.resume();
        reader.until(|health| health.ready() && health.problem.is_none()).await;
        admin.write_numbers("S", first + 10..first + 20).await;
        reader.read_events(first as usize + 20).await;
    }
    reader.assert_numbers(0..40);
    assert!(reader.lost.is_empty() && reader.closed.is_empty());
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn a_name_that_nobody_has_is_told() {
    let mut reader = Reader::start(NatsConfig::new("no-such-host.invalid:4222").stream("S"));
    let problem = reader.until(|health| health.problem.is_some()).await.problem.expect("told");
    assert!(problem.contains("no-such-host.invalid:4222"), "{problem}");
    assert!(reader.source.close(DEADLINE).await, "it ends all the same");
}

const USERS: &str = r#"
authorization {
  users = [
    { user: root, password: root }
    { user: reader, password: right, permissions {
        publish = ["$JS.API.STREAM.INFO.S", "$JS.API.CONSUMER.*.S.>", "$JS.API.CONSUMER.MSG.NEXT.S.>"]
        subscribe = ["_INBOX.>"] } }
    { user: nobody, password: right, permissions { publish = ["x"], subscribe = ["_INBOX.>"] } }
    { user: deaf, password: right, permissions { publish = [">"], subscribe = ["x"] } }
  ]
}"#;

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn who_is_not_let_in_is_told_at_once_and_why() {
    let server = Server::start_with(USERS).await;
    let admin = server.admin_with(user("root", "root")).await;
    admin.make("S", json!({})).await;
    let config = || server.config().stream("S").request_timeout(Duration::from_secs(600));
    let wrong = config().user_and_password("reader", "wrong");
    for config in [config(), wrong, config().token("x")] {
        let mut reader = Reader::start(config);
        let health = reader.until(|health| health.problem.is_some()).await;
        let problem = health.problem.expect("told");
        assert!(problem.to_lowercase().contains("authorization violation"), "{problem}");
        assert!(!problem.contains("wrong") && !health.connected && !health.caught_up);
    }
    // Let in, but not to what it needs: said long before the question is given up.
    for name in ["nobody", "deaf"] {
        let mut reader = Reader::start(config().user_and_password(name, "right"));
        let health = reader.until(|health| health.problem.is_some()).await;
        let problem = health.problem.clone().expect("told");
        assert!(problem.to_lowercase().contains("permissions violation"), "{name}: {problem}");
        assert!(problem.contains("`S`") && !health.caught_up, "{name}: {health:?}");
    }
    // No more than this is needed.
    let mut reader = Reader::ready(config().user_and_password("reader", "right")).await;
    admin.write_numbers("S", 0..5).await;
    reader.read_events(5).await;
    let (mut replay, lane) = (reader.source.replay().expect("replay"), reader.lane("S"));
    assert_eq!(again(&mut replay, &[range(&lane, 1, 6)]).await.expect("again").0.len(), 5);
}

#[tokio::test]
#[ignore = "needs a nats-server"]
async fn an_account_without_jetstream_is_told() {
    let accounts = r"
accounts { A { users = [ { user: a, password: a } ] }, J { jetstream: enabled, users = [ { user: j, password: j } ] } }
";
    let server = Server::start_with(accounts).await;
    let mut reader = Reader::start(server.config().stream("S").user_and_password("a", "a"));
    let health = reader.until(|health| health.problem.is_some()).await;
    let problem = health.problem.as_deref().expect("told");
    assert!(problem.to_lowercase().contains("jetstream"), "{problem}");
    assert!(!SourceHealth::ready(&health));
}
