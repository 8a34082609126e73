//! Service level objectives: bounds on a run's figures, and which of them a run broke.

use std::{str::FromStr, time::Duration};

use serde::Serialize;
use serde_json::Value;

use crate::{
    clock::nanos,
    figure::{float, grouped, rounded},
};

/// How a figure is bounded, and how its bound is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A duration, at most; milliseconds in the record.
    Latency,
    /// A count, at most.
    Count,
    /// Per second, at least.
    Rate,
}

/// What can be bounded: the key, where the record has it, its kind.
const KEYS: [(&str, &str, Kind); 13] = [
    ("p50", "/latency_ms/p50", Kind::Latency),
    ("p90", "/latency_ms/p90", Kind::Latency),
    ("p99", "/latency_ms/p99", Kind::Latency),
    ("p999", "/latency_ms/p999", Kind::Latency),
    ("max", "/latency_ms/max", Kind::Latency),
    ("lost", "/faults/lost", Kind::Count),
    ("duplicated", "/faults/duplicated", Kind::Count),
    ("reordered", "/faults/reordered", Kind::Count),
    ("corrupted", "/faults/corrupted", Kind::Count),
    ("misrouted", "/faults/misrouted", Kind::Count),
    ("closed", "/faults/closed", Kind::Count),
    ("unacknowledged", "/faults/unacknowledged", Kind::Count),
    ("rate", "/deliveries_per_second", Kind::Rate),
];

/// One bound.
#[derive(Debug, Clone, PartialEq)]
struct Bound {
    key: &'static str,
    pointer: &'static str,
    kind: Kind,
    /// In the unit of the record.
    limit: f64,
}

/// Bounds for one run. Invariant: at least one, and no key twice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slo(Vec<Bound>);

/// A bound, and how a run met it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Checked {
    pub(crate) objective: &'static str,
    /// In the unit of the record; a rate is a minimum, all others are maxima.
    limit: f64,
    /// `None` if the run has no such figure, which breaks the bound.
    measured: Option<f64>,
    pub(crate) kept: bool,
    /// The same, for people.
    pub(crate) says: String,
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bounds: Vec<Bound> = Vec::new();
        for part in text.split(',') {
            let bound =
                Bound::parse(part.trim()).map_err(|error| format!("{error}; {}", help()))?;
            if bounds.iter().any(|other| other.key == bound.key) {
                return Err(format!("`{}` is bounded twice", bound.key));
            }
            bounds.push(bound);
        }
        Ok(Self(bounds))
    }
}

/// The keys by kind, for whoever wrote a wrong one.
fn help() -> String {
    let of = |kind| {
        let keys = KEYS.iter().filter(|key| key.2 == kind).map(|key| key.0);
        keys.collect::<Vec<_>>().join(", ")
    };
    format!(
        "at most, as durations: {}; at most, as counts: {}; at least, in deliveries/s: {}",
        of(Kind::Latency),
        of(Kind::Count),
        of(Kind::Rate)
    )
}

impl Bound {
    fn parse(text: &str) -> Result<Self, String> {
        let Some((name, value)) = text.split_once('=') else {
            return Err(format!("`{text}` is not KEY=VALUE"));
        };
        let Some(&(key, pointer, kind)) = KEYS.iter().find(|key| key.0 == name) else {
            return Err(format!("there is no key `{name}`"));
        };
        let limit = match kind {
            Kind::Latency => humantime::parse_duration(value)
                .map(|duration: Duration| float(nanos(duration)) / 1e6)
                .map_err(|error| format!("`{text}`: {error}"))?,
            Kind::Count | Kind::Rate => {
                value.parse().map(float).map_err(|_| format!("`{text}` needs a whole number"))?
            }
        };
        Ok(Self { key, pointer, kind, limit })
    }

