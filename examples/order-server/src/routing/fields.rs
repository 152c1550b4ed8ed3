//! A record's fields, and the body of an emission made of them.
//!
//! Values stay the text they were: a number is not read into a float and written
//! back.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fanout::{Event, Json, RouteError};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::time::Time;

/// The fields of a record that is a JSON object.
pub(super) struct Fields<'a> {
    raw: BTreeMap<String, &'a RawValue>,
    /// When the record was written.
    pub(super) time: Time,
}

/// The fields of an emission; one that is set again is replaced.
#[derive(Clone, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Body<'a>(BTreeMap<Cow<'a, str>, Cow<'a, RawValue>>);

impl<'a> Fields<'a> {
    pub(super) fn read(event: &'a Event) -> Result<Self, RouteError> {
        let raw = event.parse().map_err(|_| "the record is not a JSON object")?;
        Ok(Self { raw, time: event.time.into() })
    }

    /// The first of these fields that is there and not null.
    pub(super) fn raw(&self, names: &[&str]) -> Option<&'a RawValue> {
        names.iter().find_map(|name| self.raw.get(*name).filter(|raw| raw.get() != "null").copied())
    }

    /// The first of these fields that is there, as a text; numbers are taken for ids.
    pub(super) fn text(&self, names: &[&str]) -> Option<Cow<'a, str>> {
        let raw = self.raw(names)?.get();
        if raw.starts_with('"') {
            return serde_json::from_str(raw).ok().map(Cow::Owned);
        }
        raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then_some(Cow::Borrowed(raw))
    }

    /// The first of these fields that is there, as a number.
    pub(super) fn number(&self, names: &[&str]) -> Option<f64> {
        serde_json::from_str(self.raw(names)?.get()).ok()
    }

    /// A body with every field of the record.
    pub(super) fn whole(&self) -> Body<'a> {
        let own =
            |(name, raw): (&String, &&'a RawValue)| (Cow::Owned(name.clone()), Cow::Borrowed(*raw));
        Body(self.raw.iter().map(own).collect())
    }

    /// A body with nothing but the record's time.
    pub(super) fn body(&self) -> Body<'a> {
        Body::default().with("timestamp", &self.time)
    }
}

impl<'a> Body<'a> {
    /// Sets a field.
    pub(super) fn with<T: Serialize + ?Sized>(mut self, name: &'a str, value: &T) -> Self {
        let raw = to_raw_value(value).expect("texts, numbers and times have a JSON form");
        self.0.insert(Cow::Borrowed(name), Cow::Owned(raw));
        self
    }

    /// Sets a field where there is a value.
    pub(super) fn with_some<T: Serialize>(self, name: &'a str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.with(name, &value),
            None => self,
        }
    }

    /// Sets a field to the first of a record's fields that is there.
    pub(super) fn from(mut self, fields: &Fields<'a>, name: &'a str, names: &[&str]) -> Self {
        if let Some(raw) = fields.raw(names) {
            self.0.insert(Cow::Borrowed(name), Cow::Borrowed(raw));
        }
        self
    }

    pub(super) fn json(&self) -> Result<Json, RouteError> {
        Ok(Json::of(self)?)
    }
}
