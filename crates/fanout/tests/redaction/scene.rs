//! Declarations, bodies full of markers, and who may see which.
#![allow(dead_code)] // Another crate's test uses a part.

use std::collections::{BTreeMap, BTreeSet};

use fanout::{Body, Emission, Event, EventViews, Json, Room, RouteError, View};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(crate) const VIEWS: [&str; 4] = ["admin", "support", "user", "guest"];

/// What may be declared. Members of objects; `items` and `deep` are also arrays in bodies.
const PATHS: [&str; 12] = [
    "id",
    "total",
    "items",
    "items.sku",
    "items.price",
    "items.price.net",
    "internal",
    "internal.margin",
    "internal.notes",
    "deep.er.x",
    "deep.er",
    "a\\.b",
];

/// What is said of a view.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    All,
    Nothing,
    Hide(Vec<&'static str>),
    Show(Vec<&'static str>),
}

/// A declaration of the event `e`.
#[derive(Clone, Debug)]
pub(crate) struct Said(BTreeMap<&'static str, Rule>);

/// A text that stands in one place alone.
#[derive(Clone, Debug)]
pub(crate) struct Marker {
    pub(crate) text: String,
    /// The members on the way to it.
    path: Vec<&'static str>,
    /// Whose body it is in, where each view has its own.
    view: Option<&'static str>,
    /// Whether the event is declared.
    declared: bool,
    pub(crate) emission: usize,
}

/// An emission, as it is written to the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sent {
    event: String,
    room: String,
    key: Option<String>,
    shared: Option<Box<RawValue>>,
    views: BTreeMap<String, Box<RawValue>>,
}

/// Some emissions, and one at the end that all get.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    sent: Vec<Sent>,
    markers: Vec<Marker>,
    pub(crate) end: String,
}

impl Said {
    pub(crate) fn example() -> Self {
        Self(BTreeMap::from([
            ("admin", Rule::All),
            ("support", Rule::Hide(vec!["total", "items.price", "deep.er.x"])),
            ("user", Rule::Show(vec!["id", "items.sku"])),
            ("guest", Rule::Nothing),
        ]))
    }

    pub(crate) fn event_views(&self) -> EventViews {
        self.0.iter().fold(EventViews::of("e"), |event, (view, rule)| match rule {
            Rule::All => event.all(*view),
            Rule::Nothing => event.nothing(*view),
            Rule::Hide(paths) => event.hide(*view, paths.iter().copied()),
            Rule::Show(paths) => event.show(*view, paths.iter().copied()),
        })
    }

    pub(crate) fn may_see(&self, view: &str, marker: &Marker) -> bool {
        if marker.view.is_some_and(|of| of != view) {
            return false;
        }
        if !marker.declared {
            return true;
        }
        let at = |path: &&'static str| marker.path.starts_with(&names(path));
        // Where a path goes on, a text is not what it looks for.
        let before = |path: &&'static str| names(path).starts_with(&marker.path);
        match &self.0[view] {
            Rule::All => true,
            Rule::Nothing => false,
            Rule::Hide(paths) => !paths.iter().any(|path| at(path) || before(path)),
            Rule::Show(paths) => paths.iter().any(at),
        }
    }
}

