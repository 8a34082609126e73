//! Tokens, good and forged. Each case changes one thing in a good one.

#![expect(clippy::indexing_slicing, reason = "a test that panics has found something")]

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use proptest::prelude::*;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Attachment, Claims, KeyError, KeyFile, NewClaims, SignError, Signer, SubscriptionClaims,
    TOKEN_LEN_MAX, TokenError, USER_LEN_MAX, Verifier,
};
use crate::auth::{AuthConfig, Right, Secret};
use crate::reason::{Refusal, Refused};
use crate::time::Stamp;

const SECRET: &str = "the secret of a test, 32 characters";
/// The present of these tests, in seconds since 1970.
const NOW: u64 = 1_800_000_000;

fn now() -> Stamp {
    Stamp { wall: NOW * 1000, instant: Instant::now() }
}

fn config() -> AuthConfig {
    AuthConfig { jwt_hmac_secret: Secret::new(SECRET.to_owned()), ..AuthConfig::default() }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A token of these two texts, signed with `key` whatever the header says.
fn signed(header: &str, payload: &str, (key, algorithm): (&EncodingKey, Algorithm)) -> String {
    let message = format!("{}.{}", encode(header), encode(payload));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm);
    format!("{message}.{}", signature.expect("it signs"))
}

fn hmac(header: &str, payload: &str) -> String {
    signed(header, payload, (&EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS256))
}

