//! Key sets of servers that behave, and of others.

#![expect(clippy::indexing_slicing, reason = "a test that panics has found something")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::set::Set;
use super::{FetchError, FetchResult, KEYS_COUNT_MAX, KeySet, Lookup};

/// A P-256 key of RFC 7517 appendix A.1, public as it is.
fn ec(kid: &str) -> serde_json::Value {
    json!({
        "kty": "EC", "crv": "P-256", "kid": kid,
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    })
}

fn with(mut key: serde_json::Value, name: &str, value: serde_json::Value) -> serde_json::Value {
    key[name] = value;
    key
}

fn parse(keys: &[serde_json::Value]) -> Result<Set, FetchError> {
    Set::parse(json!({ "keys": keys }).to_string().as_bytes())
}

#[test]
fn a_key_is_found_by_its_id_and_algorithm() {
    let rsa = json!({ "kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB", "alg": "RS256" });
    let set = parse(&[ec("a"), with(ec("b"), "use", "sig".into()), rsa]).expect("three keys");
    assert_eq!(set.count(), 3);
    for (kid, algorithm, is_found) in [
        (Some("a"), Algorithm::ES256, true),
        (Some("b"), Algorithm::ES256, true),
        (Some("a"), Algorithm::ES384, false),
        (Some("a"), Algorithm::RS256, false),
        (Some("a"), Algorithm::HS256, false),
        (Some("r"), Algorithm::RS256, true),
        (Some("r"), Algorithm::RS512, false),
        (Some("r"), Algorithm::HS256, false),
        (Some("c"), Algorithm::ES256, false),
        (Some(""), Algorithm::ES256, false),
        // Without an id, one key must be meant.
        (None, Algorithm::RS256, true),
        (None, Algorithm::ES256, false),
        (None, Algorithm::EdDSA, false),
    ] {
        assert_eq!(set.find(kid, algorithm).is_some(), is_found, "{kid:?} {algorithm:?}");
    }
}

#[test]
fn keys_that_are_not_for_us_are_left_out() {
    let oct = json!({ "kty": "oct", "kid": "o", "k": "c2VjcmV0", "alg": "HS256" });
    for key in [
        oct,
        with(ec("a"), "use", "enc".into()),
        with(ec("a"), "alg", "ES384".into()),
        with(ec("a"), "alg", "HS256".into()),
        with(ec("a"), "alg", "none".into()),
        with(ec("a"), "crv", "P-521".into()),
        with(ec("a"), "crv", "secp256k1".into()),
        with(ec("a"), "x", "not base64!".into()),
        with(ec("a"), "kid", 1.into()),
        json!({ "kty": "OKP", "crv": "X25519", "x": "AAAA" }),
        json!({ "kty": "RSA", "kid": "r" }),
        json!({ "kty": "new" }),
        json!([]),
        json!(null),
    ] {
        let error = parse(std::slice::from_ref(&key)).expect_err("no key of ours");
        assert!(matches!(error, FetchError::NoKey), "{key}");
        assert_eq!(parse(&[key, ec("good")]).expect("the other is good").count(), 1);
    }
    for body in ["", "{}", "[]", "{\"keys\":{}}", "<html>", "{\"keys\":null}", "\u{0}"] {
        let error = Set::parse(body.as_bytes()).expect_err(body);
        assert!(matches!(error, FetchError::NotAKeySet), "{body}");
    }
    let many: Vec<_> = (0..1000).map(|number| ec(&number.to_string())).collect();
    assert_eq!(parse(&many).expect("many keys").count(), KEYS_COUNT_MAX);
}

#[test]
fn an_address_of_keys_is_http_with_a_host() {
    for (url, is_exposed) in [
        ("https://a.example/.well-known/jwks.json", false),
        ("https://a.example:8443", false),
        ("http://a.example/", true),
        ("http://192.0.2.1/", true),
        ("http://127.0.0.1:1/keys?token=x", false),
        ("http://[::1]:1/", false),
        ("http://localhost:1/", false),
        ("http://localhost.a.example/", true),
        ("http://[2001:db8::1]/", true),
    ] {
        let keys = KeySet::new(url).expect(url);
        assert_eq!(keys.is_exposed(), is_exposed, "{url}");
        assert!(!keys.source.shown().contains("token"), "a query may be a secret");
    }
    for url in [
        "a.example",
        "/keys",
        "ftp://a.example/",
        "file:///etc/passwd",
        "https://user:password@a.example/",
        "https:///keys",
        "https://",
        "http://a b/",
        "",
    ] {
        assert!(KeySet::new(url).is_err(), "{url}");
    }
}

