//! A server of its own for each test: started on free ports, stopped by its own process id.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::Value;
use tempfile::TempDir;

use super::http::{Request, Response};
use super::metrics::Metrics;
use super::process::{Process, fanwire};
use super::stream::Stream;
use super::websocket::WebSocket;
use super::wire::Wire;
use super::{Stop, eventually, eventually_equal};
use crate::invariant::{Baseline, Position};

/// A server on free ports of the loopback, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// What clients trust, if the server speaks TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    folder: TempDir,
}

/// A fresh certificate of a server called `localhost`.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    /// A client that trusts this certificate only, and speaks these versions.
    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(versions).unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    fn write(&self, folder: &Path) {
        fs::write(folder.join("cert.pem"), &self.certificate).unwrap();
        fs::write(folder.join("key.pem"), &self.key).unwrap();
    }
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

    /// Starts with TLS, `config` and the certificate of `authority`, which its clients trust.
    pub(crate) fn start_tls(config: &str, authority: &Authority) -> Self {
        let folder = TempDir::new().unwrap();
        authority.write(folder.path());
        let path = folder.path().join("fanwire.toml");
        let listen = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
        let tls = "[tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n";
        fs::write(&path, format!("{listen}{config}{tls}")).unwrap();
        let mut command = fanwire(&["serve", "--config", path.to_str().unwrap()]);
        command.current_dir(folder.path());
        let mut server = Self::run(command, folder);
        server.tls = Some(authority.client(rustls::ALL_VERSIONS));
        server
    }

    /// Replaces the certificate's files.
    pub(crate) fn replace_certificate(&self, authority: &Authority) {
        authority.write(self.folder.path());
    }

    /// Runs `command`, which starts a server; `folder` is kept for it.
    pub(crate) fn run(command: Command, folder: TempDir) -> Self {
        let mut process = Process::start(command);
        let addr = port_of(&process.line(), "listening ");
        let admin = port_of(&process.line(), "admin ");
        Self { process, addr, admin, tls: None, folder }
    }

    pub(crate) fn wire(&self) -> Wire {
        let wire = Wire::connect(self.addr);
        match &self.tls {
            Some(tls) => wire.secure(tls),
            None => wire,
        }
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

    /// Publishes numbers over a WebSocket until told to stop; gives how many.
    pub(crate) fn publish_until(&self, topic: &str, stop: &Stop) -> u64 {
        let mut publisher = self.websocket(&format!("/topics/{topic}?echo=false"));
        let mut count = 0;
        // Fewer than the history keeps, however slow the reader is.
        while !stop.is_set() && count < 50_000 {
            count += 1;
            publisher.text(&count.to_string());
        }
        publisher.close(1000, "");
        publisher.drain();
        count
    }

    /// Publishes numbered strings of JSON, of 4 KB each, until an outbox of the topic is full, whose
    /// `delivery` is that.
    pub(crate) fn overflow(&self, topic: &str, delivery: &str) {
        let mut publisher = self.websocket(&format!("/topics/{topic}"));
        let overflows = || self.metric("fanwire_outbox_overflows_total", &[("delivery", delivery)]);
        let padding = "x".repeat(4000);
        for number in 1.. {
            assert!(number < 20_000, "nothing overflowed");
            publisher.text(&format!("\"{number} {padding}\""));
            publisher.next_text();
            if number % 100 == 0 && overflows() > 0 {
                break;
            }
        }
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

    /// Waits until so many requests were refused with that code.
    #[track_caller]
    pub(crate) fn await_refused(&self, reason: &str, expected: u64) {
        self.await_metric("fanwire_requests_refused_total", &[("reason", reason)], expected);
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
    let url = line.strip_prefix(prefix);
    let url = url.unwrap_or_else(|| panic!("not {prefix:?} but {line:?}"));
    let authority = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let authority = authority.expect("an address");
    let addr: SocketAddr = authority.parse().expect("an address");
    assert_ne!(addr.port(), 0, "the real port");
    SocketAddr::from(([127, 0, 0, 1], addr.port()))
}
