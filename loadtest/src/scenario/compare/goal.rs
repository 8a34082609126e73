//! What Fanwire promises of its speed, and how each promise is measured.
//!
//! A row is data: a figure of one server in one case, and what it is divided by. From the rows
//! follows what has to be run.

use std::fmt::Write as _;

use super::{
    Comparison, Options, SHAPES,
    case::{Baseline, Case, Participants},
    summary::{Spread, Summary, ratio},
    table::{EACH, JOIN, show_spread},
};
use crate::figure::rounded;

/// Servers that the rows speak of; `loadtest/figures` names them so.
const FANWIRE: &str = "fanwire";
const NO_HISTORY: &str = "no-history";
/// Knows who is there.
const PRESENCE: &str = "presence";
const TWO_WORKERS: &str = "two-workers";
/// Many workers with a descriptor table each.
const TABLES: &str = "tables";
/// Agrees to permessage-deflate.
const DEFLATING: &str = "deflating";

/// Where records have what.
const PER_CPU_SECOND: &str = "/server/deliveries_per_cpu_second";
const PER_DELIVERY: &str = "/server/cpu_us_per_delivery";
const PER_SECOND: &str = "/deliveries_per_second";
const PER_HANDSHAKE: &str = "/server/cpu_us_per_handshake";
const PER_JOIN: &str = "/server/cpu_us_per_join";
const PER_CONNECTION: &str = "/server/rss_per_connection";
const P50: &str = "/latency_ms/p50";
const P99: &str = "/latency_ms/p99";
const MAX: &str = "/latency_ms/max";

/// Cases beside the fixed shapes. Costs that should not grow are taken at the same number of
/// deliveries, 200,000, whatever the number of topics and subscribers.
const LINES: [(&str, &str); 23] = [
    ("mixed-w1", "fanout --door mixed --window 1"),
    ("mixed-w64", "fanout --door mixed --window 64"),
    ("1x10", "idle --connections 10 --topics 1 --messages 20000 --hold 1s"),
    ("1x100", "idle --connections 100 --topics 1 --messages 2000 --hold 1s"),
    ("1x1000", "idle --connections 1000 --topics 1 --messages 200 --hold 1s"),
    ("1x10000", "idle --connections 10000 --topics 1 --messages 20 --hold 1s"),
    ("1x100000", "idle --connections 100000 --topics 1 --messages 2 --hold 1s --tables 6"),
    ("10x1", "idle --connections 10 --topics 10 --messages 20000 --hold 1s"),
    ("100x1", "idle --connections 100 --topics 100 --messages 2000 --hold 1s"),
    ("1000x1", "idle --connections 1000 --topics 1000 --messages 200 --hold 1s"),
    ("10000x1", "idle --connections 10000 --topics 10000 --messages 20 --hold 1s"),
    ("100000x1", "idle --connections 100000 --topics 100000 --messages 2 --hold 1s --tables 6"),
    ("join-10", "churn --population 10 --rate 1000 --publish-rate 1 --duration 3s --rest 1s"),
    ("join-1000", "churn --population 1000 --rate 1000 --publish-rate 1 --duration 3s --rest 1s"),
    ("join-10000", "churn --population 10000 --rate 1000 --publish-rate 1 --duration 3s --rest 1s"),
    ("deflated-w1", "fanout --door deflate --payload 1024 --window 1"),
    ("deflated-w16", "fanout --door deflate --payload 1024 --window 16"),
    ("kib-w1", "fanout --payload 1024 --window 1"),
    ("kib-w16", "fanout --payload 1024 --window 16"),
    // As long as those of 1 KiB are deflated.
    ("wire-w1", "fanout --payload 624 --window 1"),
    ("wire-w16", "fanout --payload 624 --window 16"),
    ("deflated-idle", "idle --door deflate --connections 10000 --topics 1000 --hold 3s"),
    ("plain-idle", "idle --connections 10000 --topics 1000 --hold 3s"),
];

/// A figure of one server in one case.
#[derive(Debug, Clone, Copy)]
struct At {
    case: &'static str,
    server: &'static str,
    pointer: &'static str,
}

const fn at(case: &'static str, server: &'static str, pointer: &'static str) -> At {
    At { case, server, pointer }
}

