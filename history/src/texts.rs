//! Texts as numbers: what thousands of frames say is kept once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

#[derive(Debug, Default)]
struct Known {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
}

/// The texts that were met.
#[derive(Debug, Default)]
pub(crate) struct Texts(Mutex<Known>);

impl Texts {
    /// The number of a text: the same for the same.
    pub(crate) fn number(&self, text: &str) -> u32 {
        let mut known = self.0.lock().expect("nobody panics with it");
        if let Some(number) = known.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(known.texts.len()).expect("memory ends before");
        let text: Arc<str> = text.into();
        known.numbers.insert(text.clone(), number);
        known.texts.push(text);
        number
    }

    /// The text of a number that was given.
    pub(crate) fn text(&self, number: u32) -> Arc<str> {
        self.0.lock().expect("nobody panics with it").texts[number as usize].clone()
    }
}

/// What a frame says, as one text: event, room and body, exactly as they were written.
pub(crate) fn said(event: &str, room: Option<&str>, body: &str) -> String {
    format!("{event}\n{}\n{body}", room.unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_has_the_same_number() {
        let texts = Texts::default();
        let numbers = ["a", "b", "a"].map(|text| texts.number(text));
        assert_eq!((numbers[0], &*texts.text(numbers[1])), (numbers[2], "b"));
        assert_ne!(numbers[0], numbers[1]);
        let all = [said("e", None, "1"), said("e", Some("r"), "1"), said("e", None, "2")];
        assert!(all[0] != all[1] && all[0] != all[2]);
    }
}
