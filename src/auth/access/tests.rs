//! Every rule of access, as tables of requests.

#![expect(clippy::arithmetic_side_effects, reason = "a test that panics has found something")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::Request;
use http::request::Parts;

use super::{Access, AuthConfig};
use crate::auth::{Anonymous, Caps, Client, Grant, Identity, NewClaims, Right, Rights};
use crate::auth::{Secret, Signer};
use crate::hub::{Peer, TopicName};
use crate::limits::{Audience, TopicRule};
use crate::reason::Refusal;
use crate::time::Stamp;

type Headers = &'static [(&'static str, &'static str)];

const HERE: Client = Client { peer: IpAddr::V4(Ipv4Addr::LOCALHOST), behind: None };

fn config(anonymous: Anonymous) -> AuthConfig {
    let api_keys = ["first", "second", ""].map(|key| Secret::new(key.to_owned()));
    AuthConfig { anonymous, api_keys: api_keys.into(), ..AuthConfig::default() }
}

fn access(anonymous: Anonymous, listen: &str) -> Access {
    let address: SocketAddr = listen.parse().expect("an address");
    Access::new(&config(anonymous), None, &[address])
}

/// Who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Server,
    Anonymous(Rights),
    User(String),
}

const SERVER: Result<Who, Refusal> = Ok(Who::Server);
const EVERYTHING: Result<Who, Refusal> = Ok(Who::Anonymous(Rights::ALL));
const BAD: Result<Who, Refusal> = Err(Refusal::TokenInvalid);
const HOST: Result<Who, Refusal> = Err(Refusal::HostNotAllowed);
const PROXY: Result<Who, Refusal> = Err(Refusal::TokenRequired);

fn request(uri: &str, headers: Headers) -> Parts {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn identify(access: &Access, uri: &str, headers: Headers) -> Result<Who, Refusal> {
    identify_from(access, HERE, &request(uri, headers)).map(|(who, _)| who)
}

/// Also gives the subprotocol that was used.
fn identify_from(
    access: &Access,
    client: Client,
    parts: &Parts,
) -> Result<(Who, Option<String>), Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let identified = runtime.expect("a runtime").block_on(access.identify(parts, client)).map_err(
        |refused| {
            assert!(!refused.message.contains("signature"), "the cause is for the log");
            refused.refusal
        },
    )?;
    let identity = identified.identity;
    let who = match identity.user() {
        Some(user) => Who::User(user.to_string()),
        None if identity.is_server() => Who::Server,
        None => Who::Anonymous(identity.own_rights("a")),
    };
    Ok((who, identified.used_bearer))
}

