//! What a run found, as JSON and as a table, and whether it met its objectives.

mod html;
pub(crate) mod live;
pub(crate) mod page;
pub(crate) mod series;
mod sheet;
mod slo;
pub(crate) mod svg;
pub(crate) mod watch;

use std::{
    fs,
    io::{self, Write as _},
};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

pub(crate) use self::{html::RUNS_MAX, sheet::figures, slo::Slo};
use self::{series::Sample, sheet::Named, slo::Checked};
use crate::{
    cli::{self, Server},
    fault::Faults,
    figure::{Table, float, grouped, rounded},
    machine,
};

/// Where and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) machine: String,
    pub(crate) command: String,
}

impl Origin {
    pub(crate) fn here() -> Self {
        Self { machine: machine::line(), command: machine::command() }
    }
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// Latencies are kept with 3 digits up to this, in nanoseconds; longer ones count as this.
const LATENCY_MAX: u64 = 600_000_000_000;

impl Latency {
    /// What latencies are counted in, in nanoseconds.
    pub(crate) fn histogram() -> Histogram<u64> {
        Histogram::new_with_bounds(1_000, LATENCY_MAX, 3).expect("good bounds")
    }

    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| float(histogram.value_at_quantile(quantile)) / 1e6;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }

    /// The same, for a table.
    pub(crate) fn text(&self) -> String {
        let Self { p50, p90, p99, p999, max } = self;
        format!("p50 {p50:.3}  p90 {p90:.3}  p99 {p99:.3}  p99.9 {p999:.3}  max {max:.3}")
    }
}

/// What the deliveries of the measured window cost the server.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ServerCost {
    pub(crate) cpu_seconds: f64,
    pub(crate) deliveries_per_cpu_second: f64,
    pub(crate) cpu_us_per_delivery: f64,
    /// 1 = one whole core.
    pub(crate) busy: f64,
    /// Share of the time in which it could have run, but others had its core.
    pub(crate) waited: f64,
    pub(crate) rss_bytes: u64,
}

/// How much of its core the tester had left: near nothing means that it was the bottleneck.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Tester {
    /// Share of the time in which no socket had anything, or too few for a look.
    pub(crate) idle: f64,
    /// Share of the time in which it had its core.
    pub(crate) cpu: f64,
    /// Share of the time in which it could have run, but others had its core.
    #[serde(default)]
    pub(crate) waited: f64,
    /// What a delivery took of its core, idle turns left out.
    #[serde(default)]
    pub(crate) cpu_us_per_delivery: f64,
}

/// A `fanout` run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fanout {
    #[serde(flatten)]
    pub(crate) origin: Origin,
    pub(crate) shape: String,
    /// The measured window, without warm-up and drain.
    pub(crate) seconds: f64,
    pub(crate) publications: u64,
    pub(crate) deliveries: u64,
    pub(crate) deliveries_per_second: f64,
    pub(crate) server: Option<ServerCost>,
    pub(crate) tester: Tester,
    pub(crate) latency_ms: Latency,
    /// Deliveries outstanding when the window ended.
    pub(crate) backlog: u64,
    pub(crate) faults: Faults,
    pub(crate) fault_samples: Vec<String>,
    pub(crate) notes: Vec<String>,
    /// The measured window, interval by interval.
    #[serde(default)]
    pub(crate) series: Vec<Sample>,
}

/// An `idle` run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Idle {
    #[serde(flatten)]
    pub(crate) origin: Origin,
    pub(crate) shape: String,
    pub(crate) connections_per_second: f64,
    pub(crate) opening_seconds: f64,
    pub(crate) server: Option<IdleCost>,
    /// Pings and the like that were answered.
    pub(crate) replies: u64,
    /// Connections that got all messages, if any were asked for.
    pub(crate) messaged: Option<u64>,
    /// Of those messages.
    pub(crate) deliveries_per_second: f64,
    pub(crate) faults: Faults,
    pub(crate) fault_samples: Vec<String>,
    /// From the first subscriber to the last message.
    #[serde(default)]
    pub(crate) series: Vec<Sample>,
}

/// What idle connections cost the server.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct IdleCost {
    pub(crate) cpu_us_per_handshake: f64,
    pub(crate) rss_before_bytes: u64,
    pub(crate) rss_after_bytes: u64,
    pub(crate) rss_per_connection: f64,
    /// Without pages backed by files, such as code run for the first time.
    pub(crate) anonymous_per_connection: f64,
    /// By the share of each page that is the server's own.
    pub(crate) pss_per_connection: f64,
    pub(crate) rss_per_connection_after_message: Option<f64>,
    pub(crate) cpu_us_per_delivery: Option<f64>,
    /// Share of a core during the hold.
    pub(crate) busy_while_held: f64,
}

impl Fanout {
    /// Whether the tester had no time left while deliveries were waiting: it may have been the
    /// bottleneck.
    pub(crate) fn tester_was_full(&self) -> bool {
        let server_had_time = self.server.is_none_or(|server| server.busy < 0.9);
        self.tester.idle < 0.05 && (server_had_time || self.backlog > 0)
    }

    /// Whether other processes ran on the tester's core.
    pub(crate) fn tester_was_disturbed(&self) -> bool {
        self.tester.waited > 0.05
    }

    /// Whether other processes ran on the server's core.
    pub(crate) fn server_was_disturbed(&self) -> bool {
        self.server.is_some_and(|server| server.waited > 0.05)
    }

