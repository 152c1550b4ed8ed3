//! What a client keeps to come back with: exactly what the protocol says, and no more.

use std::collections::BTreeMap;

/// The newest whole cursor, and since then the last `at` of each lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    whole: Option<String>,
    lanes: BTreeMap<String, String>,
}

impl Cursor {
    /// A whole cursor stands for all lanes.
    pub(crate) fn whole(&mut self, cursor: &str) {
        self.whole = Some(cursor.to_owned());
        self.lanes.clear();
    }

    /// The position after a frame.
    pub(crate) fn at(&mut self, at: &str) {
        let lane = at.split_once('.').map_or(at, |(lane, _)| lane);
        self.lanes.insert(lane.to_owned(), at.to_owned());
    }

    /// What is sent; `None` where there is nothing to come back with.
    pub(crate) fn text(&self) -> Option<String> {
        let whole = self.whole.as_ref()?;
        let all = [whole].into_iter().chain(self.lanes.values());
        // Of a source that has not told of any lane yet the whole cursor is empty.
        let all: Vec<&str> = all.map(String::as_str).filter(|text| !text.is_empty()).collect();
        Some(all.join(",")).filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_lane_since_the_newest_whole_one() {
        let mut cursor = Cursor::default();
        cursor.at("a.0");
        assert_eq!(cursor.text(), None);
        cursor.whole("W1");
        for at in ["a.1", "b.1", "a.2"] {
            cursor.at(at);
        }
        assert_eq!(cursor.text().unwrap(), "W1,a.2,b.1");
        cursor.whole("W2");
        cursor.at("b.2");
        assert_eq!(cursor.text().unwrap(), "W2,b.2");
    }
}
