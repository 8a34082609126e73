//! What the tests share: the tester, a server for it, and files.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_fanwire-loadtest");

/// A server of the tester's own, such as `bare`, that runs until this is dropped.
pub(crate) struct Served {
    child: Child,
    pub(crate) url: String,
}

impl Served {
    /// Starts `bare`.
    pub(crate) fn bare(options: &[&str]) -> Self {
        Self::start("bare", options)
    }

    pub(crate) fn start(command: &str, options: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .arg(command)
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tester starts");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("stdout is text");
        let url = line.strip_prefix("listening ").expect("the listening line").trim().to_owned();
        Self { child, url }
    }

    /// Runs the tester against it, and weighs it.
    pub(crate) fn tester(&self, arguments: &str) -> (Output, Value) {
        tester(&self.url, &format!("{arguments} --pid {}", self.id()))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The same with a `--duration`: a longer one each time until the record is `enough`, because
    /// a busy machine may do nothing at all in a short time.
    pub(crate) fn tester_until(
        &self,
        arguments: &str,
        enough: impl Fn(&Value) -> bool,
    ) -> (Output, Value) {
        let mut duration_ms = 200;
        loop {
            let (output, report) = self.tester(&format!("{arguments} --duration {duration_ms}ms"));
            if enough(&report) || duration_ms > 10_000 {
                return (output, report);
            }
            duration_ms *= 2;
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs the tester against the server at `url`; its record, whatever it found.
pub(crate) fn tester(url: &str, arguments: &str) -> (Output, Value) {
    let output = Command::new(PROGRAM)
        .args(arguments.split_whitespace())
        .args(["--json", "-", "--url", url])
        .output()
        .expect("the tester starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{errors}"));
    (output, report)
}

/// The records that a page holds.
pub(crate) fn records(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"records\">").expect("the records");
    let (records, _) = rest.split_once("</script>").expect("their end");
    serde_json::from_str(records).expect("JSON")
}

/// Whether anything was delivered in the measured time.
pub(crate) fn delivers(report: &Value) -> bool {
    report["deliveries"].as_u64().is_some_and(|count| count > 0)
}

/// The count of one kind of fault.
pub(crate) fn faults(report: &Value, kind: &str) -> u64 {
    report["faults"][kind].as_u64().expect("a count")
}

/// A file of this test process, removed when this is dropped.
pub(crate) struct Scratch(pub(crate) std::path::PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("fanwire-loadtest-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.0).expect("written")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}
