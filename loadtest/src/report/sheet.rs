//! The figures of one record, or of several side by side: what the page and `report` show.
//!
//! It reads records as JSON and knows no scenario: a figure it has no words for appears under its
//! path in the record.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::figure::rounded;

/// A run's record, by the name of its file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) record: Value,
}

impl Named {
    /// Reads a file that `--json` wrote.
    ///
    /// # Errors
    /// It cannot be read, or is something else.
    pub(crate) fn read(path: &str) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        let record: Value =
            serde_json::from_str(&text).with_context(|| format!("{path} is not JSON"))?;
        if record["command"].as_str().is_none() || record["shape"].as_str().is_none() {
            bail!("{path} is not the record of one run, as `--json` of a scenario writes it");
        }
        let file = path.rsplit('/').next().unwrap_or(path);
        Ok(Self { name: file.strip_suffix(".json").unwrap_or(file).to_owned(), record })
    }

    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.record.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn number(&self, pointer: &str) -> Option<f64> {
        self.record.pointer(pointer).and_then(Value::as_f64)
    }

    /// The texts of a list.
    pub(crate) fn texts(&self, pointer: &str) -> impl Iterator<Item = &str> {
        let list = self.record.pointer(pointer).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    }
}

/// How a figure is written.
pub(crate) type Show = fn(f64) -> String;

/// Where a record may have a figure, what people call it, how it is written.
const FIGURES: [(&str, &str, Show); 40] = [
    ("/rate", "highest rate, publications/s", rounded),
    ("/publications", "publications", rounded),
    ("/deliveries", "deliveries", rounded),
    ("/deliveries_per_second", "deliveries/s, wall", rounded),
    ("/server/deliveries_per_cpu_second", "deliveries/server-CPU s", rounded),
    ("/server/cpu_us_per_delivery", "server CPU/delivery, us", thousandths),
    ("/server/cpu_seconds", "server CPU, s", hundredths),
    ("/server/busy", "server busy, % of a core", percent),
    ("/server/waited", "server waited for its core, %", percent),
    ("/server/rss_bytes", "server RSS, MiB", mebibytes),
    ("/latency_ms/p50", "latency p50, ms", thousandths),
    ("/latency_ms/p90", "latency p90, ms", thousandths),
    ("/latency_ms/p99", "latency p99, ms", thousandths),
    ("/latency_ms/p999", "latency p99.9, ms", thousandths),
    ("/latency_ms/max", "latency max, ms", thousandths),
    ("/connections_per_second", "connections/s", rounded),
    ("/server/cpu_us_per_handshake", "server CPU/handshake, us", tenths),
    ("/server/rss_before_bytes", "server RSS before, MiB", mebibytes),
    ("/server/rss_after_bytes", "server RSS after, MiB", mebibytes),
    ("/server/rss_per_connection", "RSS/connection, B", rounded),
    ("/server/anonymous_per_connection", "of it anonymous, B", rounded),
    ("/server/rss_per_connection_after_message", "RSS/connection, messaged, B", rounded),
    ("/server/busy_while_held", "server busy, held, % of a core", percent),
    ("/messaged", "got all messages", rounded),
    ("/replies", "pings answered", rounded),
    ("/opening_seconds", "all opened in, s", tenths),
    ("/server/pss_per_connection", "PSS/connection, B", rounded),
    ("/backlog", "backlog at the end", rounded),
    ("/faults/lost", "lost", rounded),
    ("/faults/duplicated", "duplicated", rounded),
    ("/faults/reordered", "reordered", rounded),
    ("/faults/misrouted", "misrouted", rounded),
    ("/faults/corrupted", "corrupted", rounded),
    ("/faults/closed", "closed", rounded),
    ("/faults/unacknowledged", "unacknowledged", rounded),
    ("/tester/cpu_us_per_delivery", "tester CPU/delivery, us", thousandths),
    ("/tester/idle", "tester idle, %", percent),
    ("/tester/cpu", "tester on its core, %", percent),
    ("/tester/waited", "tester waited for its core, %", percent),
    ("/seconds", "measured, s", hundredths),
];

fn percent(value: f64) -> String {
    format!("{:.1}", value * 100.0)
}

fn mebibytes(value: f64) -> String {
    format!("{:.1}", value / 1_048_576.0)
}

fn tenths(value: f64) -> String {
    format!("{value:.1}")
}

fn hundredths(value: f64) -> String {
    format!("{value:.2}")
}

fn thousandths(value: f64) -> String {
    format!("{value:.3}")
}

/// One figure of all runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) label: String,
    /// By run; behind the first, with the ratio to it in brackets.
    pub(crate) cells: Vec<String>,
}

