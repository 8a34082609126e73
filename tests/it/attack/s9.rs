//! S9: who may ask from where. Origin, Host, forwarded requests, CORS.

use crate::harness::{Request, Response, Server};

/// The same question as WebSocket handshake, stream and POST: the rule is one.
fn doors(server: &Server, change: impl Fn(Request) -> Request) -> [Response; 3] {
    [Request::handshake("/topics/a"), Request::get("/topics/a"), Request::post("/topics/a", "x")]
        .map(|request| server.wire().answer(&change(request)))
}

#[track_caller]
fn assert_allowed(responses: &[Response; 3], case: &str) {
    let statuses = responses.each_ref().map(|response| response.status);
    assert_eq!(statuses, [101, 200, 200], "{case}");
}

#[track_caller]
fn assert_refused(responses: &[Response; 3], expected: (u16, &str), case: &str) {
    for response in responses {
        let (status, code) = response.refusal();
        assert_eq!((status, code.as_str()), expected, "{case}");
    }
}

#[test]
fn by_default_an_origin_must_be_the_same_host() {
    let server = Server::start("");
    for (host, origin) in [
        ("127.0.0.1:9", "http://127.0.0.1:9"),
        ("localhost", "http://localhost"),
        ("localhost", "http://localhost:80"),
        ("localhost:80", "http://localhost"),
        ("localhost:443", "https://localhost"),
        ("LOCALHOST", "http://localhost"),
        ("[::1]:9", "http://[::1]:9"),
    ] {
        let case = format!("{origin} at {host}");
        let same = |request: Request| request.replace("Host", host).header("Origin", origin);
        assert_allowed(&doors(&server, same), &case);
    }
    for (host, origin) in [
        ("127.0.0.1", "null"),
        ("127.0.0.1", "http://evil.example"),
        ("127.0.0.1:9", "http://127.0.0.1:8"),
        ("127.0.0.1:9", "http://127.0.0.1"),
        ("localhost", "http://localhost.evil.example"),
        ("localhost", "http://evil.localhost"),
        ("localhost", "http://localhost@evil.example"),
        ("localhost", "localhost"),
        ("localhost", ""),
    ] {
        let case = format!("{origin} at {host}");
        let other = |request: Request| request.replace("Host", host).header("Origin", origin);
        assert_refused(&doors(&server, other), (403, "origin_not_allowed"), &case);
    }
}

#[test]
fn no_origin_is_allowed() {
    let server = Server::start("");
    assert_allowed(&doors(&server, |request| request), "no Origin");
}

#[test]
fn a_list_of_origins_is_exact() {
    let config = "[websocket]\nallowed_origins = [\"https://good.example\", \"null\"]\n";
    let server = Server::start(config);
    for (origin, status) in [
        ("https://good.example", 200),
        ("null", 200),
        ("http://good.example", 403),
        ("https://good.example:8443", 403),
        ("https://good.example.evil.example", 403),
        ("https://xn--god-sna.example", 403),
    ] {
        let request = Request::post("/topics/a", "x").header("Origin", origin);
        assert_eq!(server.request(&request).status, status, "{origin}");
    }
}

#[test]
fn a_star_allows_every_origin_and_stays_a_star() {
    let server = Server::start("[websocket]\nallowed_origins = [\"*\"]\n");
    let other = |request: Request| request.header("Origin", "https://any.example");
    let responses = doors(&server, other);
    assert_allowed(&responses, "any origin");
    for response in &responses[1..] {
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    }
}

#[test]
fn with_loopback_access_a_foreign_host_name_is_refused() {
    let server = Server::start("");
    for host in ["localhost", "a.localhost", "localhost:8080", "127.0.0.1", "192.0.2.1", "[::1]:1"]
    {
        let named = |request: Request| request.replace("Host", host);
        assert_allowed(&doors(&server, named), host);
    }
    for host in ["evil.example", "localhost.evil.example", "notlocalhost", "127.0.0.1.evil.example"]
    {
        let named = |request: Request| request.replace("Host", host);
        assert_refused(&doors(&server, named), (403, "host_not_allowed"), host);
    }
}

#[test]
fn without_loopback_access_any_host_name_will_do() {
    let server = Server::start("[auth]\nanonymous = \"all\"\n");
    let named = |request: Request| request.replace("Host", "chat.example");
    assert_allowed(&doors(&server, named), "chat.example");
}

#[test]
fn a_forwarded_request_is_not_a_loopback_one() {
    let server = Server::start("");
    for name in [
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Real-IP",
        "Via",
    ] {
        let forwarded = |request: Request| request.header(name, "192.0.2.7");
        assert_refused(&doors(&server, forwarded), (401, "token_required"), name);
    }
}

#[test]
fn an_allowed_origin_gets_its_cors_headers_also_on_errors() {
    let server = Server::start("");
    let origin = "http://127.0.0.1";
    for (request, status) in [
        (Request::post("/topics/a", "x"), 200),
        (Request::get("/topics/a/history"), 200),
        (Request::get("/topics/a?since=x:y"), 400),
        (Request::get("/nowhere"), 404),
    ] {
        let response = server.request(&request.header("Origin", origin));
        assert_eq!(response.status, status);
        assert_eq!(response.header("access-control-allow-origin"), Some(origin));
        let vary = response.header("vary").unwrap_or_default();
        assert!(vary.eq_ignore_ascii_case("origin"), "{vary}");
        let exposed = response.header("access-control-expose-headers");
        let expected = "Fanwire-Epoch, Fanwire-Offset, Fanwire-Recovered";
        assert_eq!(exposed, Some(expected));
    }
}

#[test]
fn a_preflight_is_answered_with_what_is_allowed() {
    let server = Server::start("");
    let request = Request::new("OPTIONS", "/topics/a")
        .header("Origin", "http://127.0.0.1")
        .header("Access-Control-Request-Method", "POST");
    let response = server.request(&request);
    assert_eq!(response.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "http://127.0.0.1"),
        ("access-control-allow-methods", "GET, POST, OPTIONS"),
        (
            "access-control-allow-headers",
            "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-API-Key",
        ),
        ("access-control-max-age", "600"),
    ] {
        let got = response.header(name).unwrap_or_default();
        assert!(got.eq_ignore_ascii_case(value), "{name}: {got}");
    }
    let foreign = request.replace("Origin", "http://evil.example");
    let refused = server.request(&foreign);
    refused.assert_refused(403, "origin_not_allowed");
    assert_eq!(refused.header("access-control-allow-origin"), None);
}
