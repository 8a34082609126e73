//! `compare`: servers against each other and against the bare loops, in interleaved rounds.
//!
//! Every run has a fresh server on one core and a fresh tester on another. What counts is the
//! ratio to the baseline of the same round: a shared machine changes its mind between rounds.

mod case;
mod goal;
mod ledger;
mod matrix;
mod page;
mod spawn;
mod summary;
mod table;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Verdict;
use crate::{cli, door, machine, report::Origin};
use case::{Case, SHAPES, Scenario};
use ledger::Ledger;
use spawn::{Served, Tested, tester};
use summary::Summary;

/// Options of `compare`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --scenario it measures the fixed shapes, all servers and two bare `send` loops, and gives \
ratios to the loop that the shape allows. With --scenario it measures only what is named so and \
in --shapes, and ratios are to the first server named; a bare loop takes part in scenarios as \
--server 'bare=fanwire-loadtest bare --join'. With --goals it measures what Fanwire promises: \
servers of the names that the rows speak of, as loadtest/figures gives them.")]
pub(crate) struct Options {
    /// A server by name, and the command that starts it on a free port; it must print
    /// `listening http://HOST:PORT` first. DOOR is the one it speaks, if not plain. May be repeated
    #[arg(long = "server", value_name = "NAME[@DOOR]=CMD", value_parser = startable)]
    servers: Vec<Contender>,
    /// A server by name that runs already, and its process to weigh. May be repeated
    #[arg(long = "target", value_name = "NAME=URL[@PID]", value_parser = running)]
    targets: Vec<Contender>,
    /// A scenario's command line without the server, such as `storm --topics 10`. May be repeated
    #[arg(long = "scenario", value_name = "LINE", value_parser = case::scenario)]
    scenarios: Vec<Scenario>,
    /// Rounds; the tables have the medians and ranges
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only these of the fixed shapes, by name
    #[arg(long, value_delimiter = ',', value_parser = case::names())]
    shapes: Vec<String>,
    /// Instead of shapes and scenarios: these of the promises, by name, or `all`
    #[arg(long, value_delimiter = ',', value_parser = goal::names(),
          conflicts_with_all = ["scenarios", "shapes", "targets"])]
    goals: Vec<String>,
    /// How the shapes are printed
    #[arg(long, value_enum, default_value_t = Layout::Figures)]
    layout: Layout,
    /// Keep every run in this file, and leave out those that it has already
    #[arg(long, value_name = "FILE")]
    resume: Option<String>,
    /// Added to the command line of every run, such as `--door centrifugo` or `--insecure`
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    with: String,
    /// Added to the command lines of the bare loops, such as `--tls-cert FILE --tls-key FILE`
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    bare_with: String,
    /// How long to measure in each run of a fixed shape
    #[arg(long, default_value = "3s", value_parser = cli::duration)]
    duration: Duration,
    /// How long to run before that
    #[arg(long, default_value = "1s", value_parser = cli::duration)]
    warmup: Duration,
    /// Connections of the idle shape
    #[arg(long, default_value_t = 19_000)]
    connections: u32,
    /// Core for the servers
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core for the tester
    #[arg(long, default_value_t = 1)]
    tester_core: usize,
    /// Write the comparison and every run as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
    /// Write the comparison as a page with charts to this file
    #[arg(long, value_name = "FILE")]
    html: Option<String>,
}

/// How the shapes are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Layout {
    /// A table for each figure, a row for each shape
    Figures,
    /// One table, a row for each server
    Servers,
}

/// A server that takes part.
#[derive(Debug, Clone)]
struct Contender {
    name: String,
    door: door::Name,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// Started anew for each run.
    Command(String),
    Running {
        url: String,
        pid: Option<u32>,
    },
}

fn named(text: &str) -> Result<(String, &str), String> {
    match text.split_once('=') {
        Some((name, rest)) if !name.is_empty() && !rest.trim().is_empty() => {
            Ok((name.to_owned(), rest))
        }
        _ => Err("NAME=... is needed".to_owned()),
    }
}

fn startable(text: &str) -> Result<Contender, String> {
    let (name, command) = named(text)?;
    let (name, door) = match name.rsplit_once('@') {
        Some((name, door)) => (name.to_owned(), door::Name::from_str(door, false)?),
        None => (name, door::Name::Plain),
    };
    Ok(Contender { name, door, source: Source::Command(command.to_owned()) })
}

fn running(text: &str) -> Result<Contender, String> {
    let (name, rest) = named(text)?;
    let (url, pid) = match rest.rsplit_once('@') {
        Some((url, pid)) => (url, Some(pid.parse().map_err(|_| format!("{pid} is no process"))?)),
        None => (rest, None),
    };
    let source = Source::Running { url: url.to_owned(), pid };
    Ok(Contender { name, door: door::Name::Plain, source })
}

