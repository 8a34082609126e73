//! Origins against hosts and lists.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{OriginError, OriginPolicy, cors_headers, preflight};
use crate::http::route::Route;
use crate::reason::Refusal;

fn policy(allowed: &[&str]) -> OriginPolicy {
    let allowed = allowed.iter().map(|entry| (*entry).to_owned()).collect();
    OriginPolicy::new(allowed).expect("good entries")
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
        headers.append(HeaderName::from_static(name), value);
    }
    headers
}

/// Checks an origin; `Ok("")` stands for "no header is due".
fn check(allowed: &[&str], lines: &[(&'static str, &str)]) -> Result<String, Refusal> {
    match policy(allowed).check(&headers(lines)) {
        Ok(value) => {
            Ok(value.map_or(String::new(), |value| value.to_str().expect("ASCII").to_owned()))
        }
        Err(refused) => Err(refused.refusal),
    }
}

#[test]
fn an_empty_list_allows_the_same_host_only() {
    for (host, origin, allowed) in [
        ("good.com", "http://good.com", true),
        ("good.com", "https://good.com", true),
        ("good.com", "HTTPS://GOOD.com", true),
        ("GOOD.com", "https://good.com", true),
        ("good.com", "http://good.com:80", true),
        ("good.com", "https://good.com:443", true),
        ("good.com:80", "http://good.com", true),
        ("good.com:443", "https://good.com", true),
        ("good.com:8080", "http://good.com:8080", true),
        ("127.0.0.1:8080", "http://127.0.0.1:8080", true),
        ("[::1]:8080", "http://[::1]:8080", true),
        ("[::1]", "http://[::1]:80", true),
        ("xn--bcher-kva.example", "https://xn--bcher-kva.example", true),
        ("good.com", "http://good.com:443", false),
        ("good.com", "https://good.com:80", false),
        ("good.com", "http://good.com:8080", false),
        ("good.com:8080", "http://good.com", false),
        ("good.com", "http://good.com.evil", false),
        ("good.com", "http://evilgood.com", false),
        ("good.com", "http://evil.com", false),
        ("good.com", "http://a.good.com", false),
        ("good.com", "http://evil@good.com", false),
        ("good.com", "http://good.com/", false),
        ("good.com", "good.com", false),
        ("good.com", "null", false),
        ("good.com", "", false),
        ("b\u{fc}cher.example", "https://b\u{fc}cher.example", false),
        ("", "http://", false),
        ("", "file://", false),
    ] {
        let expected = if allowed { Ok(origin.to_owned()) } else { Err(Refusal::OriginNotAllowed) };
        let got = check(&[], &[("host", host), ("origin", origin)]);
        assert_eq!(got, expected, "{origin} at {host}");
    }
}

#[test]
fn a_list_is_exact_and_the_same_host_is_not_on_it() {
    let allowed =
        ["https://good.com", "http://localhost:3000", "null", "https://xn--bcher-kva.example"];
    for (origin, expected) in [
        ("https://good.com", true),
        ("http://localhost:3000", true),
        ("null", true),
        ("https://GOOD.com", false),
        ("https://good.com:443", false),
        ("https://good.com:8443", false),
        ("http://good.com", false),
        ("https://good.com.evil", false),
        ("https://good.com.", false),
        ("https://good.com/", false),
        ("https://good.com@evil.com", false),
        ("https://evil.com#https://good.com", false),
        ("https://good.comm", false),
        ("https://agood.com", false),
        ("HTTPS://good.com", false),
        ("https://xn--bcher-kva.example", true),
        ("https://XN--BCHER-KVA.example", false),
        ("https://b\u{fc}cher.example", false),
        ("https://bucher.example", false),
        ("https://g\u{43e}\u{43e}d.com", false),
        ("http://localhost:3001", false),
        ("http://localhost", false),
        ("http://localhost:30000", false),
        ("http://here.example", false),
        ("NULL", false),
        ("", false),
    ] {
        let got = check(&allowed, &[("host", "here.example"), ("origin", origin)]);
        assert_eq!(got.is_ok(), expected, "{origin}");
    }
    assert_eq!(
        check(&["https://good.com"], &[("host", "a"), ("origin", "null")]),
        Err(Refusal::OriginNotAllowed)
    );
}

#[test]
fn a_star_allows_any_origin_and_stays_a_star() {
    for origin in ["https://evil.com", "null", "http://good.com"] {
        assert_eq!(check(&["*"], &[("origin", origin)]), Ok("*".to_owned()));
    }
}

#[test]
fn no_origin_is_no_page_and_two_are_refused() {
    let twice = [("host", "a"), ("origin", "http://a"), ("origin", "http://a")];
    for allowed in [&[][..], &["*"], &["http://a"]] {
        assert_eq!(check(allowed, &[("host", "a")]), Ok(String::new()));
        assert_eq!(check(allowed, &twice), Err(Refusal::OriginNotAllowed));
    }
    let hosts = [("host", "a"), ("host", "b"), ("origin", "http://a")];
    assert_eq!(check(&[], &hosts), Err(Refusal::OriginNotAllowed));
    assert_eq!(check(&[], &[("origin", "http://a")]), Err(Refusal::OriginNotAllowed));
}

#[test]
fn an_entry_that_no_browser_sends_is_an_error() {
    for entry in [
        "",
        "good.com",
        "https://",
        "://good.com",
        "https://good.com/",
        "https://good.com/chat",
        "https://Good.com",
        "HTTPS://good.com",
        "https://good.com:443",
        "http://good.com:80",
        "https://*.good.com",
        "https://b\u{fc}cher.example",
        "https://good.com ",
        "Null",
    ] {
        let got = OriginPolicy::new(vec!["https://a.example".to_owned(), entry.to_owned()]);
        let entry = entry.to_owned();
        assert_eq!(got, Err(OriginError { entry }));
    }
}

fn shown(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        format!("{name}: {}", value.to_str().expect("ASCII"))
    };
    let mut lines: Vec<_> = headers.iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn the_answer_says_what_a_page_may_do() {
    let expose = "access-control-expose-headers: Fanwire-Epoch, Fanwire-Offset, Fanwire-Recovered";
    for (allow_origin, expected) in [
        (None, vec![]),
        (Some("*"), vec!["access-control-allow-origin: *", expose]),
        (Some("http://a"), vec!["access-control-allow-origin: http://a", expose, "vary: Origin"]),
    ] {
        let allow_origin = allow_origin.map(HeaderValue::from_static);
        let mut headers = HeaderMap::new();
        cors_headers(&mut headers, allow_origin);
        assert_eq!(shown(&headers), expected);
    }
}

#[test]
fn options_say_what_a_page_may_send() {
    for (route, methods, max_age) in [
        (Route::Index, "GET, POST, OPTIONS", "600"),
        (Route::CentrifugoStream, "GET, POST, OPTIONS", "600"),
        (Route::Emulation, "POST, OPTIONS", "300"),
    ] {
        let answer = preflight(&route);
        assert_eq!(answer.status(), 204);
        assert!(answer.body().is_empty());
        let expected = [
            "access-control-allow-headers: Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-API-Key".to_owned(),
            format!("access-control-allow-methods: {methods}"),
            format!("access-control-max-age: {max_age}"),
        ];
        assert_eq!(shown(answer.headers()), expected, "{route:?}");
    }
}