/// How a figure is shown.
#[derive(Debug, Clone, Copy)]
enum Unit {
    /// Thousand deliveries per second of server CPU.
    PerCpuSecond,
    /// Million deliveries per second.
    PerSecond,
    Microseconds,
    Milliseconds,
    Bytes,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::PerCpuSecond => rounded(value / 1e3),
            Self::PerSecond => format!("{:.2}", value / 1e6),
            Self::Microseconds => format!("{value:.2}"),
            Self::Milliseconds => format!("{value:.1}"),
            Self::Bytes => rounded(value),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::PerCpuSecond => "k/CPU s",
            Self::PerSecond => "M/s",
            Self::Microseconds => "us",
            Self::Milliseconds => "ms",
            Self::Bytes => "B",
        }
    }
}

/// What a figure is divided by.
#[derive(Debug, Clone, Copy)]
struct Base {
    at: At,
    factor: f64,
    name: &'static str,
}

/// A measured figure.
#[derive(Debug, Clone, Copy)]
struct Line {
    about: &'static str,
    of: At,
    unit: Unit,
    base: Option<Base>,
}

impl Line {
    /// Divided by what `server`, which is a bare loop, has in the same case.
    const fn to_bare(self, server: &'static str) -> Self {
        let At { case, pointer, .. } = self.of;
        let base = Base { at: at(case, server, pointer), factor: 1.0, name: "bare" };
        Self { base: Some(base), ..self }
    }

    /// Divided by the same figure of `server` in `case`, times `factor`.
    const fn to(
        self,
        (case, server): (&'static str, &'static str),
        factor: f64,
        name: &'static str,
    ) -> Self {
        let base = Base { at: at(case, server, self.of.pointer), factor, name };
        Self { base: Some(base), ..self }
    }
}

const fn line(about: &'static str, of: At, unit: Unit) -> Line {
    Line { about, of, unit, base: None }
}

/// Deliveries per CPU second of Fanwire in `case`, against the bare loop `bare`.
const fn delivered(about: &'static str, case: &'static str, bare: &'static str) -> Line {
    line(about, at(case, FANWIRE, PER_CPU_SECOND), Unit::PerCpuSecond).to_bare(bare)
}

const fn latency(about: &'static str, case: &'static str, pointer: &'static str) -> Line {
    line(about, at(case, FANWIRE, pointer), Unit::Milliseconds).to_bare(EACH)
}

/// Cost per delivery of one server, divided by that of another in the same case.
const fn beside(
    about: &'static str,
    case: &'static str,
    (server, base): (&'static str, &'static str),
    name: &'static str,
) -> Line {
    line(about, at(case, server, PER_DELIVERY), US).to((case, base), 1.0, name)
}

/// CPU per delivery of `server` in `case`, against Fanwire's in the smallest case of its kind.
const fn grown(about: &'static str, case: &'static str, base: &'static str) -> Line {
    let line = line(about, at(case, FANWIRE, PER_DELIVERY), Unit::Microseconds);
    line.to((base, FANWIRE), 1.0, "that of 1,000")
}

/// CPU per delivery where all that is sent is deflated.
const fn deflated(about: &'static str, case: &'static str) -> Line {
    line(about, at(case, DEFLATING, PER_DELIVERY), Unit::Microseconds)
}

/// A promise.
#[derive(Debug)]
struct Goal {
    name: &'static str,
    wants: &'static str,
    lines: &'static [Line],
}

