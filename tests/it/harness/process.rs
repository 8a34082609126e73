//! The binary as a process: what it prints, what it is told, how it ends.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{DEADLINE, eventually};

/// A command of the binary under test, without the environment of whoever runs the tests.
pub(crate) fn fanwire(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanwire"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANWIRE_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

/// Lets this process open as many files as it may; a test of many connections needs it.
pub(crate) fn raise_descriptor_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// `command` with so many open files at most.
pub(crate) fn with_files(count: usize, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("ulimit -n {count} && exec \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args());
    shell
}

/// A running process whose standard error is collected.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Arc<Mutex<String>>,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let collected = Arc::clone(&stderr);
        // Ends when the process closes its standard error.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *collected.lock().unwrap() += &(line + "\n");
            }
        });
        Self { child, stdout, stderr }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of it in RAM.
    pub(crate) fn resident_len(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it runs");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }

    /// CPU time that it has spent, in ticks of the clock (a hundredth of a second).
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // Fields after the name in parentheses; utime and stime are the 12th and 13th of them.
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let fields = fields.split_whitespace().skip(11).take(2);
        fields.map(|field| field.parse::<u64>().unwrap()).sum()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Stops reading standard error for as long as the guard lives: soon it is a full pipe.
    pub(crate) fn stop_reading_stderr(&self) -> MutexGuard<'_, String> {
        self.stderr.lock().unwrap()
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("taken once")
    }

    /// Writes all of the standard input and ends it.
    pub(crate) fn feed(&mut self, input: &[u8]) {
        self.stdin().write_all(input).expect("the process reads");
    }

    /// The next line of standard output, without its end.
    pub(crate) fn line(&mut self) -> String {
        let line = self.read_stdout(|stdout| {
            let mut line = String::new();
            stdout.read_line(&mut line).map(|_| line)
        });
        assert!(line.ends_with('\n'), "{line:?}, then: {}", self.stderr());
        line.trim_end().to_owned()
    }

    /// Reads standard output in a thread: a pipe has no deadline of its own.
    fn read_stdout(
        &mut self,
        read: impl FnOnce(&mut BufReader<ChildStdout>) -> io::Result<String> + Send + 'static,
    ) -> String {
        let mut stdout = self.stdout.take().expect("standard output is open");
        let (tx, rx) = mpsc::channel();
        // Ends with the read; the receiver is gone only after the deadline.
        thread::spawn(move || {
            let text = read(&mut stdout);
            let _ = tx.send((stdout, text));
        });
        let received = rx.recv_timeout(DEADLINE);
        let (stdout, text) = received.expect("standard output in time");
        self.stdout = Some(stdout);
        text.unwrap()
    }

    /// Closes our end of the process's standard output.
    pub(crate) fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Sends a signal by its short name (`TERM`).
    pub(crate) fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let kill = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &id]).status();
        assert!(kill.unwrap().success(), "{name} reaches {id}");
    }

    /// Waits for the end and gives the exit code; `None` after a signal.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let status = eventually("the process ends", || self.child.try_wait().unwrap());
        // The collector ends right after the process; its last line may still be on the way.
        eventually("standard error is read", || {
            (Arc::strong_count(&self.stderr) == 1).then_some(())
        });
        assert!(!self.stderr().contains("panicked at"), "{self:?}");
        status.code()
    }

    /// Waits for the end; gives the exit code, standard output and standard error.
    pub(crate) fn finish(mut self) -> (Option<i32>, String, String) {
        drop(self.child.stdin.take());
        let stdout = self.read_stdout(|stdout| {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let code = self.exit_code();
        (code, stdout, self.stderr())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let stderr = self.stderr();
        if thread::panicking() {
            let tail: Vec<&str> = stderr.lines().rev().take(30).collect();
            for line in tail.iter().rev() {
                eprintln!("  stderr| {line}");
            }
        } else {
            assert!(!stderr.contains("panicked at"), "{stderr}");
        }
    }
}