    fn check(&self, record: &Value) -> Checked {
        // A latency of zero is that of no publication at all: it keeps no promise.
        let measured = record
            .pointer(self.pointer)
            .and_then(Value::as_f64)
            .filter(|value| self.kind != Kind::Latency || *value > 0.0);
        let kept = measured.is_some_and(|value| match self.kind {
            Kind::Latency | Kind::Count => value <= self.limit,
            Kind::Rate => value >= self.limit,
        });
        let says = self.says(measured);
        Checked { objective: self.key, limit: self.limit, measured, kept, says }
    }

    fn says(&self, measured: Option<f64>) -> String {
        let show = |value: f64| match self.kind {
            Kind::Latency => format!("{value:.3} ms"),
            Kind::Count => rounded(value),
            Kind::Rate => format!("{} deliveries/s", grouped_down(value)),
        };
        let edge = if self.kind == Kind::Rate { "least" } else { "most" };
        let measured = measured.map_or_else(|| "not measured".to_owned(), show);
        format!("{}: {measured}, wanted at {edge} {}", self.key, show(self.limit))
    }
}

impl Slo {
    /// Holds every bound against a run's record.
    pub(crate) fn check(&self, record: &Value) -> Vec<Checked> {
        self.0.iter().map(|bound| bound.check(record)).collect()
    }

    /// Whether it says how many faults of the kind `name` are allowed.
    pub(crate) fn bounds(&self, name: &str) -> bool {
        self.0.iter().any(|bound| bound.key == name)
    }
}

/// Rounded down: a rate that missed its minimum must not look as if it had met it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "floored, positive")]
fn grouped_down(value: f64) -> String {
    grouped(value.floor() as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn broken(slo: &str, record: &Value) -> Vec<String> {
        let checked = slo.parse::<Slo>().expect("a good one").check(record);
        checked.iter().filter(|checked| !checked.kept).map(|checked| checked.says.clone()).collect()
    }

    #[test]
    fn every_bound_is_held_against_its_own_figure() {
        let record = json!({
            "latency_ms": {"p50": 1.0, "p90": 2.0, "p99": 50.0, "p999": 60.5, "max": 61.0},
            "faults": {"lost": 0, "duplicated": 1, "reordered": 2, "misrouted": 3,
                       "corrupted": 4, "closed": 5},
            "deliveries_per_second": 1234.9,
        });
        let none: [String; 0] = [];
        assert_eq!(broken("p50=1ms,p90=2ms,p99=50ms,p999=1s,max=1s", &record), none);
        assert_eq!(broken("lost=0, duplicated=1, reordered=2, misrouted=3", &record), none);
        assert_eq!(broken("corrupted=4,closed=5,rate=1234", &record), none);
        assert_eq!(
            broken("p99=49ms,p999=60ms,rate=1235,closed=4,lost=0", &record),
            [
                "p99: 50.000 ms, wanted at most 49.000 ms",
                "p999: 60.500 ms, wanted at most 60.000 ms",
                "rate: 1,234 deliveries/s, wanted at least 1,235 deliveries/s",
                "closed: 5, wanted at most 4",
            ]
        );
    }

    #[test]
    fn what_was_not_measured_keeps_no_bound() {
        let record = json!({"latency_ms": {"p99": 0.0}, "faults": {"lost": 0}});
        assert_eq!(
            broken("p99=50ms,rate=0,lost=0", &record),
            [
                "p99: not measured, wanted at most 50.000 ms",
                "rate: not measured, wanted at least 0 deliveries/s",
            ]
        );
    }

    #[test]
    fn a_wrong_bound_is_refused_with_the_keys() {
        for bad in ["", "p99", "p95=5ms", "p99=5", "lost=-1", "lost=1ms", "rate=fast", "p99=1ms,"] {
            let error = bad.parse::<Slo>().expect_err(bad);
            for (key, ..) in KEYS {
                assert!(error.contains(key), "{bad}: {error}");
            }
        }
        let twice = "p99=1ms,p99=2ms".parse::<Slo>().expect_err("contradicts itself");
        assert!(twice.contains("twice"));
    }
}