    pub(crate) fn table(&self) -> Table {
        let mut table = begin(&self.origin, &self.shape);
        table.row("publications", grouped(self.publications));
        table.row("deliveries", grouped(self.deliveries));
        table.row("deliveries/s, wall", rounded(self.deliveries_per_second));
        if let Some(server) = &self.server {
            table.row("deliveries/server-CPU s", rounded(server.deliveries_per_cpu_second));
            table.row("server CPU/delivery", format!("{:.3} us", server.cpu_us_per_delivery));
            table.row("server busy", format!("{:.1} % of a core", server.busy * 100.0));
            table.row("server waited", format!("{:.1} % for its core", server.waited * 100.0));
            table.row("server RSS", mebibytes(server.rss_bytes));
        }
        table.row("latency, ms", self.latency_ms.text());
        table.row(
            "tester",
            format!(
                "{:.3} us of CPU/delivery, {:.1} % idle, waited {:.1} % for its core",
                self.tester.cpu_us_per_delivery,
                self.tester.idle * 100.0,
                self.tester.waited * 100.0
            ),
        );
        end(&mut table, &self.faults, &self.fault_samples);
        for note in &self.notes {
            table.row("note", note);
        }
        table
    }
}

impl Idle {
    pub(crate) fn table(&self) -> Table {
        let mut table = begin(&self.origin, &self.shape);
        table.row(
            "connections/s",
            format!(
                "{} ({:.1} s for all)",
                rounded(self.connections_per_second),
                self.opening_seconds
            ),
        );
        if let Some(server) = &self.server {
            table.row("server CPU/handshake", format!("{:.1} us", server.cpu_us_per_handshake));
            table.row("server RSS before", mebibytes(server.rss_before_bytes));
            table.row("server RSS after", mebibytes(server.rss_after_bytes));
            table.row("RSS/connection", format!("{} B", rounded(server.rss_per_connection)));
            table.row("of it anonymous", format!("{} B", rounded(server.anonymous_per_connection)));
            table.row("by its share (PSS)", format!("{} B", rounded(server.pss_per_connection)));
            if let Some(after) = server.rss_per_connection_after_message {
                table.row("RSS/connection, messaged", format!("{} B", rounded(after)));
            }
            table.row(
                "server busy, held",
                format!("{:.1} % of a core", server.busy_while_held * 100.0),
            );
            if let Some(cost) = server.cpu_us_per_delivery {
                table.row("server CPU/delivery", format!("{cost:.3} us"));
            }
        }
        table.row("pings answered", grouped(self.replies));
        if let Some(messaged) = self.messaged {
            table.row("got all messages", grouped(messaged));
            table.row("deliveries/s, wall", rounded(self.deliveries_per_second));
        }
        end(&mut table, &self.faults, &self.fault_samples);
        table
    }
}

/// A table that says where, how and what.
pub(crate) fn begin(origin: &Origin, shape: &str) -> Table {
    let mut table = Table::default();
    table.row("machine", &origin.machine);
    table.row("command", &origin.command);
    table.row("shape", shape);
    table.gap();
    table
}

/// Closes `table` with the faults.
pub(crate) fn end(table: &mut Table, faults: &Faults, samples: &[String]) {
    let named = faults.named().map(|(name, count)| format!("{} {name}", grouped(count)));
    table.row("faults", if faults.total() == 0 { "none".to_owned() } else { named.join(", ") });
    for sample in samples {
        table.row("for example", sample);
    }
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", float(bytes) / 1_048_576.0)
}

/// A report and what its objectives say of it.
#[derive(Debug, Serialize)]
struct Record<'a, R> {
    #[serde(flatten)]
    report: &'a R,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    slo: Vec<Checked>,
}

/// Prints `table` and every objective that `report` broke, and writes what `options` ask for;
/// `--json -` prints the JSON instead of the table. Returns whether all objectives were kept.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn publish(
    table: &Table,
    report: &impl Serialize,
    options: &Server,
) -> anyhow::Result<Kept> {
    let slo = match &options.slo {
        Some(slo) => slo.check(&serde_json::to_value(report)?),
        None => Vec::new(),
    };
    let record = Record { report, slo };
    if let Some(path) = &options.html {
        let run = Named { name: String::new(), record: serde_json::to_value(&record)? };
        write_page(path, &[run])?;
    }
    let text = serde_json::to_string_pretty(&record)? + "\n";
    if let Some(path) = options.json.as_deref().filter(|path| *path != "-") {
        fs::write(path, &text).with_context(|| format!("writing {path}"))?;
    }
    let shown = if options.json.as_deref() == Some("-") { text } else { table.text() };
    io::stdout().write_all(shown.as_bytes())?;
    let mut kept = Kept::All;
    for broken in record.slo.iter().filter(|checked| !checked.kept) {
        kept = Kept::Broken;
        writeln!(io::stderr(), "slo broken: {}", broken.says).ok();
    }
    Ok(kept)
}

/// Whether a run kept its objectives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    Broken,
}

/// Puts the records in `options` side by side.
///
/// # Errors
/// One cannot be read, or the page cannot be written.
pub(crate) fn run(options: &cli::Report) -> anyhow::Result<()> {
    let runs =
        options.files.iter().map(|path| Named::read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(path) = &options.html {
        write_page(path, &runs)?;
    }
    Ok(io::stdout().write_all(sheet::text(&runs).as_bytes())?)
}

fn write_page(path: &str, runs: &[Named]) -> anyhow::Result<()> {
    fs::write(path, html::page(runs)).with_context(|| format!("writing {path}"))
}
