//! Client addresses: from the socket, from trusted proxies, and the limits that count for them.

use std::net::Ipv4Addr;
use std::time::Instant;

use crate::harness::{Request, Response, Server, WebSocket, Wire, eventually};

const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 8);

fn start(limits: &str) -> Server {
    Server::start(&format!(
        "[auth]\nanonymous = \"all\"\n[limits]\ntrusted_proxies = [\"127.0.0.9\"]\n{limits}\n"
    ))
}

fn refused(server: &Server, reason: &str) -> u64 {
    server.metric("fanwire_requests_refused_total", &[("reason", reason)])
}

/// Sends a request from `peer` with `X-Forwarded-For` as it is given, over its own connection.
fn ask(server: &Server, peer: Ipv4Addr, behind: &str, request: &Request) -> (Wire, Response) {
    let mut wire = Wire::connect_from(peer, server.addr);
    let request = request.clone().header("X-Forwarded-For", behind);
    let response = wire.answer(&request);
    (wire, response)
}

fn open(server: &Server, peer: Ipv4Addr, behind: &str) -> Result<Wire, Response> {
    let (wire, response) = ask(server, peer, behind, &Request::handshake("/topics/a"));
    if response.status == 101 { Ok(wire) } else { Err(response) }
}

#[track_caller]
fn assert_full(result: Result<Wire, Response>, code: &str) {
    let response = result.expect_err("no room for that address");
    response.assert_refused(429, code);
    assert_eq!(response.header("retry-after"), Some("1"));
}

#[test]
fn the_cap_is_on_the_client_behind_a_trusted_proxy() {
    let server = start("connections_per_address_max = 2");
    let first = open(&server, PROXY, "192.0.2.1").unwrap();
    let _second = open(&server, PROXY, "203.0.113.5, 192.0.2.1").unwrap();
    assert_full(open(&server, PROXY, "192.0.2.1"), "address_limit");
    // What the client wrote before the proxy's word changes nothing.
    assert_full(open(&server, PROXY, "203.0.113.6, 192.0.2.1"), "address_limit");
    assert_full(open(&server, PROXY, "192.0.2.1, 127.0.0.9"), "address_limit");
    let _other = open(&server, PROXY, "192.0.2.2").unwrap();
    // A peer that is no proxy is itself, whatever it writes.
    let _strangers: Vec<_> =
        (0..2).map(|_| open(&server, STRANGER, "192.0.2.3").unwrap()).collect();
    assert_full(open(&server, STRANGER, "192.0.2.4"), "address_limit");
    assert_eq!(refused(&server, "address_limit"), 4);
    assert_eq!(server.metric("fanwire_addresses", &[]), 3);
    drop(first);
    server.await_metric("fanwire_connections", &[("door", "plain")], 4);
    open(&server, PROXY, "192.0.2.1").unwrap();
}

#[test]
fn a_proxy_may_ask_for_many_clients_over_one_connection() {
    let server = start("connections_per_address_max = 1");
    let mut wire = Wire::connect_from(PROXY, server.addr);
    for client in 0..20 {
        let request = Request::post("/topics/a", "x");
        let request = request.header("X-Forwarded-For", &format!("192.0.2.{}", client % 3));
        assert_eq!(wire.request(&request).status, 200);
    }
    server.await_metric("fanwire_addresses", &[], 0);
    // A stream is its client's for as long as it lasts.
    let sse = Request::sse("/topics/a");
    let (stream, response) = ask(&server, PROXY, "192.0.2.1", &sse);
    assert_eq!(response.status, 200);
    let (_, response) = ask(&server, PROXY, "192.0.2.1", &sse);
    response.assert_refused(429, "address_limit");
    let (_, response) = ask(&server, PROXY, "192.0.2.2", &sse);
    assert_eq!(response.status, 200);
    drop(stream);
    server.await_metric("fanwire_addresses", &[], 0);
    assert_eq!(ask(&server, PROXY, "192.0.2.1", &sse).1.status, 200);
}

