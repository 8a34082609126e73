//! What servers are compared in: the fixed shapes, or any scenario's command line.

use clap::Parser as _;

use super::{Options, table};
use crate::cli::{Cli, Command};

/// What a case is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Baseline {
    /// The bare loop with one `send` for each delivery: no server can do better.
    Each,
    /// The bare loop with one `send` per turn.
    Join,
    /// Whoever was named first.
    First,
}

impl Baseline {
    /// Which of `contenders` it is.
    pub(super) fn of<'a>(self, contenders: &[&'a str]) -> &'a str {
        let name = match self {
            Self::Each => Some(table::EACH),
            Self::Join => Some(table::JOIN),
            Self::First => None,
        };
        let named = contenders.iter().find(|contender| Some(**contender) == name);
        named.or(contenders.first()).copied().unwrap_or_default()
    }
}

/// A run that every server is put through.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) title: String,
    /// The tester's, but for the server.
    pub(super) arguments: Vec<String>,
    pub(super) baseline: Baseline,
    pub(super) participants: Participants,
}

/// Which servers are put through a case.
#[derive(Debug, Clone)]
pub(super) enum Participants {
    All,
    Named(Vec<&'static str>),
}

impl Participants {
    pub(super) fn include(&self, server: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(&server),
        }
    }
}

impl Case {
    /// The scenario of a command line such as `storm --topics 10`.
    pub(super) fn scenario(line: &Scenario) -> Self {
        let Scenario(words) = line;
        let line = words.join(" ");
        Self {
            name: line.clone(),
            title: line,
            arguments: words.clone(),
            baseline: Baseline::First,
            participants: Participants::All,
        }
    }

    /// A fixed shape, as `options` want it measured.
    pub(super) fn shape(shape: &Shape, options: &Options) -> Self {
        let line = match shape.kind {
            Kind::Idle => {
                let topics = options.connections.div_ceil(10);
                format!(
                    "idle --connections {} --topics {topics} --hold 3s --messages 1",
                    options.connections
                )
            }
            Kind::Delivery => format!(
                "fanout {} --drain 3s --duration {}ms --warmup {}ms",
                shape.arguments,
                options.duration.as_millis(),
                options.warmup.as_millis()
            ),
        };
        Self {
            name: shape.name.to_owned(),
            title: shape.title.to_owned(),
            arguments: line.split_whitespace().map(str::to_owned).collect(),
            baseline: shape.baseline,
            participants: Participants::All,
        }
    }
}

/// A scenario's command line without the server, checked.
#[derive(Debug, Clone)]
pub(super) struct Scenario(Vec<String>);

/// Reads one; what it says of the server is not its own.
pub(super) fn scenario(text: &str) -> Result<Scenario, String> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let ours = ["--url", "--pid", "--json", "--html"];
    let is_ours = |word: &String| ours.iter().any(|name| word.split('=').next() == Some(*name));
    if let Some(word) = words.iter().find(|word| is_ours(word)) {
        return Err(format!("{word} is set for each server"));
    }
    let line = std::iter::once("fanwire-loadtest").chain(words.iter().map(String::as_str));
    match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
        Command::Bare(_) | Command::Proxy(_) | Command::Compare(_) | Command::Report(_) => {
            Err(format!("`{text}` is no scenario that measures a server"))
        }
        _ => Ok(Scenario(words)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Delivery,
    Idle,
}

/// A fixed shape.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    title: &'static str,
    arguments: &'static str,
    baseline: Baseline,
    kind: Kind,
}

const fn delivery(
    name: &'static str,
    title: &'static str,
    arguments: &'static str,
    baseline: Baseline,
) -> Shape {
    Shape { name, title, arguments, baseline, kind: Kind::Delivery }
}

/// All of them, in the order of the tables.
pub(super) const SHAPES: [Shape; 15] = [
    delivery("w1", "1 x 1,000 x 128 B, window 1", "--window 1", Baseline::Each),
    delivery("w16", "1 x 1,000 x 128 B, window 16", "--window 16", Baseline::Join),
    delivery("w64", "1 x 1,000 x 128 B, window 64", "--window 64", Baseline::Join),
    delivery(
        "large-w1",
        "1 x 1,000 x 16 KiB, window 1",
        "--payload 16384 --window 1",
        Baseline::Each,
    ),
    delivery(
        "large-w8",
        "1 x 1,000 x 16 KiB, window 8",
        "--payload 16384 --window 8",
        Baseline::Join,
    ),
    delivery(
        "chat-w1",
        "1,000 x 10 x 128 B, window 1",
        "--topics 1000 --subscribers 10 --window 1",
        Baseline::Each,
    ),
    delivery(
        "chat-w8",
        "1,000 x 10 x 128 B, window 8",
        "--topics 1000 --subscribers 10 --window 8",
        Baseline::Join,
    ),
    delivery("latency", "1 x 1,000 x 128 B, open 50/s", "--rate 50", Baseline::Each),
    delivery(
        "latency-chat",
        "1,000 x 10 x 128 B, open 2/s each",
        "--topics 1000 --subscribers 10 --rate 2000",
        Baseline::Each,
    ),
    delivery(
        "hot",
        "1 x 10,000 x 128 B, window 1",
        "--subscribers 10000 --window 1",
        Baseline::Each,
    ),
    delivery(
        "spread",
        "50 x 200 x 128 B, window 1",
        "--topics 50 --subscribers 200 --window 1",
        Baseline::Each,
    ),
    delivery("open-2000", "1 x 1,000 x 128 B, open 2,000/s", "--rate 2000", Baseline::Join),
    delivery("open-4000", "1 x 1,000 x 128 B, open 4,000/s", "--rate 4000", Baseline::Join),
    delivery("open-8000", "1 x 1,000 x 128 B, open 8,000/s", "--rate 8000", Baseline::Join),
    Shape {
        name: "idle",
        title: "idle connections",
        arguments: "",
        baseline: Baseline::Each,
        kind: Kind::Idle,
    },
];

/// Their names, for the command line.
pub(super) fn names() -> [&'static str; SHAPES.len()] {
    SHAPES.each_ref().map(|shape| shape.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_checked_before_anything_runs() {
        assert!(scenario("storm --topics 10").is_ok());
        for bad in ["", "storm --topics", "bare", "report a.json", "fanout --url=http://[::1]:80"] {
            assert!(scenario(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_baseline_that_takes_no_part_is_the_first_who_does() {
        assert_eq!(Baseline::Join.of(&["a", table::JOIN]), table::JOIN);
        assert_eq!(Baseline::Join.of(&["a", "b"]), "a");
        assert_eq!(Baseline::First.of(&["a", table::EACH]), "a");
    }
}
