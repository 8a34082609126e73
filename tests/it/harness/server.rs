//! The binary as a process: started on free ports, stopped by its own process id.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use super::http::{Request, Response};
use super::metrics::Metrics;
use super::stream::Stream;
use super::websocket::WebSocket;
use super::wire::Wire;
use super::{DEADLINE, eventually, eventually_equal};

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
        Self {
            child,
            stdout,
            stderr,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
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
        let kill = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &id])
            .status();
        assert!(kill.unwrap().success(), "{name} reaches {id}");
    }

    /// Waits for the end and gives the exit code; `None` after a signal.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let stderr = Arc::clone(&self.stderr);
        let status = eventually("the process ends", || self.child.try_wait().unwrap());
        assert!(!stderr.lock().unwrap().contains("panicked at"), "{self:?}");
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
        // The collector ends right after the process; its last line may still be on the way.
        eventually("standard error is read", || {
            (Arc::strong_count(&self.stderr) == 1).then_some(())
        });
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

/// A point in a topic's stream as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

impl Position {
    /// From an object with `epoch` and `offset`.
    pub(crate) fn of(object: &Value) -> Self {
        let epoch = object["epoch"].as_str();
        Self {
            epoch: epoch
                .unwrap_or_else(|| panic!("no epoch: {object}"))
                .to_owned(),
            offset: object["offset"].as_u64().expect("an offset"),
        }
    }

    /// From the headers of a 101 or 200.
    pub(crate) fn of_head(head: &Response) -> Self {
        let offset = head.header("fanwire-offset").expect("Fanwire-Offset");
        Self {
            epoch: head
                .header("fanwire-epoch")
                .expect("Fanwire-Epoch")
                .to_owned(),
            offset: offset.parse().expect("a number"),
        }
    }

    /// The position `count` publications later.
    pub(crate) fn plus(&self, count: u64) -> Self {
        let (epoch, offset) = (self.epoch.clone(), self.offset + count);
        Self { epoch, offset }
    }
}

/// A server on free ports of the loopback, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
    _config: TempDir,
}

impl Server {
    /// Starts with the configuration `config`, which sets no addresses.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    /// Starts with more arguments.
    pub(crate) fn start_with(config: &str, args: &[&str]) -> Self {
        let listen = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("fanwire.toml");
        fs::write(&path, format!("{listen}{config}")).unwrap();
        let mut command = fanwire(&["serve", "--config", path.to_str().unwrap()]);
        command.args(args);
        Self::run(command, folder)
    }

    /// Runs `command`, which starts a server; `folder` is kept for it.
    pub(crate) fn run(command: Command, folder: TempDir) -> Self {
        let mut process = Process::start(command);
        let addr = port_of(&process.line(), "listening http://");
        let admin = port_of(&process.line(), "admin http://");
        Self {
            process,
            addr,
            admin,
            _config: folder,
        }
    }

    pub(crate) fn wire(&self) -> Wire {
        Wire::connect(self.addr)
    }

    /// Sends one request over its own connection.
    pub(crate) fn request(&self, request: &Request) -> Response {
        self.wire().request(request)
    }

    pub(crate) fn get(&self, target: &str) -> Response {
        self.request(&Request::get(target))
    }

    pub(crate) fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Response {
        self.request(&Request::post(target, body))
    }

    /// Publishes as text; the topic needs history, the answer's position is given back.
    #[track_caller]
    pub(crate) fn publish(&self, topic: &str, text: &str) -> Position {
        let response = self.post(&format!("/topics/{topic}"), text);
        assert_eq!(response.status, 200, "{}", response.text());
        Position::of(&response.json())
    }

    /// Publishes `1` to `count`, one after the other; gives the last position.
    #[track_caller]
    pub(crate) fn publish_numbers(&self, topic: &str, count: u64) -> Position {
        for number in 1..count {
            self.publish(topic, &number.to_string());
        }
        self.publish(topic, &count.to_string())
    }

    pub(crate) fn websocket(&self, target: &str) -> WebSocket {
        WebSocket::open(self.wire(), &Request::handshake(target))
    }

    pub(crate) fn ndjson(&self, target: &str) -> Stream {
        Stream::open(self.wire(), &Request::get(target))
    }

    pub(crate) fn sse(&self, target: &str) -> Stream {
        Stream::open(self.wire(), &Request::sse(target))
    }

    pub(crate) fn admin_get(&self, target: &str) -> Response {
        Wire::connect(self.admin).request(&Request::get(target))
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let response = self.admin_get("/metrics");
        assert_eq!(response.status, 200, "{}", response.text());
        Metrics::parse(&response.text())
    }

    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.metrics().get(name, labels)
    }

    /// Waits until a metric has the value.
    #[track_caller]
    pub(crate) fn await_metric(&self, name: &str, labels: &[(&str, &str)], expected: u64) {
        let what = format!("{name} {labels:?}");
        eventually_equal(&what, &expected, || self.metric(name, labels));
    }

    #[track_caller]
    pub(crate) fn await_close_counted(&self, code: &str, reason: &str, expected: u64) {
        let labels = [("code", code), ("reason", reason)];
        self.await_metric("fanwire_closes_total", &labels, expected);
    }

    /// How many descriptors the server holds.
    pub(crate) fn fd_count(&self) -> usize {
        let path = format!("/proc/{}/fd", self.process.id());
        fs::read_dir(path).unwrap().count()
    }

    /// Begins a drain and waits until the server says so.
    pub(crate) fn begin_drain(&self) {
        self.process.signal("TERM");
        eventually("not ready", || {
            (self.admin_get("/health/ready").status == 503).then_some(())
        });
    }
}

/// The loopback address with the port that a start-up line names.
fn port_of(line: &str, prefix: &str) -> SocketAddr {
    let authority = line.strip_prefix(prefix);
    let authority = authority.unwrap_or_else(|| panic!("not {prefix:?} but {line:?}"));
    let addr: SocketAddr = authority.parse().expect("an address");
    assert_ne!(addr.port(), 0, "the real port");
    SocketAddr::from(([127, 0, 0, 1], addr.port()))
}