/// A token that says `payload`, rightly signed.
fn says(payload: &str) -> String {
    hmac(r#"{"alg":"HS256","typ":"JWT"}"#, payload)
}

fn verify(token: &str) -> Result<Claims, TokenError> {
    Verifier::new(&config(), None).try_verify(token, now())
}

#[test]
fn a_token_of_each_hmac_verifies() {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    for (name, algorithm) in
        [("HS256", Algorithm::HS256), ("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)]
    {
        let header = format!(r#"{{"alg":"{name}"}}"#);
        let token = signed(&header, r#"{"sub":"alice"}"#, (&key, algorithm));
        let claims = verify(&token).expect(name);
        assert_eq!(claims.user.as_deref(), Some("alice"));
        assert_eq!((claims.expires_at, claims.caps), (None, None));
    }
}

/// A kind of key pair with the algorithms that it signs with.
fn pairs() -> Vec<(KeyPair, Vec<Algorithm>)> {
    use Algorithm::{ES256, ES384, EdDSA, RS256, RS384, RS512};
    [
        (&PKCS_RSA_SHA256, vec![RS256, RS384, RS512]),
        (&PKCS_ECDSA_P256_SHA256, vec![ES256]),
        (&PKCS_ECDSA_P384_SHA384, vec![ES384]),
        (&PKCS_ED25519, vec![EdDSA]),
    ]
    .map(|(kind, algorithms)| (KeyPair::generate_for(kind).expect("a key pair"), algorithms))
    .into()
}

fn signing(pair: &KeyPair, algorithm: Algorithm) -> EncodingKey {
    let pem = pair.serialize_pem();
    let pem = pem.as_bytes();
    match algorithm {
        Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => EncodingKey::from_rsa_pem(pem),
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem),
        _ => EncodingKey::from_ed_pem(pem),
    }
    .expect("a private key")
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("a temporary file");
    file
}

fn with_key_file(text: &str) -> AuthConfig {
    let file = file(text);
    let keys = KeyFile::read(file.path()).expect("public keys");
    AuthConfig { jwt_public_key_file: Some(keys), ..config() }
}

#[test]
fn each_public_key_checks_its_own_algorithms_and_no_other() {
    let pairs = pairs();
    let all: String = pairs.iter().map(|(pair, _)| pair.public_key_pem()).collect();
    let with_all = Verifier::new(&with_key_file(&all), None);
    for (index, (pair, algorithms)) in pairs.iter().enumerate() {
        let verifier = Verifier::new(&with_key_file(&pair.public_key_pem()), None);
        for algorithm in algorithms {
            let key = signing(pair, *algorithm);
            let header = format!(r#"{{"alg":"{algorithm:?}","kid":"ignored"}}"#);
            let token = signed(&header, r#"{"sub":"a"}"#, (&key, *algorithm));
            assert!(verifier.try_verify(&token, now()).is_ok(), "{algorithm:?}");
            assert!(with_all.try_verify(&token, now()).is_ok(), "{algorithm:?} of several");
            assert_eq!(verify(&token).err(), Some(TokenError::Algorithm), "without that key");
            let (other, _) = &pairs[(index + 1) % pairs.len()];
            let other = Verifier::new(&with_key_file(&other.public_key_pem()), None);
            let error = other.try_verify(&token, now()).expect_err("another key");
            assert!(matches!(error, TokenError::Algorithm | TokenError::Signature), "{error}");
        }
    }
}

#[test]
fn a_public_key_is_never_a_secret() {
    for (pair, _) in pairs() {
        let pem = pair.public_key_pem();
        let config = AuthConfig { jwt_hmac_secret: Secret::default(), ..with_key_file(&pem) };
        let verifier = Verifier::new(&config, None);
        let both = Verifier::new(&with_key_file(&pem), None);
        for secret in [pem.as_bytes(), pem.trim().as_bytes(), pair.public_key_raw(), b""] {
            let key = EncodingKey::from_secret(secret);
            for algorithm in [Algorithm::HS256, Algorithm::HS512] {
                let header = format!(r#"{{"alg":"{algorithm:?}"}}"#);
                let token = signed(&header, r#"{"sub":"a"}"#, (&key, algorithm));
                let error = verifier.try_verify(&token, now()).err();
                assert_eq!(error, Some(TokenError::Algorithm));
                assert_eq!(both.try_verify(&token, now()).err(), Some(TokenError::Signature));
            }
        }
    }
}

#[test]
fn a_forged_header_is_refused() {
    use TokenError::{Algorithm, Critical, Malformed};
    for (header, expected) in [
        (r#"{"alg":"none"}"#, Algorithm),
        (r#"{"alg":"None"}"#, Algorithm),
        (r#"{"alg":"NONE"}"#, Algorithm),
        (r#"{"alg":""}"#, Algorithm),
        (r#"{"alg":"hs256"}"#, Algorithm),
        (r#"{"alg":"HS256 "}"#, Algorithm),
        (r#"{"alg":"RS256"}"#, Algorithm),
        (r#"{"alg":"PS256"}"#, Algorithm),
        (r#"{"alg":"ES512"}"#, Algorithm),
        (r#"{"alg":"EdDSA"}"#, Algorithm),
        (r#"{"typ":"JWT"}"#, Malformed),
        (r#"{"alg":null}"#, Malformed),
        (r#"{"alg":["HS256"]}"#, Malformed),
        (r#"{"alg":256}"#, Malformed),
        (r#"{"alg":"HS256","alg":"none"}"#, Malformed),
        (r#"{"alg":"none","alg":"HS256"}"#, Malformed),
        (r#"{"alg":"HS256","kid":"a","kid":"b"}"#, Malformed),
        (r#"{"alg":"HS256","kid":1}"#, Malformed),
        (r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, Critical),
        (r#"{"alg":"HS256","crit":[]}"#, Critical),
        (r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#, Critical),
        (r#"["HS256"]"#, Malformed),
        ("HS256", Malformed),
        ("", Malformed),
    ] {
        assert_eq!(verify(&hmac(header, r#"{"sub":"a"}"#)).err(), Some(expected), "{header}");
    }
}

#[test]
fn hints_about_keys_are_not_followed() {
    // A configured secret has no id: whatever the token says, it is checked with that secret.
    for header in [
        r#"{"alg":"HS256","kid":"../../dev/null"}"#,
        r#"{"alg":"HS256","kid":"' OR 1=1 --"}"#,
        r#"{"alg":"HS256","jku":"http://127.0.0.1:1/evil","x5u":"http://127.0.0.1:1/evil"}"#,
        r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"},"x5c":["AAAA"]}"#,
    ] {
        assert!(verify(&hmac(header, r#"{"sub":"a"}"#)).is_ok(), "{header}");
        for secret in [&b""[..], b"\0", b"null", &[0, 0, 0]] {
            let key = EncodingKey::from_secret(secret);
            let token = signed(header, r#"{"sub":"a"}"#, (&key, Algorithm::HS256));
            assert_eq!(verify(&token).err(), Some(TokenError::Signature), "{header}");
        }
    }
}

#[test]
fn what_is_not_a_signed_token_is_refused() {
    let good = says(r#"{"sub":"alice"}"#);
    let [header, payload, signature]: [&str; 3] =
        good.split('.').collect::<Vec<_>>().try_into().expect("three parts");
    let other = encode(r#"{"sub":"mallory"}"#);
    let half = &signature[..signature.len() / 2];
    for (token, expected) in [
        (String::new(), TokenError::Malformed),
        (".".to_owned(), TokenError::Malformed),
        ("..".to_owned(), TokenError::Malformed),
        (format!("{header}.{payload}"), TokenError::Malformed),
        (format!("{good}."), TokenError::Malformed),
        (format!("{good}.{signature}"), TokenError::Malformed),
        (format!("{header}.{payload}.{signature}.a.b"), TokenError::Malformed),
        (format!(" {good}"), TokenError::Malformed),
        (format!("{header}=.{payload}.{signature}"), TokenError::Malformed),
        (format!("{header}.{payload}."), TokenError::Signature),
        (format!("{header}.{other}.{signature}"), TokenError::Signature),
        (format!("{header}.{payload}.{half}"), TokenError::Signature),
        (format!("{header}.{payload}.{signature}="), TokenError::Signature),
        (format!("{header}.{payload}.{signature}AA"), TokenError::Signature),
        ("a".repeat(TOKEN_LEN_MAX + 1), TokenError::TooLong),
        ("a".repeat(1 << 20), TokenError::TooLong),
    ] {
        assert_eq!(verify(&token).err(), Some(expected), "{}", &token[..token.len().min(200)]);
    }
    let mut padding = json!({ "sub": "alice", "padding": "" });
    padding["padding"] = "x".repeat(TOKEN_LEN_MAX).into();
    assert_eq!(verify(&says(&padding.to_string())).err(), Some(TokenError::TooLong));
}

#[test]
fn the_end_of_a_token_is_kept() {
    let expired = Some(TokenError::Expired);
    for (exp, expected) in [
        ("1800000001", None),
        ("1800000000", expired),
        ("1799999999", expired),
        ("0", expired),
        ("1800000000.5", None),
        ("1.8e9", expired),
        ("1.8e12", None),
        ("1e300", None),
        ("18446744073709551615", None),
        ("99999999999999999999", None),
    ] {
        let token = says(&format!(r#"{{"sub":"a","exp":{exp}}}"#));
        assert_eq!(verify(&token).err(), expected, "{exp}");
    }
    for exp in ["\"1900000000\"", "\"\"", "null", "[1900000000]", "{}", "true", "-1", "-1e300"] {
        let token = says(&format!(r#"{{"sub":"a","exp":{exp}}}"#));
        assert!(matches!(verify(&token), Err(TokenError::Claim(_))), "{exp}");
    }
    assert!(verify(&says(r#"{"sub":"a"}"#)).is_ok(), "no end");
    let required = AuthConfig { jwt_expiry_required: true, ..config() };
    let strict = Verifier::new(&required, None);
    let error = strict.try_verify(&says(r#"{"sub":"a"}"#), now()).err();
    assert_eq!(error, Some(TokenError::Claim("`exp` is missing")));
    assert!(strict.try_verify(&says(r#"{"sub":"a","exp":1900000000}"#), now()).is_ok());
    for (nbf, is_good) in [(NOW, true), (NOW + 10, true), (NOW + 11, false), (u64::MAX, false)] {
        let token = says(&format!(r#"{{"sub":"a","nbf":{nbf}}}"#));
        assert_eq!(verify(&token).is_ok(), is_good, "{nbf}");
    }
}

#[test]
fn the_session_may_end_at_another_time_than_the_token() {
    for (claims, expected) in [
        (r#""exp":1900000000"#, Some(1_900_000_000)),
        (r#""exp":1900000000,"expire_at":1850000000"#, Some(1_850_000_000)),
        (r#""exp":1900000000,"expire_at":0"#, None),
        (r#""expire_at":1850000000"#, Some(1_850_000_000)),
        (r#""iat":1"#, None),
    ] {
        let token = says(&format!(r#"{{"sub":"a",{claims}}}"#));
        let claims = verify(&token).expect("good claims");
        assert_eq!(claims.expires_at, expected);
        let expiry = claims.grant(Duration::from_secs(25), now()).expiry;
        let left = expiry.map(|expiry| expiry.look_at(now()) >= Instant::now());
        assert_eq!(left, expected.map(|_| true));
    }
    for expire_at in ["-1", "\"0\"", "null"] {
        let token = says(&format!(r#"{{"sub":"a","expire_at":{expire_at}}}"#));
        assert!(matches!(verify(&token), Err(TokenError::Claim(_))), "{expire_at}");
    }
}

#[test]
fn audience_and_issuer_are_compared_where_they_are_configured() {
    let (jwt_audience, jwt_issuer) = ("us".to_owned(), "they".to_owned());
    let strict = Verifier::new(&AuthConfig { jwt_audience, jwt_issuer, ..config() }, None);
    for (claims, lenient_too, is_good) in [
        (r#""aud":"us","iss":"they""#, true, true),
        (r#""aud":["x","us"],"iss":"they""#, true, true),
        (r#""aud":["x"],"iss":"they""#, true, false),
        (r#""aud":[],"iss":"they""#, true, false),
        (r#""aud":"usual","iss":"they""#, true, false),
        (r#""aud":"US","iss":"they""#, true, false),
        (r#""aud":"us","iss":"they.evil""#, true, false),
        (r#""aud":"us""#, true, false),
        (r#""iss":"they""#, true, false),
        (r#""jti":"1""#, true, false),
        (r#""aud":"us","iss":["they"]"#, false, false),
        (r#""aud":{"us":1},"iss":"they""#, false, false),
        (r#""aud":[["us"]],"iss":"they""#, false, false),
        (r#""aud":null,"iss":"they""#, false, false),
        (r#""aud":"us","iss":null"#, false, false),
        (r#""aud":"x","aud":"us","iss":"they""#, false, false),
        (r#""aud":"us","iss":"x","iss":"they""#, false, false),
    ] {
        let token = says(&format!(r#"{{"sub":"a",{claims}}}"#));
        assert_eq!(verify(&token).is_ok(), lenient_too, "{claims}");
        assert_eq!(strict.try_verify(&token, now()).is_ok(), is_good, "{claims}");
    }
}

#[test]
fn claims_that_are_malformed_or_given_twice_are_refused() {
    let long = "u".repeat(USER_LEN_MAX + 1);
    for payload in [
        "",
        "[]",
        "null",
        "{",
        r#"{"sub":1}"#,
        r#"{"sub":["a"]}"#,
        r#"{"sub":"a","sub":"b"}"#,
        r#"{"sub":"a","exp":1900000000,"exp":1900000001}"#,
        r#"{"sub":"a","caps":null}"#,
        r#"{"sub":"a","caps":[],"caps":[{"topics":["*"],"allow":["publish"]}]}"#,
        r#"{"sub":"a","caps":"all"}"#,
        r#"{"sub":"a","channel":"chat"}"#,
        r#"{"sub":"a","channels":"chat"}"#,
        r#"{"sub":"a","b64info":"%%%"}"#,
        r#"{"sub":"a","subs":{"x":{"override":{"presence":true}}}}"#,
        &format!(r#"{{"sub":"{long}"}}"#),
    ] {
        let result = verify(&says(payload));
        assert!(matches!(result, Err(TokenError::Claim(_))), "{payload}");
    }
    for (claim, is_read) in [("info", true), ("own", true), ("caps", false), ("sub", false)] {
        let deep = format!(r#"{{"{claim}":{}{}}}"#, "[".repeat(9_000), "]".repeat(9_000));
        assert_eq!(verify(&says(&deep)).is_ok(), is_read, "what is only carried is not unpacked");
    }
}

#[test]
fn every_claim_of_a_connection_is_read() {
    let payload = r#"{"sub":"alice","info":{"name": "Alice"},"meta":[1, 2],"channels":["a","b"],
        "subs":{"c":{"b64data":"AAE=","override":{"presence":{"value":false}}},"d":{}},
        "caps":[{"topics":["chat:*"],"allow":["publish"]}],"own":{"anything":1}}"#;
    let claims = verify(&says(payload)).expect("good claims");
    assert_eq!(claims.user.as_deref(), Some("alice"));
    let Some(Attachment::Json(info)) = &claims.info else { panic!("it has info") };
    assert_eq!(info.get(), r#"{"name": "Alice"}"#);
    assert_eq!(claims.meta.as_ref().map(|meta| meta.get()), Some("[1, 2]"));
    assert_eq!(claims.topics, ["a", "b"]);
    let granted: Vec<_> = claims.subscriptions.keys().map(String::as_str).collect();
    assert_eq!(granted, ["c", "d"]);
    let options = &claims.subscriptions["c"];
    assert!(matches!(&options.data, Some(Attachment::Binary(bytes)) if **bytes == [0, 1]));
    assert_eq!(options.overrides.presence, Some(false));
    assert_eq!(options.overrides.join_leave, None);
    let caps = claims.caps.expect("it has caps");
    assert!(caps.rights("chat:1").has(Right::Publish));
    for payload in [r#"{"sub":""}"#, r#"{"sub":null}"#, "{}"] {
        assert_eq!(verify(&says(payload)).expect("it names nobody").user, None);
    }
}

fn verify_subscription(payload: &str) -> Result<SubscriptionClaims, TokenError> {
    Verifier::new(&config(), None).try_verify_subscription(&says(payload), now())
}

#[test]
fn a_subscription_token_is_for_one_topic() {
    let claims = verify_subscription(
        r#"{"sub":"alice","channel":"chat","client":"c1","exp":1900000000,"info":1,
            "override":{"force_recovery":{"value":true}}}"#,
    )
    .expect("good claims");
    assert_eq!(claims.user.as_deref(), Some("alice"));
    assert_eq!((claims.topic.as_str(), claims.client.as_deref()), ("chat", Some("c1")));
    assert_eq!(claims.expires_at, Some(1_900_000_000));
    assert!(matches!(claims.options.info, Some(Attachment::Json(_))));
    assert_eq!(claims.options.overrides.force_recovery, Some(true));
    let claims =
        verify_subscription(r#"{"channel":"chat","client":"","expire_at":0,"exp":1900000000}"#);
    let claims = claims.expect("good claims");
    assert_eq!((claims.user, claims.client, claims.expires_at), (None, None, None));
    for (payload, expected) in [
        (r#"{"channel":"chat","exp":1}"#, Some(TokenError::Expired)),
        (r#"{"sub":"alice"}"#, None),
        (r#"{"channel":1}"#, None),
        (r#"{"channel":"a","channel":"b"}"#, None),
    ] {
        let error = verify_subscription(payload).expect_err(payload);
        assert!(expected.is_none_or(|expected| expected == error), "{error}");
    }
}

#[test]
fn a_client_is_told_what_to_do_and_not_why() {
    let refusal = |error: TokenError| Refused::from(error).refusal;
    assert_eq!(refusal(TokenError::Expired), Refusal::TokenExpired);
    assert_eq!(refusal(TokenError::KeysAway), Refusal::Internal);
    let causes = [
        TokenError::TooLong,
        TokenError::Malformed,
        TokenError::Algorithm,
        TokenError::Critical,
        TokenError::KeyUnknown,
        TokenError::Signature,
        TokenError::Claim("x"),
    ];
    let told: Vec<_> = causes.map(Refused::from).into();
    assert!(told.iter().all(|refused| refused.refusal == Refusal::TokenInvalid));
    assert!(told.windows(2).all(|two| two[0] == two[1]), "one answer for all");
}

#[test]
fn key_files_that_are_none_say_what_is_wrong() {
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key pair");
    let good = rsa.public_key_pem();
    let read = |text: &str| KeyFile::read(file(text).path());
    for (text, expected) in [
        (rsa.serialize_pem(), "has a private key"),
        (format!("{good}{}", rsa.serialize_pem()), "has a private key"),
        (String::new(), "has no public key"),
        ("secret".to_owned(), "has no public key"),
        (good.replace("MII", "!!!"), "has no public key"),
        (good.replace("PUBLIC", "STRANGE"), "has no public key"),
        (good.chars().take(200).collect(), "has no public key"),
        (format!("{good}-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), "has no"),
        ("x".repeat(1 << 20), "is longer than"),
    ] {
        let error = read(&text).expect_err(expected);
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    assert!(read(&format!("# comment\n{good}\n\n{good}")).is_ok());
    let nowhere = KeyFile::read("/nowhere/key.pem".as_ref()).expect_err("no such file");
    assert!(matches!(nowhere, KeyError::Read(_)));
}

#[test]
fn what_is_signed_here_is_valid_here() {
    let topics = ["chat:*".to_owned()];
    let check = |signer: AuthConfig, verifier: AuthConfig| {
        let claims = NewClaims {
            user: "alice",
            topics: &topics,
            allow: &[Right::Subscribe],
            issued_at: NOW,
            expires_at: NOW + 60,
        };
        let token = Signer::new(&signer).expect("there is a key").sign(&claims);
        let token = token.expect("it signs");
        let claims = Verifier::new(&verifier, None).try_verify(&token, now());
        let claims = claims.expect("it is valid");
        assert_eq!(claims.user.as_deref(), Some("alice"));
        assert_eq!(claims.expires_at, Some(NOW + 60));
        let caps = claims.caps.expect("it has caps");
        assert_eq!(caps.rights("chat:1"), [Right::Subscribe].into_iter().collect());
    };
    let named = |config| AuthConfig {
        jwt_audience: "us".to_owned(),
        jwt_issuer: "we".to_owned(),
        jwt_expiry_required: true,
        ..config
    };
    check(named(config()), named(config()));
    for (pair, _) in pairs() {
        let private = file(&pair.serialize_pem());
        let path = private.path().display().to_string();
        let signer = AuthConfig { jwt_private_key_file: path, ..config() };
        check(signer, with_key_file(&pair.public_key_pem()));
    }
}

#[test]
fn without_a_key_nothing_is_signed() {
    let none = Signer::new(&AuthConfig::default()).expect_err("no key");
    assert!(matches!(none, SignError::NoKey));
    let of = |path: &str| {
        let config = AuthConfig { jwt_private_key_file: path.to_owned(), ..config() };
        Signer::new(&config).expect_err(path)
    };
    assert!(matches!(of("/nowhere/key.pem"), SignError::File { .. }));
    let public = KeyPair::generate_for(&PKCS_ED25519).expect("a key pair").public_key_pem();
    assert!(matches!(of(&file(&public).path().display().to_string()), SignError::NotAKey(_)));
    let signer = Signer::new(&config()).expect("there is a secret");
    assert!(!format!("{signer:?}").contains("secret"));
}

proptest! {
    #[test]
    fn any_text_is_refused(text in any::<String>()) {
        prop_assert!(verify(&text).is_err());
    }

    #[test]
    fn any_three_parts_are_refused(parts in prop::array::uniform3(any::<Vec<u8>>())) {
        prop_assert!(verify(&parts.map(encode).join(".")).is_err());
    }

    /// Whatever is signed rightly is read or refused.
    #[test]
    fn any_signed_payload_is_read_or_refused(payload in "\\PC*|[\\[\\]{}\":,a-z0-9]*") {
        let _ = verify(&says(&payload));
        let _ = verify(&says(&format!(r#"{{"sub":{payload}}}"#)));
        let _ = verify(&says(&format!(r#"{{"exp":{payload},"caps":{payload}}}"#)));
        let _ = verify_subscription(&format!(r#"{{"channel":"a","override":{payload}}}"#));
    }

    #[test]
    fn a_changed_token_is_refused(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.-]") {
        let good = says(r#"{"sub":"alice","exp":1900000000}"#);
        let mut changed = good.clone();
        let at = at.index(good.len());
        changed.replace_range(at..=at, &to);
        prop_assert_eq!(verify(&changed).is_ok(), changed == good);
    }
}