/// A server that answers each request with the next text, the last one for ever.
async fn server(answers: Vec<String>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/keys", listener.local_addr().expect("bound"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // Ends with the test's runtime.
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut head = vec![0; 4096];
            let len = socket.read(&mut head).await.expect("a request");
            let head = String::from_utf8_lossy(&head[..len]).into_owned();
            assert!(head.starts_with("GET /keys HTTP/1.1\r\n"), "{head}");
            let index = count.fetch_add(1, Ordering::SeqCst);
            let answer = answers.get(index).or(answers.last()).cloned().unwrap_or_default();
            // The client may have seen enough.
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (url, asked)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn set_of(kids: &[&str]) -> String {
    ok(&json!({ "keys": kids.iter().map(|kid| ec(kid)).collect::<Vec<_>>() }).to_string())
}

fn has(keys: &KeySet, kid: &str) -> bool {
    matches!(keys.find(Some(kid), Algorithm::ES256), Lookup::Found(_))
}

#[tokio::test]
async fn the_keys_stay_while_their_server_is_away() {
    let long = ok(&"x".repeat(300 * 1024));
    let answers = vec![
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned(),
        set_of(&["a"]),
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
            .to_owned(),
        ok("{\"keys\":[]}"),
        long,
        String::new(),
        set_of(&["b"]),
    ];
    let (url, asked) = server(answers).await;
    let keys = KeySet::new(&url).expect("an address");
    assert!(matches!(keys.find(Some("a"), Algorithm::ES256), Lookup::Away));
    assert!(matches!(keys.fetch().await, Err(FetchError::Status(_))));
    assert!(matches!(keys.find(Some("a"), Algorithm::ES256), Lookup::Away));
    assert_eq!(keys.fetch().await.expect("keys"), 1);
    assert!(matches!(keys.fetch().await, Err(FetchError::Status(_))), "not followed");
    assert!(matches!(keys.fetch().await, Err(FetchError::NoKey)));
    assert!(matches!(keys.fetch().await, Err(FetchError::TooLong)));
    assert!(matches!(keys.fetch().await, Err(FetchError::Broken(_))));
    assert!(has(&keys, "a"), "a server that is away takes no key back");
    assert_eq!(keys.fetch().await.expect("keys"), 1);
    assert!(has(&keys, "b") && !has(&keys, "a"), "a server that is there does");
    assert!(matches!(keys.find(Some("a"), Algorithm::ES256), Lookup::Unknown));
    assert_eq!(asked.load(Ordering::SeqCst), 7);
    let expected = [("ok", 2), ("unreachable", 1), ("status", 2), ("invalid", 2)];
    let counted = FetchResult::ALL.map(|result| (result.word(), keys.result_count(result)));
    assert_eq!(counted, expected);
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    for scheme in ["http", "https"] {
        let keys = KeySet::new(&format!("{scheme}://{address}/")).expect("an address");
        let error = keys.fetch().await.expect_err("nobody is there");
        assert!(matches!(error, FetchError::Connect(_)), "{error}");
        assert!(!error.cause().is_empty());
    }
}

/// Waits until `count` has come to `least`.
async fn reached(count: &AtomicUsize, least: usize) {
    let reached = async {
        while count.load(Ordering::SeqCst) < least {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), reached).await.expect("in time");
}

fn run(keys: KeySet) -> (Arc<KeySet>, AbortHandle) {
    let keys = Arc::new(keys);
    let task = Arc::clone(&keys);
    let running = tokio::spawn(async move { task.run().await });
    (keys, running.abort_handle())
}

#[tokio::test]
async fn a_flood_of_unknown_keys_is_one_fetch_at_a_time() {
    let (url, asked) = server(vec![set_of(&["a"]), set_of(&["a", "b"])]).await;
    let (keys, running) = run(KeySet::new(&url).expect("an address"));
    keys.refresh().await;
    assert!(has(&keys, "a"), "the first fetch is awaited");
    for _ in 0..1000 {
        keys.refresh().await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1, "too early for another");
    running.abort();
}

#[tokio::test]
async fn a_key_that_is_missing_is_fetched_once_for_all_who_miss_it() {
    let (url, asked) = server(vec![set_of(&["a"]), set_of(&["a", "b"])]).await;
    let mut keys = KeySet::new(&url).expect("an address");
    keys.pace.least = Duration::ZERO;
    let (keys, running) = run(keys);
    keys.refresh().await;
    assert!(has(&keys, "a") && !has(&keys, "b"));
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let keys = Arc::clone(&keys);
            tokio::spawn(async move { keys.refresh().await })
        })
        .collect();
    for refreshed in waiting {
        refreshed.await.expect("no panic");
    }
    assert!(has(&keys, "b"));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    running.abort();
}

#[tokio::test]
async fn the_set_is_fetched_again_by_itself() {
    let (url, asked) = server(vec![String::new(), set_of(&["a"]), set_of(&["b"])]).await;
    let mut keys = KeySet::new(&url).expect("an address");
    (keys.pace.retry, keys.pace.refresh) = (Duration::from_millis(1), Duration::from_millis(1));
    let (keys, running) = run(keys);
    reached(&asked, 4).await;
    assert!(has(&keys, "b") && !has(&keys, "a"));
    running.abort();
}
