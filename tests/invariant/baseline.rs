//! What a server holds, to be compared before and after (I5).

use std::fs;

use serde_json::Value;

use super::Violation;

/// How much of everything is held at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Baseline {
    held: Vec<(&'static str, u64)>,
    resident_len: u64,
}

/// Share of the resident memory, in per cent, that may stay: allocators keep some.
const RESIDENT_EXCESS_MAX: u64 = 5;

impl Baseline {
    /// From a `/stats` object and the process that gave it.
    pub(crate) fn of(stats: &Value, process: u32) -> Self {
        let count = |name: &str| sum(&stats[name]);
        let entries = |folder: &str| {
            let path = format!("/proc/{process}/{folder}");
            fs::read_dir(path).expect("the process lives").count() as u64
        };
        Self {
            held: vec![
                ("connections", count("connections")),
                ("subscriptions", count("subscriptions")),
                ("topics", count("topics")),
                ("outbox_bytes", count("outbox_bytes")),
                ("memory_bytes", count("memory_bytes")),
                ("descriptors", entries("fd")),
                ("threads", entries("task")),
            ],
            resident_len: resident_len(process),
        }
    }

    /// From numbers that the caller has.
    pub(crate) fn from_counts(held: impl IntoIterator<Item = (&'static str, u64)>) -> Self {
        Self { held: held.into_iter().collect(), resident_len: 0 }
    }

    /// The same things, none of them held.
    pub(crate) fn emptied(&self) -> Self {
        Self::from_counts(self.held.iter().map(|(what, _)| (*what, 0)))
    }

    /// Holds one more of the last thing, if there is any.
    pub(crate) fn add_one(&mut self) -> bool {
        self.held.last_mut().map(|(_, count)| *count += 1).is_some()
    }

    /// Whether `now` is nothing above this baseline, memory that the process keeps left out.
    pub(crate) fn is_back(&self, now: &Self) -> Result<(), Violation> {
        for ((what, before), (_, now)) in self.held.iter().zip(&now.held) {
            if now > before {
                return Err(Violation::NotBack { what, before: *before, now: *now });
            }
        }
        Ok(())
    }

    /// Whether the resident memory is within 5 % of this baseline.
    pub(crate) fn is_resident_back(&self, now: &Self) -> Result<(), Violation> {
        let (before, now) = (self.resident_len, now.resident_len);
        if now > before + before * RESIDENT_EXCESS_MAX / 100 {
            return Err(Violation::NotBack { what: "resident memory", before, now });
        }
        Ok(())
    }
}

/// A number, or the sum of an object's.
fn sum(value: &Value) -> u64 {
    match value {
        Value::Object(parts) => parts.values().map(sum).sum(),
        value => value.as_u64().unwrap_or_else(|| panic!("not a count: {value}")),
    }
}

fn resident_len(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.expect("a process has resident memory") * 1024
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Baseline, Violation};

    fn of(change: &str, by: u64) -> Baseline {
        let mut stats = json!({
            "connections": {"plain": 1, "sse": 2}, "subscriptions": 3, "topics": 4,
            "outbox_bytes": 5, "memory_bytes": {"inbox": 6},
        });
        if !change.is_empty() {
            let parent = stats.pointer_mut(change).expect("it is there");
            *parent = (parent.as_u64().expect("a number") + by).into();
        }
        Baseline::of(&stats, std::process::id())
    }

    #[test]
    fn i5_anything_that_stays_is_found() {
        let before = of("", 0);
        // Other tests of this process come and go: its own descriptors are not compared here.
        let named = |change, by| match before.is_back(&of(change, by)) {
            Err(Violation::NotBack { what, .. }) => what,
            Ok(()) => "nothing",
            Err(other) => panic!("{other:?}"),
        };
        for (change, what) in [
            ("/connections/sse", "connections"),
            ("/subscriptions", "subscriptions"),
            ("/topics", "topics"),
            ("/outbox_bytes", "outbox_bytes"),
            ("/memory_bytes/inbox", "memory_bytes"),
        ] {
            assert_eq!(named(change, 1), what);
        }
        let counts =
            |fds, threads| Baseline::from_counts([("descriptors", fds), ("threads", threads)]);
        assert_eq!(counts(5, 2).is_back(&counts(5, 2)), Ok(()));
        assert_eq!(counts(5, 2).is_back(&counts(4, 1)), Ok(()), "less is no leak");
        let what = |now| match counts(5, 2).is_back(&now) {
            Err(Violation::NotBack { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(what(counts(6, 2)), "descriptors");
        assert_eq!(what(counts(5, 3)), "threads");
    }

    #[test]
    fn i5_resident_memory_may_stay_by_a_few_per_cent_only() {
        let of = |resident_len| Baseline { held: Vec::new(), resident_len };
        assert_eq!(of(1000).is_resident_back(&of(1050)), Ok(()));
        assert!(of(1000).is_resident_back(&of(1051)).is_err());
        assert!(super::resident_len(std::process::id()) > 100_000);
    }
}
