//! Properties of librdkafka that were given: how the broker is reached, and with which
//! password.
//!
//! Nothing here shows a value, not even one that is not understood: where the name was
//! forgotten it is a password.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use kafka_source::rdkafka::ClientConfig;

/// Longest file of properties that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the relay's promises rest on, or what has a flag of its own.
const OWN: [(&str, &str); 6] = [
    ("bootstrap.servers", "give the brokers with --kafka"),
    ("metadata.broker.list", "give the brokers with --kafka"),
    ("enable.idempotence", "the server sets it: records are neither doubled nor reordered"),
    ("acks", "the server sets it: a record counts once all replicas have it"),
    ("delivery.timeout.ms", "the server sets it"),
    ("transactional.id", "the server writes without transactions"),
];

/// One `NAME=VALUE` as it was given.
#[derive(Clone)]
pub struct Given(String);

/// Properties of librdkafka, each once.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

/// What is wrong with properties that were given. No value is in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PropertyError {
    /// Not of the form.
    #[error("{place}: not NAME=VALUE, such as security.protocol=sasl_ssl")]
    Form {
        /// Where.
        place: String,
    },
    /// Not to be changed.
    #[error("{place}: `{name}` cannot be given: {reason}")]
    Own {
        /// Where.
        place: String,
        /// The property's name.
        name: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// The file cannot be read.
    #[error("--kafka-property-file {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Properties {
    /// Those of a file, and those given by flags, which win.
    ///
    /// # Errors
    /// [`PropertyError`], for the first that cannot be used.
    pub fn read(file: Option<&Path>, given: &[Given]) -> Result<Self, PropertyError> {
        let mut properties = Self::default();
        if let Some(path) = file {
            properties.add_file(path)?;
        }
        for (i, Given(text)) in given.iter().enumerate() {
            properties.add(text, || format!("--kafka-property, number {}", i + 1))?;
        }
        Ok(properties)
    }

    fn add_file(&mut self, path: &Path) -> Result<(), PropertyError> {
        let text =
            read(path).map_err(|source| PropertyError::File { path: path.into(), source })?;
        for (i, line) in text.lines().enumerate() {
            if !line.trim().is_empty() && !line.trim_start().starts_with('#') {
                self.add(line, || format!("{}, line {}", path.display(), i + 1))?;
            }
        }
        Ok(())
    }

    fn add(&mut self, text: &str, place: impl Fn() -> String) -> Result<(), PropertyError> {
        let named = text.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        let Some((name, value)) = named.filter(|(name, _)| is_name(name)) else {
            return Err(PropertyError::Form { place: place() });
        };
        if let Some((name, reason)) = OWN.into_iter().find(|(own, _)| *own == name) {
            return Err(PropertyError::Own { place: place(), name, reason });
        }
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Each name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets them all.
    pub fn apply(&self, config: &mut ClientConfig) {
        for (name, value) in self.iter() {
            config.set(name, value);
        }
    }
}

/// Whether it may be a property's name: what has another form is no name, and must not be
/// shown as one.
fn is_name(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty() && text.bytes().all(legal)
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::{Error, Read as _};
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(Error::other(format!("longer than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

impl FromStr for Given {
    type Err = Infallible;

    // Understood later: clap would show what it does not take.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given(..)")
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(texts: &[&str]) -> Vec<Given> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn refused(texts: &[&str]) -> String {
        Properties::read(None, &given(texts)).expect_err("must be refused").to_string()
    }

    #[test]
    fn flags_win_over_the_file_whose_lines_may_be_comments() {
        let id = getrandom::u64().unwrap();
        let path = std::env::temp_dir().join(format!("order-server-test-{id:016x}.properties"));
        std::fs::write(&path, "# how\n\nsecurity.protocol = ssl\r\nsasl.password=a=b c\n").unwrap();
        let read = Properties::read(Some(&path), &given(&["security.protocol=sasl_ssl"])).unwrap();
        let all: Vec<_> = read.iter().collect();
        assert_eq!(all, [("sasl.password", "a=b c"), ("security.protocol", "sasl_ssl")]);

        std::fs::write(&path, "security.protocol=ssl\nhunter2\n").unwrap();
        let error = Properties::read(Some(&path), &[]).unwrap_err().to_string();
        assert!(error.contains(".properties, line 2: not NAME=VALUE"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        std::fs::remove_file(&path).unwrap();
        let missing = Properties::read(Some(Path::new("/nowhere/at/all")), &[]).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/at/all"), "{missing}");
    }

    #[test]
    fn what_is_no_property_is_told_by_its_place_alone() {
        for text in ["hunter2", "=hunter2", "sasl password=hunter2", "hunter2:x/y=", ""] {
            let error = refused(&["a=b", text]);
            assert!(error.starts_with("--kafka-property, number 2: not NAME=VALUE"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(refused(&["acks=0"]).contains("`acks` cannot be given"));
        assert!(refused(&["bootstrap.servers=b:1"]).contains("--kafka"));
    }

    #[test]
    fn values_are_never_shown() {
        let texts = given(&["sasl.password=hunter2"]);
        let properties = Properties::read(None, &texts).unwrap();
        let shown = format!("{texts:?} {properties:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
    }
}
