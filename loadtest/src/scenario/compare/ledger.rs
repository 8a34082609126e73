//! Runs that were made before: a comparison that was broken off goes on where it was.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write as _},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{Case, Contender, Run};

/// What tells a run from all others: server, command lines, round.
pub(super) fn key(case: &Case, contender: &Contender, round: u32) -> String {
    let Contender { name, source, .. } = contender;
    format!("{round} {name} {source:?} {}", case.arguments.join(" "))
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    key: String,
    run: Run,
}

/// The runs in a file, one a line; none without a file.
#[derive(Debug)]
pub(super) struct Ledger {
    runs: HashMap<String, Run>,
    file: Option<File>,
}

impl Ledger {
    /// Reads what the file at `path` has; a last line that was cut off does not count.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(super) fn open(path: Option<&str>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self { runs: HashMap::new(), file: None }) };
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("reading {path}"))?,
        };
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let runs = lines.map(|line| (line.key, line.run)).collect();
        let file = OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.with_context(|| format!("writing {path}"))?;
        if !text.is_empty() && !text.ends_with('\n') {
            writeln!(file)?;
        }
        Ok(Self { runs, file: Some(file) })
    }

    /// The run of that key, if it was made before and nothing was wrong with it.
    pub(super) fn take(&mut self, key: &str) -> Option<Run> {
        self.runs.remove(key).filter(|run| run.fault.is_none())
    }

    /// Keeps `run`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn keep(&mut self, key: &str, run: Run) -> anyhow::Result<Run> {
        let Some(file) = &mut self.file else { return Ok(run) };
        let line = Line { key: key.to_owned(), run };
        let text = serde_json::to_string(&line)? + "\n";
        file.write_all(text.as_bytes()).context("keeping a run")?;
        Ok(line.run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(round: u32, fault: Option<&str>) -> Run {
        Run {
            case: "c".to_owned(),
            server: "s".to_owned(),
            round,
            record: Some(serde_json::json!({"deliveries": 7})),
            fault: fault.map(str::to_owned),
        }
    }

    #[test]
    fn good_runs_are_taken_from_the_file_and_faulty_ones_made_again() {
        let name = format!("fanwire-loadtest-ledger-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let path = path.to_str().expect("UTF-8");
        let mut ledger = Ledger::open(Some(path)).expect("a new file");
        ledger.keep("a", run(0, None)).expect("kept");
        ledger.keep("b", run(1, Some("3 lost"))).expect("kept");
        let cut = r#"{"key":"c","run":{"#;
        let mut file = OpenOptions::new().append(true).open(path).expect("there");
        file.write_all(cut.as_bytes()).expect("written");
        let mut ledger = Ledger::open(Some(path)).expect("the same file");
        ledger.keep("d", run(3, None)).expect("kept behind the cut line");
        let mut again = Ledger::open(Some(path)).expect("once more");
        fs::remove_file(path).expect("there");
        assert_eq!(ledger.take("a").map(|run| run.round), Some(0));
        assert!(ledger.take("a").is_none(), "each is taken once");
        assert!(ledger.take("b").is_none() && ledger.take("c").is_none());
        assert_eq!(again.take("d").and_then(|run| run.record), run(3, None).record);
    }

    #[test]
    fn without_a_file_nothing_is_kept() {
        let mut ledger = Ledger::open(None).expect("nothing to open");
        ledger.keep("a", run(0, None)).expect("passed on");
        assert!(ledger.take("a").is_none());
    }
}
