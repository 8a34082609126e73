//! Positions as the server's answers carry them.

use serde_json::Value;

use super::http::Response;
use crate::invariant::Position;

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
}