/// The names of a path.
fn names(path: &'static str) -> Vec<&'static str> {
    if path == "a\\.b" { vec!["a.b"] } else { path.split('.').collect() }
}

impl Script {
    pub(crate) fn example(prefix: &str) -> Self {
        let plain = Plan { declared: true, per_view: false, key: None, shape: 0 };
        let plans = [
            plain,
            Plan { per_view: true, ..plain },
            Plan { declared: false, ..plain },
            Plan { shape: 1, ..plain },
            Plan { shape: 2, ..plain },
            Plan { shape: 3, ..plain },
            Plan { key: Some(1), ..plain },
            Plan { key: Some(1), per_view: true, ..plain },
            Plan { key: Some(1), ..plain },
            Plan { key: Some(1), shape: 1, ..plain },
            Plan { key: Some(0), declared: false, ..plain },
            Plan { key: Some(0), declared: false, ..plain },
        ];
        Self::new(prefix, &plans)
    }

    fn new(prefix: &str, plans: &[Plan]) -> Self {
        let end = format!("{prefix}-the-end");
        let mut script = Self { sent: Vec::new(), markers: Vec::new(), end };
        for (emission, plan) in plans.iter().enumerate() {
            let event = if plan.declared { "e" } else { "other" };
            let mut body = |view: Option<&'static str>| {
                let mut mark = |path: &[&'static str]| {
                    let text = format!("{prefix}-marker-{}-", script.markers.len());
                    let (path, declared) = (path.to_vec(), plan.declared);
                    let marker = Marker { text: text.clone(), path, view, declared, emission };
                    script.markers.push(marker);
                    text
                };
                RawValue::from_string(shape(plan.shape, &mut mark)).unwrap()
            };
            let (shared, views) = if plan.per_view {
                // Not all of them have one.
                let views = VIEWS.iter().skip(emission % 2);
                (None, views.map(|view| ((*view).to_owned(), body(Some(view)))).collect())
            } else {
                (Some(body(None)), BTreeMap::new())
            };
            let room = if plan.key.is_some() { "prices" } else { "all" };
            let key = plan.key.map(|key| key.to_string());
            script.sent.push(Sent { event: event.into(), room: room.into(), key, shared, views });
        }
        let shared = Some(RawValue::from_string(format!("\"{}\"", script.end)).unwrap());
        let (event, room) = ("end".into(), "all".into());
        script.sent.push(Sent { event, room, key: None, shared, views: BTreeMap::new() });
        script
    }

    pub(crate) fn markers(&self) -> impl Iterator<Item = &Marker> {
        self.markers.iter()
    }

    pub(crate) fn emissions(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter()
    }

    /// What is written to the log: two emissions a record.
    pub(crate) fn records(&self) -> impl Iterator<Item = Vec<u8>> {
        self.sent.chunks(2).map(|sent| serde_json::to_vec(sent).unwrap())
    }

    /// The emissions that no later one stands for.
    pub(crate) fn newest(&self, view: &str, said: &Said) -> BTreeSet<usize> {
        let gets = |n: &usize| {
            let mut of = self.markers.iter().filter(|marker| marker.emission == *n);
            of.any(|marker| said.may_see(view, marker))
        };
        let key = |n: usize| self.sent[n].key.as_ref().map(|key| (key, &self.sent[n].event));
        let newer =
            |n: usize| key(n).is_some() && (n + 1..self.sent.len()).any(|m| key(m) == key(n));
        (0..self.sent.len()).filter(gets).filter(|n| !newer(*n)).collect()
    }

    /// Looks whether `bytes`, which somebody took, have what he may see, and nothing else.
    /// Where he was `behind`, a newer emission stands for others of its key.
    ///
    /// # Panics
    /// Where they have not, or have.
    pub(crate) fn check(&self, how: &str, view: &str, said: &Said, bytes: &[u8], behind: bool) {
        let newest = self.newest(view, said);
        // What is no text in it takes none of what is with it.
        let text = String::from_utf8_lossy(bytes);
        for marker in &self.markers {
            let (may, got) = (said.may_see(view, marker), text.contains(&marker.text));
            assert!(may || !got, "leaked: {how}, {view}: {marker:?} in {}", short(&text));
            let stood_for = behind && !newest.contains(&marker.emission);
            let missing = may && !got && !stood_for;
            assert!(!missing, "missing: {how}, {view}: {marker:?} in {}", short(&text));
        }
    }

    /// Whether somebody who is behind is spared something for sure.
    pub(crate) fn conflates(&self) -> bool {
        let shared = self.sent.iter().filter(|sent| sent.shared.is_some());
        let mut keys = BTreeMap::<_, u32>::new();
        for sent in shared.filter(|sent| sent.event == "other") {
            *keys.entry(&sent.key).or_default() += u32::from(sent.key.is_some());
        }
        keys.values().any(|n| *n > 1)
    }
}

/// Whether a text is among bytes, as it is.
pub(crate) fn has(bytes: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(text)
}

/// The end of a text, for people.
fn short(text: &str) -> String {
    let tail = text.chars().rev().take(4000).collect::<Vec<_>>();
    tail.into_iter().rev().collect()
}

