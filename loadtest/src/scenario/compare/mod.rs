//! `compare`: servers against each other and against the bare loops, in interleaved rounds.
//!
//! Every run has a fresh server on one core and a fresh tester on another. What counts is the
//! ratio to the bare loop of the same round: a shared machine changes its mind between rounds.

mod shape;
mod spawn;
mod table;

use std::{fs, io::Write as _, time::Duration};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::Verdict;
use crate::{
    cli, machine,
    report::{self, Origin},
};
use shape::{Shape, Yield};
use spawn::{Served, tester};

/// Options of `compare`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A server by name, and the command that starts it on a free port; it must print
    /// `listening http://HOST:PORT` first. May be repeated
    #[arg(long = "server", value_name = "NAME=CMD", value_parser = contender)]
    servers: Vec<Contender>,
    /// Rounds; the tables have the medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only these shapes, by name
    #[arg(long, value_delimiter = ',', value_parser = shape::names())]
    shapes: Vec<String>,
    /// How long to measure in each run
    #[arg(long, default_value = "3s", value_parser = cli::duration)]
    duration: Duration,
    /// How long to run before that
    #[arg(long, default_value = "1s", value_parser = cli::duration)]
    warmup: Duration,
    /// Connections of the idle shape
    #[arg(long, default_value_t = 15_000)]
    connections: u32,
    /// Core for the servers
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core for the tester
    #[arg(long, default_value_t = 1)]
    tester_core: usize,
    /// Write every run as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
}

/// A server that takes part.
#[derive(Debug, Clone)]
struct Contender {
    name: String,
    command: String,
}

fn contender(text: &str) -> Result<Contender, String> {
    match text.split_once('=') {
        Some((name, command)) if !name.is_empty() && !command.trim().is_empty() => {
            Ok(Contender { name: name.to_owned(), command: command.to_owned() })
        }
        _ => Err("NAME=CMD is needed".to_owned()),
    }
}

/// One run of one server.
#[derive(Debug, Clone, Serialize)]
struct Run {
    shape: &'static str,
    server: String,
    round: u32,
    outcome: Outcome,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Fanout(Box<report::Fanout>),
    Idle(Box<report::Idle>),
    Failed(String),
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
    let shapes: Vec<&Shape> = shape::ALL
        .iter()
        .filter(|shape| {
            options.shapes.is_empty() || options.shapes.iter().any(|name| name == shape.name)
        })
        .collect();
    let total = u64::from(options.rounds) * (shapes.len() * contenders.len()) as u64;
    let progress = ProgressBar::new(total).with_style(
        ProgressStyle::with_template("{pos}/{len} {bar:24} {msg} (about {eta} left)")
            .expect("a good template"),
    );
    let mut runs = Vec::new();
    for round in 0..options.rounds {
        for shape in &shapes {
            for place in 0..contenders.len() {
                // Every round begins with another server, so that none always runs on a warm or
                // a tired machine.
                let contender = &contenders[(place + round as usize) % contenders.len()];
                progress.set_message(format!("{}, {}", shape.name, contender.name));
                let outcome = run_one(options, shape, contender)
                    .unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
                let server = contender.name.clone();
                runs.push(Run { shape: shape.name, server, round, outcome });
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&runs)? + "\n";
        fs::write(path, text).with_context(|| format!("writing {path}"))?;
    }
    let names: Vec<&str> = contenders.iter().map(|contender| &contender.name[..]).collect();
    let text = table::text(&origin, options.rounds, &shapes, &names, &runs);
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if runs.iter().all(Run::is_good) { Verdict::Good } else { Verdict::Faulty })
}

/// The bare loops, by the names the tables divide by, and those asked for.
fn contenders(options: &Options) -> anyhow::Result<Vec<Contender>> {
    let program = std::env::current_exe()?;
    let program = program.to_str().context("this program's path is not UTF-8")?;
    let bare = |name: &str, option: &str| Contender {
        name: name.to_owned(),
        command: format!("'{program}' bare {option}"),
    };
    let mut contenders = vec![bare(table::EACH, ""), bare(table::JOIN, "--join")];
    contenders.extend(options.servers.iter().cloned());
    Ok(contenders)
}

fn run_one(options: &Options, shape: &Shape, contender: &Contender) -> anyhow::Result<Outcome> {
    machine::pin(options.server_core)?;
    let served = Served::start(&contender.command);
    machine::pin(options.tester_core)?;
    let served = served?;
    let json = tester(&shape.arguments(options), &served)?;
    Ok(match shape.yields {
        Yield::Idle => Outcome::Idle(serde_json::from_str(&json)?),
        Yield::Each | Yield::Join => Outcome::Fanout(serde_json::from_str(&json)?),
    })
}

impl Run {
    fn is_good(&self) -> bool {
        self.fault().is_none()
    }

    /// What was wrong with it.
    fn fault(&self) -> Option<String> {
        let (faults, samples) = match &self.outcome {
            Outcome::Failed(reason) => return Some(reason.clone()),
            Outcome::Fanout(report) => (&report.faults, &report.fault_samples),
            Outcome::Idle(report) => (&report.faults, &report.fault_samples),
        };
        let counts: Vec<String> = faults
            .named()
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{count} {name}"))
            .chain(samples.iter().cloned())
            .collect();
        (!counts.is_empty()).then(|| counts.join(", "))
    }
}
