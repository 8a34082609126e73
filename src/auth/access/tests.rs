//! Every rule of access, as tables of requests.

use std::net::SocketAddr;

use http::Request;
use http::request::Parts;

use super::{Access, AuthConfig, Identified};
use crate::auth::{Anonymous, Identity, Right, Secret};
use crate::reason::Refusal;

type Headers = &'static [(&'static str, &'static str)];

const EVERYTHING: Result<Identity, Refusal> = Ok(Identity::ALL);

fn access(anonymous: Anonymous, listen: &str) -> Access {
    let api_keys = ["first", "second", ""].map(|key| Secret::new(key.to_owned()));
    let config = AuthConfig { anonymous, api_keys: api_keys.into() };
    let address: SocketAddr = listen.parse().expect("an address");
    Access::new(config, &[address])
}

fn request(uri: &str, headers: Headers) -> Parts {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn identify(access: &Access, uri: &str, headers: Headers) -> Result<Identity, Refusal> {
    match access.identify(&request(uri, headers)) {
        Ok(Identified { identity, used_bearer }) => {
            assert_eq!(used_bearer, None);
            Ok(identity)
        }
        Err(refused) => Err(refused.refusal),
    }
}

#[test]
fn anonymous_clients_get_what_the_configuration_gives() {
    let reader = Ok(Identity::with(&[Right::Subscribe, Right::History]));
    for (anonymous, expected) in [
        (Anonymous::All, EVERYTHING),
        (Anonymous::Subscribe, reader),
        (Anonymous::None, Err(Refusal::TokenRequired)),
        (Anonymous::Loopback, Err(Refusal::TokenRequired)),
    ] {
        let access = access(anonymous, "10.0.0.1:8080");
        assert_eq!(
            identify(&access, "/topics/a", &[("host", "fanwire.example")]),
            expected,
            "{anonymous:?}"
        );
    }
}

#[test]
fn the_first_credential_decides() {
    let bad = Err(Refusal::TokenInvalid);
    let cases: &[(&str, Headers, Result<Identity, Refusal>)] = &[
        ("/", &[("x-api-key", "first")], EVERYTHING),
        ("/", &[("x-api-key", "second")], EVERYTHING),
        ("/", &[("x-api-key", "third")], bad),
        ("/", &[("x-api-key", "First")], bad),
        ("/", &[("x-api-key", "")], bad),
        ("/", &[("x-api-key", "first"), ("x-api-key", "first")], bad),
        ("/", &[("x-api-key", "first\u{e9}")], bad),
        ("/", &[("authorization", "apikey first")], EVERYTHING),
        ("/", &[("authorization", "ApiKey  second")], EVERYTHING),
        ("/", &[("authorization", "apikey")], bad),
        ("/", &[("authorization", "apikey ")], bad),
        ("/", &[("authorization", "apikey third")], bad),
        ("/", &[("authorization", "first")], bad),
        ("/", &[("authorization", "Basic Zmlyc3Q6")], bad),
        ("/", &[("authorization", "Bearer a.b.c")], bad),
        ("/", &[("authorization", "bearer first")], bad),
        ("/", &[("authorization", "")], bad),
        ("/?token=a.b.c", &[], bad),
        ("/?token=", &[], bad),
        ("/?x=1&token=a.b.c", &[], bad),
        ("/", &[("sec-websocket-protocol", "bearer.a.b.c")], bad),
        ("/", &[("sec-websocket-protocol", "x, bearer.a")], bad),
        ("/", &[("cookie", "fanwire_token=a.b.c")], bad),
        ("/", &[("cookie", "a=b; fanwire_token=a.b.c")], bad),
        // The order: Authorization, X-API-Key, subprotocol, query, cookie.
        ("/", &[("authorization", "apikey first"), ("x-api-key", "third")], EVERYTHING),
        ("/", &[("x-api-key", "first"), ("authorization", "Bearer a.b.c")], bad),
        (
            "/?token=a",
            &[
                ("x-api-key", "first"),
                ("cookie", "fanwire_token=a"),
                ("sec-websocket-protocol", "bearer.a"),
            ],
            EVERYTHING,
        ),
        // What only looks like one is none.
        ("/?tokens=a&atoken=b", &[], EVERYTHING),
        ("/", &[("cookie", "xfanwire_token=a; b=c")], EVERYTHING),
        ("/", &[("sec-websocket-protocol", "bearer")], EVERYTHING),
    ];
    // Where anonymous clients may do everything, a bad credential still is refused.
    let access = access(Anonymous::All, "10.0.0.1:8080");
    for (uri, headers, expected) in cases {
        assert_eq!(identify(&access, uri, headers), *expected, "{uri} {headers:?}");
    }
}

#[test]
fn without_api_keys_none_is_right() {
    let access = Access::new(AuthConfig::default(), &[]);
    for key in ["", "x"] {
        let request = Request::builder().header("x-api-key", key);
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let refused = access.identify(&parts).expect_err("no key is configured");
        assert_eq!(refused.refusal, Refusal::TokenInvalid);
    }
}

#[test]
fn loopback_is_effective_only_while_every_listener_is_on_loopback() {
    for (listen, expected) in [
        (&["127.0.0.1:80"][..], true),
        (&["127.9.9.9:80"], true),
        (&["[::1]:80"], true),
        (&["[::ffff:127.0.0.1]:80"], true),
        (&["127.0.0.1:80", "[::1]:80"], true),
        (&["0.0.0.0:80"], false),
        (&["[::]:80"], false),
        (&["10.0.0.1:80"], false),
        (&["127.0.0.1:80", "10.0.0.1:80"], false),
        (&[], false),
    ] {
        let addresses: Vec<SocketAddr> =
            listen.iter().map(|text| text.parse().expect("an address")).collect();
        let access = Access::new(AuthConfig::default(), &addresses);
        assert_eq!(access.is_loopback_effective(), expected, "{listen:?}");
    }
    assert!(!access(Anonymous::All, "127.0.0.1:80").is_loopback_effective());
}

#[test]
fn loopback_takes_only_names_of_this_machine_and_no_proxies() {
    let host = Err(Refusal::HostNotAllowed);
    let proxy = Err(Refusal::TokenRequired);
    let cases: &[(Headers, Result<Identity, Refusal>)] = &[
        (&[("host", "localhost")], EVERYTHING),
        (&[("host", "LOCALHOST:8080")], EVERYTHING),
        (&[("host", "chat.localhost:8080")], EVERYTHING),
        (&[("host", "127.0.0.1:8080")], EVERYTHING),
        (&[("host", "192.168.1.7")], EVERYTHING),
        (&[("host", "[::1]")], EVERYTHING),
        (&[("host", "[::1]:8080")], EVERYTHING),
        (&[], host),
        (&[("host", "")], host),
        (&[("host", "evil.example")], host),
        (&[("host", "localhost.evil.example")], host),
        (&[("host", "notlocalhost")], host),
        (&[("host", "localhost:x")], host),
        (&[("host", "127.0.0.1.evil.example")], host),
        (&[("host", "127.1")], host),
        (&[("host", "[::1].evil.example")], host),
        (&[("host", "evil@localhost")], host),
        (&[("host", "localhost"), ("host", "evil.example")], host),
        (&[("host", "localhost"), ("forwarded", "for=1.2.3.4")], proxy),
        (&[("host", "localhost"), ("x-forwarded-for", "1.2.3.4")], proxy),
        (&[("host", "localhost"), ("X-Forwarded-Proto", "https")], proxy),
        (&[("host", "localhost"), ("x-real-ip", "1.2.3.4")], proxy),
        (&[("host", "localhost"), ("via", "1.1 proxy")], proxy),
        (&[("host", "evil.example"), ("via", "1.1 proxy")], proxy),
        // A good key needs no loopback access, a bad one does not fall back to it.
        (&[("host", "evil.example"), ("x-api-key", "first")], EVERYTHING),
        (&[("via", "1.1 proxy"), ("x-api-key", "first")], EVERYTHING),
        (&[("host", "localhost"), ("x-api-key", "third")], Err(Refusal::TokenInvalid)),
    ];
    let access = access(Anonymous::Loopback, "127.0.0.1:8080");
    for (headers, expected) in cases {
        assert_eq!(identify(&access, "/topics/a", headers), *expected, "{headers:?}");
    }
}