impl Contender {
    /// Arguments for the tester.
    fn door(&self) -> impl Iterator<Item = String> {
        let name = self.door.to_possible_value().filter(|_| self.door != door::Name::Plain);
        name.into_iter().flat_map(|name| ["--door".to_owned(), name.get_name().to_owned()])
    }

    fn serve(&self) -> anyhow::Result<Served> {
        match &self.source {
            Source::Command(command) => Served::start(command),
            Source::Running { url, pid } => Ok(Served::found(url, *pid)),
        }
    }
}

/// One run of one server.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Run {
    case: String,
    server: String,
    round: u32,
    record: Option<Value>,
    /// What was wrong with it.
    fault: Option<String>,
}

/// All that was found.
#[derive(Debug, Serialize)]
struct Comparison {
    #[serde(flatten)]
    origin: Origin,
    rounds: u32,
    servers: Vec<String>,
    cases: Vec<Summary>,
    /// What a reader must know before quoting a figure.
    notes: Vec<String>,
    faults: Vec<String>,
    runs: Vec<Run>,
}

/// Runs the rounds and prints the tables.
///
/// # Errors
/// The cores cannot be had, or the report cannot be written.
pub(crate) fn run(options: &Options) -> anyhow::Result<Verdict> {
    let origin = Origin::here();
    let contenders = contenders(options)?;
    for core in [options.server_core, options.tester_core] {
        machine::pin(core)?;
    }
    let shapes = shapes(options);
    let shape_count = shapes.len();
    let scenarios = options.scenarios.iter().map(Case::scenario);
    let cases: Vec<Case> =
        shapes.into_iter().chain(scenarios).chain(goal::cases(options)).collect();
    let mut ledger = Ledger::open(options.resume.as_deref())?;
    let runs = rounds(options, &cases, &contenders, &mut ledger)?;
    let servers: Vec<String> = contenders.iter().map(|contender| contender.name.clone()).collect();
    let names: Vec<&str> = servers.iter().map(String::as_str).collect();
    let summary = |case| Summary::of(case, &names, options.rounds, &runs);
    let comparison = Comparison {
        origin,
        rounds: options.rounds,
        cases: cases.iter().map(summary).collect(),
        notes: notes(&runs),
        faults: runs.iter().filter_map(Run::told).collect(),
        servers,
        runs,
    };
    publish(options, &comparison, shape_count)?;
    let is_whole = comparison.faults.is_empty();
    Ok(if is_whole { Verdict::Good } else { Verdict::Faulty })
}

fn shapes(options: &Options) -> Vec<Case> {
    let is_asked = |name: &str| match &options.shapes[..] {
        [] => options.scenarios.is_empty() && options.goals.is_empty(),
        asked => asked.iter().any(|asked| asked == name),
    };
    let asked = SHAPES.iter().filter(|shape| is_asked(shape.name));
    asked.map(|shape| Case::shape(shape, options)).collect()
}

/// The bare loops, where they are divided by, and those asked for.
fn contenders(options: &Options) -> anyhow::Result<Vec<Contender>> {
    let program = std::env::current_exe()?;
    let program = program.to_str().context("this program's path is not UTF-8")?;
    let bare = |name: &str, option: &str| Contender {
        name: name.to_owned(),
        door: door::Name::Plain,
        source: Source::Command(format!("'{program}' bare {option} {}", options.bare_with)),
    };
    let mut contenders = Vec::new();
    if options.scenarios.is_empty() || !options.shapes.is_empty() {
        contenders = vec![bare(table::EACH, ""), bare(table::JOIN, "--join")];
    }
    contenders.extend(options.servers.iter().chain(&options.targets).cloned());
    if contenders.len() < 2 {
        bail!("a scenario compares at least two servers: name them with --server or --target");
    }
    for (index, contender) in contenders.iter().enumerate() {
        if contenders[..index].iter().any(|other| other.name == contender.name) {
            bail!("two servers are called {}", contender.name);
        }
    }
    Ok(contenders)
}

