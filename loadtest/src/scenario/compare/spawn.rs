//! The processes of one run: a server, and the tester against it.

use std::{
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

const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that runs until this is dropped.
#[derive(Debug)]
pub(super) struct Served {
    child: Child,
    url: String,
}

impl Served {
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
        let mut served = Self { child, url: String::new() };
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

impl Drop for Served {
    fn drop(&mut self) {
        let begun = Instant::now();
        if let Ok(pid) = i32::try_from(self.child.id()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
        }
        while begun.elapsed() < STOP_TIMEOUT && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs the tester against `served` and returns its JSON, faults or not.
///
/// # Errors
/// It could not run.
pub(super) fn tester(arguments: &[String], served: &Served) -> anyhow::Result<String> {
    let output = Command::new(std::env::current_exe()?)
        .args(arguments)
        .args(["--url", &served.url, "--pid", &served.child.id().to_string(), "--json", "-"])
        .output()
        .context("starting the tester")?;
    if output.stdout.is_empty() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
