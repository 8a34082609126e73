//! TLS on the client port: every door, certificates that change, peers that speak something else.

use std::io::Write as _;
use std::thread;

use rustls::ProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::harness::{Authority, Request, Server, WebSocket, Wire, eventually, fanwire};

const HANDSHAKES: &str = "fanwire_tls_handshakes_total";

#[test]
fn every_door_is_served_encrypted() {
    let server = Server::start_tls("", &Authority::new());
    let mut socket = server.websocket("/topics/a");
    let mut events = server.sse("/topics/a");
    let mut lines = server.ndjson("/topics/a");
    lines.json();
    assert_eq!(server.publish("a", "one").offset, 1);
    assert_eq!(socket.next_text(), "one");
    assert_eq!(events.event().data.as_deref(), Some("one"));
    assert_eq!(lines.json()["data"], "one");
    socket.text("two");
    assert_eq!(socket.next_text(), "two");
    assert_eq!(events.event().data.as_deref(), Some("two"));
    assert_eq!(lines.json()["data"], "two");
    server.await_metric(HANDSHAKES, &[("result", "ok")], 4);
}

#[test]
fn tls_1_2_and_1_3_are_spoken_with_http_1_1_only() {
    let authority = Authority::new();
    let server = Server::start_tls("", &authority);
    for (version, expected) in
        [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
    {
        let wire = Wire::connect(server.addr).secure(&authority.client(&[version]));
        assert_eq!(wire.agreed(), (expected, Some(&b"http/1.1"[..])));
        let mut socket = WebSocket::open(wire, &Request::handshake("/topics/a"));
        socket.text("hello");
        assert_eq!(socket.next_text(), "hello");
    }
}

#[test]
fn a_message_longer_than_a_record_arrives_whole_both_ways() {
    let server = Server::start_tls("", &Authority::new());
    let mut socket = server.websocket("/topics/a");
    let text = "0123456789".repeat(6_000);
    for _ in 0..20 {
        socket.text(&text);
        assert_eq!(socket.next_text(), text);
    }
}

#[test]
fn a_slow_subscriber_gets_everything_in_order_and_a_full_outbox_closes_it() {
    let limits = "[limits]\noutbox_bytes_max = 4194304\n";
    let server = Server::start_tls(limits, &Authority::new());
    let narrow = || {
        let tls = server.tls.as_ref().expect("it speaks TLS");
        let wire = Wire::connect_narrow(server.addr, 4096).secure(tls);
        WebSocket::open(wire, &Request::handshake("/topics/a"))
    };
    let text = "x".repeat(50_000);
    let mut slow = narrow();
    for number in 0..60 {
        server.publish("a", &format!("{number} {text}"));
    }
    for number in 0..60 {
        assert_eq!(slow.next_text(), format!("{number} {text}"));
    }
    let mut stopped = narrow();
    while server.metric("fanwire_outbox_overflows_total", &[("delivery", "reliable")]) == 0 {
        server.publish("a", &text);
        slow.next_text();
    }
    let (_, close) = stopped.drain();
    assert_eq!(close, crate::harness::close_payload(1013, "outbox_overflow"));
    server.await_close_counted("1013", "outbox_overflow", 1);
}

#[test]
fn a_drain_says_goodbye_under_tls() {
    let server = Server::start_tls("drain.window = \"100ms\"\n", &Authority::new());
    let mut socket = server.websocket("/topics/a");
    server.publish("a", "last");
    server.process.signal("TERM");
    let (data, close) = socket.drain();
    assert_eq!(data.len(), 1);
    assert_eq!(close, crate::harness::close_payload(1012, "draining"));
}

#[test]
fn a_new_certificate_is_shown_to_newcomers_and_connections_go_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = Server::start_tls("", &old);
    let mut socket = server.websocket("/topics/a");
    assert_eq!(socket.wire.certificate(), old.der());
    server.replace_certificate(&new);
    server.process.signal("HUP");
    let both = new.client(rustls::ALL_VERSIONS);
    eventually("a line in the log", || {
        server.process.stderr().contains("certificate reloaded").then_some(())
    });
    socket.text("still here");
    assert_eq!(socket.next_text(), "still here");
    let wire = Wire::connect(server.addr).secure(&both);
    assert_eq!(wire.certificate(), new.der());
    let broken = Authority { certificate: String::new(), ..Authority::new() };
    server.replace_certificate(&broken);
    server.process.signal("HUP");
    eventually("a line in the log", || {
        server.process.stderr().contains("the old one stays").then_some(())
    });
    assert_eq!(Wire::connect(server.addr).secure(&both).certificate(), new.der());
}

#[test]
fn who_speaks_no_tls_or_stalls_is_cut_and_counted() {
    let config = "limits.handshake_timeout = \"300ms\"\n";
    let server = Server::start_tls(config, &Authority::new());
    let mut plain = Wire::connect(server.addr);
    plain.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    plain.wait_closed();
    let failed = [("result", "failed")];
    server.await_metric(HANDSHAKES, &failed, 1);
    // The first bytes of a hello, and then nothing.
    let mut stalled = Wire::connect(server.addr);
    stalled.send(&[0x16, 0x03, 0x01, 0x02, 0x00]);
    stalled.wait_closed();
    server.await_metric(HANDSHAKES, &failed, 2);
    // The time of the handshake counts for the request head, too.
    let mut silent = server.wire();
    silent.wait_closed();
    server.await_metric("fanwire_connections", &[("door", "http")], 0);
}

