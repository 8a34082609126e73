//! The pages as a scraper, a script and a probe see them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, Request};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::answer::answer;
use super::{Started, State, render, serve};
use crate::admission::Admission;
use crate::auth::Secret;
use crate::hub::{Variant, Variants};
use crate::id::Door;
use crate::limits::{Delivery, Limits};
use crate::metrics::{Memory, MemoryKind, WorkerMetrics};
use crate::reason::{CloseReason, ProtocolFault, Refusal};

/// Every name of the contract that this build has, and the number of its series.
const FAMILIES: [(&str, &str, usize); 35] = [
    ("fanwire_build_info", "gauge", 1),
    ("fanwire_connections", "gauge", 6),
    ("fanwire_connections_total", "counter", 6),
    ("fanwire_requests_refused_total", "counter", 27),
    ("fanwire_commands_refused_total", "counter", 1),
    ("fanwire_closes_total", "counter", 33),
    ("fanwire_protocol_errors_total", "counter", 13),
    ("fanwire_tls_handshakes_total", "counter", 2),
    ("fanwire_accept_pauses_total", "counter", 1),
    ("fanwire_topics", "gauge", 1),
    ("fanwire_subscriptions", "gauge", 1),
    ("fanwire_publications_total", "counter", 6),
    ("fanwire_publication_bytes_total", "counter", 6),
    ("fanwire_deliveries_total", "counter", 6),
    ("fanwire_delivery_bytes_total", "counter", 6),
    ("fanwire_encodings_total", "counter", 2),
    ("fanwire_writes_total", "counter", 1),
    ("fanwire_fanout_seconds", "histogram", 17),
    ("fanwire_outbox_bytes", "gauge", 1),
    ("fanwire_outbox_overflows_total", "counter", 3),
    ("fanwire_recoveries_total", "counter", 2),
    ("fanwire_memory_bytes", "gauge", 6),
    ("fanwire_memory_limit_bytes", "gauge", 1),
    ("fanwire_memory_shed_total", "counter", 3),
    ("fanwire_addresses", "gauge", 1),
    ("fanwire_handshakes_untracked_total", "counter", 1),
    ("fanwire_jwks_fetches_total", "counter", 4),
    ("fanwire_jwks_keys", "gauge", 1),
    ("process_cpu_seconds_total", "counter", 1),
    ("process_resident_memory_bytes", "gauge", 1),
    ("process_virtual_memory_bytes", "gauge", 1),
    ("process_open_fds", "gauge", 1),
    ("process_max_fds", "gauge", 1),
    ("process_threads", "gauge", 1),
    ("process_start_time_seconds", "gauge", 1),
];

#[test]
fn metrics_have_every_family_with_all_its_series() {
    let page = parse(&render(&state("")));
    for (name, kind, series) in FAMILIES {
        let family = page.get(name).unwrap_or_else(|| panic!("{name} is absent"));
        assert_eq!(family.kind, kind, "{name}");
        assert_eq!(family.samples.len(), series, "{name}");
    }
    let known = BTreeSet::from(FAMILIES.map(|(name, _, _)| name));
    assert!(page.keys().all(|name| known.contains(name.as_str())));
}

#[test]
fn metrics_are_sums_over_the_workers() {
    let page = parse(&render(&state("")));
    for (series, expected) in [
        ("fanwire_build_info{version=\"1.2.3\"}", 1.0),
        ("fanwire_topics", 7.0),
        ("fanwire_connections{door=\"plain\"}", 3.0),
        ("fanwire_connections{door=\"sse\"}", 0.0),
        ("fanwire_deliveries_total{door=\"plain\"}", 40.0),
        ("fanwire_writes_total", 10.0),
        ("fanwire_requests_refused_total{reason=\"query_invalid\"}", 2.0),
        ("fanwire_closes_total{code=\"1013\",reason=\"outbox_overflow\"}", 1.0),
        ("fanwire_closes_total{code=\"other\",reason=\"client\"}", 1.0),
        ("fanwire_protocol_errors_total{kind=\"unmasked\"}", 1.0),
        ("fanwire_outbox_overflows_total{delivery=\"latest\"}", 5.0),
        ("fanwire_recoveries_total{result=\"recovered\"}", 6.0),
        ("fanwire_memory_bytes{kind=\"history\"}", 99.0),
    ] {
        let name = series.split('{').next().expect("split yields one item");
        assert_eq!(page[name].samples.get(series), Some(&expected), "{series}");
    }
}

#[test]
fn fanout_buckets_are_cumulative() {
    let samples = &parse(&render(&state("")))["fanwire_fanout_seconds"].samples;
    for (suffix, expected) in [
        ("_bucket{le=\"0.00005\"}", 0.0),
        ("_bucket{le=\"0.001\"}", 3.0),
        ("_bucket{le=\"0.0025\"}", 5.0),
        ("_bucket{le=\"5\"}", 5.0),
        ("_bucket{le=\"+Inf\"}", 6.0),
        ("_sum", 9.007),
        ("_count", 6.0),
    ] {
        let value = samples[&format!("fanwire_fanout_seconds{suffix}")];
        assert!((value - expected).abs() < 1e-9, "{suffix}: {value}");
    }
}

