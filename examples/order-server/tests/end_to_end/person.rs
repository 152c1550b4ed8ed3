//! Somebody with a token and an open socket, who notices what must never be.

use std::collections::{HashMap, HashSet};

use order_server::server::Running;
use serde_json::{Value, json};

use crate::support::Client;
use crate::support::socket::Socket;

/// Who is there in one test, and nowhere else: a broker keeps what others did.
#[derive(Clone)]
pub(crate) struct Cast(String);

impl Cast {
    pub(crate) fn new() -> Self {
        Self(order_server::order::random_id("", 6).unwrap())
    }

    /// A name of this test's: whoever has `admin` in it is one.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{name}.{}@shop.example", self.0)
    }

    pub(crate) async fn comes(&self, server: &Running, name: &str) -> Person {
        let http = Client::login(server, &self.name(name)).await;
        Person::connect(self, name, http).await
    }
}

/// An event as a client gets it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) event: String,
    pub(crate) room: Option<String>,
    pub(crate) at: String,
    pub(crate) data: Value,
}

impl Told {
    /// What comes before the dot names the lane.
    pub(crate) fn lane(&self) -> &str {
        self.at.split_once('.').expect("a lane and a place").0
    }

    /// Checks that the data has these fields with these values; `null` stands for none.
    pub(crate) fn has(&self, fields: &Value) {
        for (name, value) in fields.as_object().unwrap() {
            assert_eq!(&self.data[name], value, "{name} of {self:?}");
        }
    }
}

pub(crate) struct Person {
    pub(crate) email: String,
    pub(crate) http: Client,
    pub(crate) socket: Socket,
    cast: Cast,
    /// Places that were told; each comes once.
    places: HashSet<String>,
    /// Events of a version of an order; each comes once, whatever its place.
    versions: HashSet<(String, String, u64)>,
    /// The newest version of an order in a lane.
    newest: HashMap<(String, String), u64>,
}

impl Person {
    pub(crate) async fn connect(cast: &Cast, name: &str, http: Client) -> Self {
        let email = cast.name(name);
        let (socket, welcome) = Socket::welcome(&http).await;
        let role = if name.contains("admin") { "admin" } else { "user" };
        assert_eq!((&welcome["subject"], &welcome["roles"]), (&json!(email), &json!([role])));
        Self {
            email,
            http,
            socket,
            cast: cast.clone(),
            places: HashSet::new(),
            versions: HashSet::new(),
            newest: HashMap::new(),
        }
    }

    /// Another tab of the same person.
    pub(crate) async fn another_tab(&self) -> Self {
        let name = self.email.split_once('.').unwrap().0;
        Self::connect(&self.cast, name, self.http.clone()).await
    }

    /// The next event, which is new and not out of order.
    pub(crate) async fn next(&mut self) -> Told {
        loop {
            let frame = self.socket.next().await;
            let text = |name: &str| frame[name].as_str().map(str::to_owned);
            let (event, room) = (text("event").unwrap(), text("room"));
            let at = text("at").unwrap_or_else(|| panic!("`at` is missing: {frame}"));
            assert!(self.places.insert(at.clone()), "told twice: {frame}");
            let told = Told { event, room, at, data: frame["data"].clone() };
            // The rooms of all hold what others did; one's own hold nothing of theirs.
            let for_all = ["admin:", "product:", "inventory:"];
            let for_all = for_all.iter().any(|start| told.event.starts_with(start));
            if for_all && !told.data.to_string().contains(&self.cast.0) {
                continue;
            }
            self.check_version(&told);
            return told;
        }
    }

    fn check_version(&mut self, told: &Told) {
        let (Some(order), Some(version)) =
            (told.data["orderId"].as_str(), told.data["version"].as_u64())
        else {
            return;
        };
        let place = (told.event.clone(), order.to_owned(), version);
        assert!(self.versions.insert(place), "written twice: {told:?}");
        let newest = self.newest.entry((told.lane().to_owned(), order.to_owned())).or_default();
        assert!(*newest < version, "after version {newest}: {told:?}");
        *newest = version;
    }

    /// The next event, which must be this one with these fields.
    pub(crate) async fn sees(&mut self, event: &str, fields: &Value) -> Told {
        let told = self.next().await;
        assert_eq!(told.event, event, "{}: {told:?}", self.email);
        told.has(fields);
        told
    }

    /// Places an order, and sees it as the next of all events.
    pub(crate) async fn marks(&mut self) -> Value {
        let order = self.http.order().await;
        self.sees("order:created", &json!({"orderId": order["orderId"]})).await;
        self.sees("notification", &json!({"orderId": order["orderId"]})).await;
        order
    }

    /// Gives an order another status; what it has become.
    pub(crate) async fn sets(&self, order: &Value, status: &str) -> Value {
        let path = format!("/api/orders/{}/status", id(order));
        self.changes("PATCH", &path, &json!({"status": status, "reason": format!("is {status}")}))
            .await
    }

    /// Cancels an order without saying why; what it has become.
    pub(crate) async fn cancels(&self, order: &Value) -> Value {
        self.changes("POST", &format!("/api/orders/{}/cancel", id(order)), &json!({})).await
    }

    async fn changes(&self, method: &str, path: &str, body: &Value) -> Value {
        let http = self.http.with("content-type", "application/json");
        let answer = http.send(method, path, body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

pub(crate) fn id(order: &Value) -> &str {
    order["orderId"].as_str().unwrap()
}
