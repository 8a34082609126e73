//! Deliberate faults: a tester that cannot fail proves nothing.

use std::str::FromStr;

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Drop,
    Duplicate,
    /// Comes after the next one.
    Reorder,
    Corrupt,
    /// Goes to the next topic's subscribers too.
    Misroute,
}

/// A fault of one kind in every so many deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sabotage {
    kind: Kind,
    every: u64,
    count: u64,
}

impl Sabotage {
    /// The fault for the next delivery, if it is its turn.
    pub(super) fn next(&mut self) -> Option<Kind> {
        self.count += 1;
        self.count.is_multiple_of(self.every).then_some(self.kind)
    }
}

impl FromStr for Sabotage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, every) = text.split_once('=').ok_or("KIND=N is needed")?;
        let kind = match kind {
            "drop" => Kind::Drop,
            "duplicate" => Kind::Duplicate,
            "reorder" => Kind::Reorder,
            "corrupt" => Kind::Corrupt,
            "misroute" => Kind::Misroute,
            _ => return Err("drop, duplicate, reorder, corrupt or misroute".to_owned()),
        };
        match every.parse() {
            Ok(every @ 1..) => Ok(Self { kind, every, count: 0 }),
            _ => Err("N is a number from 1".to_owned()),
        }
    }
}
