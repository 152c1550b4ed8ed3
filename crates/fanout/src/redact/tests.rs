//! Redaction against a model that knows no text, and what is said in the docs, one by one.

use bytes::Bytes;
use proptest::prelude::*;

use super::cut::cut_text;
use super::path::{Mode, Node, Paths, names};
use super::scan::{Unfit, examine};
use super::{EventViews, PathError, Redaction, RedactionError};
use crate::json::Json;
use crate::role::{Access, RoleAccess, View};

fn access() -> Access {
    let role = |name: &str| RoleAccess::new(name).joins("all").sees(name);
    Access::new([role("admin"), role("user")]).unwrap()
}

/// What `user` gets of a body.
fn seen(event: EventViews, body: &str) -> Option<String> {
    let redaction = Redaction::new(&access(), [event.all("admin")]).unwrap();
    let body = Json::parse(Bytes::from(body.to_owned())).unwrap();
    assert_eq!(redaction.apply("e", &"admin".into(), &body), Some(body.clone()));
    redaction.apply("e", &"user".into(), &body).map(|json| json.as_str().to_owned())
}

fn hidden<const N: usize>(paths: [&str; N], body: &str) -> Option<String> {
    seen(EventViews::of("e").hide("user", paths), body)
}

fn shown<const N: usize>(paths: [&str; N], body: &str) -> Option<String> {
    seen(EventViews::of("e").show("user", paths), body)
}

fn wrong(events: impl IntoIterator<Item = EventViews>) -> RedactionError {
    Redaction::new(&access(), events).unwrap_err()
}

#[test]
fn what_is_hidden_is_gone_and_the_rest_is_as_it_was() {
    let order = r#" {"id": 1.50, "total":9e2, "items" : [ {"sku":"a\n", "price": 1}, {"price":[2]} ],
        "x": {"price": 3, "y": [ 1,  2 ]} } "#;
    let left = r#"{"id":1.50,"items":[{"sku":"a\n"},{}],"x":{"price": 3, "y": [ 1,  2 ]}}"#;
    assert_eq!(hidden(["total", "items.price"], order).unwrap(), left);
    assert_eq!(
        shown(["id", "items.sku"], order).unwrap(),
        r#"{"id":1.50,"items":[{"sku":"a\n"},{}]}"#
    );
    assert_eq!(shown(["x"], order).unwrap(), r#"{"x":{"price": 3, "y": [ 1,  2 ]}}"#);
    assert_eq!(shown(["none"], order).unwrap(), "{}");
    assert_eq!(hidden(["id", "total", "items", "x"], order).unwrap(), "{}");
}

