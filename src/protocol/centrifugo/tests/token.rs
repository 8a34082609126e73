//! What real tokens say to a session.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::world::START;
use crate::auth::{AuthConfig, Secret, Verifier};
use crate::protocol::centrifugo::{
    Hears, ServerSubscription, TokenFault, connection_token, subscription_token,
};
use crate::time::Stamp;

const SECRET: &str = "a secret of thirty-two characters";

fn verifier(secret: &str) -> Verifier {
    let jwt_hmac_secret = Secret::new(secret.to_owned());
    Verifier::new(&AuthConfig { jwt_hmac_secret, ..AuthConfig::default() }, None)
}

fn now() -> Stamp {
    Stamp { wall: START * 1_000, instant: Instant::now() }
}

fn sign(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

#[test]
fn a_connection_token_says_who_what_and_for_how_long() {
    let token = sign(&json!({
        "sub": "ann", "exp": START + 60, "info": {"name": "Ann"}, "channels": ["news", "chat"],
        "subs": {
            "chat": {"info": [1], "b64data": "aGk=", "override": {"force_push_join_leave": {"value": true}}},
        },
    }));
    let said = connection_token(&verifier(SECRET), &token, Duration::ZERO, now()).unwrap();
    assert_eq!(said.identity.user().map(|user| &**user), Some("ann"));
    assert_eq!(said.expires_at, Some(START + 60));
    assert_eq!(said.info, "{\"name\":\"Ann\"}");
    let chat = ServerSubscription {
        info: "[1]".into(),
        data: "\"hi\"".into(),
        hears: Hears::Members,
        ..ServerSubscription::to("chat")
    };
    let expected = [chat, ServerSubscription::to("news"), ServerSubscription::to("chat")];
    assert_eq!(said.subscriptions, expected);
}

#[test]
fn a_subscription_token_says_whose_it_is_and_for_what() {
    let token = sign(&json!({
        "sub": "ann", "channel": "chat", "client": "c", "exp": START + 60, "b64info": "/w==", "data": {"a": 1},
    }));
    let said = subscription_token(&verifier(SECRET), &token, now()).unwrap();
    assert_eq!(said.user.as_deref(), Some("ann"));
    assert_eq!((&*said.topic, said.client.as_deref()), ("chat", Some("c")));
    assert_eq!((said.info, said.data), ("\"/w==\"".into(), "{\"a\":1}".into()));
    assert_eq!((said.expires_at, said.hears), (Some(START + 60), Hears::Publications));
}

#[test]
fn a_token_that_is_no_good_has_its_fault() {
    for (secret, claims, expected) in [
        (SECRET, json!({"sub": "ann", "exp": START}), TokenFault::Expired),
        (SECRET, json!({"sub": "ann", "channel": "a"}), TokenFault::Invalid),
        (SECRET, json!({"sub": 7}), TokenFault::Invalid),
        ("another secret of some characters", json!({"sub": "ann"}), TokenFault::Invalid),
        ("", json!({"sub": "ann"}), TokenFault::NoKey),
    ] {
        let said = connection_token(&verifier(secret), &sign(&claims), Duration::ZERO, now());
        assert_eq!(said.map(|_| ()), Err(expected), "{claims}");
    }
    let said = subscription_token(&verifier(SECRET), "x", now());
    assert_eq!(said.map(|_| ()), Err(TokenFault::Invalid));
}
