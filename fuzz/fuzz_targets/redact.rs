//! What a view gets of a body, compared with the rules as somebody reads them who builds a
//! tree of it.
//!
//! The input is `hide` or `show`, paths with spaces between, a line break, and the body.
#![no_main]

use bytes::Bytes;
use fanout::{Access, EventViews, Json, Redaction, RoleAccess};
use libfuzzer_sys::fuzz_target;

#[path = "../tree.rs"]
mod tree;

use tree::Tree;

fuzz_target!(|data: &[u8]| {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(said) = std::str::from_utf8(&data[..end]) else { return };
    let Ok(body) = Json::parse(Bytes::copy_from_slice(&data[end + 1..])) else { return };
    let (verb, paths) = said.split_once(' ').unwrap_or((said, ""));
    let paths: Vec<&str> = paths.split(' ').collect();
    let views = EventViews::of("e").all("full").nothing("none");
    let (views, show) = match verb {
        "show" => (views.show("part", paths.iter().copied()), true),
        _ => (views.hide("part", paths.iter().copied()), false),
    };
    let access = Access::new([
        RoleAccess::new("a").joins("r").sees("full"),
        RoleAccess::new("b").joins("r").sees("part"),
        RoleAccess::new("c").joins("r").sees("none"),
    ]);
    let Ok(redaction) = Redaction::new(&access.expect("a policy"), [views]) else { return };
    let seen = |event: &str, view: &str| redaction.apply(event, &view.into(), &body);
    assert_eq!(seen("e", "full").as_ref(), Some(&body));
    assert_eq!(seen("e", "none"), None);
    assert_eq!(seen("e", "another"), None);
    assert_eq!(seen("other", "part").as_ref(), Some(&body));

    // Names that are no text, and what nests too deep, have no tree.
    let tree = Tree::read(body.as_str());
    let Some(part) = seen("e", "part") else {
        let object = body.as_str().trim_start().starts_with('{');
        return assert!(!object || tree.is_none(), "an object that nobody gets");
    };
    assert_eq!(Json::parse(part.as_bytes().clone()).as_ref().ok(), Some(&part), "one value");
    if let Some(tree) = tree {
        let paths: Vec<_> = paths.iter().map(|path| tree::names(path)).collect();
        let expected = tree.seen(&paths, show).unwrap_or(Tree::Leaf("null".to_owned()));
        assert_eq!(Tree::read(part.as_str()), Some(expected), "{said}");
    }
});