/// Opens `count` sockets and streams, one after the other. Returns how many were let in, and how
/// many may have been at most, at `rate` per second.
fn burst(server: &Server, count: u32, rate: f64) -> (u32, f64) {
    let begin = Instant::now();
    let mut opened = 0;
    for number in 0..count {
        let request = match number % 2 {
            0 => Request::handshake("/topics/a"),
            _ => Request::sse("/topics/a"),
        };
        let (_, response) = ask(server, PROXY, "192.0.2.1", &request);
        if response.status >= 300 {
            response.assert_refused(429, "rate_limit");
            assert_eq!(response.header("retry-after"), Some("1"));
        } else {
            opened += 1;
        }
    }
    (opened, rate + rate * begin.elapsed().as_secs_f64())
}

#[test]
fn handshakes_have_a_rate_per_address() {
    let server = start("handshake_rate_per_address_max = 3");
    let (opened, most) = burst(&server, 30, 3.0);
    assert!((3.0..=most).contains(&f64::from(opened)), "{opened} of {most}");
    assert_eq!(refused(&server, "rate_limit"), u64::from(30 - opened));
    // Others, and what is no handshake, are free.
    open(&server, PROXY, "192.0.2.2").unwrap();
    open(&server, STRANGER, "192.0.2.1").unwrap();
    let post = Request::post("/topics/a", "x");
    for _ in 0..10 {
        assert_eq!(ask(&server, PROXY, "192.0.2.1", &post).1.status, 200);
    }
    eventually("there is room again", || open(&server, PROXY, "192.0.2.1").ok());
    // And then they are forgotten.
    server.await_metric("fanwire_addresses", &[], 0);
}

#[test]
fn the_rate_holds_before_a_token_is_looked_at() {
    let server = start("handshake_rate_per_address_max = 1");
    let bad = Request::handshake("/topics/a").header("Authorization", "Bearer a.b.c");
    eventually("a bad token is refused for being too many", || {
        let (_, response) = ask(&server, STRANGER, "", &bad);
        match response.refusal() {
            (401, _) => None,
            refusal => Some(assert_eq!(refusal, (429, "rate_limit".to_owned()))),
        }
    });
}

#[test]
fn loopback_access_is_for_clients_of_this_machine_behind_a_trusted_proxy_too() {
    let server = Server::start("[limits]\ntrusted_proxies = [\"127.0.0.9\"]\n");
    let status = |peer, headers: &[(&str, &str)]| {
        let mut request = Request::handshake("/topics/a");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        Wire::connect_from(peer, server.addr).answer(&request).status
    };
    for (peer, headers, expected) in [
        (PROXY, &[("X-Forwarded-For", "127.0.0.1")][..], 101),
        (PROXY, &[("Forwarded", "for=\"[::1]\";proto=https")], 101),
        (
            PROXY,
            &[("X-Forwarded-For", "127.0.0.1"), ("Via", "1.1 a"), ("X-Real-IP", "1.2.3.4")],
            101,
        ),
        (PROXY, &[("X-Forwarded-For", "192.0.2.1")], 401),
        (PROXY, &[("X-Forwarded-For", "127.0.0.1, 192.0.2.1")], 401),
        (PROXY, &[("X-Forwarded-For", "127.0.0.1"), ("Forwarded", "for=192.0.2.1")], 401),
        (PROXY, &[("X-Forwarded-Proto", "https")], 401),
        (PROXY, &[("X-Forwarded-For", "nonsense")], 401),
        (STRANGER, &[("X-Forwarded-For", "127.0.0.1")], 401),
        (STRANGER, &[("Forwarded", "for=127.0.0.1")], 401),
        (STRANGER, &[], 101),
    ] {
        assert_eq!(status(peer, headers), expected, "{peer} {headers:?}");
    }
}

#[test]
fn a_socket_that_was_upgraded_through_a_proxy_works_as_any() {
    let server = start("connections_per_address_max = 1");
    let request = Request::handshake("/topics/a").header("X-Forwarded-For", "192.0.2.1");
    let mut socket = WebSocket::open(Wire::connect_from(PROXY, server.addr), &request);
    socket.text("hello");
    assert_eq!(socket.next_text(), "hello");
    socket.close(1000, "");
    socket.assert_closed(1000, "");
    drop(socket);
    server.await_metric("fanwire_addresses", &[], 0);
}