#[test]
fn arrays_are_gone_through_at_every_step() {
    let body = r#"[[{"a":[[{"b":1,"c":2}],{"b":3}]}],{"a":{"b":4}},[]]"#;
    assert_eq!(hidden(["a.b"], body).unwrap(), r#"[[{"a":[[{"c":2}],{}]}],{"a":{}},[]]"#);
    assert_eq!(shown(["a.b"], body).unwrap(), r#"[[{"a":[[{"b":1}],{"b":3}]}],{"a":{"b":4}},[]]"#);
}

#[test]
fn names_are_what_they_mean_and_all_of_a_name_are_meant() {
    let body = r#"{"pr\u0069ce":1,"price":2,"\u0070rice":{"a":3},"pric\\u0065":4,"Price":5}"#;
    assert_eq!(hidden(["price"], body).unwrap(), r#"{"pric\\u0065":4,"Price":5}"#);
    let all = r#"{"pr\u0069ce":1,"price":2,"\u0070rice":{"a":3}}"#;
    assert_eq!(shown(["price"], body).unwrap(), all);
    // Half of a pair is no text; the whole pair is.
    let halves = r#"{"\ud83d":1,"\ud83d\ude00":2,"a":3}"#;
    assert_eq!(hidden(["b"], halves).unwrap(), r#"{"\ud83d\ude00":2,"a":3}"#);
    assert_eq!(hidden(["😀"], halves).unwrap(), r#"{"a":3}"#);
    assert_eq!(shown(["😀"], halves).unwrap(), r#"{"\ud83d\ude00":2}"#);
    // Where no names are compared, it is kept as it is.
    assert_eq!(hidden(["b"], r#"{"a":{"\ud83d":1}}"#).unwrap(), r#"{"a":{"\ud83d":1}}"#);
    // A name that was escaped in the path.
    let odd = r#"{"a.b":1,"7":2,"$":3,"/c":4,"d[]":5,"e\\":6,"a":{"b":7}}"#;
    let paths = [r"a\.b", r"\7", r"\$", r"\/c", r"d\[\]", r"e\\"];
    assert_eq!(hidden(paths, odd).unwrap(), r#"{"a":{"b":7}}"#);
}

#[test]
fn what_is_no_object_where_one_is_needed_is_left_out() {
    for found in ["1", "-0.5e7", "\"{\\\"b\\\":1}\"", "true", "false"] {
        let body = format!(r#"{{"a":{found},"c":[{found},{{"b":1}},null,[{found}]]}}"#);
        let left = r#"{"c":[{},null,[]]}"#;
        assert_eq!(hidden(["a.b", "c.b"], &body).unwrap(), left);
        assert_eq!(shown(["a.x", "c.x"], &body).unwrap(), left);
        for body in [found.to_owned(), format!("[{found}]"), format!("[[{found}],[ {found} ]]")] {
            assert_eq!(hidden(["a"], &body), None, "{body}");
            assert_eq!(shown(["a"], &body), None, "{body}");
        }
    }
    for body in ["null", "[]", "{}", "[null]", "[[],{}]", r#"{"a":null}"#] {
        assert_eq!(hidden(["a.b"], body).unwrap(), body);
    }
    assert_eq!(hidden(["a"], "[1,{}]").unwrap(), "[{}]");
}

#[test]
fn what_is_too_deep_is_for_nobody_who_does_not_see_all() {
    let nested = |depth: usize| {
        format!(r#"{}{{"a":1,"b":2}}{}"#, "[".repeat(depth - 1), "]".repeat(depth - 1))
    };
    let most = nested(Redaction::MAX_DEPTH);
    assert_eq!(hidden(["b"], &most).unwrap(), most.replace(r#","b":2"#, ""));
    assert_eq!(hidden(["b"], &nested(Redaction::MAX_DEPTH + 1)), None);
    assert_eq!(shown(["a"], &nested(100_000)), None);
    // Also where no path leads.
    let aside = format!(r#"{{"a":1,"c":{}}}"#, nested(100_000));
    assert_eq!(hidden(["b"], &aside), None);
    assert_eq!(examine(aside.as_bytes()), Err(Unfit::TooDeep));
    assert_eq!(hidden(["b"], r#"{"a":"[[[{{{\"[[","b":"]]"}"#).unwrap(), r#"{"a":"[[[{{{\"[["}"#);
}

#[test]
fn an_event_that_is_not_declared_is_as_it_is_and_nobody_sees_what_he_is_not_told() {
    let redaction =
        Redaction::new(&access(), [EventViews::of("e").also("f").all("admin").nothing("user")]);
    let redaction = redaction.unwrap();
    let body = Json::of(&7).unwrap();
    for event in ["e", "f"] {
        assert!(redaction.declares(event));
        assert_eq!(redaction.apply(event, &"user".into(), &body), None);
        assert_eq!(redaction.apply(event, &"stranger".into(), &body), None);
        assert_eq!(redaction.apply(event, &"admin".into(), &body), Some(body.clone()));
    }
    for event in ["", "E", "e ", "other"] {
        assert!(!redaction.declares(event));
        assert_eq!(redaction.apply(event, &"user".into(), &body), Some(body.clone()));
    }
}

#[test]
fn a_wrong_declaration_says_where() {
    let e = || EventViews::of("e");
    let (event, user) = (|| "e".to_owned(), || View::new("user"));
    assert_eq!(
        wrong([e().all("admin")]),
        RedactionError::MissingView { event: event(), view: user() }
    );
    assert_eq!(
        wrong([e().all("admin").all("usr")]),
        RedactionError::UnknownView { event: event(), view: "usr".into() }
    );
    assert_eq!(
        wrong([e().all("user").nothing("user").all("admin")]),
        RedactionError::ViewTwice { event: event(), view: user() }
    );
    let good = || e().all("admin").all("user");
    assert_eq!(wrong([good(), good()]), RedactionError::EventTwice { event: event() });
    assert_eq!(wrong([good().also("e")]), RedactionError::EventTwice { event: event() });
    assert_eq!(wrong([good().also("")]), RedactionError::NoName);
    let many = (0..=Redaction::MAX_EVENTS).fold(good(), |e, n| e.also(n.to_string()));
    assert_eq!(wrong([many]), RedactionError::TooManyEvents { max: Redaction::MAX_EVENTS });
    let none: [&str; 0] = [];
    assert_eq!(
        wrong([e().all("admin").show("user", none)]),
        RedactionError::NoPaths { event: event(), view: user() }
    );
    let many = (0..=Redaction::MAX_PATHS).map(|n| format!("p{n}"));
    assert_eq!(
        wrong([e().all("admin").show("user", many)]),
        RedactionError::TooManyPaths { event: event(), view: user(), max: Redaction::MAX_PATHS }
    );
}

#[test]
fn a_wrong_path_says_where() {
    let long = vec!["a"; Redaction::MAX_STEPS + 1].join(".");
    for (path, source) in [
        ("", PathError::EmptyName),
        (".", PathError::EmptyName),
        ("a.", PathError::EmptyName),
        (".a", PathError::EmptyName),
        ("a..b", PathError::EmptyName),
        ("a\\", PathError::Escape),
        ("a\\b", PathError::Escape),
        ("a\\7", PathError::Escape),
        ("items[0].price", PathError::Reserved('[')),
        ("items[].price", PathError::Reserved('[')),
        ("items.*", PathError::Reserved('*')),
        ("a]", PathError::Reserved(']')),
        ("/items/price", PathError::Reserved('/')),
        ("$.items", PathError::Reserved('$')),
        ("items.0.price", PathError::Index),
        (&long, PathError::TooManySteps { max: Redaction::MAX_STEPS }),
    ] {
        let error = wrong([EventViews::of("e").all("admin").hide("user", ["ok", path])]);
        let (event, view) = ("e".to_owned(), View::new("user"));
        let path = path.to_owned();
        assert_eq!(error, RedactionError::Path { event, view, path, source });
    }
    assert_eq!(names("a.b c.$ref./x.1st").unwrap(), ["a", "b c", "$ref", "/x", "1st"]);
}

#[test]
fn a_path_that_another_has_all_of_is_told() {
    for (paths, path, by) in [
        (["a", "a"], "a", "a"),
        (["a", "a.b"], "a.b", "a"),
        (["x.y.z", "x.y"], "x.y.z", "x.y"),
        (["a.b", "a.b"], "a.b", "a.b"),
    ] {
        let error = wrong([EventViews::of("e").all("admin").show("user", paths)]);
        let text = format!("event `e`, view `user`: path `{path}` is already in `{by}`");
        assert_eq!(error.to_string(), text);
    }
    let apart = EventViews::of("e").all("admin").show("user", ["a.b", "a.c", r"a\.b", "ab", "b.a"]);
    assert!(Redaction::new(&access(), [apart]).is_ok());
}

/// A value that has not been written yet.
#[derive(Clone, Debug)]
enum Value {
    Null,
    /// As it is written.
    Scalar(String),
    Array(Vec<Value>),
    /// Names, how they are written, and values; names may come twice.
    Object(Vec<(&'static str, bool, Value)>),
}

const NAMES: [&str; 4] = ["a", "b", "c", "d.\"é"];

impl Value {
    /// What is left of it, from how it is defined.
    fn left(&self, mode: Mode, paths: &[Vec<&str>]) -> Option<Self> {
        match self {
            Self::Null => Some(Self::Null),
            Self::Scalar(_) => None,
            Self::Array(values) => {
                Some(Self::Array(values.iter().filter_map(|v| v.left(mode, paths)).collect()))
            }
            Self::Object(members) => {
                let left = members.iter().filter_map(|(name, escaped, value)| {
                    let on: Vec<Vec<&str>> = paths
                        .iter()
                        .filter(|path| path[0] == *name)
                        .map(|path| path[1..].to_vec())
                        .collect();
                    let value = match mode {
                        _ if on.iter().any(Vec::is_empty) => {
                            (mode == Mode::Show).then(|| value.clone())
                        }
                        Mode::Show if on.is_empty() => None,
                        Mode::Hide if on.is_empty() => Some(value.clone()),
                        _ => value.left(mode, &on),
                    };
                    Some((*name, *escaped, value?))
                });
                Some(Self::Object(left.collect()))
            }
        }
    }

    /// Whether there is nothing in it that could be cut.
    fn is_flat(&self) -> bool {
        match self {
            Self::Null | Self::Object(_) => false,
            Self::Scalar(_) => true,
            Self::Array(values) => !values.is_empty() && values.iter().all(Self::is_flat),
        }
    }

    fn write(&self, space: &str, out: &mut String) {
        out.push_str(space);
        match self {
            Self::Null => out.push_str("null"),
            Self::Scalar(text) => out.push_str(text),
            Self::Array(values) => {
                out.push('[');
                for (n, value) in values.iter().enumerate() {
                    out.push_str(if n > 0 { "," } else { "" });
                    value.write(space, out);
                }
                out.push_str(space);
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (n, (name, escaped, value)) in members.iter().enumerate() {
                    out.push_str(if n > 0 { "," } else { "" });
                    out.push_str(space);
                    out.push_str(&quoted(name, *escaped));
                    out.push_str(space);
                    out.push(':');
                    value.write(space, out);
                }
                out.push_str(space);
                out.push('}');
            }
        }
        out.push_str(space);
    }

    fn text(&self, space: &str) -> String {
        let mut out = String::new();
        self.write(space, &mut out);
        out
    }
}

fn quoted(name: &str, escaped: bool) -> String {
    if escaped {
        let units = name.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
        format!("\"{}\"", units.collect::<Vec<_>>().concat())
    } else {
        serde_json::to_string(name).unwrap()
    }
}

const SCALARS: [&str; 7] =
    ["1", "-0.50e+3", "true", "false", r#""""#, r#""a\"}]\\""#, r#""{[,:\u0022""#];

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        4 => prop::sample::select(&SCALARS[..]).prop_map(|text| Value::Scalar(text.into())),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        let member = (prop::sample::select(&NAMES[..]), any::<bool>(), inner.clone());
        prop_oneof![
            1 => prop::collection::vec(inner, 0..4).prop_map(Value::Array),
            2 => prop::collection::vec(member, 0..5).prop_map(Value::Object),
        ]
    })
}

/// Some paths of which none has all of another.
fn any_paths() -> impl Strategy<Value = Vec<Vec<&'static str>>> {
    let path = prop::collection::vec(prop::sample::select(&NAMES[..]), 1..4);
    prop::collection::vec(path, 1..6).prop_map(|mut paths| {
        paths.sort();
        paths.dedup_by(|later, earlier| later.starts_with(earlier));
        paths
    })
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop::sample::select(&[Mode::Hide, Mode::Show][..])
}

fn written(path: &[&str]) -> String {
    path.iter().map(|name| name.replace('.', r"\.")).collect::<Vec<_>>().join(".")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn it_agrees_with_a_model(value in any_value(), mode in any_mode(), paths in any_paths()) {
        let said: Vec<String> = paths.iter().map(|path| written(path)).collect();
        let event = EventViews::of("e");
        let event = match mode {
            Mode::Hide => event.hide("user", said),
            Mode::Show => event.show("user", said),
        };
        let expected = value.left(mode, &paths).filter(|_| !value.is_flat());
        let left = seen(event.clone(), &value.text(""));
        prop_assert_eq!(&left, &expected.as_ref().map(|value| value.text("")));
        // With white space everywhere: the same value.
        let spaced = seen(event, &value.text(" \r\n\t"));
        let parsed = |text: Option<String>| {
            text.map(|text| serde_json::from_str::<serde_json::Value>(&text).expect("valid JSON"))
        };
        prop_assert_eq!(parsed(spaced), parsed(left));
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            prop::collection::vec(prop::sample::select(&b"{}[]\",:\\ua1n "[..]), 0..64),
            any_value().prop_flat_map(|value| {
                let text = value.text("").into_bytes();
                let len = text.len();
                (Just(text), 0..=len).prop_map(|(mut text, to)| { text.truncate(to); text })
            }),
        ],
        mode in any_mode(),
        paths in any_paths(),
    ) {
        let mut root = Node::default();
        for path in paths {
            let names: Vec<String> = path.into_iter().map(str::to_owned).collect();
            prop_assert!(root.add(&names));
        }
        if examine(&bytes) != Err(Unfit::TooDeep) {
            let _ = cut_text(&Paths { mode, root }, &bytes);
        }
    }

    #[test]
    fn no_path_makes_it_panic(paths in prop::collection::vec("[a\\\\./$*0\\[]{0,6}", 0..4)) {
        let hide = EventViews::of("e").all("admin").hide("user", paths);
        let _ = Redaction::new(&access(), [hide]);
    }
}
