//! The last record of each lane, for each room that something of the lane is for: who has
//! got it has got all.

use std::sync::Arc;
use std::time::Duration;

use fanout::Lane;
use kafka_source::rdkafka::producer::FutureRecord;
use order_server::access;
use serde_json::json;

use crate::error::Error;
use crate::judge::Told;
use crate::oracle;
use crate::producers::producer;
use crate::reader::{LaneName, Record};
use crate::texts::Texts;
use crate::world::{MARKER, Marker, World};

const WRITTEN: Duration = Duration::from_secs(60);

/// A record to be written.
pub(crate) struct Last {
    lane: LaneName,
    payload: String,
}

/// What is to be written.
pub(crate) fn all(world: &World, lanes: &[LaneName]) -> Vec<Last> {
    let mut all = Vec::new();
    for lane in lanes {
        let (topic, partition) = lane;
        let name = |of: usize| format!("{MARKER}{}-{topic}-{partition}-{of}", world.run);
        if topic.starts_with("order.") {
            for (number, person) in world.people.all().enumerate() {
                let payload = json!({"orderId": name(number), "buyerId": person.subject});
                all.push(Last { lane: lane.clone(), payload: payload.to_string() });
            }
        } else {
            let payload = json!({"productId": name(0), "stock": 99});
            all.push(Last { lane: lane.clone(), payload: payload.to_string() });
        }
    }
    all
}

/// What becomes of them.
pub(crate) fn emissions(all: &[Last]) -> Vec<Marker> {
    let texts = Texts::default();
    let of = |last: &Last| {
        let (topic, partition) = &last.lane;
        let lane = Arc::new(Lane::new("log", topic.as_str(), partition.unsigned_abs()));
        let payload = Some(last.payload.clone().into());
        let record = Record { time: Some(0), key: None, payload };
        let value: serde_json::Value =
            serde_json::from_str(&last.payload).expect("it was made here");
        let name = value["orderId"].as_str().or(value["productId"].as_str());
        let name = name.unwrap_or_default().to_owned();
        let emissions = oracle::emissions_of(&lane, 0, &record);
        let markers = emissions.iter().map(|emission| Marker {
            rooms: oracle::rooms(emission),
            event: emission.event.to_string(),
            name: name.clone(),
            views: views(&oracle::told(emission, &texts)),
        });
        markers.collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

/// Who sees something at all.
fn views(told: &Told) -> Vec<String> {
    let all = [access::ADMIN, access::SUPPORT, access::USER];
    all.into_iter().filter(|view| told.to(view).is_some()).map(str::to_owned).collect()
}

/// Writes them.
pub(crate) async fn write(brokers: &str, all: &[Last]) -> Result<(), Error> {
    let producer = producer(brokers)?;
    let mut sent = Vec::new();
    for Last { lane: (topic, partition), payload } in all {
        let record = FutureRecord::<str, str>::to(topic).partition(*partition).payload(payload);
        sent.push(producer.send(record, WRITTEN));
    }
    for result in futures::future::join_all(sent).await {
        result.map_err(|(error, _)| Error::kafka(error))?;
    }
    crate::trouble::drop_elsewhere(producer);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_of_an_order_is_for_its_buyer_and_for_admins() {
        let payload = json!({"orderId": "end-of-lane-r-1", "buyerId": "ann"}).to_string();
        let last = Last { lane: ("order.paid".to_owned(), 1), payload };
        let markers = emissions(&[last]);
        let told: Vec<_> = markers.iter().map(|m| (&*m.event, m.rooms.len(), &*m.name)).collect();
        let name = "end-of-lane-r-1";
        assert_eq!(told, [("order:updated", 2, name), ("admin:order:updated", 1, name)]);
        assert_eq!(markers[0].views, ["admin", "support", "user"]);
        assert_eq!(markers[1].views, ["admin", "support"]);
    }
}
