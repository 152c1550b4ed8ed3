//! Records of orders: to the buyer, and to the admins.

use std::borrow::Cow;

use bytes::Bytes;
use fanout::{Emission, Room, RouteError};

use super::fields::{Body, Fields};
use super::sentences;
use crate::access::{self, DASHBOARD};

/// A status with a topic of its own, and the field that says since when.
#[derive(Clone, Copy)]
pub(super) struct Step {
    status: &'static str,
    since: &'static str,
}

pub(super) const PAID: Step = Step { status: "paid", since: "paidAt" };
pub(super) const PROCESSING: Step = Step { status: "processing", since: "processingAt" };
pub(super) const SHIPPED: Step = Step { status: "shipped", since: "shippedAt" };
pub(super) const DELIVERED: Step = Step { status: "delivered", since: "deliveredAt" };

/// What every record of an order is read for.
struct Subject<'a> {
    order: Option<Cow<'a, str>>,
    buyer: Option<Cow<'a, str>>,
    status: Option<Cow<'a, str>>,
    /// The whole order, and the names that clients know.
    body: Body<'a>,
    /// The buyer's rooms; none where the record names no buyer that can have one.
    rooms: Option<[Room; 2]>,
}

impl<'a> Subject<'a> {
    fn of(fields: &Fields<'a>, implied: Option<&'static str>) -> Self {
        let order = fields.text(&["orderId", "_id"]);
        let buyer = fields.text(&["buyerId", "userId"]);
        // A topic that is named after a status says it: a record that was written
        // late must not contradict it.
        let status = implied.map(Cow::Borrowed).or_else(|| fields.text(&["status"]));
        let body = fields
            .whole()
            .with_some("orderId", order.as_deref())
            .with_some("buyerId", buyer.as_deref())
            .with_some("status", status.as_deref())
            .from(fields, "totalAmount", &["total", "totalAmount"])
            .with("timestamp", &fields.time);
        let rooms = buyer.as_deref().and_then(|buyer| access::rooms_of(buyer).ok());
        Self { order, buyer, status, body, rooms }
    }

    /// What happened, for sentences; a text that is no status is just a change.
    fn status(&self) -> &str {
        self.status.as_deref().unwrap_or("updated")
    }

    fn notification(&self, fields: &Fields<'a>, priority: &str) -> Body<'a> {
        fields
            .body()
            .with("type", "order")
            .with("title", sentences::title(self.status()))
            .with("message", sentences::to_buyer(self.status()))
            .with_some("orderId", self.order.as_deref())
            .with_some("status", self.status.as_deref())
            .with("priority", priority)
    }

    /// To the buyer, in both rooms: who is in both gets it once.
    fn to_buyer(
        &self,
        event: &'static str,
        body: &Body<'_>,
    ) -> Result<Option<Emission>, RouteError> {
        let Some([user, orders]) = self.rooms.clone() else { return Ok(None) };
        Ok(Some(Emission::new(user, event, body.json()?).and_to(orders)))
    }

    /// Tells buyer and admins of `self.body`, with a notification in between.
    fn emit(
        &self,
        to_buyer: &'static str,
        to_admin: &'static str,
        notification: Option<&Body<'_>>,
        out: &mut Vec<Emission>,
    ) -> Result<(), RouteError> {
        let about = |emission: Emission| match &self.order {
            Some(id) => emission.with_key(Bytes::copy_from_slice(id.as_bytes())),
            None => emission,
        };
        let body = self.body.clone().with("message", sentences::to_buyer(self.status()));
        out.extend(self.to_buyer(to_buyer, &body)?.map(about));
        if let Some(notification) = notification {
            out.extend(self.to_buyer("notification", notification)?);
        }
        let (order, buyer) = (self.order.as_deref(), self.buyer.as_deref());
        let message = sentences::to_admin(self.status(), order, buyer);
        let body = self.body.clone().with("message", &message);
        out.push(about(Emission::new(Room::new(DASHBOARD)?, to_admin, body.json()?)));
        Ok(())
    }
}

pub(super) fn created(fields: &Fields<'_>, out: &mut Vec<Emission>) -> Result<(), RouteError> {
    let subject = Subject::of(fields, Some("pending"));
    let notification = subject.notification(fields, "normal");
    subject.emit("order:created", "admin:order:created", Some(&notification), out)
}

pub(super) fn updated(
    fields: &Fields<'_>,
    step: Option<Step>,
    out: &mut Vec<Emission>,
) -> Result<(), RouteError> {
    let mut subject = Subject::of(fields, step.map(|step| step.status));
    if let Some(step) = step {
        subject.body = subject.body.from(fields, "updatedAt", &["updatedAt", step.since]);
    }
    let notification = matches!(subject.status(), "shipped" | "delivered")
        .then(|| subject.notification(fields, "high"));
    subject.emit("order:updated", "admin:order:updated", notification.as_ref(), out)
}

pub(super) fn cancelled(fields: &Fields<'_>, out: &mut Vec<Emission>) -> Result<(), RouteError> {
    let subject = Subject::of(fields, Some("cancelled"));
    let notification = subject.notification(fields, "high");
    subject.emit("order:cancelled", "admin:order:cancelled", Some(&notification), out)
}