#[test]
fn anonymous_clients_get_what_the_configuration_gives() {
    let reader: Rights = [Right::Subscribe, Right::History].into_iter().collect();
    let reader = Ok(Who::Anonymous(reader));
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
    let cases: &[(&str, Headers, Result<Who, Refusal>)] = &[
        ("/", &[("x-api-key", "first")], SERVER),
        ("/", &[("x-api-key", "second")], SERVER),
        ("/", &[("x-api-key", "third")], BAD),
        ("/", &[("x-api-key", "First")], BAD),
        ("/", &[("x-api-key", "")], BAD),
        ("/", &[("x-api-key", "first"), ("x-api-key", "first")], BAD),
        ("/", &[("x-api-key", "first\u{e9}")], BAD),
        ("/", &[("authorization", "apikey first")], SERVER),
        ("/", &[("authorization", "ApiKey  second")], SERVER),
        ("/", &[("authorization", "apikey")], BAD),
        ("/", &[("authorization", "apikey ")], BAD),
        ("/", &[("authorization", "apikey third")], BAD),
        ("/", &[("authorization", "first")], BAD),
        ("/", &[("authorization", "Basic Zmlyc3Q6")], BAD),
        ("/", &[("authorization", "Bearer a.b.c")], BAD),
        ("/", &[("authorization", "bearer first")], BAD),
        ("/", &[("authorization", "")], BAD),
        ("/?token=a.b.c", &[], BAD),
        ("/?token=", &[], BAD),
        ("/?x=1&token=a.b.c", &[], BAD),
        ("/", &[("sec-websocket-protocol", "bearer.a.b.c")], BAD),
        ("/", &[("sec-websocket-protocol", "x, bearer.a")], BAD),
        ("/", &[("cookie", "fanwire_token=a.b.c")], BAD),
        ("/", &[("cookie", "a=b; fanwire_token=a.b.c")], BAD),
        // The order: Authorization, X-API-Key, subprotocol, query, cookie.
        ("/", &[("authorization", "apikey first"), ("x-api-key", "third")], SERVER),
        ("/", &[("x-api-key", "first"), ("authorization", "Bearer a.b.c")], BAD),
        (
            "/?token=a",
            &[
                ("x-api-key", "first"),
                ("cookie", "fanwire_token=a"),
                ("sec-websocket-protocol", "bearer.a"),
            ],
            SERVER,
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
    let access = Access::new(&AuthConfig::default(), None, &[]);
    for key in ["", "x"] {
        let request = Request::builder().header("x-api-key", key);
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        assert_eq!(identify_from(&access, HERE, &parts), Err(Refusal::TokenInvalid));
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
        let access = Access::new(&AuthConfig::default(), None, &addresses);
        assert_eq!(access.is_loopback_effective(), expected, "{listen:?}");
    }
    assert!(!access(Anonymous::All, "127.0.0.1:80").is_loopback_effective());
}

#[test]
fn loopback_takes_only_names_of_this_machine_and_no_proxies() {
    let cases: &[(Headers, Result<Who, Refusal>)] = &[
        (&[("host", "localhost")], EVERYTHING),
        (&[("host", "LOCALHOST:8080")], EVERYTHING),
        (&[("host", "chat.localhost:8080")], EVERYTHING),
        (&[("host", "127.0.0.1:8080")], EVERYTHING),
        (&[("host", "192.168.1.7")], EVERYTHING),
        (&[("host", "[::1]")], EVERYTHING),
        (&[("host", "[::1]:8080")], EVERYTHING),
        (&[], HOST),
        (&[("host", "")], HOST),
        (&[("host", "evil.example")], HOST),
        (&[("host", "localhost.evil.example")], HOST),
        (&[("host", "notlocalhost")], HOST),
        (&[("host", "localhost:x")], HOST),
        (&[("host", "127.0.0.1.evil.example")], HOST),
        (&[("host", "127.1")], HOST),
        (&[("host", "[::1].evil.example")], HOST),
        (&[("host", "evil@localhost")], HOST),
        (&[("host", "localhost"), ("host", "evil.example")], HOST),
        (&[("host", "localhost"), ("forwarded", "for=1.2.3.4")], PROXY),
        (&[("host", "localhost"), ("x-forwarded-for", "1.2.3.4")], PROXY),
        (&[("host", "localhost"), ("X-Forwarded-Proto", "https")], PROXY),
        (&[("host", "localhost"), ("x-real-ip", "1.2.3.4")], PROXY),
        (&[("host", "localhost"), ("via", "1.1 proxy")], PROXY),
        (&[("host", "evil.example"), ("via", "1.1 proxy")], PROXY),
        // A good key needs no loopback access, a bad one does not fall back to it.
        (&[("host", "evil.example"), ("x-api-key", "first")], SERVER),
        (&[("via", "1.1 proxy"), ("x-api-key", "first")], SERVER),
        (&[("host", "localhost"), ("x-api-key", "third")], Err(Refusal::TokenInvalid)),
    ];
    let access = access(Anonymous::Loopback, "127.0.0.1:8080");
    for (headers, expected) in cases {
        assert_eq!(identify(&access, "/topics/a", headers), *expected, "{headers:?}");
    }
}

#[test]
fn behind_a_trusted_proxy_of_this_machine_only_its_own_clients_have_loopback_access() {
    let access = access(Anonymous::Loopback, "127.0.0.1:8080");
    let parts = request("/", &[("host", "localhost"), ("x-forwarded-for", "is read before")]);
    for (behind, expected) in [
        (Some("127.0.0.1"), EVERYTHING),
        (Some("::1"), EVERYTHING),
        (Some("192.0.2.7"), Err(Refusal::TokenRequired)),
        (None, Err(Refusal::TokenRequired)),
    ] {
        let behind = behind.map(|address| address.parse().expect("an address"));
        let got = identify_from(&access, Client { behind, ..HERE }, &parts);
        assert_eq!(got.map(|(who, _)| who), expected, "{behind:?}");
    }
}

fn with_tokens(change: impl FnOnce(&mut AuthConfig)) -> (Access, AuthConfig) {
    let mut config = config(Anonymous::All);
    config.jwt_hmac_secret = Secret::new("a secret of a test".to_owned());
    change(&mut config);
    (Access::new(&config, None, &[]), config)
}

fn token(config: &AuthConfig, user: &str) -> String {
    let now = Stamp::now().wall / 1000;
    let claims =
        NewClaims { user, topics: &[], allow: &[], issued_at: now, expires_at: now + 3600 };
    Signer::new(config).expect("there is a key").sign(&claims).expect("it signs")
}

#[test]
fn a_token_is_found_in_each_of_its_places_in_order() {
    let (access, config) = with_tokens(|_| {});
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|user| token(&config, user));
    let header = ("authorization", format!("Bearer {a}"));
    let protocol = ("sec-websocket-protocol", format!("fanwire.plain, bearer.{b}, bearer.{a}"));
    let cookie = ("cookie", format!("x=1; fanwire_token={d}"));
    let quoted = ("cookie", format!("fanwire_token=\"{d}\"; x=1"));
    let escaped = format!("/?token={}", c.replace('.', "%2E"));
    let query = format!("/?x=1&token={c}");
    for (uri, headers, expected) in [
        (query.as_str(), vec![&header, &protocol, &cookie], "a"),
        (query.as_str(), vec![&protocol, &cookie], "b"),
        (query.as_str(), vec![&cookie], "c"),
        (escaped.as_str(), vec![], "c"),
        ("/", vec![&cookie], "d"),
        ("/", vec![&quoted], "d"),
    ] {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let parts = request.body(()).expect("a request").into_parts().0;
        let (who, used) = identify_from(&access, HERE, &parts).expect("it is valid");
        assert_eq!(who, Who::User(expected.to_owned()));
        let used_protocol = (expected == "b").then(|| format!("bearer.{b}"));
        assert_eq!(used, used_protocol, "it is told, to be answered");
    }
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name, 255).expect("a topic name")
}

