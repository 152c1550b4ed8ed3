//! The connection to the server.
//!
//! A task makes it, and makes it anew once it has ended, for as long as anybody needs it.
//! The client could do so by itself, but what it tells of why it cannot is a word; and a
//! connection that is another is another client here, so that nothing of the one before,
//! no pull and no answer, comes through it.
//!
//! ```text
//!            connected                      broken, or silent for three pings
//! Connecting ----------> Connected: an Api ----------------------------------> Connecting
//!    '-- refused, or no answer: said, then a pause that grows
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, Event, ServerError};
use metrics::counter;
use tokio::sync::{mpsc, watch};

use crate::api::{Api, Said};
use crate::config::NatsConfig;
use crate::metrics::ERRORS;
use crate::report::Report;

/// Shortest and longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A view on the connection.
#[derive(Clone, Debug)]
pub(crate) struct Link(watch::Receiver<Option<Api>>);

impl Link {
    /// A connection that begins to be made. It is given up when `needed` has no receiver.
    pub(crate) fn start<T: Send + 'static>(
        config: Arc<NatsConfig>,
        report: Arc<Report>,
        needed: mpsc::Sender<T>,
    ) -> Self {
        let (told, link) = watch::channel(None);
        tokio::spawn(async move {
            tokio::select! {
                () = keep(&config, &report, &told) => {}
                () = needed.closed() => {}
            }
        });
        Self(link)
    }

    /// What can be asked, once there is a connection; `None` where there will be none.
    pub(crate) async fn api(&mut self) -> Option<Api> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// Connects, again and again.
async fn keep(config: &NatsConfig, report: &Report, told: &watch::Sender<Option<Api>>) {
    let mut pause = PAUSES.0;
    loop {
        match connect(config).await {
            Ok((client, mut said)) => {
                let begun = Instant::now();
                report.connected();
                let api = Api::new(
                    client,
                    config.api_prefix.clone(),
                    config.request_timeout,
                    said.clone(),
                );
                told.send_replace(Some(api));
                let _ = said.wait_for(|said| said.ended).await;
                told.send_replace(None);
                let error = said.borrow().error.clone();
                report.disconnected(error.as_deref().unwrap_or("the connection has ended"));
                if begun.elapsed() > PAUSES.1 {
                    pause = PAUSES.0;
                }
            }
            Err(error) => report.disconnected(&error),
        }
        counter!(ERRORS).increment(1);
        // Also after a connection that did not last: the next may not either.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// One try, at each of the servers.
pub(crate) async fn connect(
    config: &NatsConfig,
) -> Result<(Client, watch::Receiver<Said>), String> {
    let (tell, mut said) = watch::channel(Said::default());
    let (Ok(addresses), Ok(options)) = (config.addresses(), config.options()) else {
        return Err("the configuration cannot be used".into());
    };
    let options = options.event_callback(move |event| {
        tell.send_if_modified(|said| note(said, &event));
        std::future::ready(())
    });
    // Each of the servers has its time; names may take theirs.
    let patience = config.request_timeout.saturating_mul(config.servers.len() as u32 + 1);
    let connecting = tokio::time::timeout(patience, options.connect(addresses));
    let client = match connecting.await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("timed out".into()),
    };
    // That it is connected is told too, and is nothing new.
    said.mark_unchanged();
    Ok((client, said))
}

/// Notes what the client tells; whether that is anything.
fn note(said: &mut Said, event: &Event) -> bool {
    match event {
        // A server that is about to go is left when it does.
        Event::Disconnected | Event::Closed => said.ended = true,
        Event::ServerError(error) => {
            said.error = Some(match error {
                ServerError::Other(words) => words.clone(),
                error => error.to_string(),
            });
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_connection_is_told_apart_from_what_does_not() {
        let mut said = Said::default();
        assert!(!note(&mut said, &Event::Connected) && !note(&mut said, &Event::LameDuckMode));
        assert_eq!(said, Said::default());
        let denied = ServerError::Other("Permissions Violation for Publish to \"x\"".into());
        assert!(note(&mut said, &Event::ServerError(denied)));
        assert!(!said.ended && said.error.as_deref().is_some_and(|e| e.contains("Violation")));
        assert!(note(&mut said, &Event::Disconnected) && said.ended);
    }

    #[tokio::test]
    async fn who_is_not_there_is_an_error_with_a_reason() {
        // Bound and let go: nobody listens.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = NatsConfig::new(format!("127.0.0.1:{port}")).stream("S");
        let error = connect(&config).await.map(drop).unwrap_err();
        assert!(error.to_lowercase().contains("refused"), "{error}");
    }
}
