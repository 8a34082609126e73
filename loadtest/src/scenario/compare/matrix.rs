//! One table with a row for each server: what they deliver for a second of CPU, how late, and what
//! their connections cost.

use std::fmt::Write as _;

use super::{
    Comparison,
    summary::{Figure, Summary},
    table::show_cell,
};
use crate::figure::rounded;

/// What is shown of a case that has it: where, under which name, how, and whether with its ratio.
type Column = (&'static str, &'static str, fn(f64) -> String, Ratio);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ratio {
    Shown,
    Left,
}

const DELIVERY: &[Column] = &[("/server/deliveries_per_cpu_second", "", thousands, Ratio::Shown)];
const LATENCY: &[Column] = &[
    ("/latency_ms/p50", "p50 ms", tenths, Ratio::Left),
    ("/latency_ms/p99", "p99 ms", tenths, Ratio::Left),
];
const IDLE: &[Column] = &[
    ("/server/rss_per_connection", "B each", rounded, Ratio::Left),
    ("/server/cpu_us_per_handshake", "us/handshake", tenths, Ratio::Shown),
];

fn thousands(value: f64) -> String {
    rounded(value / 1e3)
}

fn tenths(value: f64) -> String {
    format!("{value:.1}")
}

fn columns(case: &Summary) -> &'static [Column] {
    if case.figure("/server/rss_per_connection").is_some() {
        IDLE
    } else if case.case.starts_with("latency") {
        LATENCY
    } else {
        DELIVERY
    }
}

/// The table of `comparison`, as Markdown.
pub(super) fn text(comparison: &Comparison) -> String {
    let Comparison { origin, rounds, .. } = comparison;
    let mut text = format!(
        "Machine: {}\nCommand: `{}`\nMedians of {rounds} interleaved rounds, in brackets the \
         range. Thousand deliveries per second of server CPU unless it says otherwise; x = ratio \
         to the bare loop that the shape allows, of the same rounds. ! = with faults, see below.\n",
        origin.machine, origin.command
    );
    let shown: Vec<(&Summary, &Figure, &Column)> = comparison
        .cases
        .iter()
        .flat_map(|case| columns(case).iter().map(move |column| (case, column)))
        .filter_map(|(case, column)| Some((case, case.figure(column.0)?, column)))
        .collect();
    let heads = shown.iter().map(|(case, _, (_, label, ..))| match *label {
        "" => case.title.clone(),
        label => format!("{}, {label}", case.title),
    });
    let heads: Vec<String> = heads.collect();
    let rule = "| ---: ".repeat(heads.len());
    write!(text, "\n| server | {} |\n| :--- {rule}|\n", heads.join(" | ")).expect("to a string");
    for (index, server) in comparison.servers.iter().enumerate() {
        let cells = shown.iter().map(|(case, figure, (_, _, show, ratio))| {
            let cell = &figure.cells[index];
            let shown = show_cell(cell, show, (*ratio == Ratio::Shown).then_some(&cell.ratio));
            let failed = comparison
                .runs
                .iter()
                .any(|run| run.fault.is_some() && run.case == case.case && run.server == *server);
            if failed { format!("{shown} !") } else { shown }
        });
        let cells: Vec<String> = cells.collect();
        writeln!(text, "| {server} | {} |", cells.join(" | ")).expect("to a string");
    }
    for (kind, lines) in [("NOTE", &comparison.notes), ("FAULT", &comparison.faults)] {
        for line in lines {
            writeln!(text, "\n{kind}: {line}").expect("to a string");
        }
    }
    text
}
