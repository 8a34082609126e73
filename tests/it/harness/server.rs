//! A server of its own for each test: started on free ports, stopped by its own process id.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::http::{Request, Response};
use super::metrics::Metrics;
use super::process::{Process, fanwire};
use super::stream::Stream;
use super::websocket::WebSocket;
use super::wire::Wire;
use super::{eventually, eventually_equal};
use crate::invariant::{Baseline, Position};

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
        Self { process, addr, admin, _config: folder }
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

    /// What `/stats` says now.
    pub(crate) fn stats(&self) -> Value {
        self.admin_get("/stats").json()
    }

    /// What the server holds now.
    pub(crate) fn baseline(&self) -> Baseline {
        Baseline::of(&self.stats(), self.process.id())
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
        eventually("not ready", || (self.admin_get("/health/ready").status == 503).then_some(()));
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
