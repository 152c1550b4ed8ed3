//! Records of a control topic: what they void, and that nothing else is taken for one.
#![no_main]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use fanout::Revocation;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fuzz_target!(|data: &[u8]| {
    let said = SystemTime::UNIX_EPOCH + Duration::from_secs(1_732_340_000);
    let read = match Revocation::from_json(data, said) {
        Ok(read) => read,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    // What is passed over may be no text.
    if std::str::from_utf8(data).is_err() {
        return;
    }
    // Of several with the same name the last one counts here; it is refused there.
    let record: BTreeMap<String, &RawValue> = serde_json::from_slice(data).expect("an object");
    let revoke: BTreeMap<String, &RawValue> =
        serde_json::from_str(record["revoke"].get()).expect("an object in it");
    let known = ["subject", "role", "connection", "before"];
    assert!(revoke.keys().all(|name| known.contains(&name.as_str())), "passed over");
    let text = |name: &str| -> Option<String> {
        revoke.get(name).and_then(|raw| serde_json::from_str(raw.get()).expect("text or null"))
    };
    match &read {
        Revocation::Subject { subject, .. } => {
            assert_eq!(text("subject").as_deref(), Some(&**subject));
            assert!(text("role").is_none() && text("connection").is_none());
        }
        Revocation::Role { subject, role, .. } => {
            assert_eq!(text("subject").as_deref(), Some(&**subject));
            assert_eq!(text("role").as_deref(), Some(role.as_str()));
        }
        Revocation::Connection(id) => assert_eq!(text("connection"), Some(id.to_string())),
        other => panic!("{other:?}"),
    }
    // It can be said again: whole seconds are kept.
    let json = read.to_json();
    let again = Revocation::from_json(json.as_bytes(), said).expect("what is written is read");
    assert_eq!(again.to_json(), json);
});