const GOALS: [Goal; 15] = [
    Goal {
        name: "fanout",
        wants: "at least 0.9, 0.9, 0.8 of the bare loop",
        lines: &[
            delivered("1 x 1,000 x 128 B, window 1", "w1", EACH),
            delivered("window 16", "w16", JOIN),
            delivered("window 64", "w64", JOIN),
        ],
    },
    Goal {
        name: "sustained",
        wants: "8 M deliveries/s with p99 under 50 ms",
        lines: &[
            line("1 x 1,000, 8,000/s", at("open-8000", FANWIRE, PER_SECOND), Unit::PerSecond)
                .to_bare(JOIN),
            line("its p99", at("open-8000", FANWIRE, P99), Unit::Milliseconds).to_bare(JOIN),
            line("p99 at 4,000/s", at("open-4000", FANWIRE, P99), Unit::Milliseconds),
            line("p99 at 2,000/s", at("open-2000", FANWIRE, P99), Unit::Milliseconds),
        ],
    },
    Goal {
        name: "large",
        wants: "at least 0.9 of the bare loop",
        lines: &[
            delivered("1 x 1,000 x 16 KiB, window 1", "large-w1", EACH),
            delivered("window 8", "large-w8", JOIN),
        ],
    },
    Goal {
        name: "chat",
        wants: "at least uWebSockets (about 0.7 to 0.85 of the bare loop)",
        lines: &[
            delivered("1,000 x 10 x 128 B, window 1", "chat-w1", EACH),
            delivered("window 8", "chat-w8", JOIN),
        ],
    },
    Goal {
        name: "latency",
        wants: "p50 and p99 at most uWebSockets' (about 1.1 to 1.2 of the bare loop's)",
        lines: &[
            latency("1 x 1,000 at 50/s, p50", "latency", P50),
            latency("its p99", "latency", P99),
            latency("1,000 x 10 at 2/s each, p50", "latency-chat", P50),
            latency("its p99", "latency-chat", P99),
        ],
    },
    Goal {
        name: "fairness",
        wants: "no topic waits over 250 ms",
        lines: &[latency("1,000 x 10 saturated, longest wait", "chat-w8", MAX).to_bare(JOIN)],
    },
    Goal {
        name: "hot-topic",
        wants: "p99 of 1 topic at most 1.2 of that on 50",
        lines: &[line("1 x 10,000, p99", at("hot", FANWIRE, P99), Unit::Milliseconds).to(
            ("spread", FANWIRE),
            1.0,
            "50 x 200",
        )],
    },
    Goal {
        name: "idle",
        wants: "at most 400 B each",
        lines: &[line("19,000 subscribed", at("idle", FANWIRE, PER_CONNECTION), Unit::Bytes)
            .to_bare(EACH)],
    },
    Goal {
        name: "connect",
        wants: "at least 0.8 of uWebSockets' rate (which is about the bare loop's)",
        lines: &[line("CPU per handshake", at("idle", FANWIRE, PER_HANDSHAKE), Unit::Microseconds)
            .to_bare(EACH)],
    },
    Goal {
        name: "both-cores",
        wants: "at least 1.7 of one core",
        lines: &[
            line("window 1", at("w1", TWO_WORKERS, PER_CPU_SECOND), Unit::PerCpuSecond).to(
                ("w1", FANWIRE),
                0.5,
                "one worker, by CPU x 2",
            ),
            line("window 16", at("w16", TWO_WORKERS, PER_CPU_SECOND), Unit::PerCpuSecond).to(
                ("w16", FANWIRE),
                0.5,
                "one worker, by CPU x 2",
            ),
            line("window 16", at("w16", TWO_WORKERS, PER_SECOND), Unit::PerSecond).to(
                ("w16", FANWIRE),
                1.0,
                "one worker, by the clock",
            ),
        ],
    },
    Goal {
        name: "mixed-doors",
        wants: "at most 1.1 of the plain door's cost",
        lines: &[
            line("4 doors on 1 topic, window 1", at("mixed-w1", FANWIRE, PER_DELIVERY), US).to(
                ("w1", FANWIRE),
                1.0,
                "plain",
            ),
            line("window 64", at("mixed-w64", FANWIRE, PER_DELIVERY), US).to(
                ("w64", FANWIRE),
                1.0,
                "plain",
            ),
        ],
    },
    Goal {
        name: "compression",
        wants: "at most 1.15 of the cost of as many bytes not deflated; idle memory unchanged",
        lines: &[
            deflated("1 KiB deflated, window 1", "deflated-w1").to(
                ("wire-w1", FANWIRE),
                1.0,
                "as many bytes",
            ),
            deflated("window 16", "deflated-w16").to(("wire-w16", FANWIRE), 1.0, "as many bytes"),
            deflated("window 1", "deflated-w1").to(("kib-w1", FANWIRE), 1.0, "not deflated"),
            deflated("window 16", "deflated-w16").to(("kib-w16", FANWIRE), 1.0, "not deflated"),
            line("10,000 idle", at("deflated-idle", DEFLATING, PER_CONNECTION), Unit::Bytes).to(
                ("plain-idle", FANWIRE),
                1.0,
                "not deflated",
            ),
        ],
    },
    Goal {
        name: "history",
        wants: "at most 1.05 of the cost without",
        lines: &[
            beside("window 1", "w1", (FANWIRE, NO_HISTORY), "no history"),
            beside("window 64", "w64", (FANWIRE, NO_HISTORY), "no history"),
        ],
    },
    Goal {
        name: "presence",
        wants: "at most 1.05 of the cost without",
        lines: &[
            beside("window 1", "w1", (PRESENCE, FANWIRE), "no presence"),
            beside("window 64", "w64", (PRESENCE, FANWIRE), "no presence"),
        ],
    },
    Goal {
        name: "growth",
        wants: "cost per delivery and per join flat within 15 %",
        lines: &[
            grown("1 topic x 10 subscribers", "1x10", "1x1000"),
            grown("1 x 100", "1x100", "1x1000"),
            line("1 x 1,000", at("1x1000", FANWIRE, PER_DELIVERY), US).to_bare(EACH),
            grown("1 x 10,000", "1x10000", "1x1000"),
            line("", at("1x10000", FANWIRE, PER_DELIVERY), US).to_bare(EACH),
            line("1 x 100,000", at("1x100000", TABLES, PER_DELIVERY), US).to(
                ("1x1000", FANWIRE),
                1.0,
                "that of 1,000",
            ),
            grown("10 topics x 1", "10x1", "1000x1"),
            grown("100 x 1", "100x1", "1000x1"),
            line("1,000 x 1", at("1000x1", FANWIRE, PER_DELIVERY), US).to_bare(EACH),
            grown("10,000 x 1", "10000x1", "1000x1"),
            line("", at("10000x1", FANWIRE, PER_DELIVERY), US).to_bare(EACH),
            line("100,000 x 1", at("100000x1", TABLES, PER_DELIVERY), US).to(
                ("1000x1", FANWIRE),
                1.0,
                "that of 1,000",
            ),
            line("join beside 10", at("join-10", FANWIRE, PER_JOIN), US).to(
                ("join-1000", FANWIRE),
                1.0,
                "that of 1,000",
            ),
            line("join beside 1,000", at("join-1000", FANWIRE, PER_JOIN), US),
            line("join beside 10,000", at("join-10000", FANWIRE, PER_JOIN), US).to(
                ("join-1000", FANWIRE),
                1.0,
                "that of 1,000",
            ),
        ],
    },
];