/// Every figure that any of `runs` has.
pub(crate) fn rows(runs: &[Named]) -> Vec<Row> {
    let records: Vec<&Value> = runs.iter().map(|run| &run.record).collect();
    let row = |(pointer, label, show): (String, String, Show)| row(runs, &pointer, label, show);
    figures(&records).into_iter().map(row).collect()
}

/// Every figure that any of `records` has: where, what people call it, how it is written.
pub(crate) fn figures(records: &[&Value]) -> Vec<(String, String, Show)> {
    let mut found = BTreeSet::new();
    for record in records {
        collect(record, String::new(), &mut found);
    }
    let known: Vec<_> = FIGURES
        .iter()
        .filter(|(pointer, ..)| found.remove(*pointer))
        .map(|(pointer, label, show)| ((*pointer).to_owned(), (*label).to_owned(), *show))
        .collect();
    let others = found.into_iter().map(|pointer| {
        let label = pointer[1..].replace('/', ".");
        (pointer, label, as_it_is as Show)
    });
    known.into_iter().chain(others).collect()
}

fn as_it_is(value: f64) -> String {
    if value.fract() == 0.0 && value >= 0.0 { rounded(value) } else { thousandths(value) }
}

fn row(runs: &[Named], pointer: &str, label: String, show: Show) -> Row {
    let values: Vec<Option<f64>> = runs.iter().map(|run| run.number(pointer)).collect();
    let first = values.first().copied().flatten();
    let cell = |(index, value): (usize, &Option<f64>)| match (value, first) {
        (None, _) => "-".to_owned(),
        (Some(value), Some(first)) if index > 0 && first > 0.0 => {
            format!("{} ({:.2})", show(*value), value / first)
        }
        (Some(value), _) => show(*value),
    };
    Row { label, cells: values.iter().enumerate().map(cell).collect() }
}

/// The pointers of all numbers in `value`; lists are left out.
fn collect(value: &Value, pointer: String, found: &mut BTreeSet<String>) {
    match value {
        Value::Number(_) => {
            found.insert(pointer);
        }
        Value::Object(members) => {
            for (name, member) in members {
                collect(member, format!("{pointer}/{name}"), found);
            }
        }
        _ => {}
    }
}

/// The rows as text, below what was run where.
pub(crate) fn text(runs: &[Named]) -> String {
    let mut lines = Vec::new();
    for run in runs {
        lines.push(format!("{}: {}", run.name, run.text("/shape")));
        let about = [run.text("/command"), run.text("/machine")];
        lines.extend(about.into_iter().chain(run.texts("/notes")).map(|line| format!("  {line}")));
    }
    lines.push(String::new());
    let head =
        Row { label: String::new(), cells: runs.iter().map(|run| run.name.clone()).collect() };
    let rows: Vec<Row> = std::iter::once(head).chain(rows(runs)).collect();
    let widest = |len: &dyn Fn(&Row) -> usize| rows.iter().map(len).max().unwrap_or(0);
    let label_width = widest(&|row| row.label.len());
    let widths: Vec<usize> =
        (0..runs.len()).map(|index| widest(&|row| row.cells[index].len())).collect();
    for row in &rows {
        let cells = row.cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:>width$}"));
        lines.push(format!("{:label_width$}{}", row.label, cells.collect::<String>()));
    }
    if runs.len() > 1 {
        lines.extend([String::new(), "In brackets: the ratio to the first.".to_owned()]);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(name: &str, record: Value) -> Named {
        Named { name: name.to_owned(), record }
    }

    #[test]
    fn runs_stand_side_by_side_with_ratios_to_the_first() {
        let runs = [
            named(
                "a",
                json!({"shape": "s", "command": "first", "machine": "m", "deliveries": 2000,
                "faults": {"lost": 0}, "server": {"busy": 0.5}, "series": [{"seconds": 1.0}]}),
            ),
            named(
                "b",
                json!({"shape": "s", "command": "second", "machine": "m", "deliveries": 3000,
                "faults": {"lost": 7}, "server": null, "gap": {"seconds": 1.5}}),
            ),
        ];
        let row = |label: &str, cells: [&str; 2]| Row {
            label: label.to_owned(),
            cells: cells.map(str::to_owned).to_vec(),
        };
        assert_eq!(
            rows(&runs),
            [
                row("deliveries", ["2,000", "3,000 (1.50)"]),
                row("server busy, % of a core", ["50.0", "-"]),
                row("lost", ["0", "7"]),
                row("gap.seconds", ["-", "1.500"]),
            ]
        );
        let text = text(&runs);
        assert!(text.starts_with("a: s\n  first\n  m\nb: s\n"), "{text}");
        assert!(text.contains("\ndeliveries                2,000  3,000 (1.50)\n"), "{text}");
    }
}