/// A body, from simple to odd.
fn shape(shape: u8, mark: &mut impl FnMut(&[&'static str]) -> String) -> String {
    match shape {
        0 => format!(
            r#"{{"id":"{}","total":["{}"],"items":[{{"sku":"{}","price":{{"net":"{}","tax":"{}"}}}},{{"sku":"{}"}}],"internal":{{"margin":"{}","notes":["{}","{}"]}},"rest":"{}"}}"#,
            mark(&["id"]),
            mark(&["total"]),
            mark(&["items", "sku"]),
            mark(&["items", "price", "net"]),
            mark(&["items", "price", "tax"]),
            mark(&["items", "sku"]),
            mark(&["internal", "margin"]),
            mark(&["internal", "notes"]),
            mark(&["internal", "notes"]),
            mark(&["rest"]),
        ),
        // Names that are escaped, names that come twice, white space.
        1 => format!(
            " {{ \"\\u0069d\" : \"{}\" ,\n\"id\":\"{}\",\"tot\\u0061l\":{{\"x\":\"{}\"}},\"it\\u0065ms\":{{\"\\u0070rice\":[\"{}\"],\"s\\u006bu\": \"{}\"}}, \"{}\":1, \"a.b\":\"{}\" }} ",
            mark(&["id"]),
            mark(&["id"]),
            mark(&["total", "x"]),
            mark(&["items", "price"]),
            mark(&["items", "sku"]),
            mark(&["a name"]),
            mark(&["a.b"]),
        ),
        // Something else than was expected.
        2 => format!(
            r#"{{"id":{{"of":"{}"}},"items":"{}","internal":[["{}"],"{}",null],"deep":[[{{"er":[{{"x":"{}","y":"{}"}},"{}"]}}],"{}"]}}"#,
            mark(&["id", "of"]),
            mark(&["items"]),
            mark(&["internal"]),
            mark(&["internal"]),
            mark(&["deep", "er", "x"]),
            mark(&["deep", "er", "y"]),
            mark(&["deep", "er"]),
            mark(&["deep"]),
        ),
        // A list of bodies.
        _ => format!(
            r#"[{{"id":"{}","total":"{}"}},[{{"items":[[{{"price":"{}"}}]],"sku":"{}"}}],"{}",null]"#,
            mark(&["id"]),
            mark(&["total"]),
            mark(&["items", "price"]),
            mark(&["sku"]),
            mark(&[]),
        ),
    }
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    declared: bool,
    per_view: bool,
    key: Option<u8>,
    shape: u8,
}

/// From a record to emissions.
pub(crate) fn route(event: &Event, out: &mut Vec<Emission>) -> Result<(), RouteError> {
    let sent: Vec<Sent> = event.parse()?;
    for sent in &sent {
        out.push(emission(sent)?);
    }
    Ok(())
}

pub(crate) fn emission(sent: &Sent) -> Result<Emission, RouteError> {
    let json = |raw: &RawValue| Json::parse(raw.get().to_owned().into());
    let body = if let Some(body) = &sent.shared {
        Body::Shared(json(body)?)
    } else {
        let views = sent.views.iter();
        let views = views.map(|(view, body)| Ok((View::new(view.as_str()), json(body)?)));
        Body::PerView(views.collect::<Result<_, RouteError>>()?)
    };
    let emission = Emission::new(Room::new(&sent.room)?, sent.event.clone(), body);
    Ok(match &sent.key {
        Some(key) => emission.with_key(key.clone()),
        None => emission,
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let paths = prop::collection::btree_set(prop::sample::select(&PATHS[..]), 1..6);
    let paths = paths.prop_map(|paths| {
        let paths: Vec<&str> = paths.into_iter().collect();
        let inside = |path: &&'static str| {
            paths.iter().any(|by| by != path && names(path).starts_with(&names(by)))
        };
        paths.iter().copied().filter(|path| !inside(path)).collect::<Vec<_>>()
    });
    (0..6, paths).prop_map(|(kind, paths)| match kind {
        0 => Rule::All,
        1 => Rule::Nothing,
        2 | 3 => Rule::Hide(paths),
        _ => Rule::Show(paths),
    })
}

pub(crate) fn any_said() -> impl Strategy<Value = Said> {
    prop::array::uniform4(any_rule()).prop_map(|rules| Said(VIEWS.into_iter().zip(rules).collect()))
}

pub(crate) fn any_script(prefix: &'static str) -> impl Strategy<Value = Script> {
    let plan = (prop::bool::weighted(0.8), any::<bool>(), prop::option::of(0..2_u8), 0..4_u8);
    let plan =
        plan.prop_map(|(declared, per_view, key, shape)| Plan { declared, per_view, key, shape });
    prop::collection::vec(plan, 1..12).prop_map(move |plans| Script::new(prefix, &plans))
}
