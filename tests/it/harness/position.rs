//! Positions as clients see them.

use std::fmt;

use serde_json::Value;

use super::http::Response;

/// A point in a topic's stream as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

impl Position {
    /// From an object with `epoch` and `offset`.
    pub(crate) fn of(object: &Value) -> Self {
        let epoch = object["epoch"].as_str();
        Self {
            epoch: epoch.unwrap_or_else(|| panic!("no epoch: {object}")).to_owned(),
            offset: object["offset"].as_u64().expect("an offset"),
        }
    }

    /// From the headers of a 101 or 200.
    pub(crate) fn of_head(head: &Response) -> Self {
        let offset = head.header("fanwire-offset").expect("Fanwire-Offset");
        Self {
            epoch: head.header("fanwire-epoch").expect("Fanwire-Epoch").to_owned(),
            offset: offset.parse().expect("a number"),
        }
    }

    /// The position `count` publications later.
    pub(crate) fn plus(&self, count: u64) -> Self {
        let (epoch, offset) = (self.epoch.clone(), self.offset + count);
        Self { epoch, offset }
    }
}
