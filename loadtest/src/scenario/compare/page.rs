//! The page of a comparison: a chart of ranges for each key figure, and all figures as tables.

use serde_json::Value;

use super::{Comparison, summary::Summary, table::show_cell};
use crate::report::page::{cells, escaped, frame, grid, lines, wide};
use crate::report::svg::{self, Range};

/// What is charted where a case has it.
const CHARTS: [(&str, &str); 7] = [
    ("/server/deliveries_per_cpu_second", "Deliveries per server-CPU second"),
    ("/deliveries_per_second", "Deliveries per second"),
    ("/latency_ms/p99", "Latency p99, ms"),
    ("/rate", "Highest rate, publications/s"),
    ("/recovery_seconds", "All recovered after, s"),
    ("/server/rss_per_connection", "RSS per connection, B"),
    ("/server/cpu_us_per_handshake", "Server CPU per handshake, us"),
];

/// The page of `comparison`, which is `record` as JSON.
pub(super) fn page(comparison: &Comparison, record: &Value) -> String {
    let title = format!("Comparison: {}", comparison.servers.join(", "));
    let about = lines(&[
        ("", format!("<code>{}</code>", escaped(&comparison.origin.command))),
        ("dim", escaped(&comparison.origin.machine)),
        (
            "dim",
            format!(
                "Medians of {} interleaved rounds; in brackets the range over the rounds. x = \
                 ratio to the baseline of the same rounds.",
                comparison.rounds
            ),
        ),
    ]);
    let told = |class: &'static str, lines: &[String]| -> Vec<(&'static str, String)> {
        lines.iter().map(|line| (class, escaped(line))).collect()
    };
    let mut findings = told("bad", &comparison.faults);
    if findings.is_empty() {
        findings.push(("good", "No faults".to_owned()));
    }
    findings.extend(told("dim", &comparison.notes));
    let cases: String = comparison.cases.iter().map(case).collect();
    frame(&title, &[about, lines(&findings), cases].concat(), record)
}

fn case(case: &Summary) -> String {
    let charts = CHARTS.iter().filter_map(|(pointer, title)| {
        let figure = case.figure(pointer)?;
        let ranges: Vec<Range> = figure
            .cells
            .iter()
            .filter_map(|cell| {
                let value = cell.value?;
                let label = (figure.show)(value.median);
                let name = cell.server.clone();
                Some(Range { name, label, median: value.median, min: value.min, max: value.max })
            })
            .collect();
        Some(svg::ranges(title, &ranges))
    });
    let charts: String = charts.collect();
    let servers = case.figures.first().map_or(&[][..], |figure| &figure.cells);
    let names = servers.iter().map(|cell| {
        let baseline = if cell.server == case.baseline { ", baseline" } else { "" };
        escaped(&format!("{}{baseline}", cell.server))
    });
    let head = cells("th", std::iter::once(String::new()).chain(names));
    let body = case.figures.iter().map(|figure| {
        let texts = figure
            .cells
            .iter()
            .map(|cell| escaped(&show_cell(cell, figure.show, Some(&cell.ratio))));
        cells("td", std::iter::once(escaped(&figure.label)).chain(texts))
    });
    let body: String = body.collect();
    let title = escaped(&case.title);
    format!("<h2>{title}</h2>\n{}{}", grid("charts", &charts), wide(&(head + &body)))
}