/// A token of `user` with these capabilities.
fn holder(user: &str, caps: Option<&str>) -> Identity {
    let publisher = (!user.is_empty()).then(|| Peer::user(user.into()));
    let caps: Option<Caps> = caps.map(|json| serde_json::from_str(json).expect("good caps"));
    Identity::token(Grant { publisher, caps, expiry: None })
}

fn rule(subscribe: Audience, publish: Audience) -> TopicRule {
    TopicRule { subscribe, publish, ..TopicRule::default() }
}

const READ: [Right; 3] = [Right::Subscribe, Right::History, Right::Presence];

#[test]
fn a_rule_tightens_what_an_identity_may() {
    use Audience::{Anyone, Authenticated, Server, Token};
    let access = access(Anonymous::All, "10.0.0.1:80");
    let chat = topic("chat:1");
    let caps = r#"[{"topics":["chat:*"],"allow":["subscribe","history","presence","publish"]}]"#;
    let elsewhere = caps.replace("chat:", "news:");
    let anonymous = Identity::anonymous(Rights::ALL);
    let (nobody, user) = (holder("", None), holder("alice", None));
    let (with_cap, nobody_with_cap) = (holder("alice", Some(caps)), holder("", Some(caps)));
    let (other_cap, no_cap) = (holder("alice", Some(&elsewhere)), holder("alice", Some("[]")));
    for (identity, allowed) in [
        (&anonymous, &[Anyone][..]),
        (&nobody, &[Anyone]),
        (&user, &[Anyone, Authenticated]),
        (&with_cap, &[Anyone, Authenticated, Token]),
        (&nobody_with_cap, &[Anyone, Token]),
        (&other_cap, &[]),
        (&no_cap, &[]),
        (&Identity::SERVER, &[Anyone, Authenticated, Token, Server]),
    ] {
        for audience in [Anyone, Authenticated, Token, Server] {
            let may = allowed.contains(&audience);
            let closed = rule(audience, Server);
            let read: Rights = READ.into_iter().filter(|_| may).collect();
            let expected = if identity.is_server() { Rights::ALL } else { read };
            assert_eq!(access.rights(identity, &chat, &closed), expected, "{identity:?}");
            let closed = rule(Server, audience);
            let rights = access.rights(identity, &chat, &closed);
            assert_eq!(rights.has(Right::Publish), may, "{identity:?} {audience:?}");
            assert_eq!(rights.has(Right::History), identity.is_server());
        }
    }
}

