//! From what is in Kafka to what has to be told: the shop's own router, record by record.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use fanout::{Body, Emission, Event, Json, Lane, Redaction, Router as _, View};
use order_server::routing::ShopRouter;
use order_server::{access, views};

use crate::judge::{Emitted, LaneLog, Log, Room, Told};
use crate::reader::{CONTROL, Record, Records};
use crate::texts::{Texts, said};
use crate::world::MARKER;

/// The log, with what it says in `texts`.
pub(crate) fn log(records: &Records, run: &str, texts: &Texts) -> Log {
    let marker = format!("{MARKER}{run}");
    let shop = records.iter().filter(|((topic, _), _)| topic != CONTROL);
    let lanes = shop.map(|((topic, partition), records)| {
        let lane = Arc::new(Lane::new("log", topic.as_str(), partition.unsigned_abs()));
        let mut emissions = Vec::new();
        let mut due = None;
        for (offset, record) in records {
            let routed = emissions_of(&lane, *offset, record);
            let time = record.time.unwrap_or(0).max(0).unsigned_abs();
            emissions.extend((0..).zip(routed).map(|(nth, emission)| Emitted {
                offset: *offset,
                nth,
                time,
                rooms: rooms(&emission),
                told: told(&emission, texts),
            }));
            let payload = record.payload.as_deref().unwrap_or_default();
            if payload.windows(marker.len()).any(|window| window == marker.as_bytes()) {
                due = Some(emissions.len());
            }
        }
        let due = due.unwrap_or(emissions.len());
        LaneLog { name: format!("{topic}/{partition}"), emissions, due }
    });
    Log { lanes: lanes.collect() }
}

pub(crate) fn rooms(emission: &Emission) -> Vec<Room> {
    emission.rooms.iter().map(|room| room.as_str().into()).collect()
}

/// What becomes of a record; nothing of one that cannot be used.
pub(crate) fn emissions_of(lane: &Arc<Lane>, offset: i64, record: &Record) -> Vec<Emission> {
    let Some(payload) = record.payload.clone().filter(|payload| !payload.is_empty()) else {
        return Vec::new();
    };
    let Ok(json) = Json::parse(payload) else { return Vec::new() };
    let millis = record.time.unwrap_or(0).max(0).unsigned_abs();
    let event = Event::from_json(lane.clone(), offset.unsigned_abs(), &json)
        .with_key(record.key.clone())
        .with_time(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
    let mut emissions = Vec::new();
    match ShopRouter.route(&event, &mut emissions) {
        Ok(()) => emissions,
        Err(_) => Vec::new(),
    }
}

/// What each role sees, by the shop's own declaration.
static REDACTION: LazyLock<Redaction> =
    LazyLock::new(|| views::redaction(&access::policy()).expect("the shop starts with it"));

/// What an emission says, and to whom.
pub(crate) fn told(emission: &Emission, texts: &Texts) -> Told {
    let room = if let [room] = &emission.rooms[..] { Some(room.as_str()) } else { None };
    let number = |json: &Json| texts.number(&said(&emission.event, room, json.as_str()));
    let seen = |view: &View, json: &Json| {
        let seen = REDACTION.apply(&emission.event, view, json)?;
        Some((view.as_str().to_owned(), number(&seen)))
    };
    match &emission.body {
        Body::Shared(json) if !REDACTION.declares(&emission.event) => Told::Shared(number(json)),
        Body::Shared(json) => {
            let views = [access::ADMIN, access::SUPPORT, access::USER].map(View::from);
            Told::PerView(views.iter().filter_map(|view| seen(view, json)).collect())
        }
        Body::PerView(views) => {
            Told::PerView(views.iter().filter_map(|(view, json)| seen(view, json)).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn records_become_what_frames_say_and_poison_nothing() {
        let record = |payload: Option<&'static str>| Record {
            time: Some(7),
            key: None,
            payload: payload.map(|payload| payload.as_bytes().into()),
        };
        let order = r#"{"orderId":"o","buyerId":"ann"}"#;
        let marker = r#"{"orderId":"end-of-lane-r-1","buyerId":"ann"}"#;
        let payloads =
            [Some(order), None, Some(""), Some("{"), Some("[1]"), Some(marker), Some(order)];
        let records: BTreeMap<i64, Record> = (3..).zip(payloads.map(record)).collect();
        let records = Records::from([(("order.created".to_owned(), 2), records)]);
        let texts = Texts::default();
        let log = log(&records, "r", &texts);
        let [lane] = &log.lanes[..] else { panic!("{log:?}") };
        assert_eq!((&*lane.name, lane.emissions.len(), lane.due), ("order.created/2", 9, 6));
        let places: Vec<_> = lane.emissions.iter().map(|e| (e.offset, e.nth, e.time)).collect();
        assert_eq!(places[..4], [(3, 0, 7), (3, 1, 7), (3, 2, 7), (8, 0, 7)]);
        assert_eq!(lane.emissions[0].rooms, ["user:ann".into(), "orders:ann".into()]);
        let Told::PerView(views) = &lane.emissions[2].told else { panic!("{log:?}") };
        let [(admin, said), (support, _)] = &views[..] else { panic!("{views:?}") };
        assert_eq!((admin.as_str(), support.as_str()), ("admin", "support"));
        let said = texts.text(*said);
        assert!(said.starts_with("admin:order:created\nadmin:dashboard\n{"), "{said}");
        assert!(said.contains(r#""timestamp":"1970-01-01T00:00:00.007Z""#), "{said}");
    }
}
