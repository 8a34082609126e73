//! The closes that clients were told of, against those that are counted (I7).

use std::collections::BTreeMap;

use serde_json::Value;

use super::Violation;

/// How many closes of each code and reason there were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Closes(BTreeMap<(u16, String), u64>);

impl Closes {
    /// A client was told `code` and `reason`.
    pub(crate) fn add(&mut self, code: u16, reason: &str, count: u64) {
        *self.0.entry((code, reason.to_owned())).or_default() += count;
    }

    /// What a `/stats` object counts.
    pub(crate) fn counted(stats: &Value) -> Self {
        let mut closes = Self::default();
        for close in stats["closes"].as_array().expect("a list of closes") {
            let code = close["code"].as_str().and_then(|code| code.parse().ok());
            let reason = close["reason"].as_str().expect("a reason");
            // `other` is a client's own code, which its echo names.
            closes.add(code.unwrap_or(0), reason, close["count"].as_u64().expect("a count"));
        }
        closes
    }

    /// Takes one away, if there is any.
    pub(crate) fn remove_one(&mut self) -> bool {
        let some = self.0.values_mut().find(|count| **count > 0);
        some.map(|count| *count -= 1).is_some()
    }

    /// How many there were with this code and reason.
    pub(crate) fn get(&self, code: u16, reason: &str) -> u64 {
        self.0.get(&(code, reason.to_owned())).copied().unwrap_or(0)
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// Whether what clients were told is what is counted. A session that could not be told (its
    /// socket was gone, or took nothing) is counted only.
    pub(crate) fn agree(&self, counted: &Self) -> Result<(), Violation> {
        self.agree_but(counted, 0)
    }

    /// As [`Closes::agree`], where so many clients did not look how they were closed.
    pub(crate) fn agree_but(&self, counted: &Self, unseen: u64) -> Result<(), Violation> {
        for key in self.0.keys().chain(counted.0.keys()) {
            let of = |closes: &Self| closes.0.get(key).copied().unwrap_or(0);
            let (told, counted) = (of(self), of(counted));
            let untold = match (key.0, key.1.as_str()) {
                (1006, _) | (_, "write_timeout") => counted,
                _ => unseen,
            };
            if told > counted || counted - told > untold {
                let close = format!("{} {}", key.0, key.1);
                return Err(Violation::Closes { close, told, counted });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Closes, Violation};

    fn counted() -> Closes {
        Closes::counted(&json!({"closes": [
            {"code": "1013", "reason": "outbox_overflow", "count": 2},
            {"code": "1013", "reason": "write_timeout", "count": 1},
            {"code": "1006", "reason": "abnormal", "count": 7},
        ]}))
    }

    #[test]
    fn i7_what_is_told_and_what_is_counted_must_agree() {
        for (reason, times, is_fine) in [
            ("outbox_overflow", 1, false),
            ("outbox_overflow", 2, true),
            ("outbox_overflow", 3, false),
            ("draining", 2, false),
        ] {
            let mut told = Closes::default();
            told.add(1013, reason, times);
            assert_eq!(told.agree(&counted()).is_ok(), is_fine, "{reason} {times}");
        }
        let unseen = Closes::default();
        let (close, told) = ("1013 outbox_overflow".to_owned(), 0);
        let expected = Err(Violation::Closes { close, told, counted: 2 });
        assert_eq!(unseen.agree_but(&counted(), 1), expected);
        assert_eq!(unseen.agree_but(&counted(), 2), Ok(()));
        assert_eq!(counted().count(), 10);
    }
}