#[test]
fn capabilities_limit_each_right_for_itself() {
    let access = access(Anonymous::All, "10.0.0.1:80");
    let caps =
        r#"[{"topics":["chat:*"],"allow":["history"]},{"topics":["*:1"],"allow":["publish"]}]"#;
    let identity = holder("alice", Some(caps));
    for (name, expected) in [
        ("chat:1", &[Right::History, Right::Publish][..]),
        ("chat:2", &[Right::History]),
        ("news:1", &[Right::Publish]),
        ("news", &[]),
    ] {
        for rule in [TopicRule::default(), rule(Audience::Token, Audience::Token)] {
            let expected: Rights = expected.iter().copied().collect();
            assert_eq!(access.rights(&identity, &topic(name), &rule), expected, "{name}");
            for right in Right::ALL {
                let required = access.require(right, &identity, &topic(name), &rule);
                let refusal = required.err().map(|refused| refused.refusal);
                assert_eq!(refusal.is_none(), expected.has(right));
                assert!(refusal.is_none_or(|refusal| refusal == Refusal::PermissionDenied));
            }
        }
    }
}

#[test]
fn a_user_limited_topic_is_for_those_it_lists() {
    let (access, _) = with_tokens(|config| config.user_limited_topics = true);
    let (alice, bob, nobody) = (holder("alice", None), holder("bob", None), holder("", None));
    let narrow = holder("alice", Some(r#"[{"topics":["news"],"allow":["subscribe"]}]"#));
    let anonymous = Identity::anonymous(Rights::ALL);
    let all = TopicRule::default();
    for (name, alice_may, bob_may) in [
        ("#alice", true, false),
        ("chat#alice,bob", true, true),
        ("chat#bob,alice", true, true),
        ("chat#bob", false, true),
        ("chat:x#alice", true, false),
        ("chat#alice#bob", false, true),
        ("chat#", false, false),
        ("chat#,", false, false),
        ("chat#alice2", false, false),
        ("chat#Alice", false, false),
        ("chat#alice bob", false, false),
        ("#bob,", false, true),
    ] {
        let name = topic(name);
        for (identity, may) in [
            (&alice, alice_may),
            (&bob, bob_may),
            (&nobody, false),
            (&anonymous, false),
            (&narrow, false),
            (&Identity::SERVER, true),
        ] {
            let expected = if may { Rights::ALL } else { Rights::NONE };
            assert_eq!(access.rights(identity, &name, &all), expected, "{name} {identity:?}");
        }
    }
    // Being listed is as good as a capability, but not as an API key.
    let of = |audience| access.rights(&alice, &topic("#alice"), &rule(audience, audience));
    assert_eq!(of(Audience::Token), Rights::ALL);
    assert_eq!(of(Audience::Server), Rights::NONE);
    // Without the switch, the mark is a letter.
    let (access, _) = with_tokens(|_| {});
    assert_eq!(access.rights(&bob, &topic("#alice"), &all), Rights::ALL);
}
