//! What the operator sees: metrics, health, stats.

use crate::harness::{CLOSE, FIN, Request, Server, TEXT, close_payload, frame};
use crate::invariant::Closes;

const NAMES: &[&str] = &[
    "fanwire_build_info",
    "fanwire_closes_total",
    "fanwire_connections",
    "fanwire_connections_total",
    "fanwire_deliveries_total",
    "fanwire_delivery_bytes_total",
    "fanwire_encodings_total",
    "fanwire_fanout_seconds_bucket",
    "fanwire_fanout_seconds_count",
    "fanwire_fanout_seconds_sum",
    "fanwire_memory_bytes",
    "fanwire_memory_limit_bytes",
    "fanwire_memory_shed_total",
    "fanwire_outbox_bytes",
    "fanwire_outbox_overflows_total",
    "fanwire_protocol_errors_total",
    "fanwire_publication_bytes_total",
    "fanwire_publications_total",
    "fanwire_recoveries_total",
    "fanwire_requests_refused_total",
    "fanwire_subscriptions",
    "fanwire_topics",
    "fanwire_writes_total",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
];

/// A little of everything that has a metric.
pub(crate) fn use_everything(server: &Server, tag: &str) {
    let topic = format!("/topics/{tag}");
    let mut socket = server.websocket(&topic);
    socket.text("x");
    socket.next_text();
    server.ndjson(&topic).json();
    server.sse(&format!("{topic}?since=0")).block();
    server.websocket(&format!("{topic}?format=json")).json();
    server.get(&format!("/{tag}"));
    server.request(&Request::new("DELETE", &topic).header("User-Agent", tag));
    let code = 3000 + u16::try_from(tag.len()).unwrap();
    socket.wire.send(&frame(FIN | 0x8, &close_payload(code, tag)));
    let mut broken = server.websocket(&topic);
    broken.wire.send(&frame(FIN | TEXT, b"\xFF"));
    broken.drain();
}

#[test]
fn every_metric_of_the_contract_is_there() {
    let server = Server::start("");
    use_everything(&server, "a");
    let metrics = server.metrics();
    let names = metrics.names();
    let missing: Vec<_> = NAMES.iter().filter(|name| !names.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?} of {names:?}");
}

#[test]
fn every_close_is_counted_as_it_is_told() {
    let server = Server::start("[limits]\nmessage_bytes_max = 100\npublish_rate_max = 2\n");
    let text = |payload: &[u8]| frame(FIN | TEXT, payload);
    let close = |code| frame(FIN | CLOSE, &close_payload(code, ""));
    let last_words = [
        close(1000),
        close(1001),
        close(4321),
        text(b"\xFF"),
        text(&[b'x'; 101]),
        vec![FIN | TEXT, 1, b'x'],
        text(b"x").repeat(3),
    ];
    let mut told = Closes::default();
    for bytes in last_words.iter().cycle().take(20) {
        let mut socket = server.websocket("/topics/a");
        socket.wire.send(bytes);
        let (_, close) = socket.drain();
        let code = u16::from_be_bytes([close[0], close[1]]);
        match (code, &close[2..]) {
            (1000 | 1001, b"") => told.add(code, "client", 1),
            (_, b"") => told.add(0, "client", 1),
            (_, reason) => told.add(code, str::from_utf8(reason).unwrap(), 1),
        }
    }
    assert_eq!(told.count(), 20);
    told.agree(&Closes::counted(&server.stats())).unwrap();
}

#[test]
fn every_metric_is_described() {
    let server = Server::start("");
    let text = server.admin_get("/metrics").text();
    for name in NAMES.iter().filter(|name| name.starts_with("fanwire_")) {
        let family = name.trim_end_matches("_bucket");
        let family = family.trim_end_matches("_count").trim_end_matches("_sum");
        for comment in ["HELP", "TYPE"] {
            assert!(text.contains(&format!("# {comment} {family} ")), "{comment} {family}");
        }
    }
}

#[test]
fn publications_and_deliveries_are_counted_by_door() {
    let server = Server::start("");
    let mut socket = server.websocket("/topics/a");
    let mut lines = server.ndjson("/topics/a");
    let mut events = server.sse("/topics/a");
    socket.text("12345");
    assert_eq!(socket.next_text(), "12345");
    server.publish("a", "123");
    assert_eq!(socket.next_text(), "123");
    lines.json();
    assert_eq!(lines.json()["data"], "12345");
    assert_eq!(lines.json()["data"], "123");
    events.event();
    assert_eq!(events.event().data.as_deref(), Some("123"));
    for (name, door, expected) in [
        ("fanwire_publications_total", "plain", 1),
        ("fanwire_publications_total", "http", 1),
        ("fanwire_publication_bytes_total", "plain", 5),
        ("fanwire_publication_bytes_total", "http", 3),
        ("fanwire_deliveries_total", "plain", 2),
        ("fanwire_deliveries_total", "ndjson", 2),
        ("fanwire_deliveries_total", "sse", 2),
    ] {
        server.await_metric(name, &[("door", door)], expected);
    }
    assert!(server.metric("fanwire_delivery_bytes_total", &[("door", "plain")]) >= 8);
    assert!(server.metric("fanwire_writes_total", &[]) >= 1);
}

#[test]
fn a_publication_is_encoded_once_however_many_take_it() {
    let server = Server::start_with("", &["--workers", "2"]);
    let encodings = || server.metric("fanwire_encodings_total", &[]);
    let mut sockets: Vec<_> = (0..10).map(|_| server.websocket("/topics/a?format=json")).collect();
    let mut counts = Vec::new();
    for _ in 0..2 {
        server.publish("a", "x");
        for socket in &mut sockets {
            while socket.json().get("data").is_none() {}
        }
        counts.push(encodings());
    }
    assert!(counts[0] >= 1, "{counts:?}");
    assert!(counts[1] - counts[0] <= 2, "{counts:?}");
}

#[test]
fn a_healthy_server_is_live_and_ready() {
    let server = Server::start("");
    for target in ["/health/live", "/health/ready"] {
        assert_eq!(server.admin_get(target).status, 200, "{target}");
    }
    assert_eq!(server.admin_get("/nowhere").status, 404);
}

#[test]
fn stats_are_json() {
    let server = Server::start("");
    let _socket = server.websocket("/topics/a");
    let response = server.admin_get("/stats");
    assert_eq!(response.status, 200);
    assert!(response.json().is_object());
    let content_type = response.header("content-type").unwrap();
    assert!(content_type.starts_with("application/json"), "{content_type}");
}