#[tokio::test]
async fn stats_leave_out_only_what_never_happened() {
    let answer = ask(&state(""), "GET", "/stats", &[("host", "localhost")]).await;
    assert_eq!(answer.headers[CONTENT_TYPE], "application/json");
    let stats: serde_json::Value = serde_json::from_slice(&answer.body).expect("valid JSON");
    for (pointer, expected) in [
        ("/version", "\"1.2.3\""),
        ("/status", "\"ready\""),
        ("/workers", "2"),
        ("/topics", "7"),
        ("/connections/plain", "3"),
        ("/connections/centrifugo_json", "0"),
        ("/deliveries_per_write", "4.0"),
        ("/refusals", r#"{"query_invalid":2}"#),
        ("/protocol_errors", r#"{"unmasked":1}"#),
        ("/closes/0/code", "\"other\""),
        ("/closes/1/reason", "\"outbox_overflow\""),
        ("/closes/1/count", "1"),
        ("/memory_bytes/history", "99"),
        ("/memory_bytes_max", "1000"),
        ("/recoveries", r#"{"not_recovered":0,"recovered":6}"#),
    ] {
        let value = stats.pointer(pointer).map(ToString::to_string);
        assert_eq!(value.as_deref(), Some(expected), "{pointer}");
    }
    assert!(stats["uptime_seconds"].is_f64());
    assert!(stats["process"]["resident_bytes"].is_u64());
}

#[tokio::test]
async fn every_request_has_its_status() {
    let local = [("host", "localhost:1")];
    let rebound = [("host", "evil.example")];
    for (method, path, headers, status, code) in [
        ("GET", "/", &local[..], 200, ""),
        ("GET", "/metrics?x=1", &local, 200, ""),
        ("GET", "/stats", &local, 200, ""),
        ("GET", "/health/live", &[], 200, ""),
        ("GET", "/health/ready", &rebound, 200, ""),
        ("GET", "/health/else", &[], 404, "not_found"),
        ("POST", "/health/live", &[], 405, "method_not_allowed"),
        ("GET", "/metrics", &rebound, 403, "host_not_allowed"),
        ("GET", "/", &[], 403, "host_not_allowed"),
        ("GET", "/metrics/", &local, 404, "not_found"),
        ("POST", "/nowhere", &local, 404, "not_found"),
        ("POST", "/metrics", &local, 405, "method_not_allowed"),
        ("HEAD", "/stats", &local, 405, "method_not_allowed"),
    ] {
        let answer = ask(&state(""), method, path, headers).await;
        assert_eq!(answer.status, status, "{method} {path} {headers:?}");
        answer.expect_code(code);
        let allow = (status == 405).then_some("GET");
        assert_eq!(answer.headers.get(ALLOW).map(|v| v.to_str().expect("ASCII")), allow);
    }
}

#[tokio::test]
async fn the_password_is_asked_for_everything_but_health() {
    let state = state("secret");
    let right = [(AUTHORIZATION.as_str(), "Basic YW55OnNlY3JldA==")];
    let wrong = [(AUTHORIZATION.as_str(), "Basic YW55Ondyb25n")];
    for (path, headers, status, code) in [
        ("/", &right[..], 200, ""),
        ("/metrics", &right, 200, ""),
        ("/stats", &right, 200, ""),
        ("/nowhere", &right, 404, "not_found"),
        ("/", &[], 401, "token_required"),
        ("/nowhere", &[], 401, "token_required"),
        ("/stats", &wrong, 401, "token_invalid"),
        ("/health/live", &[], 200, ""),
        ("/health/ready", &wrong, 200, ""),
    ] {
        let answer = ask(&state, "GET", path, headers).await;
        assert_eq!(answer.status, status, "{path}");
        answer.expect_code(code);
        assert_eq!(answer.headers.contains_key(WWW_AUTHENTICATE), status == 401, "{path}");
    }
}

#[tokio::test]
async fn readiness_tells_why_not() {
    for refusal in [Refusal::Draining, Refusal::EngineUnavailable] {
        let mut state = state("");
        state.ready = Box::new(move || Err(refusal));
        let answer = ask(&state, "GET", "/health/ready", &[]).await;
        assert_eq!(answer.status, 503);
        assert!(answer.headers.contains_key(RETRY_AFTER));
        answer.expect_code(refusal.code());
        let live = ask(&state, "GET", "/health/live", &[]).await;
        assert_eq!(live.status, 200);
    }
}

#[tokio::test]
async fn a_request_over_a_socket_is_answered_and_the_connection_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(serve(listener, Arc::new(state(""))));
    for (request, status, end) in [
        ("GET /metrics HTTP/1.1\r\n", "HTTP/1.1 200 OK", "\n"),
        ("GET / HTTP/1.1\r\n", "HTTP/1.1 200 OK", "</html>\n"),
        ("POST /stats HTTP/1.1\r\nContent-Length: 4\r\n", "HTTP/1.1 405 Method Not Allowed", "}"),
    ] {
        let text = exchange(address, &format!("{request}Host: {address}\r\n\r\nbody")).await;
        assert!(text.starts_with(status) && text.ends_with(end), "{text}");
    }
    server.abort();
}

async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
    let deadline = Duration::from_secs(5);
    let exchange = async {
        let mut socket = TcpStream::connect(address).await.expect("connect");
        socket.write_all(request.as_bytes()).await.expect("write");
        let mut text = String::new();
        socket.read_to_string(&mut text).await.expect("read");
        text
    };
    tokio::time::timeout(deadline, exchange).await.expect("the connection ends by itself")
}

struct Asked {
    status: u16,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Asked {
    /// Checks the error's code; an empty `code` stands for no error.
    fn expect_code(&self, code: &str) {
        if !code.is_empty() {
            let error: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
            assert_eq!(error["error"]["code"], code);
            assert!(error["error"]["message"].is_string());
        }
    }
}

async fn ask(state: &State, method: &str, path: &str, headers: &[(&str, &str)]) -> Asked {
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).expect("a method"))
        .uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).expect("a valid request").into_parts();
    let (head, body) = answer(state, &head).into_parts();
    Asked {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.collect().await.expect("whole").to_bytes(),
    }
}

