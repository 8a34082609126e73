//! The processes of one run: a server, started or found, and the tester against it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A server to measure; one that was started runs until this is dropped.
#[derive(Debug)]
pub(super) struct Served {
    url: String,
    /// To weigh, with all that it has started.
    pid: Option<u32>,
    child: Option<Child>,
}

impl Served {
    /// One that runs already.
    pub(super) fn found(url: &str, pid: Option<u32>) -> Self {
        Self { url: url.to_owned(), pid, child: None }
    }

    /// Starts `command` and waits for its `listening` line.
    ///
    /// # Errors
    /// It ended, or did not print one in time.
    pub(super) fn start(command: &str) -> anyhow::Result<Self> {
        let mut child = Command::new("sh")
            // The shell becomes the server: its process is the one to measure and to end.
            .args(["-c", &format!("exec {command}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting a shell")?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        let mut served = Self { url: String::new(), pid: Some(child.id()), child: Some(child) };
        served.url = listening(stdout)
            .recv_timeout(START_TIMEOUT)
            .with_context(|| format!("`{command}` printed no `listening http://...` line"))?;
        Ok(served)
    }
}

/// Reads `stdout` to its end, so that the server never waits on it, and passes the URL on.
fn listening(stdout: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (tx, rx) = mpsc::channel();
    // Ends with the server.
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { return };
            if let Some(url) = line.strip_prefix("listening ") {
                // Only the first is waited for.
                tx.send(url.trim().to_owned()).ok();
            }
        }
    });
    rx
}

/// A process and its descendants: some servers do their work in a child.
fn family(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|text| {
            text.split(' ').filter_map(|pid| pid.trim().parse().ok()).collect::<Vec<_>>()
        })
        .collect();
    std::iter::once(pid).chain(children.into_iter().flat_map(family)).collect()
}

impl Drop for Served {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        let begun = Instant::now();
        if let Ok(pid) = i32::try_from(child.id()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
        }
        while begun.elapsed() < STOP_TIMEOUT && matches!(child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        child.kill().ok();
        child.wait().ok();
    }
}

/// What a run of the tester came to.
#[derive(Debug)]
pub(super) struct Tested {
    pub(super) record: Value,
    /// What it told on standard error; none if all was well.
    pub(super) complaint: Option<String>,
}

/// Runs the tester against `served`, faults or not.
///
/// # Errors
/// It could not run.
pub(super) fn tester(arguments: &[String], served: &Served) -> anyhow::Result<Tested> {
    let pids = served.pid.into_iter().flat_map(family);
    let pids = pids.flat_map(|pid| ["--pid".to_owned(), pid.to_string()]);
    let output = Command::new(std::env::current_exe()?)
        .args(arguments)
        .args(["--url", &served.url, "--json", "-"])
        .args(pids)
        .output()
        .context("starting the tester")?;
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.stdout.is_empty() {
        bail!("{told}");
    }
    let complaint = (!output.status.success()).then_some(told);
    Ok(Tested { record: serde_json::from_slice(&output.stdout)?, complaint })
}
