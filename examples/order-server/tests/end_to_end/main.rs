//! An order reaches the right clients: REST, SQLite, Kafka, hub and WebSocket, whole.
//!
//! ```text
//! orders.rs   every status, to the buyer and the admins and nobody else
//! catalog.rs  records of the shop's other services
//! rights.rs   what nobody gets by asking for it
//! outage.rs   the broker away, and the server too
//! control.rs  the topic that all servers are told by, made wrong, deleted and made anew
//! takeover.rs several servers on one folder, and one of them gone
//! ```
//!
//! The stories are told through the embedded broker, and through a real one where
//! [`kafka`] finds it:
//!
//! ```text
//! cargo test -p order-server --test end_to_end -- --include-ignored
//! ```

#![allow(missing_docs, reason = "a test")]

mod catalog;
mod control;
mod kafka;
mod orders;
mod outage;
mod person;
mod process;
mod rights;
#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod takeover;

/// Tells each story through both brokers.
macro_rules! stories {
    ($($module:ident :: $story:ident,)*) => {
        mod embedded {
            $(#[tokio::test]
            async fn $story() {
                crate::$module::$story(crate::kafka::Kafka::Embedded).await;
            })*
        }

        mod real {
            $(#[tokio::test]
            #[ignore = "needs a broker: FANOUT_TEST_KAFKA"]
            async fn $story() {
                if let Some(kafka) = crate::kafka::Kafka::real().await {
                    crate::$module::$story(kafka).await;
                }
            })*
        }
    };
}

stories! {
    orders::every_status_reaches_the_buyer_and_the_admins_and_nobody_else,
    catalog::records_of_other_services_reach_whom_they_concern,
    outage::while_the_broker_is_away_orders_are_taken_and_arrive_afterwards,
    outage::what_a_server_had_taken_arrives_after_it_was_started_again,
    takeover::a_server_that_is_killed_or_stopped_is_followed_by_another,
    takeover::a_server_that_was_paused_leaves_it_to_who_took_over,
}
