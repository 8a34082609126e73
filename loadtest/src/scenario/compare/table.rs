//! The tables, as Markdown: one for each key figure of the fixed shapes, one for each scenario.

use std::fmt::Write as _;

use super::{
    Comparison,
    summary::{Cell, Figure, Spread, Summary},
};
use crate::figure::rounded;

/// The bare loop with one `send` per publication and subscriber.
pub(super) const EACH: &str = "bare";
/// The bare loop with one `send` per turn and subscriber.
pub(super) const JOIN: &str = "bare-join";

/// What the shapes are tabled by: title, where records have it, factor, how it shows.
type Key = (&'static str, &'static str, f64, fn(f64) -> String);

const KEYS: [Key; 9] = [
    (
        "Thousand deliveries per server-CPU second (ratio to the bare loop of the same rounds)",
        "/server/deliveries_per_cpu_second",
        1e-3,
        rounded,
    ),
    ("us of server CPU per delivery", "/server/cpu_us_per_delivery", 1.0, thousandths),
    ("us of the tester's CPU per delivery", "/tester/cpu_us_per_delivery", 1.0, thousandths),
    ("Thousand deliveries per second, wall", "/deliveries_per_second", 1e-3, rounded),
    ("Latency p50, ms", "/latency_ms/p50", 1.0, tenths),
    ("Latency p99, ms", "/latency_ms/p99", 1.0, tenths),
    ("Server RSS per idle connection, B", "/server/rss_per_connection", 1.0, rounded),
    (
        "The same, each having got a message, B",
        "/server/rss_per_connection_after_message",
        1.0,
        rounded,
    ),
    ("us of server CPU per handshake", "/server/cpu_us_per_handshake", 1.0, tenths),
];

fn tenths(value: f64) -> String {
    format!("{value:.1}")
}

fn thousandths(value: f64) -> String {
    format!("{value:.3}")
}

/// All tables of `comparison`; the first `shape_count` cases are fixed shapes.
pub(super) fn text(comparison: &Comparison, shape_count: usize) -> String {
    let Comparison { origin, rounds, servers, .. } = comparison;
    let mut text = format!(
        "Machine: {}\nCommand: `{}`\nMedians of {rounds} interleaved rounds; in brackets the \
         range over the rounds. x = ratio to the baseline of the same rounds.\n",
        origin.machine, origin.command
    );
    let (shapes, scenarios) = comparison.cases.split_at(shape_count);
    for key in &KEYS {
        write_shapes(&mut text, key, servers, shapes);
    }
    for scenario in scenarios {
        write_scenario(&mut text, servers, scenario);
    }
    for (kind, lines) in [("NOTE", &comparison.notes), ("FAULT", &comparison.faults)] {
        for line in lines {
            writeln!(text, "\n{kind}: {line}").expect("writing to a string");
        }
    }
    text
}

fn write_shapes(
    text: &mut String,
    (title, pointer, factor, show): &Key,
    servers: &[String],
    shapes: &[Summary],
) {
    let rows: Vec<(&Summary, &Figure)> =
        shapes.iter().filter_map(|shape| Some((shape, shape.figure(pointer)?))).collect();
    if rows.is_empty() {
        return;
    }
    write_head(text, title, "shape", servers);
    for (shape, figure) in rows {
        let cells = figure.cells.iter().map(|cell| {
            // A server has the baseline that fits the shape; the other loop needs no ratio.
            let has_ratio = cell.server != EACH && cell.server != JOIN;
            show_cell(cell, |value| show(value * factor), has_ratio.then_some(&cell.ratio))
        });
        write_row(text, &shape.title, cells);
    }
}

fn write_scenario(text: &mut String, servers: &[String], scenario: &Summary) {
    let title = format!("`{}`, x = ratio to {}", scenario.title, scenario.baseline);
    write_head(text, &title, "figure", servers);
    for figure in &scenario.figures {
        let cells = figure.cells.iter().map(|cell| show_cell(cell, figure.show, Some(&cell.ratio)));
        write_row(text, &figure.label, cells);
    }
}

fn write_head(text: &mut String, title: &str, first: &str, servers: &[String]) {
    let rule = "| ---: ".repeat(servers.len());
    let header = servers.join(" | ");
    write!(text, "\n{title}\n\n| {first} | {header} |\n| :--- {rule}|\n").expect("to a string");
}

fn write_row(text: &mut String, label: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.collect();
    writeln!(text, "| {label} | {} |", cells.join(" | ")).expect("to a string");
}

/// A median and its range, and the ratio with its own.
pub(super) fn show_cell(
    cell: &Cell,
    show: impl Fn(f64) -> String,
    ratio: Option<&Option<Spread>>,
) -> String {
    let Some(value) = cell.value else { return "-".to_owned() };
    let value = show_spread(value, show);
    match ratio {
        Some(Some(ratio)) => {
            format!("{value}, x {}", show_spread(*ratio, |ratio| format!("{ratio:.2}")))
        }
        _ => value,
    }
}

/// A median, and the range of the rounds if it shows.
pub(super) fn show_spread(
    Spread { median, min, max }: Spread,
    show: impl Fn(f64) -> String,
) -> String {
    match (show(min), show(max)) {
        (min, max) if min == max => max,
        (min, max) => format!("{} ({min}..{max})", show(median)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_shows_its_spread_where_there_is_one() {
        let spread = |median, min, max| Some(Spread { median, min, max });
        let mut cell = Cell {
            server: "a".to_owned(),
            rounds: vec![Some(1.0); 3],
            value: spread(1_500.0, 1_000.0, 2_000.0),
            ratio: spread(0.5, 0.456, 0.6),
        };
        let shown = show_cell(&cell, rounded, Some(&cell.ratio));
        assert_eq!(shown, "1,500 (1,000..2,000), x 0.50 (0.46..0.60)");
        assert_eq!(show_cell(&cell, rounded, None), "1,500 (1,000..2,000)");
        cell.ratio = spread(0.5, 0.5, 0.5);
        assert_eq!(show_cell(&cell, rounded, Some(&cell.ratio)), "1,500 (1,000..2,000), x 0.50");
        cell.value = None;
        assert_eq!(show_cell(&cell, rounded, None), "-");
    }
}
