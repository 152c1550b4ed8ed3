//! Tickets: used twice, stolen from another server, or for something else.

use crate::family::attacked;
use crate::jwt::{self, base64, bearer};
use crate::raw::{Closed, Raw};
use crate::target::Target;

pub(crate) async fn ticket(target: &Target, token: &str) -> String {
    let header = bearer(token);
    let response = Raw::open(target.addr).await.ask("POST /api/ticket", &header, "").await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["ticket"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_ticket_opens_one_connection_here() {
    attacked(&["--log", "debug"], async |target: &Target| {
        let eve = jwt::of("eve@shop.example", "user");
        let refused = Closed::With(4500, "unauthenticated".into());
        let good = ticket(target, &eve).await;
        let path = format!("/ws?ticket={good}");
        // Twenty at once: one of them is let in.
        let mut open = Vec::new();
        for _ in 0..20 {
            let mut raw = Raw::open(target.addr).await;
            assert_eq!(raw.upgrade(&path, "").await.status, 101);
            open.push(raw);
        }
        let mut welcome = 0;
        for raw in &mut open {
            let frame = raw.frame().await.expect("a frame");
            welcome += u32::from(frame.opcode == 1);
        }
        assert_eq!(welcome, 1);
        let other = Target::start(&[]).await;
        let foreign = ticket(&other, &eve).await;
        for used in [&good, &foreign, &base64([7; 24]), &eve, &"x".repeat(24), &String::from("%00")]
        {
            let mut raw = Raw::open(target.addr).await;
            let path = format!("/ws?ticket={used}");
            assert_eq!(raw.upgrade(&path, "").await.status, 101);
            assert_eq!(raw.closed().await, refused, "{used}");
        }
        // It is nothing but a ticket, and for nothing but a connection.
        let unused = ticket(target, &eve).await;
        let response =
            Raw::open(target.addr).await.ask("GET /api/orders", &bearer(&unused), "").await;
        assert_eq!(response.code(), (401, "unauthenticated".into()));
        let line = format!("GET /api/orders?ticket={unused}");
        assert_eq!(Raw::open(target.addr).await.ask(&line, "", "").await.status, 401);
        let twice = format!("/ws?ticket={unused}&ticket={unused}");
        assert_eq!(Raw::open(target.addr).await.upgrade(&twice, "").await.status, 400);
        // A credential that is there and bad is not made up for by a ticket.
        let mut raw = Raw::open(target.addr).await;
        let path = format!("/ws?ticket={unused}");
        assert_eq!(raw.upgrade(&path, &bearer("nonsense")).await.status, 101);
        assert_eq!(raw.closed().await, refused);
        let said = target.said();
        for ticket in [good, foreign, unused] {
            assert!(!said.contains(&ticket), "a ticket was logged");
        }
        other.end().await;
    })
    .await;
}