/// Two workers that have seen a little of everything.
fn state(password: &str) -> State {
    let workers = [WorkerMetrics::default(), WorkerMetrics::default()];
    for worker in &workers {
        worker.deliveries[Door::Plain.index()].add(20);
        worker.writes.add(5);
        worker.refused[Refusal::QueryInvalid as usize].add(1);
        worker.recovered.add(3);
    }
    // A connection that opened on one worker and ended on the other.
    workers[0].connections[Door::Plain.index()].add(4);
    workers[1].connections[Door::Plain.index()].sub(1);
    workers[0].closes[CloseReason::OutboxOverflow.index()].add(1);
    workers[0].closes[CloseReason::ClientOther(4000).index()].add(1);
    workers[0].protocol_errors[ProtocolFault::Unmasked.index()].add(1);
    workers[1].overflows[Delivery::Latest as usize].add(5);
    workers[0].fanout.observe(Duration::from_millis(1), 3);
    workers[1].fanout.observe(Duration::from_millis(2), 2);
    workers[1].fanout.observe(Duration::from_secs(9), 1);
    let memory = Memory::new(1000);
    memory.charge(MemoryKind::History, 99);
    let variant = |name| Variant::new(name, |_, _| Bytes::new());
    State {
        workers: workers.into_iter().map(Arc::new).collect(),
        memory: Arc::new(memory),
        variants: Arc::new(Variants::new([variant("plain"), variant("json")])),
        topics: Box::new(|| 7),
        refused_commands: Box::new(|| vec![("103", 2)]),
        admission: Arc::new(Admission::new(9, &Limits::default())),
        keys: None,
        ready: Box::new(|| Ok(())),
        password: Secret::new(password.to_owned()),
        started: Started::now(),
        version: "1.2.3",
    }
}

struct Family {
    kind: String,
    /// Values by the whole series, labels included.
    samples: BTreeMap<String, f64>,
}

/// Parses the exposition and panics on whatever a strict scraper would refuse.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut page = BTreeMap::<String, Family>::new();
    let mut current = String::new();
    let mut lines = text.strip_suffix('\n').expect("a last newline").lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a help text");
            assert!(!help.is_empty(), "{name} has a help text");
            let kind = lines
                .next()
                .and_then(|line| {
                    line.strip_prefix("# TYPE ")?.strip_prefix(name)?.strip_prefix(' ')
                })
                .expect("TYPE follows HELP");
            name.clone_into(&mut current);
            let family = Family { kind: kind.to_owned(), samples: BTreeMap::new() };
            let earlier = page.insert(current.clone(), family);
            assert!(earlier.is_none(), "{current} comes once");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let value = value.parse().expect("a number");
            check_series(series, &current);
            let family = page.get_mut(&current).expect("a family was opened");
            let earlier = family.samples.insert(series.to_owned(), value);
            assert!(earlier.is_none(), "{series} comes once");
        }
    }
    page
}

/// Checks the grammar `name{label="value",...}` and that the series belongs to `family`.
fn check_series(series: &str, family: &str) {
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').expect("a closing brace")),
        None => (series, ""),
    };
    let suffix = name.strip_prefix(family).expect("the family's name");
    assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "{series}");
    let mut seen = BTreeSet::new();
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once('=').expect("label=value");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{series}");
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        let value = value.expect("a quoted value");
        assert!(!value.contains(['"', '\\', '\n']), "{series}");
        assert!(seen.insert(name), "{series} has {name} once");
    }
}
