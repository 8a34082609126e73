//! The tables: medians over the rounds, and ratios to the bare loop of the same rounds.

use std::fmt::Write as _;

use super::{Outcome, Run, Shape, shape::Yield};
use crate::{
    figure::{median, rounded},
    report::{self, Origin},
};

/// The bare loop with one `send` per publication and subscriber.
pub(super) const EACH: &str = "bare";
/// The bare loop with one `send` per turn and subscriber.
pub(super) const JOIN: &str = "bare-join";

/// A table: its title, what it takes of a run, and how it shows a median.
type Figure = (&'static str, fn(&Outcome) -> Option<f64>, fn(f64) -> String);

const PER_CPU_SECOND: Figure = (
    "Thousand deliveries per server-CPU second (ratio to the bare loop of the same rounds)",
    |outcome| Some(fanout(outcome)?.server?.deliveries_per_cpu_second / 1e3),
    rounded,
);
const DELIVERY: [Figure; 4] = [
    (
        "us of server CPU per delivery",
        |o| Some(fanout(o)?.server?.cpu_us_per_delivery),
        thousandths,
    ),
    (
        "Thousand deliveries per second, wall",
        |o| Some(fanout(o)?.deliveries_per_second / 1e3),
        rounded,
    ),
    ("Latency p50, ms", |o| Some(fanout(o)?.latency_ms.p50), tenths),
    ("Latency p99, ms", |o| Some(fanout(o)?.latency_ms.p99), tenths),
];
const IDLE: [Figure; 3] = [
    ("Server RSS per idle connection, B", |o| Some(idle(o)?.rss_per_connection), rounded),
    (
        "The same, each having got a message, B",
        |o| idle(o)?.rss_per_connection_after_message,
        rounded,
    ),
    ("us of server CPU per handshake", |o| Some(idle(o)?.cpu_us_per_handshake), tenths),
];

fn fanout(outcome: &Outcome) -> Option<&report::Fanout> {
    match outcome {
        Outcome::Fanout(report) => Some(report),
        _ => None,
    }
}

fn idle(outcome: &Outcome) -> Option<report::IdleCost> {
    match outcome {
        Outcome::Idle(report) => report.server,
        _ => None,
    }
}

fn tenths(value: f64) -> String {
    format!("{value:.1}")
}

fn thousandths(value: f64) -> String {
    format!("{value:.3}")
}

/// All tables of `runs`, as Markdown.
pub(super) fn text(
    origin: &Origin,
    rounds: u32,
    shapes: &[&Shape],
    servers: &[&str],
    runs: &[Run],
) -> String {
    let mut text = format!(
        "Machine: {}\nCommand: `{}`\nMedians of {rounds} interleaved rounds; in brackets the \
         range of the bare loops, and the ratio to the one that the shape allows.\n",
        origin.machine, origin.command
    );
    let (idle, delivery): (Vec<&Shape>, Vec<&Shape>) =
        shapes.iter().partition(|shape| shape.yields == Yield::Idle);
    let mut table = |figure: &Figure, shapes: &[&Shape], ratio| {
        if !shapes.is_empty() {
            write_table(&mut text, figure, (shapes, servers), runs, ratio);
        }
    };
    table(&PER_CPU_SECOND, &delivery, Ratio::ToBare);
    for figure in &DELIVERY {
        table(figure, &delivery, Ratio::None);
    }
    for figure in &IDLE {
        table(figure, &idle, Ratio::None);
    }
    write_doubts(&mut text, runs);
    for run in runs {
        if let Some(fault) = run.fault() {
            let line = format!("{}, {}, round {}: {fault}", run.server, run.shape, run.round + 1);
            writeln!(text, "\nFAULT: {line}").expect("writing to a string");
        }
    }
    text
}

/// What a reader must know before quoting the tables.
fn write_doubts(text: &mut String, runs: &[Run]) {
    let reports: Vec<_> = runs.iter().filter_map(|run| fanout(&run.outcome)).collect();
    let disturbed = reports
        .iter()
        .filter(|report| report.tester_was_disturbed() || report.server_was_disturbed())
        .count();
    if disturbed > 0 {
        let total = reports.len();
        writeln!(
            text,
            "\nNOTE: in {disturbed} of {total} fan-out runs other processes took one of the cores"
        )
        .expect("writing to a string");
    }
    let full = |run: &&Run| fanout(&run.outcome).is_some_and(report::Fanout::tester_was_full);
    for run in runs.iter().filter(full) {
        let place = format!("{}, {}, round {}", run.server, run.shape, run.round + 1);
        writeln!(text, "\nNOTE: {place}: the tester had no time left").expect("to a string");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ratio {
    ToBare,
    None,
}

fn write_table(
    text: &mut String,
    (title, value, show): &Figure,
    (shapes, servers): (&[&Shape], &[&str]),
    runs: &[Run],
    ratio: Ratio,
) {
    let rule = "| ---: ".repeat(servers.len());
    let header = servers.join(" | ");
    write!(text, "\n{title}\n\n| shape | {header} |\n| :--- {rule}|\n").expect("to a string");
    for shape in shapes {
        // By round; a run that failed has none.
        let of = |server: &str| -> Vec<(u32, f64)> {
            runs.iter()
                .filter(|run| run.shape == shape.name && run.server == server)
                .filter_map(|run| Some((run.round, value(&run.outcome)?)))
                .collect()
        };
        let bare = of(if shape.yields == Yield::Each { EACH } else { JOIN });
        let cells: Vec<String> = servers
            .iter()
            .map(|server| {
                let values = of(server);
                let mut cell = match middle(&values) {
                    Some(middle) => show(middle),
                    None => "-".to_owned(),
                };
                if ratio == Ratio::ToBare {
                    cell += &bracket(server, &values, &bare, *show);
                }
                cell
            })
            .collect();
        writeln!(text, "| {} | {} |", shape.title, cells.join(" | ")).expect("to a string");
    }
}

fn middle(values: &[(u32, f64)]) -> Option<f64> {
    (!values.is_empty()).then(|| median(values.iter().map(|(_, value)| *value).collect()))
}

/// For a bare loop its range, for any other server its ratio to the bare loop.
fn bracket(
    server: &str,
    values: &[(u32, f64)],
    bare: &[(u32, f64)],
    show: fn(f64) -> String,
) -> String {
    if server == EACH || server == JOIN {
        let sorted = values.iter().map(|(_, value)| *value);
        let low = sorted.clone().reduce(f64::min);
        let range = low.zip(sorted.reduce(f64::max));
        return range.map_or_else(String::new, |(a, b)| format!(" ({}..{})", show(a), show(b)));
    }
    let ratios: Vec<(u32, f64)> = values
        .iter()
        .filter_map(|(round, value)| {
            let (_, bare) = bare.iter().find(|(of, _)| of == round)?;
            Some((*round, value / bare))
        })
        .collect();
    middle(&ratios).map_or_else(String::new, |ratio| format!(" ({ratio:.2})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine was twice as fast in round 1; the server always took half of the bare loop.
        let bare = [(0, 100.0), (1, 200.0), (2, 100.0)];
        let server = [(0, 50.0), (1, 100.0), (2, 50.0)];
        assert_eq!(bracket("ours", &server, &bare, rounded), " (0.50)");
        assert_eq!(bracket(EACH, &bare, &bare, rounded), " (100..200)");
        assert_eq!(bracket("ours", &[], &bare, rounded), "");
        // A round in which the bare loop failed has no ratio.
        assert_eq!(bracket("ours", &server, &bare[..1], rounded), " (0.50)");
    }
}