fn rounds(
    options: &Options,
    cases: &[Case],
    contenders: &[Contender],
    ledger: &mut Ledger,
) -> anyhow::Result<Vec<Run>> {
    let participants = |case: &Case| -> Vec<Contender> {
        contenders.iter().filter(|one| case.participants.include(&one.name)).cloned().collect()
    };
    let plan: Vec<(&Case, Vec<Contender>)> =
        cases.iter().map(|case| (case, participants(case))).collect();
    let per_round: usize = plan.iter().map(|(_, contenders)| contenders.len()).sum();
    let total = u64::from(options.rounds) * per_round as u64;
    let progress = ProgressBar::new(total).with_style(
        ProgressStyle::with_template("{pos}/{len} {bar:24} {msg} (about {eta} left)")
            .expect("a good template"),
    );
    let is_log = !io::stderr().is_terminal();
    let mut runs = Vec::new();
    for round in 0..options.rounds {
        for (case, contenders) in &plan {
            for place in 0..contenders.len() {
                // Every round begins with another server, so that none always runs on a warm or
                // a tired machine.
                let contender = &contenders[(place + round as usize) % contenders.len()];
                let about = format!("{}, {}", case.name, contender.name);
                progress.set_message(about.clone());
                let key = ledger::key(case, contender, round);
                runs.push(match ledger.take(&key) {
                    Some(run) => run,
                    None => ledger.keep(&key, run_one(options, case, contender, round))?,
                });
                progress.inc(1);
                if is_log {
                    // Nobody to tell if this fails.
                    writeln!(io::stderr(), "{}/{total} {about}", runs.len()).ok();
                }
            }
        }
    }
    progress.finish_and_clear();
    Ok(runs)
}

fn run_one(options: &Options, case: &Case, contender: &Contender, round: u32) -> Run {
    let tested = || -> anyhow::Result<Tested> {
        machine::pin(options.server_core)?;
        let served = contender.serve();
        machine::pin(options.tester_core)?;
        let served = served?;
        let with = options.with.split_whitespace().map(str::to_owned);
        let arguments = case.arguments.iter().cloned().chain(contender.door()).chain(with);
        let arguments: Vec<String> = arguments.collect();
        tester(&arguments, &served)
    };
    let (record, fault) = match tested() {
        Ok(Tested { record, complaint }) => {
            let fault = complaint.map(|complaint| faults(&record).unwrap_or(complaint));
            (Some(record), fault)
        }
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    Run { case: case.name.clone(), server: contender.name.clone(), round, record, fault }
}

/// The faults in a record, with examples.
fn faults(record: &Value) -> Option<String> {
    let counts = record["faults"].as_object()?.iter().filter(|(_, count)| **count != 0);
    let counts = counts.map(|(name, count)| format!("{count} {name}"));
    let samples = record["fault_samples"].as_array().into_iter().flatten();
    let samples = samples.filter_map(Value::as_str).map(str::to_owned);
    let all: Vec<String> = counts.chain(samples).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

impl Run {
    fn told(&self) -> Option<String> {
        let Self { case, server, round, .. } = self;
        let fault = self.fault.as_ref()?;
        Some(format!("{server}, {case}, round {}: {fault}", round + 1))
    }
}

/// The notes of all runs, each with how often it was made.
fn notes(runs: &[Run]) -> Vec<String> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for run in runs {
        let notes = run.record.as_ref().and_then(|record| record["notes"].as_array());
        for note in notes.into_iter().flatten().filter_map(Value::as_str) {
            *counts.entry(note).or_default() += 1;
        }
    }
    let total = runs.len();
    counts.iter().map(|(note, count)| format!("{count} of {total} runs: {note}")).collect()
}

fn publish(options: &Options, comparison: &Comparison, shape_count: usize) -> anyhow::Result<()> {
    let record = serde_json::to_value(comparison)?;
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&record)? + "\n";
        fs::write(path, text).with_context(|| format!("writing {path}"))?;
    }
    if let Some(path) = &options.html {
        let page = page::page(comparison, &record);
        fs::write(path, page).with_context(|| format!("writing {path}"))?;
    }
    let text = match options.layout {
        _ if !options.goals.is_empty() => goal::text(options, comparison),
        Layout::Servers => matrix::text(comparison),
        Layout::Figures => table::text(comparison, shape_count),
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_written() {
        let Contender { name, source, .. } = startable("a=sleep 1 --b=c").expect("good");
        assert!(name == "a" && matches!(source, Source::Command(line) if line == "sleep 1 --b=c"));
        let broker = startable("a b@nats=x").expect("good");
        assert_eq!((broker.name.as_str(), broker.door), ("a b", door::Name::Nats));
        assert_eq!(broker.door().collect::<Vec<_>>(), ["--door", "nats"]);
        assert!(startable("a@nobody=x").is_err());
        for (text, expected) in [
            ("a=http://127.0.0.1:1", ("http://127.0.0.1:1", None)),
            ("a=http://127.0.0.1:1@77", ("http://127.0.0.1:1", Some(77))),
        ] {
            let Source::Running { url, pid } = running(text).expect(text).source else {
                panic!("{text} runs already");
            };
            assert_eq!((url.as_str(), pid), expected);
        }
        for bad in ["a", "=b", "a=", "a=http://127.0.0.1:1@x"] {
            assert!(running(bad).is_err(), "{bad}");
        }
    }
}