/// Opens connections that count for `door` to a server with TLS and to one without: the account
/// tells their encryption apart, and gets it back.
fn check_charged<C>(door: &str, open: impl Fn(&Server) -> C) {
    const COUNT: u64 = 10;
    const COST: u64 = 4096;
    let config = "limits.handshake_timeout = \"1m\"\n[[topic]]\nmatch = \"*\"\nhistory_size = 0\n";
    let (plain, tls) = (Server::start(config), Server::start_tls(config, &Authority::new()));
    let (name, kind) = ("fanwire_memory_bytes", [("kind", "connections")]);
    let (before, before_tls) = (plain.metric(name, &kind), tls.metric(name, &kind));
    let _connections: Vec<C> = (0..COUNT).map(|_| open(&plain)).collect();
    plain.await_metric("fanwire_connections", &[("door", door)], COUNT);
    if door != "http" {
        plain.await_metric("fanwire_connections", &[("door", "http")], 0);
    }
    let alike = plain.metric(name, &kind) - before;
    let connections: Vec<C> = (0..COUNT).map(|_| open(&tls)).collect();
    tls.await_metric(name, &kind, before_tls + alike + COUNT * COST);
    drop(connections);
    tls.await_metric(name, &kind, before_tls);
}

#[test]
fn encryption_is_on_the_memory_account_from_the_accept_to_the_end() {
    // They never say a word: the handshake has not begun.
    check_charged("http", |server| Wire::connect(server.addr));
    check_charged("plain", |server| server.websocket("/topics/a"));
}

#[test]
fn a_record_that_does_not_end_is_on_the_memory_account() {
    let config = "limits.handshake_timeout = \"1m\"\n";
    let server = Server::start_tls(config, &Authority::new());
    let held = || server.metric("fanwire_memory_bytes", &[("kind", "connections")]);
    let before = held();
    let mut wire = Wire::connect(server.addr);
    // The head of a record of 16 KiB, and less of it.
    wire.send(&[&[0x16, 0x03, 0x01, 0x40, 0x00][..], &[0; 10_000]].concat());
    eventually("what it sent to be charged", || (held() >= before + 10_000).then_some(()));
    drop(wire);
    eventually("its end", || (held() == before).then_some(()));
}

#[test]
fn an_end_without_a_word_of_tls_is_an_end() {
    let server = Server::start_tls("", &Authority::new());
    let socket = server.websocket("/topics/a");
    socket.wire.finish_sending();
    server.await_close_counted("1006", "abnormal", 1);
    server.await_metric("fanwire_connections", &[("door", "plain")], 0);
}

#[test]
fn pub_and_sub_speak_https() {
    let authority = Authority::new();
    let server = Server::start_tls("", &authority);
    let url = format!("https://localhost:{}", server.addr.port());
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, &authority.certificate).unwrap();
    let mut subscriber = server.ndjson("/topics/a");
    subscriber.json();
    let publish = |trusted: &std::path::Path| {
        let mut command = fanwire(&["pub", "--url", &url, "a", "hello"]);
        command.env("SSL_CERT_FILE", trusted).output().unwrap()
    };
    let output = publish(&trusted);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(subscriber.json()["data"], "hello");
    std::fs::write(&trusted, Authority::new().certificate).unwrap();
    let output = publish(&trusted);
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("invalid peer certificate"), "{told}");
}

#[test]
fn many_encrypted_clients_get_every_publication_of_many_publishers() {
    let server = Server::start_tls("", &Authority::new());
    let mut subscribers: Vec<_> = (0..20).map(|_| server.websocket("/topics/a")).collect();
    thread::scope(|scope| {
        for publisher in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut socket = server.websocket("/topics/a?echo=false");
                for number in 0..50 {
                    socket.text(&format!("{publisher} {number}"));
                }
                socket.close(1000, "");
                socket.drain();
            });
        }
        let first: Vec<_> = (0..200).map(|_| subscribers[0].next_text()).collect();
        for subscriber in &mut subscribers[1..] {
            let got: Vec<_> = (0..200).map(|_| subscriber.next_text()).collect();
            assert_eq!(got, first, "one order for everybody");
        }
    });
}

#[test]
fn a_bad_certificate_stops_the_start_with_the_file_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent.pem");
    let mut config = std::fs::File::create(folder.path().join("fanwire.toml")).unwrap();
    let path = path.display();
    writeln!(config, "[tls]\ncert_file = \"{path}\"\nkey_file = \"{path}\"").unwrap();
    let config = folder.path().join("fanwire.toml");
    let output = fanwire(&["serve", "--config", config.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("absent.pem"), "{told}");
}