const US: Unit = Unit::Microseconds;
const ALL: &str = "all";

/// The goals' names, for the command line.
pub(super) fn names() -> Vec<&'static str> {
    std::iter::once(ALL).chain(GOALS.iter().map(|goal| goal.name)).collect()
}

fn asked(options: &Options) -> impl Iterator<Item = &'static Goal> {
    let is_asked = |name| options.goals.iter().any(|asked| asked == name || asked == ALL);
    GOALS.iter().filter(move |goal| is_asked(goal.name))
}

/// What has to be run for the goals that `options` ask for.
pub(super) fn cases(options: &Options) -> Vec<Case> {
    let figures = asked(options)
        .flat_map(|goal| goal.lines)
        .flat_map(|line| std::iter::once(line.of).chain(line.base.map(|base| base.at)));
    let figures: Vec<At> = figures.collect();
    let participants = |name: &str| {
        let of_case = figures.iter().filter(|figure| figure.case == name);
        let mut servers: Vec<&str> = of_case.map(|figure| figure.server).collect();
        servers.sort_unstable();
        servers.dedup();
        Participants::Named(servers)
    };
    let is_needed = |name: &str| figures.iter().any(|figure| figure.case == name);
    let shapes = SHAPES.iter().map(|shape| Case::shape(shape, options));
    let lines = LINES.iter().map(|(name, line)| special(name, line, options));
    let cases = shapes.chain(lines).filter(|case| is_needed(&case.name));
    cases.map(|case| Case { participants: participants(&case.name), ..case }).collect()
}

