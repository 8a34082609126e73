//! S8: oversized request heads.

use crate::harness::{Request, Server, figure};

#[test]
fn a_request_head_over_the_limit_is_431() {
    let server = Server::start("[limits]\nrequest_head_bytes_max = 8192\n");
    let fits = Request::get("/topics/a/history").header("X-Filler", &"x".repeat(7000));
    assert_eq!(server.request(&fits).status, 200);
    for request in [Request::get("/topics/a"), Request::handshake("/topics/a")] {
        let big = request.header("X-Filler", &"x".repeat(9000));
        let mut wire = server.wire();
        assert_eq!(wire.request(&big).status, 431);
        wire.wait_closed();
    }
    let uri = Request::get(&format!("/topics/a/history?{}", "x".repeat(9000)));
    let status = server.request(&uri).status;
    assert!(status == 414 || status == 431, "{status}");
}

#[test]
fn too_many_headers_or_parameters_are_refused() {
    let server = Server::start("[limits]\nrequest_head_bytes_max = 65536\n");
    let mut many = Request::get("/topics/a/history");
    for number in 0..101 {
        many = many.header(&format!("X-{number}"), "x");
    }
    assert_eq!(server.request(&many).status, 431);
    let query = "a=1&".repeat(10_000);
    let parameters = Request::get(&format!("/topics/a/history?{query}"));
    server.request(&parameters).assert_refused(400, "query_invalid");
}

#[test]
fn heads_of_64_kib_are_refused_wherever_they_are_long() {
    let server = Server::start("");
    let long = "x".repeat(65_536);
    for request in [
        Request::handshake(&format!("/topics/{long}")),
        Request::handshake(&format!("/topics/a?since={long}")),
        Request::handshake("/topics/a").header("X-Filler", &long),
        Request::handshake("/topics/a").header("Sec-WebSocket-Protocol", &long),
        Request::handshake("/topics/a").header(&long, "x"),
    ] {
        let mut wire = server.wire();
        // The server may have closed before all of it is sent.
        wire.try_send(&request.to_bytes());
        let status = wire.head().status;
        assert!([414, 431].contains(&status), "{status}");
    }
}

#[test]
fn a_head_holds_no_more_than_its_limit() {
    let server = Server::start("[limits]\nhandshake_timeout = \"1m\"\n");
    let count = 200;
    let before = server.process.resident_len();
    let mut wires: Vec<_> = (0..count).map(|_| server.wire()).collect();
    for wire in &mut wires {
        wire.send(format!("GET /topics/a HTTP/1.1\r\nX-Filler: {}", "x".repeat(15_000)).as_bytes());
    }
    server.await_metric("fanwire_connections", &[("door", "http")], count);
    // It is answered when what came before has been read by its worker, or soon after.
    server.get("/topics/a/history");
    let charged = server.metric("fanwire_memory_bytes", &[("kind", "connections")]) / count;
    let held = server.process.resident_len().saturating_sub(before) / count;
    figure("S8", format_args!("{held} bytes per head of 15,000, {charged} on the account"));
    assert!((16_384..40_000).contains(&charged), "{charged} bytes charged");
    assert!(held < 64 * 1024, "{held} bytes per connection");
}