fn special(name: &str, line: &str, options: &Options) -> Case {
    let mut arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
    if line.starts_with("fanout") {
        let times = [("--duration", options.duration), ("--warmup", options.warmup)];
        let times = times.map(|(name, time)| [name.to_owned(), format!("{}ms", time.as_millis())]);
        arguments.extend(times.into_iter().flatten());
    }
    let (name, title) = (name.to_owned(), line.to_owned());
    Case { name, title, arguments, baseline: Baseline::First, participants: Participants::All }
}

/// The table of the goals that `options` ask for, as Markdown.
pub(super) fn text(options: &Options, comparison: &Comparison) -> String {
    let Comparison { origin, rounds, cases, .. } = comparison;
    let mut text = format!(
        "Machine: {}\nMedians of {rounds} interleaved rounds, in brackets the range; ratios are \
         those of the same rounds.\n\n| goal | shape | measured | ratio to | command |\n\
         | :--- | :--- | ---: | :--- | :--- |\n",
        origin.machine
    );
    for goal in asked(options) {
        let command = format!("`loadtest/figures --goals {}`", goal.name);
        let mut labels = Some((goal.wants, &command[..]));
        for line in goal.lines {
            // The first row of a goal says what it is.
            let (wants, command) = labels.take().unwrap_or_default();
            let Line { about, of, unit, base } = line;
            let measured = spread(cases, *of).map_or_else(
                || "-".to_owned(),
                |spread| format!("{} {}", show_spread(spread, |v| unit.show(v)), unit.name()),
            );
            let divided = base.and_then(|base| Some((base, divided(cases, *of, base)?)));
            let divided = divided.map_or_else(String::new, |(base, ratio)| {
                format!("{} of {}", show_spread(ratio, |v| format!("{v:.2}")), base.name)
            });
            writeln!(text, "| {wants} | {about} | {measured} | {divided} | {command} |")
                .expect("to a string");
        }
    }
    for (kind, lines) in [("NOTE", &comparison.notes), ("FAULT", &comparison.faults)] {
        for line in lines {
            writeln!(text, "\n{kind}: {line}").expect("to a string");
        }
    }
    text
}

fn rounds(cases: &[Summary], figure: At) -> Option<&[Option<f64>]> {
    let case = cases.iter().find(|case| case.case == figure.case)?;
    let cells = &case.figure(figure.pointer)?.cells;
    Some(&cells.iter().find(|cell| cell.server == figure.server)?.rounds)
}

fn spread(cases: &[Summary], figure: At) -> Option<Spread> {
    Spread::of(&rounds(cases, figure)?.iter().copied().flatten().collect::<Vec<_>>())
}

fn divided(cases: &[Summary], of: At, base: Base) -> Option<Spread> {
    let divisors = rounds(cases, base.at)?.iter().map(|value| Some((*value)? * base.factor));
    ratio(rounds(cases, of)?, &divisors.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn options(goals: &str) -> Options {
        let line = ["fanwire-loadtest", "compare", "--goals", goals];
        match Cli::try_parse_from(line).expect("good").command {
            Command::Compare(options) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_row_has_a_case_that_the_tester_can_run() {
        let cases = cases(&options(ALL));
        for line in GOALS.iter().flat_map(|goal| goal.lines) {
            for figure in std::iter::once(line.of).chain(line.base.map(|base| base.at)) {
                let case = cases.iter().find(|case| case.name == figure.case);
                let case = case.unwrap_or_else(|| panic!("no case {}", figure.case));
                assert!(case.participants.include(figure.server), "{figure:?}");
            }
        }
        for case in &cases {
            let line = std::iter::once("fanwire-loadtest".to_owned()).chain(case.arguments.clone());
            assert!(Cli::try_parse_from(line).is_ok(), "{:?}", case.arguments);
        }
    }

    #[test]
    fn one_goal_runs_only_what_it_needs() {
        let cases = cases(&options("both-cores"));
        let names: Vec<&str> = cases.iter().map(|case| &case.name[..]).collect();
        assert_eq!(names, ["w1", "w16"]);
        assert!(!cases[0].participants.include(EACH));
        assert!(cases[0].participants.include(FANWIRE));
    }
}
